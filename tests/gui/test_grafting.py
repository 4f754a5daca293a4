"""What an earlier session did in parts of a large image goes where it belongs, and over nothing newer."""

from __future__ import annotations

import numpy as np

from napari_unet.gui.grafting import of_these, replayed
from napari_unet.store.actions import Action, Runs
from napari_unet.store.journal import Kept

PART = (slice(10, 30), slice(0, 20))
OTHER = (slice(20, 40), slice(0, 20))


def found() -> np.ndarray:
    labels = np.zeros((60, 20), np.uint32)
    labels[12:18, 2:8], labels[22:28, 2:8], labels[32:38, 2:8] = 100, 101, 102
    return labels


def kept(first: np.ndarray, *strokes: tuple[int, int, int, float]) -> Kept:
    """Labels of a part, and strokes on single pixels: row, column, number, time."""
    labels, actions = first.copy(), []
    for row, column, number, when in strokes:
        region = (slice(row, row + 1), slice(column, column + 1))
        before, after = labels[region].copy(), np.full((1, 1), number, np.uint32)
        actions.append(Action("stroke", region, Runs.pack(before), Runs.pack(after), when=when))
        labels[region] = after
    return Kept("image", Runs.pack(first), actions)


def test_strokes_of_parts_that_overlap_come_in_the_order_of_time() -> None:
    disk = found()
    one, two = kept(disk[PART], (12, 3, 7, 1.0)), kept(disk[OTHER], (5, 9, 8, 2.0))
    parts = [(one, PART), (two, OTHER)]
    expected = disk.copy()
    expected[22, 3], expected[25, 9] = 7, 8
    for part in (PART, OTHER):
        np.testing.assert_array_equal(replayed(part, disk[part], parts), expected[part])


def test_what_is_newer_on_the_disk_stays() -> None:
    disk = found()
    old = kept(disk[PART], (12, 3, 7, 1.0), (1, 1, 9, 2.0))
    disk[22, 3] = 55  # by a later session
    labels = replayed(PART, disk[PART], [(old, PART)])
    assert labels[12, 3] == 55
    assert labels[1, 1] == 9


def test_it_makes_no_difference_what_had_reached_the_disk() -> None:
    disk = found()
    one = kept(disk[PART], (12, 3, 7, 1.0), (12, 3, 8, 2.0))
    for there in (101, 7, 8):
        disk[22, 3] = there
        assert replayed(PART, disk[PART], [(one, PART)])[12, 3] == 8


def test_labels_of_another_run_are_told_from_those_on_the_disk() -> None:
    disk = found()
    other = np.where(disk > 0, disk - 90, 0).astype(np.uint32)
    mine, foreign = kept(disk[PART], (12, 3, 7, 1.0)), kept(other[PART], (12, 3, 7, 1.0))
    disk[22, 3] = 7
    assert of_these(mine, PART, disk[PART], [(mine, PART)])
    assert not of_these(foreign, PART, disk[PART], [(foreign, PART)])
    assert not of_these(kept(np.zeros_like(disk[PART])), PART, np.zeros_like(disk[PART]), [])
