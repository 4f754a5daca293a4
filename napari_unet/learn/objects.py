"""Correcting labels object by object: each tool looks at the object's box and returns what to write there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi
from skimage.draw import line_nd
from skimage.segmentation import watershed

from napari_unet.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GAP = 2  # pixels of background between two objects that merging closes
CRUMB = 4  # pixels: smaller pieces that a jagged line cuts off go to their neighbour
REPLACED = 0.5  # intersection over union from which on an outline is that of an object that is there
PART = 0.5  # share of an outline that lies in an object of which it is a part
SMOOTH = 1.5  # sigma in pixels: takes off what a hand trembles, not what a cell sticks out
REACH = 64  # pixels to each side of a point in which its object is looked for first
MARGIN = 8  # pixels around an object, more than any tool here looks beyond it

Region = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Edit:
    """New labels for a box of the old ones, which stay as they are until somebody writes it.

    Attributes
    ----------
    region : tuple of slice
        Where, in pixels of the labels.
    values : integer array
        What to write there, of the region's shape and the labels' dtype.
    """

    region: Region
    values: NDArray[Any]


def window_around(labels: Any, point: Sequence[int]) -> Region:
    """Return a window of a plane that holds the object at a point, and what the tools look at around it.

    It is found without a look at the whole plane. A piece far away with the same number is left out: it is most likely
    another object that got the number by mistake.

    Parameters
    ----------
    labels : integer array, ``(…, y, x)``
        Not read as a whole, so they may lie on a disk.
    point : sequence of int
        In pixels of the labels, inside them.

    Returns
    -------
    tuple of slice
        One pixel long along the axes before the last two.
    """
    *place, y, x = (int(p) for p in point)
    number, reach = labels[tuple(point)], REACH
    before = tuple(slice(p, p + 1) for p in place)
    while True:
        ends = zip((y, x), labels.shape[-2:], strict=True)
        window = tuple(slice(max(p - reach, 0), min(p + reach + 1, n)) for p, n in ends)
        # a window that ends with the plane may end with the object too
        open_ = zip(window, labels.shape[-2:], strict=True)
        inner = tuple(slice(MARGIN * (w.start > 0), w.stop - w.start - MARGIN * (w.stop < n)) for w, n in open_)
        here = np.asarray(labels[(*before, *window)]) == number
        if np.count_nonzero(here) == np.count_nonzero(here[(..., *inner)]):
            return *before, *window
        reach *= 2


def pixels_along(path: NDArray[Any]) -> NDArray[np.intp]:
    """Return the pixels of a line through points ``(n, axes)`` in their order, as ``(pixels, axes)``."""
    if len(path) < 2:
        return np.round(path).astype(np.intp)
    parts = [np.stack(line_nd(start, stop, endpoint=True), axis=1) for start, stop in pairwise(np.asarray(path, float))]
    return np.concatenate(parts)


def box_of(labels: NDArray[Any], number: int, margin: int = 1) -> Region:
    """Return the box of an object ``1 …`` in labels of any number of axes, with a margin as far as these go.

    Raises
    ------
    DataError
        If there is no such object.
    """
    found = labels == number
    if number == 0 or not found.any():
        raise DataError(f"There is no object {number} here: choose one that is in the labels.")
    box = []
    for axis, length in enumerate(found.shape):
        others = tuple(a for a in range(found.ndim) if a != axis)
        there = np.flatnonzero(found.any(axis=others))
        box.append(slice(max(int(there[0]) - margin, 0), min(int(there[-1]) + 1 + margin, length)))
    return tuple(box)


def delete(labels: NDArray[Any], number: int) -> Edit:
    """Turn an object into background."""
    region = box_of(labels, number, margin=0)
    values = labels[region].copy()
    values[values == number] = 0
    return Edit(region, values)


def merge(labels: NDArray[Any], numbers: Sequence[int]) -> Edit:
    """Make one object of several: the first lends its number, narrow gaps of background between them are closed.

    Raises
    ------
    DataError
        If fewer than two objects are named, or one of them is not there.
    """
    numbers = [n for n in dict.fromkeys(numbers) if n]
    if len(numbers) < 2:
        raise DataError("Merging takes at least two objects: begin on one and end on another.")
    boxes = [box_of(labels, n, margin=GAP + 1) for n in numbers]
    axes = zip(*boxes, strict=True)
    region = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)
    values = labels[region].copy()
    together = np.isin(values, numbers)
    round_ = ndi.iterate_structure(ndi.generate_binary_structure(values.ndim, 1), GAP)
    closed = ndi.binary_closing(np.pad(together, GAP), round_)[(slice(GAP, -GAP),) * values.ndim]
    values[together | (closed & (values == 0))] = numbers[0]
    return Edit(region, values)


def put(labels: NDArray[Any], region: Region, mask: NDArray[np.bool_], fresh: int) -> tuple[Edit, int]:
    """Write an object that was outlined anew: in place of the one that it is, or as one of its own.

    An object of which it has at least half (intersection over union) it replaces. Of an object that it mostly lies in,
    it is a part that is cut out; what it covers of others stays theirs.

    Parameters
    ----------
    labels : integer array
        Of any number of axes.
    region : tuple of slice
        The box of the object in the labels.
    mask : bool array
        Which pixels of the box it is.
    fresh : int
        A free number.

    Returns
    -------
    edit : Edit
        What to write.
    number : int
        Of the object: that of the one it replaces, or `fresh`.

    Raises
    ------
    DataError
        If nothing would be written, since other objects have all its pixels, or the labels hold no such number.
    """
    covered = labels[region][mask]
    numbers, counts = np.unique(covered[covered > 0], return_counts=True)
    other, shared = max(zip(numbers.tolist(), counts.tolist(), strict=True), key=lambda each: each[1], default=(0, 0))
    number, around = fresh, region
    if other:
        first = np.argwhere((labels[region] == other) & mask)[0] + [r.start for r in region]
        near = window_around(labels, first.tolist())  # a piece far away with the same number stays
        box = tuple(
            slice(w.start + b.start, w.start + b.stop)
            for w, b in zip(near, box_of(labels[near], other, margin=0), strict=True)
        )
        size = np.count_nonzero(labels[box] == other)
        if shared >= REPLACED * (size + np.count_nonzero(mask) - shared):
            number = other
            ends = zip(region, box, strict=True)
            around = tuple(slice(min(r.start, b.start), max(r.stop, b.stop)) for r, b in ends)
    if number > np.iinfo(labels.dtype).max:
        raise DataError(
            f"The labels are {labels.dtype} and have no number {number}: save them as uint32 and open them again."
        )
    values = labels[around].copy()
    mine = np.zeros(values.shape, bool)
    mine[tuple(slice(r.start - a.start, r.stop - a.start) for r, a in zip(region, around, strict=True))] = mask
    may_take = number == other or shared >= PART * np.count_nonzero(mask)
    mine &= (values == 0) | ((values == other) & may_take)
    if not mine.any():
        raise DataError("Other objects have all its pixels: delete them, or rub them out first.")
    if number == other:
        values[values == other] = 0
    values[mine] = number
    return Edit(around, values), number


def split_along(labels: NDArray[Any], number: int, path: NDArray[Any], fresh: int) -> Edit:
    """Cut an object in a plane along a line; the largest piece keeps its number, the next ones get new numbers.

    Parameters
    ----------
    labels : integer array, ``(y, x)``
        The plane.
    number : int
        The object.
    path : array, ``(n, 2)``
        Points of the line in pixels, y before x.
    fresh : int
        The first new number; it and those above must be free.

    Raises
    ------
    DataError
        If the line does not part the object.
    """
    region = box_of(labels, number)
    values = labels[region].copy()
    mine = values == number
    cut = np.zeros(mine.shape, bool)
    along = pixels_along(np.asarray(path, float) - [s.start for s in region])
    cut[tuple(along[((along >= 0) & (along < mine.shape)).all(axis=1)].T)] = True
    # a line of pixels that touch at corners only parts what hangs together by sides
    pieces, _ = ndi.label(mine & ~cut)
    sizes = np.bincount(pieces.ravel())
    pieces[sizes[pieces] < CRUMB] = 0
    before, _ = ndi.label(mine)  # it may be in pieces that hang together by corners
    if _count(pieces) <= max(1, _count(before)):
        raise DataError("The line does not part the object: draw it from one side to the other, beyond both edges.")
    return Edit(region, _renamed(values, mine, pieces, number, fresh))


def split_at(
    labels: NDArray[Any], number: int, points: Sequence[Sequence[float]], fresh: int, relief: NDArray[Any] | None = None
) -> Edit:
    """Part an object into as many as there are points, each in one of them, by watershed.

    Parameters
    ----------
    labels : integer array
        Of any number of axes.
    number : int
        The object.
    points : sequence of coordinates
        In pixels, in the order of the axes; at least two that lie in the object.
    fresh : int
        The first new number; it and those above must be free.
    relief : array, optional
        The shape of `labels`, high in the middle of objects, such as the distance map of a model; default: the
        distance to the object's edge.

    Raises
    ------
    DataError
        If fewer than two points lie in the object.
    """
    region = box_of(labels, number)
    values = labels[region].copy()
    mine = values == number
    seeds = np.zeros(mine.shape, np.int32)
    for i, point in enumerate(points, start=1):
        at = tuple(round(p) - s.start for p, s in zip(point, region, strict=True))
        if all(0 <= p < n for p, n in zip(at, mine.shape, strict=True)) and mine[at]:
            seeds[at] = i
    if len(np.unique(seeds)) < 3:
        raise DataError("Splitting takes two points in the same object: click once in each half.")
    hills = ndi.distance_transform_edt(mine) if relief is None else np.asarray(relief[region], float)
    pieces = watershed(-hills, seeds, mask=mine)
    return Edit(region, _renamed(values, mine, pieces, number, fresh))


def fill_holes(labels: NDArray[Any], number: int) -> Edit:
    """Give background that an object encloses, slice by slice, its number."""
    region = box_of(labels, number)
    values = labels[region].copy()
    for index in np.ndindex(values.shape[:-2]):
        plane = values[index]
        plane[ndi.binary_fill_holes(plane == number) & (plane == 0)] = number
    return Edit(region, values)


def smooth(labels: NDArray[Any], number: int) -> Edit:
    """Even out an object's outline; its neighbours stay as they are."""
    margin = round(3 * SMOOTH)
    region = box_of(labels, number, margin)
    values = labels[region].copy()
    mine = values == number
    even = ndi.gaussian_filter(np.pad(mine, margin, mode="edge").astype(np.float32), SMOOTH) > 0.5
    return Edit(region, _reshaped(values, mine, even[(slice(margin, -margin),) * mine.ndim], number))


def grow(labels: NDArray[Any], number: int, pixels: int = 1) -> Edit:
    """Make an object wider on all sides, as far as there is background; below 0, narrower.

    Raises
    ------
    DataError
        If nothing would be left of it.
    """
    margin = abs(pixels) + 1
    region = box_of(labels, number, margin)
    values = labels[region].copy()
    mine = values == number
    cross = ndi.generate_binary_structure(values.ndim, 1)
    if pixels >= 0:
        new = ndi.binary_dilation(mine, cross, iterations=pixels) if pixels else mine
    else:  # what goes on beyond the labels has no edge there
        padded = np.pad(mine, margin, mode="edge")
        new = ndi.binary_erosion(padded, cross, iterations=-pixels)[(slice(margin, -margin),) * mine.ndim]
    return Edit(region, _reshaped(values, mine, new, number))


def _count(pieces: NDArray[Any]) -> int:
    return int(np.count_nonzero(np.bincount(pieces.ravel())[1:] >= CRUMB))


def _reshaped(values: NDArray[Any], old: NDArray[np.bool_], new: NDArray[np.bool_], number: int) -> NDArray[Any]:
    if not new.any():
        raise DataError(f"Nothing would be left of object {number}: delete it instead.")
    values[old & ~new] = 0
    values[new & (values == 0)] = number
    return values


def _renamed(
    values: NDArray[Any], mine: NDArray[np.bool_], pieces: NDArray[Any], number: int, fresh: int
) -> NDArray[Any]:
    """Number the pieces of an object by size; its pixels that are in none go to the nearest one."""
    sizes = np.bincount(pieces.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    if fresh + len(order) - 2 > np.iinfo(values.dtype).max:
        raise DataError(
            f"The labels are {values.dtype} and have no number {fresh}: save them as uint32 and open them again."
        )
    names = np.zeros(len(sizes) + 1, values.dtype)
    names[order + 1] = [number, *range(fresh, fresh + len(order) - 1)]
    nearest = ndi.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
    values[mine] = names[pieces[tuple(nearest)]][mine]
    return values
