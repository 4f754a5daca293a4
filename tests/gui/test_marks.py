"""What T and A vouch for: of a plane, or of neighbouring slices where the model sees several at once."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet.gui.marks import BLOCK, DEEP, object_mark, tile_mark
from napari_unet.gui.models import ModelEntry
from napari_unet.learn.corrections import State, known_weight
from napari_unet.model import Model

BALL = np.hypot(*np.mgrid[-12:12, -20:20, -20:20][1:]) ** 2 + np.mgrid[-12:12, -20:20, -20:20][0] ** 2 < 81


def ball() -> np.ndarray:
    """A ball, 3, in slices 4 to 20 of 24; and another object beside it."""
    labels = np.where(BALL, 3, 0).astype(np.uint32)
    labels[12, 20, 30] = 8
    return labels


def one(at: int, *others: slice) -> tuple[slice, ...]:
    return slice(at, at + 1), *others


@pytest.mark.parametrize(("at", "first", "last"), [(30, 30 - DEEP, 30 + DEEP), (2, 0, 2 + DEEP), (59, 59 - DEEP, 59)])
def test_a_tile_goes_on_through_the_slices_beside_it(at: int, first: int, last: int) -> None:
    mark = tile_mark(one(at, slice(0, 2000), slice(10, 110)), (60, 2000, 2000), 0)
    middle = slice(1000 - BLOCK // 2, 1000 + BLOCK // 2)
    assert mark.region == (slice(first, last + 1), middle, slice(10, 110))
    assert [outline[0, 0] for outline in mark.outlines] == list(range(first, last + 1))


def test_a_tile_of_a_plane_stays_in_it() -> None:
    mark = tile_mark(one(30, slice(0, 50), slice(10, 110)), (60, 2000, 2000), None)
    assert mark.region == (slice(30, 31), slice(0, 50), slice(10, 110))
    assert len(mark.outlines) == 1


def test_an_object_is_followed_through_its_slices() -> None:
    labels = ball()
    mark = object_mark(labels, one(5, slice(0, 40), slice(0, 40)), 3, 0)
    state = np.zeros(labels.shape, np.uint8)
    state[mark.region][mark.mask] = mark.state
    assert (state[labels == 3] == State.ACCEPTED).all()
    assert not state[labels == 8].any(), "the ring is background only"
    z, y, x = np.nonzero(state)
    assert (z.min(), z.max()) == (3, 21), "one slice above and below it"
    assert (y.min(), y.max(), x.min(), x.max()) == (10, 30, 10, 30), "two pixels around it"
    assert (known_weight(labels, state)[1][labels == 3] > 0).all(), "its boundary and distance can be learned"
    assert [outline[0, 0] for outline in mark.outlines] == list(range(4, 21))


def test_an_object_of_a_plane_stays_in_it() -> None:
    labels = ball()
    mark = object_mark(labels, one(12, slice(0, 40), slice(0, 40)), 3, None)
    assert mark.region[0] == slice(12, 13)
    assert len(mark.outlines) == 1
    assert object_mark(labels, one(1, slice(0, 40), slice(0, 40)), 3, 0) is None


@pytest.fixture
def stack(desk, tmp_path):
    """A dock with a ball in a stack, and a model of stacks that was not read yet."""
    at = desk(np.where(BALL, 200, 20).astype(np.uint8), axis_labels=("z", "y", "x"))
    at.session.set_model(ModelEntry("stacks", Model.new(ndim=3, width=4, depth=1).save(tmp_path / "stacks.unet")))
    at.click(at.dock.correct.empty)
    at.session.labels.data[:] = ball()
    at.session.labels.refresh()
    at.viewer.dims.set_current_step(0, 10)
    return at


def shown(at) -> list[int]:
    """In which slices an outline is seen."""
    layer, found = at.viewer.layers["cells_unet_confirmed"], []
    for z in range(24):
        at.viewer.dims.set_current_step(0, z)
        found += [z] if layer._data_view._displayed.any() else []
    at.viewer.dims.set_current_step(0, 10)
    return found


def test_marks_for_a_model_of_stacks(stack) -> None:
    at, section = stack, stack.dock.correct
    assert section.tile.text() == "Block is right"
    assert section.minimumSizeHint().width() <= 310, "nothing is cut off in a narrow dock"
    assert f"{DEEP} slices above and below" in section.tile.toolTip()
    at.press(Qt.Key.Key_T)
    state = at.session.annotation.state()
    assert [z for z in range(24) if state[z].any()] == list(range(2, 19)) == shown(at)
    assert "slices 2 to 18" in section.count.text()
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not shown(at)
    at.viewer.cursor.position = (10, 20, 20)
    at.press(Qt.Key.Key_A)
    labels = at.session.labels.data
    state = at.session.annotation.state()
    assert (state[labels == 3] == State.ACCEPTED).all()
    assert shown(at) == list(range(4, 21))
    assert "slices 3 to 21" in section.count.text()


def test_marks_for_a_model_of_planes(stack, tiny) -> None:
    stack.session.set_model(ModelEntry("tiny", tiny))
    assert stack.dock.correct.tile.text() == "This tile is right"
    stack.press(Qt.Key.Key_T)
    assert shown(stack) == [10]
    assert "slices" not in stack.dock.correct.count.text()


def test_outlines_follow_the_marks(stack, tiny) -> None:
    """Whatever is added and taken back, in any order, an outline is there for each mark and no other."""
    stack.session.set_model(ModelEntry("tiny", tiny))
    annotation, plane = stack.session.annotation, one(12, slice(0, 40), slice(0, 40))
    marks = [tile_mark(one(z, slice(0, 10 + z), slice(0, 9)), (24, 40, 40), None) for z in range(4)]
    annotation.mark(marks[0])
    annotation.mark(object_mark(stack.session.labels.data, plane, 3, 0))
    annotation.mark(marks[1])
    annotation.undo()
    annotation.mark(marks[2])
    del annotation.marks[0]
    annotation.mark(marks[3])
    layer = stack.viewer.layers["cells_unet_confirmed"]
    expected = [(outline, mark.state) for mark in annotation.marks for outline in mark.outlines]
    assert len(expected) == len(layer.data) == 17 + 2
    for (outline, _), drawn in zip(expected, layer.data, strict=True):
        np.testing.assert_array_equal(outline, drawn)
    stack.viewer.layers.remove(layer)
    assert "cells_unet_confirmed" not in stack.viewer.layers, "who removes the outlines is not contradicted"
    annotation.mark(marks[0])
    assert len(stack.viewer.layers["cells_unet_confirmed"].data) == 20, "they come back with the next mark"
