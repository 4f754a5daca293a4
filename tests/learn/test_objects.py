"""Tools on single objects change what they should, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from napari_unet.errors import DataError
from napari_unet.learn import objects


@pytest.fixture
def labels() -> np.ndarray:
    """Two disks that touch (1, 2), one apart (3)."""
    y, x = np.mgrid[:60, :90]
    made = np.zeros((60, 90), np.uint32)
    made[np.hypot(y - 25, x - 20) < 12] = 1
    made[np.hypot(y - 25, x - 42) < 12] = 2
    made[np.hypot(y - 40, x - 75) < 8] = 3
    return made


def written(labels: np.ndarray, edit: objects.Edit) -> np.ndarray:
    after = labels.copy()
    after[edit.region] = edit.values
    return after


def test_the_labels_given_stay_as_they_were(labels: np.ndarray) -> None:
    before = labels.copy()
    objects.delete(labels, 1)
    objects.merge(labels, [1, 2])
    objects.split_at(labels, 1, [(25, 14), (25, 26)], 9)
    objects.split_along(labels, 1, np.array([[5, 20], [45, 20]]), 9)
    for tool in (objects.fill_holes, objects.smooth, objects.grow):
        tool(labels, 1)
    np.testing.assert_array_equal(labels, before)


def test_delete_takes_one_object_away(labels: np.ndarray) -> None:
    after = written(labels, objects.delete(labels, 2))
    np.testing.assert_array_equal(after, np.where(labels == 2, 0, labels))


def boxed(mask: np.ndarray) -> tuple[objects.Region, np.ndarray]:
    box = ndi.find_objects(mask.astype(np.uint8))[0]
    return box, mask[box]


def test_an_outline_takes_the_place_of_the_object_that_it_is(labels: np.ndarray) -> None:
    moved = np.roll(labels == 3, (1, 2), axis=(0, 1))
    edit, number = objects.put(labels, *boxed(moved), 9)
    assert number == 3
    np.testing.assert_array_equal(written(labels, edit), np.where(moved, 3, np.where(labels == 3, 0, labels)))


def test_an_outline_in_an_object_of_several_is_cut_out_of_it(labels: np.ndarray) -> None:
    left = labels == 1
    labels[labels == 2] = 1  # the two that touch as one
    half = left & (np.mgrid[:60, :90][1] < 24)
    edit, number = objects.put(labels, *boxed(half), 9)
    assert number == 9
    np.testing.assert_array_equal(written(labels, edit), np.where(half, 9, labels))


def test_an_outline_beside_others_takes_background_only(labels: np.ndarray) -> None:
    y, x = np.mgrid[:60, :90]
    new = np.hypot(y - 25, x - 64) < 14  # over parts of 2 and 3
    edit, number = objects.put(labels, *boxed(new), 9)
    assert number == 9
    np.testing.assert_array_equal(written(labels, edit), np.where(new & (labels == 0), 9, labels))


def test_an_outline_of_which_nothing_is_left_is_refused(labels: np.ndarray) -> None:
    labels[:] = np.where(np.mgrid[:60, :90][1] % 2, 4, 5)
    mask = np.zeros(labels.shape, bool)
    mask[10, 9:19:2] = True
    assert objects.put(labels, *boxed(mask), 9)[1] == 9  # a part of 4
    labels[labels == 4] = np.arange(1, 1 + (labels == 4).sum()) % 200 + 10
    with pytest.raises(DataError, match="Other objects"):
        objects.put(labels, *boxed(mask), 9)
    with pytest.raises(DataError, match="uint8"):
        objects.put(np.zeros((9, 9), np.uint8), (slice(2, 4),) * 2, np.ones((2, 2), bool), 256)


def test_merge_makes_one_object_and_closes_the_gap(labels: np.ndarray) -> None:
    labels[:, 31] = 0  # a line of background between 1 and 2
    after = written(labels, objects.merge(labels, [2, 1]))
    assert ndi.label(after == 2)[1] == 1
    assert not (after == 1).any()
    np.testing.assert_array_equal(after == 3, labels == 3)
    assert ((after == 2) & (labels == 0)).sum() < 40  # the gap, no more


def test_merge_wants_two_objects(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="two objects"):
        objects.merge(labels, [1, 0, 1])


@pytest.mark.parametrize(
    "path", [[[5, 20], [45, 20]], [[25, 2], [25, 50]], [[10, 8], [40, 33]], [[4, 15], [25, 22], [44, 15]]]
)
def test_a_line_parts_an_object_and_loses_no_pixel(labels: np.ndarray, path: list[list[int]]) -> None:
    after = written(labels, objects.split_along(labels, 1, np.array(path), 7))
    np.testing.assert_array_equal(np.isin(after, (1, 7)), labels == 1)
    np.testing.assert_array_equal(after[labels != 1], labels[labels != 1])
    one, two = (after == 1).sum(), (after == 7).sum()
    assert one >= two > 50
    assert ndi.label(after == 1)[1] == ndi.label(after == 7)[1] == 1


def test_a_line_that_ends_within_parts_nothing(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="does not part"):
        objects.split_along(labels, 1, np.array([[5, 20], [24, 20]]), 7)


def test_a_line_beside_what_hangs_together_by_a_corner_parts_nothing() -> None:
    steps = np.zeros((30, 30), np.uint8)
    steps[5:12, 5:12] = steps[12:20, 12:20] = 1
    with pytest.raises(DataError, match="does not part"):
        objects.split_along(steps, 1, np.array([[5, 18], [6, 20]]), 2)


def test_numbers_that_the_labels_cannot_hold_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="uint8 and have no number 256"):
        objects.split_along(labels.astype(np.uint8), 1, np.array([[5, 20], [45, 20]]), 256)


def test_two_clicks_part_what_grew_together(labels: np.ndarray) -> None:
    grown = np.where(labels == 2, 1, labels)
    after = written(grown, objects.split_at(grown, 1, [(25, 20), (25, 42)], 7))
    assert after[25, 20] != after[25, 42]
    # each half is one of the two disks, but for pixels on the line where they touch
    for at, number in (((25, 20), 1), ((25, 42), 2)):
        assert np.count_nonzero((after == after[at]) ^ (labels == number)) < 30


def test_a_click_beside_the_object_does_not_count(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="two points"):
        objects.split_at(labels, 1, [(25, 20), (55, 3)], 7)


def test_holes_are_filled_but_not_with_neighbours(labels: np.ndarray) -> None:
    labels[24:27, 19:22] = 0
    labels[20:22, 15:17] = 3
    after = written(labels, objects.fill_holes(labels, 1))
    assert (after[24:27, 19:22] == 1).all()
    assert (after[20:22, 15:17] == 3).all()


def test_smooth_takes_off_a_spike_and_keeps_the_size(labels: np.ndarray) -> None:
    spiked = labels.copy()
    spiked[40:50, 20] = 1
    after = written(spiked, objects.smooth(spiked, 1))
    assert not (after[42:50, 20] == 1).any()
    assert np.count_nonzero(after == 1) == pytest.approx(np.count_nonzero(labels == 1), rel=0.03)
    np.testing.assert_array_equal(after == 2, labels == 2)


def test_grow_and_shrink_by_a_pixel(labels: np.ndarray) -> None:
    more, less = (written(labels, objects.grow(labels, 3, pixels)) for pixels in (1, -1))
    cross = ndi.generate_binary_structure(2, 1)
    np.testing.assert_array_equal(more == 3, ndi.binary_dilation(labels == 3, cross))
    np.testing.assert_array_equal(less == 3, ndi.binary_erosion(labels == 3, cross))
    beside = written(labels, objects.grow(labels, 1))
    np.testing.assert_array_equal(beside == 2, labels == 2)


def test_shrinking_to_nothing_is_refused() -> None:
    dot = np.zeros((5, 5), np.uint32)
    dot[2, 2] = 1
    with pytest.raises(DataError, match="delete it"):
        objects.grow(dot, 1, -1)


def test_objects_at_the_border_and_in_stacks(labels: np.ndarray) -> None:
    stack = np.zeros((3, 20, 20), np.uint32)
    stack[:, :8, :8] = 5
    assert (written(stack, objects.grow(stack, 5, -1)) == 5)[1, :7, :7].all()  # the border is no edge
    halves = written(stack, objects.split_at(stack, 5, [(0, 4, 4), (2, 4, 4)], 6))
    assert halves[0, 4, 4] != halves[2, 4, 4]


def test_an_object_that_is_not_there(labels: np.ndarray) -> None:
    for tool in (objects.delete, objects.fill_holes, objects.smooth, objects.grow):
        with pytest.raises(DataError, match="no object 99"):
            tool(labels, 99)


def test_a_window_holds_the_object_and_what_the_tools_look_at() -> None:
    """Each tool does in the window what it does in the whole plane."""
    random = np.random.default_rng(0)
    labels = ndi.label(ndi.gaussian_filter(random.random((600, 500)), 6) > 0.505)[0].astype(np.uint16)
    tools = (objects.delete, objects.fill_holes, objects.smooth, objects.grow)
    for y, x in random.integers(0, [600, 500], (40, 2)):
        number = int(labels[y, x])
        if not number:
            continue
        window = objects.window_around(labels, (y, x))
        for tool in tools:
            edit, after = tool(labels[window], number), labels.copy()
            after[window][edit.region] = edit.values
            np.testing.assert_array_equal(after, written(labels, tool(labels, number)))


def test_a_window_ends_where_the_object_does() -> None:
    labels = np.zeros((2, 400, 4000), np.uint16)
    labels[1, 5:395, 1000:1300] = 3
    labels[1, 200:210, 3800:3900] = 3  # far away: another object that got the number by mistake
    labels[0, :, :] = 3
    slices, rows, columns = objects.window_around(labels, (1, 200, 1100))
    assert (slices.start, slices.stop) == (1, 2)
    assert (rows.start, rows.stop) == (0, 400)
    assert columns.start < 1000
    assert 1300 < columns.stop < 3800


def test_pixels_along_a_line_touch_each_other() -> None:
    path = np.array([[3.2, 4.0], [30.0, 11.0], [2.0, 60.0]])
    pixels = objects.pixels_along(path)
    assert np.abs(np.diff(pixels, axis=0)).max() == 1
    np.testing.assert_array_equal(pixels[[0, -1]], [[3, 4], [2, 60]])
    np.testing.assert_array_equal(objects.pixels_along(path[:1]), [[3, 4]])


def test_a_piece_far_away_with_the_same_number_stays_where_an_object_is_outlined_anew() -> None:
    labels = np.zeros((40, 4000), np.uint32)
    labels[10:20, 10:20] = labels[10:20, 3900:3910] = 1
    edit, number = objects.put(labels, (slice(8, 20), slice(10, 20)), np.ones((12, 10), bool), 2)
    labels[edit.region] = edit.values
    assert number == 1
    assert (labels[8:20, 10:20] == 1).all()
    assert (labels[10:20, 3900:3910] == 1).all()
