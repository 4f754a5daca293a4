"""Maps to labels: objects by seeded watershed, classes by the largest probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi
from skimage.segmentation import watershed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.model import DecodeSettings, Model


def decode(model: Model, maps: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Turn a model's maps ``(channel, *spatial)`` into labels: objects ``uint32`` or classes ``uint8``."""
    if model.task == "classes":
        return decode_classes(maps, len(model.classes))
    return decode_instances(maps, len(model.classes), model.decode)


def decode_instances(maps: NDArray[np.float32], classes: int, settings: DecodeSettings) -> NDArray[np.uint32]:
    """Cut the foreground into objects.

    Each connected piece where the distance is high and the boundary low is a seed; watershed on the distance
    grows the seeds over the foreground. A piece of foreground without any seed is an object of its own, so
    that thin or small ones are not lost.

    Parameters
    ----------
    maps : float32 array, ``(classes + 2, *spatial)``
        Class probabilities, boundary, normalised distance; 0 to 1.
    classes : int
        Class channels, background included.
    settings : DecodeSettings
        The thresholds.

    Returns
    -------
    uint32 array, ``spatial``
        1 to n without gaps, 0 = background.
    """
    background, boundary, distance = maps[0], maps[classes], maps[classes + 1]
    foreground = background < 1 - settings.foreground
    everywhere = np.ones((3,) * foreground.ndim, bool)
    seeds, count = ndi.label(
        foreground & (distance > settings.seed) & (boundary < settings.boundary), structure=everywhere
    )
    pieces, _ = ndi.label(foreground, structure=everywhere)
    seeded = np.zeros(int(pieces.max(initial=0)) + 1, bool)
    seeded[pieces[seeds > 0]] = True
    unseeded = foreground & ~seeded[pieces]
    seeds[unseeded] = pieces[unseeded] + count
    grown = watershed(-distance, seeds, connectivity=everywhere, mask=foreground) if count else seeds
    return _renumber(grown, settings.min_size)


def decode_classes(maps: NDArray[np.float32], classes: int) -> NDArray[np.uint8]:
    """Return the most probable class of each pixel, ``uint8``, from maps ``(classes, *spatial)``."""
    best: NDArray[np.uint8] = np.argmax(maps[:classes], axis=0).astype(np.uint8)
    return best


def _renumber(labels: NDArray[np.integer], min_size: int) -> NDArray[np.uint32]:
    """Drop small objects and number the rest from 1 without gaps."""
    sizes = np.bincount(labels.ravel())
    kept = sizes >= max(min_size, 1)
    kept[0] = False
    numbers = np.zeros(len(sizes), np.uint32)
    numbers[kept] = np.arange(1, kept.sum() + 1, dtype=np.uint32)
    renumbered: NDArray[np.uint32] = numbers[labels]
    return renumbered
