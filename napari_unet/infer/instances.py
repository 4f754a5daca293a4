"""Maps to labels: objects by seeded watershed, classes by the largest probability."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.model import DecodeSettings, Model

SMOOTH = 1.0  # sigma in pixels; the noise of single pixels makes no hills
FLOOR = -4.0  # lower than any hill can be


def decode(model: Model, maps: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Turn a model's maps ``(channel, *spatial)`` into labels: objects ``uint32`` or classes ``uint8``."""
    if model.task == "classes":
        return decode_classes(maps, len(model.classes))
    return decode_instances(maps, len(model.classes), model.decode)


def decode_instances(
    maps: NDArray[np.float32], classes: int, settings: DecodeSettings, cut: Sequence[tuple[bool, bool]] = ()
) -> NDArray[np.uint32]:
    """Cut the foreground into objects.

    The distance, less the boundary, is a relief with a hill for each object. Watershed gives each top its basin;
    basins are joined again where the lower top stands less than `settings.seed` above the saddle between them
    (its dynamics: Grimaud 1992, doi:10.1117/12.60650). What counts is a difference, not a height: small and blurred
    objects have low hills. An object without a middle (`settings.middle`) is dropped.

    Parameters
    ----------
    maps : float32 array, ``(classes + 2, *spatial)``
        Class probabilities, boundary, normalised distance; 0 to 1.
    classes : int
        Class channels, background included.
    settings : DecodeSettings
        The thresholds.
    cut : sequence of (bool, bool)
        For each axis, whether the image goes on before and after it: an object there is not dropped for having no
        middle or being small, for it is not seen whole.

    Returns
    -------
    uint32 array, ``spatial``
        1 to n without gaps, 0 = background.
    """
    from skimage.morphology import local_maxima  # here, so that opening the dock does not wait for them
    from skimage.segmentation import watershed

    background, boundary, distance = maps[0], maps[classes], maps[classes + 1]
    foreground = background < 1 - settings.foreground
    if not foreground.any():
        return np.zeros(foreground.shape, np.uint32)
    relief = ndi.gaussian_filter(distance - settings.boundary * boundary, SMOOTH)
    relief[~foreground] = FLOOR
    everywhere = np.ones((3,) * foreground.ndim, bool)
    inside = (slice(1, -1),) * relief.ndim  # a rim, for a relief without any lower pixel has no top
    tops = local_maxima(np.pad(relief, 1, constant_values=FLOOR), footprint=everywhere)[inside] & foreground
    seeds, count = ndi.label(tops, structure=everywhere)
    basins = watershed(-relief, seeds, connectivity=everywhere, mask=foreground)
    heights = np.full(count + 1, FLOOR, np.float32)
    heights[seeds[tops]] = relief[tops]
    objects = _joined(basins, relief, heights, settings.seed)
    middles = np.zeros(count + 1, np.float32)
    np.maximum.at(middles, objects[basins[foreground]], distance[foreground])
    whole = np.ones(count + 1, bool)
    for axis, ends in enumerate(cut):
        for end in (0, -1):
            if ends[end]:
                whole[objects[np.take(basins, end, axis)]] = False
    objects[(middles[objects] < settings.middle) & whole[objects]] = 0
    sizes = np.bincount(objects[basins].ravel(), minlength=count + 1)
    objects[(sizes[objects] < settings.min_size) & whole[objects]] = 0
    return _renumber(objects)[basins]


def _joined(
    basins: NDArray[np.integer[Any]], relief: NDArray[np.float32], heights: NDArray[np.float32], rise: float
) -> NDArray[np.int64]:
    """Return for each basin the one that it is joined with, from the highest saddle down."""
    low, high, saddles = _saddles(basins, relief)
    joined = list(range(len(heights)))

    def root(basin: int) -> int:
        while joined[basin] != basin:
            joined[basin] = basin = joined[joined[basin]]
        return basin

    for i in np.argsort(-saddles, kind="stable").tolist():
        a, b = root(int(low[i])), root(int(high[i]))
        if heights[a] < heights[b]:
            a, b = b, a
        if a != b and heights[b] - saddles[i] < rise:
            joined[b] = a
    return np.array([root(basin) for basin in joined])


def _saddles(
    basins: NDArray[np.integer[Any]], relief: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the pairs of basins that touch, and how high the highest way between the two runs."""
    count = int(basins.max(initial=0)) + 1
    keys, values = [], []
    for offset in product((-1, 0, 1), repeat=basins.ndim):
        if offset <= (0,) * basins.ndim:  # each pair of neighbours once
            continue
        here = tuple(slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, basins.shape, strict=True))
        there = tuple(slice(max(o, 0), n - max(-o, 0)) for o, n in zip(offset, basins.shape, strict=True))
        meet = (basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0)
        a, b = basins[here][meet].astype(np.int64), basins[there][meet].astype(np.int64)
        keys.append(np.minimum(a, b) * count + np.maximum(a, b))
        values.append(np.minimum(relief[here][meet], relief[there][meet]))
    pairs, which = np.unique(np.concatenate(keys), return_inverse=True)
    saddles = np.full(len(pairs), FLOOR, np.float32)
    np.maximum.at(saddles, which, np.concatenate(values))
    return pairs // count, pairs % count, saddles


def decode_classes(maps: NDArray[np.float32], classes: int) -> NDArray[np.uint8]:
    """Return the most probable class of each pixel, ``uint8``, from maps ``(classes, *spatial)``."""
    best: NDArray[np.uint8] = np.argmax(maps[:classes], axis=0).astype(np.uint8)
    return best


def _renumber(objects: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the objects of all basins with numbers from 1 without gaps; 0 stays 0."""
    kept = np.zeros(len(objects), np.uint32)
    kept[objects] = 1
    kept[0] = 0
    return (np.cumsum(kept, dtype=np.uint32) * kept)[objects]
