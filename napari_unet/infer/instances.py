"""Maps to labels: objects by climbing hills, classes by the largest probability."""

from __future__ import annotations

from dataclasses import dataclass
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

    The distance, less the boundary, is a relief with a hill for each object. A pixel belongs to the top that it climbs
    to, from highest neighbour to highest neighbour (hill climbing: Roerdink & Meijster 2000,
    doi:10.3233/FI-2000-411207); these basins are those of a watershed from all tops, and each depends only on what lies
    near it. Basins are joined again where the lower top stands no more than `settings.seed` above the saddle between
    them (its dynamics: Grimaud 1992, doi:10.1117/12.60650). What counts is a difference, not a height: small and
    blurred objects have low hills. An object without a middle (`settings.middle`) is dropped.

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
    background, boundary, distance = maps[0], maps[classes], maps[classes + 1]
    foreground = background < 1 - settings.foreground
    if not foreground.any():
        return np.zeros(foreground.shape, np.uint32)
    relief = ndi.gaussian_filter(distance - settings.boundary * boundary, SMOOTH)
    relief[~foreground] = FLOOR
    hills = _Hills.of(relief)
    objects = _joined(hills, settings.seed)
    count = len(objects)
    middles = np.zeros(count, np.float32)
    mine = objects[hills.basin]
    np.maximum.at(middles, mine, distance[foreground])
    sizes = np.bincount(mine, minlength=count)
    whole = np.ones(count, bool)
    places = np.unravel_index(np.flatnonzero(foreground), foreground.shape) if any(map(any, cut)) else ()
    for place, length, (before, after) in zip(places, foreground.shape, cut, strict=False):
        whole[mine[((place == 0) & before) | ((place == length - 1) & after)]] = False
    dropped = whole & ((middles < settings.middle) | (sizes < settings.min_size))
    kept = np.zeros(count, np.uint32)
    kept[mine] = 1
    kept[dropped] = 0
    labels = np.zeros(foreground.shape, np.uint32)
    labels[foreground] = (np.cumsum(kept, dtype=np.uint32) * kept)[mine]
    return labels


@dataclass(frozen=True, eq=False)
class _Hills:
    """A relief cut into basins; arrays have an item for each pixel of the foreground, row by row.

    Attributes
    ----------
    relief : float32 array, flat
        With a rim of `FLOOR`.
    place : int array
        Of each pixel in it.
    basin : int array
        Of each pixel, from 0.
    tops : float32 array
        Height of each basin's top.
    offsets : list of int
        Where the neighbours of a pixel lie that come after it.
    """

    relief: NDArray[np.float32]
    place: NDArray[np.intp]
    basin: NDArray[np.intp]
    tops: NDArray[np.float32]
    offsets: list[int]

    @classmethod
    def of(cls, relief: NDArray[np.float32]) -> _Hills:
        """Let each pixel climb."""
        rimmed = np.pad(relief, 1, constant_values=FLOOR)
        flat, strides = rimmed.ravel(), [n // rimmed.itemsize for n in rimmed.strides]
        small: Any = np.int32 if len(flat) < 2**31 else np.intp  # half the memory
        place = np.flatnonzero(flat > FLOOR).astype(small)
        offsets = sorted(int(np.dot(steps, strides)) for steps in product((-1, 0, 1), repeat=relief.ndim))
        highest = np.full(len(place), FLOOR, np.float32)
        there = np.zeros(len(place), small)
        for offset in offsets:  # rising, so that of equal heights the last counts and no two point at each other
            height = flat[place + offset]
            better = height >= highest
            np.copyto(highest, height, where=better)
            np.copyto(there, place + offset, where=better)
        number = np.zeros(len(flat), small)
        number[place] = np.arange(len(place), dtype=small)
        above = number[there]
        while True:
            higher = above[above]
            if (higher == above).all():
                break
            above = higher
        tops = np.flatnonzero(above == np.arange(len(place)))
        number[place[tops]] = np.arange(len(tops))
        return cls(flat, place, number[place[above]], flat[place[tops]], [each for each in offsets if each > 0])


def _joined(hills: _Hills, rise: float) -> NDArray[np.intp]:
    """Return for each basin the one that it is joined with, from the highest saddle down."""
    low, high, saddles = _saddles(hills)
    heights, joined = hills.tops, list(range(len(hills.tops)))

    def root(basin: int) -> int:
        while joined[basin] != basin:
            joined[basin] = basin = joined[joined[basin]]
        return basin

    for i in np.argsort(-saddles, kind="stable").tolist():
        a, b = root(int(low[i])), root(int(high[i]))
        if heights[a] < heights[b]:
            a, b = b, a
        if a != b and heights[b] - saddles[i] <= rise:
            joined[b] = a
    return np.array([root(basin) for basin in joined])


def _saddles(hills: _Hills) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the pairs of basins that touch, and how high the highest way between the two runs."""
    count, heights = len(hills.tops), hills.relief[hills.place]
    basins = np.full(len(hills.relief), -1, hills.basin.dtype)
    basins[hills.place] = hills.basin
    keys, values = [], []
    for offset in hills.offsets:
        other = basins[hills.place + offset]
        meet = np.flatnonzero((other >= 0) & (other != hills.basin))
        a, b = hills.basin[meet].astype(np.int64), other[meet].astype(np.int64)
        keys.append(np.minimum(a, b) * count + np.maximum(a, b))
        values.append(np.minimum(heights[meet], hills.relief[hills.place[meet] + offset]))
    pairs, which = np.unique(np.concatenate(keys), return_inverse=True)
    saddles = np.full(len(pairs), FLOOR, np.float32)
    np.maximum.at(saddles, which, np.concatenate(values))
    return pairs // count, pairs % count, saddles


def decode_classes(maps: NDArray[np.float32], classes: int) -> NDArray[np.uint8]:
    """Return the most probable class of each pixel, ``uint8``, from maps ``(classes, *spatial)``."""
    best: NDArray[np.uint8] = np.argmax(maps[:classes], axis=0).astype(np.uint8)
    return best
