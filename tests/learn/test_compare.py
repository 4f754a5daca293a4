"""Two segmentations of one image: what is the same, what is not, and where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet import DataError
from napari_unet.learn.compare import CHANGED, GAINED, LOST, class_difference, object_difference

labellings = arrays(np.uint8, (7, 8), elements=st.integers(0, 4))


def boxes(*corners: tuple[int, int, int]) -> np.ndarray:
    """Squares of 10 pixels in width, told by row, column, number."""
    labels = np.zeros((60, 60), np.uint32)
    for y, x, number in corners:
        labels[y : y + 10, x : x + 10] = number
    return labels


def counts(found) -> tuple[int, int, int, int]:
    return found.same, found.changed, found.gained, found.lost


def test_what_is_the_same_has_no_picture_whatever_its_number() -> None:
    found = object_difference(boxes((0, 0, 1), (20, 20, 2)), boxes((0, 0, 9), (20, 20, 5)))
    assert counts(found) == (2, 0, 0, 0)
    assert not found.picture.any()


def test_gained_lost_and_changed_are_told_apart() -> None:
    old = boxes((0, 0, 1), (20, 20, 2), (40, 40, 3))
    new = boxes((0, 1, 7), (20, 24, 8), (5, 40, 9))  # moved by 1: IoU .82; by 4: .43; elsewhere
    found = object_difference(old, new)
    assert counts(found) == (1, 1, 1, 1)
    assert not found.picture[:10, :20].any()
    changed = found.picture[20:30, 20:34]
    assert (changed[:, :4] == CHANGED).all()
    assert (changed[:, 4:10] == 0).all()
    assert (changed[:, 10:] == CHANGED).all()
    for at, kind in ((np.s_[40:50, 40:50], LOST), (np.s_[5:15, 40:50], GAINED)):
        assert (found.picture[at] == kind).all()


def test_an_object_cut_in_two_is_changed_and_one_gained() -> None:
    old = boxes((0, 0, 1), (0, 10, 1))
    new = boxes((0, 0, 1), (0, 10, 2))
    assert counts(object_difference(old, new)) == (0, 1, 1, 0)
    assert counts(object_difference(new, old)) == (0, 1, 0, 1)


def test_a_pair_is_not_given_up_for_two_bad_ones() -> None:
    old, new = boxes((0, 0, 1)), boxes((0, 0, 1))
    old[:10, 10:12], new[:10, 12:14] = 2, 2
    new[8:10, :10] = 3  # new 1 overlaps old 1 by .8; old 1 overlaps new 3 too
    found = object_difference(old, new)
    assert found.same == 1


@given(labellings, labellings)
def test_every_object_is_counted_once_and_both_ways_are_the_same(old: np.ndarray, new: np.ndarray) -> None:
    there, back = object_difference(old, new), object_difference(new, old)
    assert (there.same, there.gained, there.lost) == (back.same, back.lost, back.gained)
    assert there.changed == back.changed
    assert there.same + there.changed + there.lost == len(np.unique(old[old > 0]))
    assert there.same + there.changed + there.gained == len(np.unique(new[new > 0]))
    assert not there.picture[(old == 0) & (new == 0)].any()


@given(labellings)
def test_nothing_differs_from_itself(labels: np.ndarray) -> None:
    assert not object_difference(labels, labels).picture.any()
    assert not class_difference(labels, labels).picture.any()


def test_classes_are_compared_pixel_by_pixel() -> None:
    old, new = np.array([[0, 0, 1, 1, 2]]), np.array([[0, 1, 0, 2, 2]])
    found = class_difference(old, new)
    assert found.picture.tolist() == [[0, GAINED, LOST, CHANGED, 0]]
    assert counts(found) == (1, 1, 1, 1)


def test_labels_of_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="the same"):
        object_difference(np.zeros((3, 3), int), np.zeros((3, 4), int))
