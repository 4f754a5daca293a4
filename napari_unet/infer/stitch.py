"""Objects that lie in several blocks: what two blocks both saw of them tells which are the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.infer.tiles import Block

    Place = tuple[int, ...]

NOBODY = np.zeros(0, np.uint32)  # a strip without objects
SAME = 0.5  # IoU in the strip; above .5 no object can be the same as two others


@dataclass(frozen=True, eq=False)
class Found:
    """What a block found.

    Attributes
    ----------
    labels : uint32 or uint8 array
        What it writes: of objects 1 to `count`, of classes their numbers.
    count : int
        How many objects; those that it saw only in its margin have larger numbers, in the strips.
    strips : dict from (axis, side) to uint32 array
        The objects on both sides of a face that it shares with a neighbour, half a margin deep.
    """

    labels: NDArray[np.uint8] | NDArray[np.uint32]
    count: int = 0
    strips: Mapping[tuple[int, int], NDArray[np.uint32]] = field(default_factory=dict)


def found_in(block: Block, labels: NDArray[np.uint32], neighbours: Mapping[tuple[int, int], int]) -> Found:
    """Return what a block found.

    Parameters
    ----------
    block : Block
        The block.
    labels : uint32 array
        Of its view, numbered from 1 without gaps.
    neighbours : dict from (axis, side) to int
        For each face, side -1 or 1, beyond which there is another block: how many pixels deep its strip is.
    """
    inner = labels[block.inner]
    there = np.bincount(inner.ravel(), minlength=int(labels.max(initial=0)) + 1) > 0
    there[0] = False
    numbers = np.zeros(len(there), np.uint32)  # what it writes first
    count = int(there.sum())
    numbers[there] = np.arange(1, count + 1)
    numbers[1:][~there[1:]] = np.arange(count + 1, len(there))
    strips = {}
    for (axis, side), depth in neighbours.items():
        face = block.inner[axis].start if side < 0 else block.inner[axis].stop
        strip = [slice(None)] * labels.ndim
        strip[axis] = slice(face - depth, face + depth)
        seen = numbers[labels[tuple(strip)]]
        strips[axis, side] = seen if seen.any() else NOBODY
    return Found(numbers[inner], count, strips)


def same_objects(one: NDArray[np.uint32], other: NDArray[np.uint32], axis: int) -> NDArray[np.int64]:
    """Return which objects of two neighbours are the same, ``(n, 2)``.

    Parameters
    ----------
    one, other : uint32 array
        The strip that both saw, as each of them sees it; the face lies in its middle.
    axis : int
        The axis along which they are neighbours; `other` comes after.

    Returns
    -------
    int64 array, ``(n, 2)``
        Numbers in `one` and in `other`. The same are those of which most is shared, and those that meet at the face
        and share most of the smaller one: no object ends in a straight line because the blocks do.
    """
    both = (one > 0) & (other > 0)
    width = int(other.max(initial=0)) + 1
    keys, shared = np.unique(one[both].astype(np.int64) * width + other[both], return_counts=True)
    a, b = keys // width, keys % width
    mine, theirs = np.bincount(one.ravel())[a], np.bincount(other.ravel())[b]
    face = one.shape[axis] // 2
    before, after = one.take(face - 1, axis).astype(np.int64), other.take(face, axis)
    meet = np.isin(keys, (before * width + after)[(before > 0) & (after > 0)])
    same = (shared > SAME * (mine + theirs - shared)) | (meet & (2 * shared > np.minimum(mine, theirs)))
    return np.stack((a[same], b[same]), axis=1)


@dataclass(frozen=True, eq=False)
class Numbers:
    """The final numbers of the objects of one block; small, so that it can be sent.

    Attributes
    ----------
    first : int
        The number before that of its first object that is its own.
    count : int
        How many objects it writes.
    local, final : int64 array
        Objects that go on in other blocks, rising, and their final numbers.
    own : bool array
        Which of these have their number from this block.
    """

    first: int
    count: int
    local: NDArray[np.int64]
    final: NDArray[np.int64]
    own: NDArray[np.bool_]

    @property
    def last(self) -> int:
        """The largest number that is its own, or the one before."""
        return self.first + self.count - int(np.count_nonzero(~self.own))

    def lookup(self) -> NDArray[np.uint32]:
        """Return the final number of each object that the block writes, ``(count + 1,)``; 0 stays 0."""
        own = np.ones(self.count + 1, bool)
        own[0] = False
        own[self.local] = self.own
        numbers = self.first + np.cumsum(own)
        numbers[0] = 0
        numbers[self.local] = self.final
        return numbers.astype(np.uint32)


class Stitching:
    """Gives objects their final numbers, 1 to n; they do not depend on the order in which blocks come."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._order = {place: i for i, place in enumerate(sorted(places))}
        self._counts = np.zeros(len(places), np.int64)
        self._strips: dict[tuple[Place, int, int], NDArray[np.uint32]] = {}
        self._pairs: list[NDArray[np.int64]] = []  # (block, object, block, object)

    def add(self, place: Place, found: Found) -> None:
        """Take what a block found; its strips are let go when the neighbour's have come."""
        self._counts[self._order[place]] = found.count
        for (axis, side), strip in found.strips.items():
            beyond = (*place[:axis], place[axis] + side, *place[axis + 1 :])
            theirs = self._strips.pop((beyond, axis, -side), None)
            if theirs is None:
                self._strips[place, axis, side] = strip
                continue
            (low, one), (high, other) = sorted(((place, strip), (beyond, theirs)), key=lambda each: each[0])
            if not one.size or not other.size:
                continue
            same = same_objects(one, other, axis)
            blocks = np.broadcast_to((self._order[low], self._order[high]), same.shape)
            self._pairs.append(np.stack((blocks[:, 0], same[:, 0], blocks[:, 1], same[:, 1]), axis=1))

    def numbers(self) -> dict[Place, Numbers]:
        """Return the numbers of each block, once all have come."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        pairs = np.concatenate(self._pairs) if self._pairs else np.zeros((0, 4), np.int64)
        nodes, ends = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
        ends = ends.reshape(-1, 2)
        graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
        parts, part = connected_components(graph, directed=False)
        block, local = nodes[:, 0], nodes[:, 1]
        written = local <= self._counts[block]  # others were seen in a margin only, and link those that were not
        roots = np.full(parts, len(nodes), np.int64)
        np.minimum.at(roots, part[written], np.flatnonzero(written))
        own = written & (roots[part] == np.arange(len(nodes)))
        written &= np.bincount(part[written], minlength=parts)[part] > 1  # all others keep to their block
        block, local, own, part = block[written], local[written], own[written], part[written]
        lost = np.bincount(block[~own], minlength=len(self._counts))
        firsts = np.concatenate(([0], np.cumsum(self._counts - lost)))
        # an object's own number: those of its block before it, less the ones that have theirs from elsewhere
        lost_before = np.cumsum(~own) - np.concatenate(([0], np.cumsum(lost)))[block]
        mine = firsts[block] + local - lost_before
        final = np.zeros(parts, np.int64)
        final[part[own]] = mine[own]
        ends_of = np.searchsorted(block, np.arange(len(self._counts) + 1))
        slices = {place: slice(ends_of[i], ends_of[i + 1]) for place, i in self._order.items()}
        return {
            place: Numbers(int(firsts[i]), int(self._counts[i]), local[s], final[part[s]], own[s])
            for (place, i), s in zip(self._order.items(), slices.values(), strict=True)
        }


def shared_faces(blocks: Sequence[Block], axes: Sequence[int]) -> dict[Any, dict[tuple[int, int], int]]:
    """Return for each block's place the faces beyond which there is another block, and how deep the strips there are.

    Parameters
    ----------
    blocks : sequence of Block
        All of an image.
    axes : sequence of int
        Along which objects go on; not those that are segmented slice by slice.
    """
    by_place = {block.place: block for block in blocks}
    faces: dict[Any, dict[tuple[int, int], int]] = {block.place: {} for block in blocks}
    for block in blocks:
        for axis in axes:
            place = (*block.place[:axis], block.place[axis] + 1, *block.place[axis + 1 :])
            after = by_place.get(place)
            if after is not None:
                face = block.write[axis].stop
                depth = min(block.view[axis].stop - face, face - after.view[axis].start)
                half = max(1, depth // 2)
                faces[block.place][axis, 1] = faces[place][axis, -1] = half
    return faces
