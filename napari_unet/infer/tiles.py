"""Tile: which pixels to read, which of them to keep, and where to write them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """One step of a tiled prediction: ``out[write] = network(image[read])[crop]``.

    Attributes
    ----------
    read, crop, write : tuple of slice
        One slice per spatial axis, in pixels.
    """

    read: Slices
    crop: Slices
    write: Slices


@dataclass(frozen=True)
class Block:
    """A part of an image that is segmented by itself; its neighbours see a margin of it too.

    Attributes
    ----------
    place : tuple of int
        Where it stands in the grid of blocks, one for each axis.
    write, view : tuple of slice
        What it writes, and that with the margin, one for each axis, in pixels; no two blocks write the same pixel.
    """

    place: tuple[int, ...]
    write: Slices
    view: Slices

    @property
    def inner(self) -> Slices:
        """What it writes, in pixels of its view."""
        return within(self.write, self.view)


def within(part: Sequence[slice], whole: Sequence[slice]) -> Slices:
    """Return a part, given in pixels of an image, in pixels of a larger part of it."""
    return tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, whole, strict=True))


def plan_blocks(
    shape: Sequence[int], sides: Sequence[int], margins: Sequence[int], region: Sequence[slice] | None = None
) -> list[Block]:
    """Cut an image, or a region of it, into blocks.

    Parameters
    ----------
    shape : sequence of int
        Of the image.
    sides, margins : sequence of int
        What a block writes along each axis at most, and how far beyond that it sees. Blocks begin at multiples of
        their side, counted from the image's corner, so that they fit the pieces of an array on disk.
    region : sequence of slice, optional
        The part that is wanted, start and stop given; what blocks see is not bound by it.

    Returns
    -------
    list of Block
        Row by row.
    """
    axes = []
    for size, side, margin, r in zip(shape, sides, margins, region or [slice(0, n) for n in shape], strict=True):
        starts = range(r.start // side * side, r.stop, side)
        writes = [(max(at, r.start), min(at + side, r.stop)) for at in starts]
        axes.append([(slice(a, b), slice(max(a - margin, 0), min(b + margin, size))) for a, b in writes])
    return [
        Block(place, *(tuple(axes[i][k][which] for i, k in enumerate(place)) for which in (0, 1)))
        for place in product(*(range(len(parts)) for parts in axes))
    ]


def plan_tiles(
    shape: Sequence[int], tile: int, halo: int, stride: int, region: Sequence[slice] | None = None
) -> list[Tile]:
    """Cut an image, or a region of it, into tiles whose results together equal the result of the whole.

    That holds (to rounding) when tiles start on the pooling grid, see `halo` pixels beyond what they
    write, and no layer of the network looks at spatial statistics.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the image.
    tile : int
        Longest side of a tile in pixels, halo included. A side too short for its halo is lengthened to
        the smallest that works.
    halo : int
        Radius of the receptive field.
    stride : int
        Spacing of the pooling grid.
    region : sequence of slice, optional
        The part of the image that is wanted, start and stop given; what is read around it is as far as they see.

    Returns
    -------
    list of Tile
        Row by row; their `write` parts, in pixels of the image, cover the region once.
    """
    wanted = region or [slice(0, size) for size in shape]
    axes = [_cut(size, w.start, w.stop, tile, halo, stride) for size, w in zip(shape, wanted, strict=True)]
    return [
        Tile(
            read=tuple(slice(r0, r1) for r0, r1, _, _ in parts),
            crop=tuple(slice(w0 - r0, w1 - r0) for r0, _, w0, w1 in parts),
            write=tuple(slice(w0, w1) for _, _, w0, w1 in parts),
        )
        for parts in product(*axes)
    ]


def _cut(size: int, start: int, stop: int, tile: int, halo: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Cut a part of one axis into reads of equal length; return (read from, to, write from, to) of each.

    The first and the last see what lies beyond the part, but not beyond the image, and write so much more.
    """
    halo = ceil(halo / stride) * stride  # a read that starts on the grid
    low, high = max(start - halo, 0) // stride * stride, min(-(-(stop + halo) // stride) * stride, size)
    longest = max(tile // stride * stride, 2 * halo + stride)
    if high - low <= max(tile, longest):
        return [(low, high, start, stop)]
    count = ceil((high - low - 2 * halo) / (longest - 2 * halo))
    length = ceil((high - low + 2 * halo * (count - 1)) / count / stride) * stride
    reads = [(at, min(at + length, size)) for at in range(low, low + count * (length - 2 * halo), length - 2 * halo)]
    ends = [start, *(at + halo for at, _ in reads[1:]), stop]
    return [(*read, ends[i], ends[i + 1]) for i, read in enumerate(reads)]
