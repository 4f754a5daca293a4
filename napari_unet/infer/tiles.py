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


def plan_tiles(shape: Sequence[int], tile: int, halo: int, stride: int) -> list[Tile]:
    """Cut an image into tiles whose results together equal the result of the whole.

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

    Returns
    -------
    list of Tile
        Row by row; their `write` parts cover the image once.
    """
    axes = [_cut(size, tile, halo, stride) for size in shape]
    return [
        Tile(
            read=tuple(slice(r0, r1) for r0, r1, _, _ in parts),
            crop=tuple(slice(w0 - r0, w1 - r0) for r0, _, w0, w1 in parts),
            write=tuple(slice(w0, w1) for _, _, w0, w1 in parts),
        )
        for parts in product(*axes)
    ]


def _cut(size: int, tile: int, halo: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Cut one axis into reads of equal length; return (read from, to, write from, to) of each.

    The first and the last need a halo on one side only, and write so much more.
    """
    if size <= tile:
        return [(0, size, 0, size)]
    halo = ceil(halo / stride) * stride  # a read that starts on the grid
    longest = max(tile // stride * stride, 2 * halo + stride)
    if size <= longest:
        return [(0, size, 0, size)]
    count = ceil((size - 2 * halo) / (longest - 2 * halo))
    length = ceil((size + 2 * halo * (count - 1)) / count / stride) * stride
    starts = [i * (length - 2 * halo) for i in range(count)]
    return [
        (at, min(at + length, size), at + halo * (at > 0), min(at + length, size) - halo * (at < starts[-1]))
        for at in starts
    ]
