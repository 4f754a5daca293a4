"""The sample images that travel with the package: what there is, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import tifffile

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["AXES", "SCALES", "Sample", "labels_path", "load", "names", "path"]

# What is true of each sample; the generator writes the same into the files.
AXES = {"nuclei": "YX", "cells": "YX", "nuclei_3d": "ZYX", "movie": "TYX"}
#: µm per pixel
SCALES = {
    "nuclei": {"Y": 0.5, "X": 0.5},
    "cells": {"Y": 0.65, "X": 0.65},
    "nuclei_3d": {"Z": 1.0, "Y": 0.4, "X": 0.4},
    "movie": {"Y": 0.65, "X": 0.65},
}


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample image with its exact labels."""

    name: str
    image: NDArray[Any]  #: uint8 or uint16, axes as in ``axes``
    labels: NDArray[Any]  #: uint16 instance ids 1, 2, ... without gaps, 0 = background; shape of the image
    axes: str  #: "YX", "ZYX" or "TYX"
    scale: Mapping[str, float]  #: µm per pixel of the spatial axes


def names() -> tuple[str, ...]:
    """Names of the samples."""
    return tuple(AXES)


def path(name: str) -> Path:
    """File of a sample image (OME-TIFF with axes and pixel size).

    Raises
    ------
    ImageError
        If there is no sample of that name.
    """
    if name not in AXES:
        raise ImageError(f"There is no sample {name!r}; take one of {', '.join(names())}.")
    return Path(__file__).with_name(f"{name}.tif")


def labels_path(name: str) -> Path:
    """File of the labels of a sample; raises as `path` does."""
    return path(name).with_name(f"{name}_labels.tif")


def load(name: str) -> Sample:
    """Read a sample with its labels.

    Raises
    ------
    ImageError
        If there is no sample of that name, or its files are missing from the installation.
    """
    try:
        image, labels = tifffile.imread(path(name)), tifffile.imread(labels_path(name))
    except FileNotFoundError as error:
        raise ImageError(f"The sample file {error.filename} is missing; reinstall the package.") from error
    return Sample(name, image, labels, AXES[name], MappingProxyType(SCALES[name]))
