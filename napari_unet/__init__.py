"""napari-unet: a U-Net that segments microscopy images and learns from corrections.

The public names, numpy in and numpy out::

    from napari_unet import Model
    model = Model.load("nuclei")                  # a shipped model, or a path
    labels = model.segment(image)                 # uint32 objects or uint8 classes, 0 = background
    better = model.fit(images, masks, epochs=20)  # a new Model; the old one is untouched
    scores = better.evaluate(images, masks)
    better.save("mine.unet")
"""

from __future__ import annotations

from napari_unet.errors import (
    DataError,
    DeviceError,
    ImageError,
    ModelFileError,
    UnetError,
)
from napari_unet.model import DecodeSettings, Model, Provenance, shipped

__all__ = [
    "DataError",
    "DecodeSettings",
    "DeviceError",
    "ImageError",
    "Model",
    "ModelFileError",
    "Provenance",
    "UnetError",
    "shipped",
]
