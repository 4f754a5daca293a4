"""A plan of tiles copies an array exactly, and each tile is where the network needs it."""

from __future__ import annotations

from math import ceil

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.infer.tiles import plan_blocks, plan_tiles

shapes = st.one_of(
    st.lists(st.integers(1, 200), min_size=1, max_size=1),
    st.lists(st.integers(1, 60), min_size=2, max_size=2),
    st.lists(st.integers(1, 20), min_size=3, max_size=3),
)
strides = st.sampled_from([1, 2, 4, 8, 16])


@given(shapes, st.integers(1, 80), st.integers(0, 20), strides)
def test_tile_by_tile_an_array_is_copied(shape: list[int], tile: int, halo: int, stride: int) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    out = np.full(shape, -1)
    for part in plan_tiles(shape, tile, halo, stride):
        assert (out[part.write] == -1).all(), "a pixel is written once"
        out[part.write] = array[part.read][part.crop]
    assert (out == array).all()


@given(st.integers(1, 500), st.integers(1, 300), st.integers(0, 40), strides)
def test_each_tile_starts_on_the_grid_and_sees_its_halo(size: int, tile: int, halo: int, stride: int) -> None:
    for part in plan_tiles([size], tile, halo, stride):
        (read,), (write,) = part.read, part.write
        assert read.start % stride == write.start % stride == 0
        assert read.start == 0 or read.start <= write.start - halo
        assert read.stop == size or (read.stop >= write.stop + halo and read.stop % stride == 0)


@given(st.integers(1, 500), st.integers(1, 300), st.integers(0, 40), strides)
def test_no_tile_is_longer_than_asked_unless_its_halo_is(size: int, tile: int, halo: int, stride: int) -> None:
    shortest = stride + 2 * ceil(halo / stride) * stride
    longest = max(part.read[0].stop - part.read[0].start for part in plan_tiles([size], tile, halo, stride))
    assert longest <= max(tile, shortest)


def test_what_fits_into_one_tile_is_one_tile() -> None:
    (only,) = plan_tiles([100, 7], 100, 50, 16)
    assert only.read == only.crop == only.write == (slice(0, 100), slice(0, 7))


def test_tiles_of_one_image_are_about_equal() -> None:
    written = [part.write[0] for part in plan_tiles([1030], 1000, 0, 2)]
    assert [s.stop - s.start for s in written] == [516, 514]


@st.composite
def regions(draw: st.DrawFn) -> tuple[list[int], list[slice]]:
    shape = draw(shapes)
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return shape, [slice(start, draw(st.integers(start + 1, n))) for start, n in zip(starts, shape, strict=True)]


@given(regions(), st.integers(1, 80), st.integers(0, 20), strides)
def test_tile_by_tile_a_region_is_copied(
    given: tuple[list[int], list[slice]], tile: int, halo: int, stride: int
) -> None:
    shape, region = given
    out = np.zeros(shape, int)
    for part in plan_tiles(shape, tile, halo, stride, region):
        out[part.write] += 1
        for read, crop, write, size in zip(part.read, part.crop, part.write, shape, strict=True):
            assert (read.start + crop.start, read.start + crop.stop) == (write.start, write.stop)
            assert read.start % stride == 0
            assert read.start <= max(write.start - halo, 0)
            assert read.stop >= min(write.stop + halo, size)
    assert (out[tuple(region)] == 1).all()
    assert out.sum() == np.prod([r.stop - r.start for r in region])


@given(regions(), st.integers(4, 90), st.integers(0, 9))
def test_blocks_write_each_pixel_of_a_region_once(given: tuple[list[int], list[slice]], side: int, margin: int) -> None:
    shape, region = given
    out = np.zeros(shape, int)
    blocks = plan_blocks(shape, [side] * len(shape), [margin] * len(shape), region)
    for block in blocks:
        out[block.write] += 1
        inner = np.zeros([v.stop - v.start for v in block.view], bool)
        inner[block.inner] = True
        assert inner.sum() == np.prod([w.stop - w.start for w in block.write])
        for view, write, size in zip(block.view, block.write, shape, strict=True):
            assert (view.start, view.stop) == (max(write.start - margin, 0), min(write.stop + margin, size))
            assert write.start // side == (write.stop - 1) // side, "it fits the pieces on disk"
    assert (out[tuple(region)] == 1).all()
    assert out.sum() == np.prod([r.stop - r.start for r in region])
    assert [block.place for block in blocks] == sorted({block.place for block in blocks})
