"""New labels beside those that are there: a region is replaced, and what a hand made stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

THICK = 2  # what is left of an object beside corrected pixels goes if it is no wider than twice this: a rim


def merge_labels(
    old: NDArray[Any],
    found: NDArray[np.integer[Any]],
    region: tuple[slice, ...],
    protected: NDArray[np.bool_],
    taken: int = 0,
) -> NDArray[Any]:
    """Return what a region of the labels becomes when objects were found there anew.

    Corrected pixels keep their numbers. An object that was found over them is trimmed; what is left of it is
    dropped if it is only a rim around what a hand made, goes on with the number of the corrected object if it
    covers most of that one's corrected pixels, and gets a new number otherwise. An object cut by the edge of the
    region goes on with the number of the one that it meets outside.

    Parameters
    ----------
    old : integer array, ``(*spatial)``
        All labels as they are; not changed. They may change meanwhile: what is decided on is copied first.
    found : integer array, the region's shape
        Object numbers from 1, 0 = background.
    region : tuple of slice
        One for each axis of `old`.
    protected : bool array, the region's shape
        Where a hand corrected or confirmed.
    taken : int
        The largest number that objects have of which nothing is in `old`.

    Returns
    -------
    array of the dtype of `old`, the region's shape

    Raises
    ------
    ImageError
        If the numbers do not fit into the dtype of `old`.
    """
    if (
        not taken
        and not protected.any()
        and found.shape == old.shape
        and found.max(initial=0) <= np.iinfo(old.dtype).max
    ):
        return found.astype(old.dtype)
    kept = np.where(protected, old[region], 0)
    fresh = max(_largest_outside(old, region, kept), taken)
    result = np.where(found > 0, found.astype(np.int64) + fresh, 0)
    numbers = np.unique(result[protected & (result > 0)])
    kin = _kin(kept, result)
    entire = result.copy()
    result[protected] = 0
    following = int(result.max(initial=fresh)) + 1
    for number, box in _boxes(result, numbers):
        part = result[box]
        pieces, count = ndi.label(part == number, structure=np.ones((3,) * part.ndim))
        part[pieces > 0] = 0
        rest = [i for i in range(1, count + 1) if not _is_rim(pieces == i, entire[box] == number)]
        rest.sort(key=lambda i: -int(np.count_nonzero(pieces == i)))
        for rank, i in enumerate(rest):
            part[pieces == i] = kin.get(number, number) if rank == 0 else following
            following += rank > 0
    _join_across_edges(old, result, region, fresh)
    result[protected] = kept[protected]
    if result.max(initial=0) > np.iinfo(old.dtype).max:
        raise ImageError(
            f"The labels layer holds numbers up to {np.iinfo(old.dtype).max} ({old.dtype}), but {result.max()} are "
            "needed: convert it to uint32 (right click > Convert data type)."
        )
    return result.astype(old.dtype)


def graft(
    made: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]], known: NDArray[np.bool_], taken: int
) -> NDArray[np.int64]:
    """Return labels that were found anew, with what a hand made in others of the same pixels.

    What was found keeps its numbers, for it may go on beyond these pixels, also where a hand corrected it; what a hand
    made gets free ones. Objects that were found over it are trimmed as in :func:`merge_labels`.

    Parameters
    ----------
    made, found : integer array, ``(*spatial)``
        Object numbers from 1, 0 = background; those of the two have nothing to do with each other.
    known : bool array
        Which pixels of `made` a hand corrected or confirmed.
    taken : int
        The largest number that is in use beside `found`, or in it.

    Returns
    -------
    int64 array
    """
    apart = np.where(made > 0, made.astype(np.int64) + taken, 0)
    merged: NDArray[np.int64] = merge_labels(apart, found, tuple(slice(0, n) for n in found.shape), known, taken)
    fresh = max(int(apart[known].max(initial=0)), taken)  # from there on numbers of `merge_labels`
    same = (merged > fresh) & (merged - fresh == found)
    pieces = (merged > fresh) & ~same  # what was cut off an object
    merged[same] = found[same]
    merged[pieces] = fresh + 1 + np.unique(merged[pieces], return_inverse=True)[1]
    if kin := {mine: theirs for theirs, mine in _kin(np.where(known, apart, 0), found.astype(np.int64)).items()}:
        corrected = np.array(sorted(kin))
        at = np.searchsorted(corrected, merged).clip(max=len(corrected) - 1)
        merged = np.where(corrected[at] == merged, np.array([kin[each] for each in corrected.tolist()])[at], merged)
    return merged


def exchanged(
    old: NDArray[Any],
    found: NDArray[np.integer[Any]],
    inside: NDArray[np.bool_],
    cut: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> tuple[NDArray[np.integer[Any]], NDArray[np.bool_]]:
    """Choose whole objects to exchange where somebody drew around a part: none is cut by the line.

    Of what was found and of what is there, those objects are exchanged that lie mostly inside. Where one that was
    found and one that is there share most of the smaller of the two, both are exchanged: so two that were found take
    the place of the one that they were, though one of the two may lie outside.

    Parameters
    ----------
    old, found : integer array
        Labels of a region as they are, and as they were found anew; 0 = background.
    inside : bool array
        What was drawn around.
    cut : bool array
        Pixels at the region's edge that objects may reach over: these are not seen whole and are not exchanged.
    known : bool array
        Where a hand corrected or confirmed; an object of which that is half is not exchanged.

    Returns
    -------
    found : integer array
        Only the objects to be put there.
    kept : bool array
        Where the objects lie that stay.
    """
    names, there = np.unique(np.concatenate(([0], old.ravel())), return_inverse=True)
    here = found.ravel()
    there = there[1:]
    sizes = np.bincount(there, minlength=len(names)), np.bincount(here, minlength=1)
    goes, comes = (
        2 * np.bincount(each, weights=inside.ravel(), minlength=len(size)) > size
        for each, size in zip((there, here), sizes, strict=True)
    )
    may_go, may_come = np.ones(len(goes), bool), np.ones(len(comes), bool)
    may_go[there[cut.ravel()]] = may_come[here[cut.ravel()]] = False
    may_go &= 2 * np.bincount(there, weights=known.ravel(), minlength=len(names)) < sizes[0]
    may_go[0] = may_come[0] = False
    goes, comes = goes & may_go, comes & may_come
    same = [(a, b) for a, b, n in pairs(there, here) if 2 * n > min(sizes[0][a], sizes[1][b]) and may_go[a]]
    same = [(a, b) for a, b in same if may_come[b]]
    while more := [(a, b) for a, b in same if goes[a] != comes[b]]:
        for a, b in more:
            goes[a] = comes[b] = True
    return np.where(comes[found], found, 0), ((there > 0) & ~goes[there]).reshape(old.shape)


def _kin(kept: NDArray[Any], found: NDArray[np.int64]) -> dict[int, int]:
    """Return which found object goes on as which corrected one: the one that covers most of it, at least half."""
    sure = kept > 0
    if not sure.any():
        return {}
    corrected, whole = np.unique(kept[sure], return_counts=True)
    sizes = dict(zip(corrected.tolist(), whole.tolist(), strict=True))
    best: dict[int, int] = {}
    taken: set[int] = set()
    for mine, theirs, shared in pairs(kept[sure], found[sure]):
        if theirs and theirs not in best and mine not in taken and 2 * shared >= sizes[mine]:
            best[theirs] = mine
            taken.add(mine)
    return best


def _is_rim(piece: NDArray[np.bool_], entire: NDArray[np.bool_]) -> bool:
    """Return whether a piece is but a rim of its object; of an object that is thin itself, whether it is small."""
    if _is_solid(piece):
        return False
    return _is_solid(entire) or 4 * int(piece.sum()) < int(entire.sum())


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
        if box is not None:  # a number of which no pixel is left
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
            here = np.take(result, inner, axis=axis)
            beyond = np.array(old[tuple(outer if a == axis else r for a, r in enumerate(region))])
            meet = (here > fresh) & (beyond > 0)
            done: set[int] = set()
            given: set[int] = set()  # of two that were found apart, only one goes on
            for mine, theirs, _ in pairs(here[meet], beyond[meet]):
                if mine not in done and theirs not in given:
                    done.add(mine)
                    given.add(theirs)
                    result[result == mine] = theirs


def pairs(a: NDArray[Any], b: NDArray[Any]) -> list[tuple[int, int, int]]:
    """Return the pairs of numbers in two arrays and how often each occurs, the most frequent first."""
    if not a.size:
        return []
    # sorting pairs would be slow, and hold Python up: plain numbers are sorted beside it
    (mine, at), (theirs, beside) = np.unique(a, return_inverse=True), np.unique(b, return_inverse=True)
    keys, counts = np.unique(at.ravel() * np.int64(len(theirs)) + beside.ravel(), return_counts=True)
    each = zip(mine[keys // len(theirs)].tolist(), theirs[keys % len(theirs)].tolist(), counts.tolist(), strict=True)
    return sorted(each, key=lambda pair: -pair[2])
