"""Objects that several blocks saw get one number, whatever the order in which the blocks come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi

from napari_unet.infer.stitch import Stitching, found_in, same_objects, shared_faces
from napari_unet.infer.tiles import plan_blocks


def stitched(objects: np.ndarray, side: int, margin: int, seed: int = 0) -> np.ndarray:
    """Return objects that were seen block by block, each with numbers of its own."""
    blocks = plan_blocks(objects.shape, [side] * objects.ndim, [margin] * objects.ndim)
    faces = shared_faces(blocks, range(objects.ndim))
    stitching, out = Stitching([block.place for block in blocks]), np.zeros(objects.shape, np.uint32)
    random = np.random.default_rng(seed)
    for i in random.permutation(len(blocks)):
        block = blocks[i]
        numbers, seen = np.unique(objects[block.view], return_inverse=True)
        mixed = np.concatenate(([0], 1 + random.permutation(len(numbers) - 1))).astype(np.uint32)
        seen = mixed[seen.reshape(objects[block.view].shape) + (numbers[0] > 0)] if numbers[0] == 0 else None
        assert seen is not None, "there is background everywhere"
        found = found_in(block, seen, faces[block.place])
        assert found.count == len(np.unique(objects[block.write])) - (objects[block.write] == 0).any()
        out[block.write] = found.labels
        stitching.add(block.place, found)
    assert not stitching._strips, "each is let go when its neighbour has come"
    numbers = stitching.numbers()
    for block in blocks:
        out[block.write] = numbers[block.place].lookup()[out[block.write]]
    assert max(each.last for each in numbers.values()) == out.max()
    return out


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    noise = ndi.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return ndi.label(noise > np.quantile(noise, 0.7))[0]


@pytest.mark.parametrize(("shape", "side", "margin"), [((90, 110), 30, 8), ((40, 45, 50), 20, 6), ((300,), 50, 9)])
@given(seed=st.integers(0, 50))
def test_blocks_that_see_the_same_give_what_the_whole_gives(
    shape: tuple[int, ...], side: int, margin: int, seed: int
) -> None:
    objects = blobs(shape, seed)
    out = stitched(objects, side, margin, seed)
    pairs = np.unique(np.stack((objects.ravel(), out.ravel())), axis=1)
    assert pairs.shape[1] == len(np.unique(objects)) == out.max() + 1, "one number for each, 1 to n"
    again = stitched(objects, side, margin, seed + 1)
    assert ((again > 0) == (out > 0)).all()
    assert ((out > 0) == (objects > 0)).all()


def test_an_object_that_only_its_corners_hold_is_one() -> None:
    objects = np.zeros((60, 60), int)
    for i in range(20, 40):
        objects[i, i] = objects[i, i - 1] = 1  # over the point where four blocks meet
    objects[2, 2] = 2
    assert stitched(objects, 30, 8).max() == 2


def test_of_different_opinions_no_straight_line_is_left() -> None:
    """One block sees one object, its neighbour two: what meets at the face and is mostly shared goes on."""
    one, other = np.zeros((20, 12), np.uint32), np.zeros((20, 12), np.uint32)
    one[2:18, 1:11] = 1
    other[2:12, 1:11], other[12:18, 1:11] = 5, 6
    assert {tuple(pair) for pair in same_objects(one, other, 1)} == {(1, 5), (1, 6)}
    apart = other.copy()
    apart[12:18, 1:7] = 0  # does not meet it
    assert {tuple(pair) for pair in same_objects(one, apart, 1)} == {(1, 5)}


def test_neighbours_that_only_touch_stay_two() -> None:
    one, other = np.zeros((20, 12), np.uint32), np.zeros((20, 12), np.uint32)
    for seen, numbers in ((one, (1, 2)), (other, (4, 3))):
        seen[4:16, :6], seen[4:16, 6:] = numbers
    assert {tuple(pair) for pair in same_objects(one, other, 1)} == {(1, 4), (2, 3)}


def test_numbers_of_a_block_are_a_small_slice() -> None:
    """Only objects that cross a face are listed."""
    objects = blobs((90, 110), 3)
    blocks = plan_blocks(objects.shape, [30, 30], [8, 8])
    faces = shared_faces(blocks, range(2))
    stitching = Stitching([block.place for block in blocks])
    for block in blocks:
        _, seen = np.unique(objects[block.view], return_inverse=True)
        seen = seen.reshape(objects[block.view].shape).astype(np.uint32)
        stitching.add(block.place, found_in(block, seen, faces[block.place]))
    for block in blocks:
        inside = np.unique(objects[block.write])
        outside = np.unique(np.concatenate([objects[other.write].ravel() for other in blocks if other is not block]))
        assert len(stitching.numbers()[block.place].local) == len(np.intersect1d(inside, outside)) - 1
