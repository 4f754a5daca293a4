"""New labels beside those that are there: a region is replaced, and what a hand made stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

THICK = 2  # what is left of an object beside corrected pixels goes if it is no wider than twice this: a rim


def merge_labels(
    old: NDArray[Any], found: NDArray[np.integer[Any]], region: tuple[slice, ...], protected: NDArray[np.bool_]
) -> NDArray[Any]:
    """Return what a region of the labels becomes when objects were found there anew.

    Corrected pixels keep their numbers. An object that was found over them is trimmed; what is left of it is
    dropped if it is only a rim around what a hand made, goes on with the number of the corrected object if it
    covers most of that one's corrected pixels, and gets a new number otherwise. An object cut by the edge of the region goes
    on with the number of the one that it meets outside.

    Parameters
    ----------
    old : integer array, ``(*spatial)``
        All labels as they are; not changed.
    found : integer array, the region's shape
        Object numbers from 1, 0 = background.
    region : tuple of slice
        One for each axis of `old`.
    protected : bool array, the region's shape
        Where a hand corrected or confirmed.

    Returns
    -------
    array of the dtype of `old`, the region's shape
    """
    before = old[region]
    if not protected.any() and before.shape == old.shape:
        return found.astype(old.dtype)
    fresh = _largest_outside(old, region, np.where(protected, before, 0))
    result = np.where(found > 0, found.astype(np.int64) + fresh, 0)
    numbers = np.unique(result[protected & (result > 0)])
    result[protected] = 0
    kin = _kin(before, np.where(found > 0, found.astype(np.int64) + fresh, 0), protected)
    following = int(result.max(initial=fresh)) + 1
    for number, box in _boxes(result, numbers):
        part = result[box]
        pieces, count = ndi.label(part == number, structure=np.ones((3,) * part.ndim))
        part[pieces > 0] = 0
        solid = [i for i in range(1, count + 1) if _is_solid(pieces == i)]
        solid.sort(key=lambda i: -int(np.count_nonzero(pieces == i)))
        for rank, i in enumerate(solid):
            part[pieces == i] = kin.get(number, number) if rank == 0 else following
            following += rank > 0
    _join_across_edges(old, result, region, fresh)
    result[protected] = before[protected]
    return result.astype(old.dtype)


def _kin(
    before: NDArray[Any], found: NDArray[np.int64], protected: NDArray[np.bool_]
) -> dict[int, int]:
    """Return which found object goes on as which corrected one: the one that covers most of it, at least half."""
    sure = protected & (before > 0)
    if not sure.any():
        return {}
    corrected, whole = np.unique(before[sure], return_counts=True)
    sizes = dict(zip(corrected.tolist(), whole.tolist(), strict=True))
    pairs, shared = np.unique(
        np.stack([before[sure].astype(np.int64), found[sure]]), axis=1, return_counts=True
    )
    best: dict[int, int] = {}
    taken: set[int] = set()
    for i in np.argsort(-shared):
        mine, theirs = int(pairs[0, i]), int(pairs[1, i])
        if theirs and theirs not in best and mine not in taken and 2 * shared[i] >= sizes[mine]:
            best[theirs] = mine
            taken.add(mine)
    return best


def _is_solid(piece: NDArray[np.bool_]) -> bool:
    """Return whether a piece is wider than a rim; in stacks that is asked of each slice."""
    cross = ndi.generate_binary_structure(min(piece.ndim, 2), 1)
    structure = cross.reshape((1,) * (piece.ndim - cross.ndim) + cross.shape)
    padded = np.pad(piece, THICK)
    return bool(ndi.binary_erosion(padded, structure, iterations=THICK).any())


def _boxes(labels: NDArray[np.int64], numbers: NDArray[np.int64]) -> Iterable[tuple[int, tuple[slice, ...]]]:
    """Yield numbers that are still there and the box of each."""
    if not numbers.size:
        return
    places = np.searchsorted(numbers, labels)
    places[places == len(numbers)] = 0
    compact = np.where(numbers[places] == labels, places + 1, 0)
    for i, box in enumerate(ndi.find_objects(compact)):
        if box is not None:
            yield int(numbers[i]), box


def _largest_outside(old: NDArray[Any], region: tuple[slice, ...], kept: NDArray[Any]) -> int:
    """Return the largest number that stays: outside the region, and among the corrected pixels."""
    largest = int(kept.max(initial=0))
    inside = [r.indices(n)[:2] for r, n in zip(region, old.shape, strict=True)]
    for axis, (start, stop) in enumerate(inside):
        for part in (slice(0, start), slice(stop, None)):
            largest = max(largest, int(old[(*[slice(None)] * axis, part)].max(initial=0)))
    return largest


def _join_across_edges(old: NDArray[Any], result: NDArray[np.int64], region: tuple[slice, ...], fresh: int) -> None:
    """Give objects that the region's edge cuts the number of what they meet outside; only in the plane."""
    for axis in range(max(0, old.ndim - 2), old.ndim):
        start, stop, _ = region[axis].indices(old.shape[axis])
        for inner, outer in ((0, start - 1), (stop - start - 1, stop)):
            if not 0 <= outer < old.shape[axis]:
                continue
            here = result.take(inner, axis)
            beyond = old[tuple(outer if a == axis else r for a, r in enumerate(region))]
            meet = (here > fresh) & (beyond > 0)
            pairs, lengths = np.unique(np.stack([here[meet], beyond[meet].astype(np.int64)]), axis=1, return_counts=True)
            done: set[int] = set()
            for i in np.argsort(-lengths):
                mine, theirs = int(pairs[0, i]), int(pairs[1, i])
                if mine not in done:
                    done.add(mine)
                    result[result == mine] = theirs
