"""Clicks on the canvas outline an object, which is written when it is accepted; the network is a stand-in."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet import Model, model
from napari_unet.gui import click_tool
from napari_unet.gui.layers import keep_active
from napari_unet.infer import clicks

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
NONE, SHIFT, CONTROL = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.ControlModifier,
)


@pytest.fixture(autouse=True)
def bright(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A network to which all that is bright is the object, but for what was clicked outside."""

    def predict(model: Model, image: np.ndarray, device: str, *, waited_for: bool) -> Any:
        assert waited_for
        yield from ()
        rows, columns = np.nonzero(image[-1])
        cut = np.ones(image.shape[1:], np.float32)
        if len(rows):
            cut[:, int(columns.min()) - 2 :] = 0  # and all to the right of it
        return np.stack((1 - image[0], image[0] * cut))

    monkeypatch.setattr(clicks, "predict_tiles", predict)
    monkeypatch.setattr(model, "SHIPPED", tmp_path)
    Model.new(width=2, depth=1).with_clicks().save(tmp_path / f"{model.CLICKS}{model.SUFFIX}")


@pytest.fixture
def picture() -> np.ndarray:
    """Two disks and a bar."""
    image = np.zeros((200, 240), np.uint8)
    rows, columns = np.indices(image.shape)
    image[np.hypot(rows - 60, columns - 60) < 16] = 200
    image[np.hypot(rows - 60, columns - 150) < 24] = 200
    image[140:160, 40:200] = 200
    return image


def opened(desk: Any, image: np.ndarray) -> Any:
    """Open an image with empty labels, and take the tool."""
    made = desk(image)
    made.dock.correct.start_empty()
    made.tool = made.dock.correct.tools.clicks
    made.click(made.dock.correct.tools.ours["click"])
    assert made.dock.correct.tools.hand.tool == "click"
    return made


def settled(desk: Any) -> None:
    desk.wait(lambda: desk.tool._worker is None)


def test_a_click_outlines_enter_writes_and_undo_takes_back(desk: Any, picture: np.ndarray) -> None:
    made = opened(desk, picture)
    labels = made.session.labels
    made.paint((60, 60))
    settled(made)
    assert made.tool.pending
    assert not labels.data.any()
    made.press(Qt.Key.Key_Return)
    truth = np.hypot(*(np.indices(picture.shape) - np.array([60, 60])[:, None, None])) < 16
    assert (truth & (labels.data > 0)).sum() / (truth | (labels.data > 0)).sum() > 0.93
    assert not made.tool.pending
    made.paint((60, 150))
    settled(made)
    made.press(Qt.Key.Key_Return)
    assert set(np.unique(labels.data)) == {0, 1, 2}
    assert made.session.annotation.strokes == 2
    made.press(Qt.Key.Key_Z, CONTROL)
    assert set(np.unique(labels.data)) == {0, 1}


def test_escape_drops_the_outline_and_then_puts_the_tool_away(desk: Any, picture: np.ndarray) -> None:
    made = opened(desk, picture)
    layers = list(made.viewer.layers)
    made.paint((60, 60))
    settled(made)
    made.press(Qt.Key.Key_Escape)
    assert not made.tool.pending
    made.press(Qt.Key.Key_Escape)
    assert not made.dock.correct.tools.hand.tool
    assert list(made.viewer.layers) == layers
    assert not made.session.labels.data.any()
    assert made.session.labels.mouse_pan


@pytest.mark.parametrize(("button", "key"), [(LEFT, SHIFT), (RIGHT, NONE)])
def test_what_is_not_of_the_cell_is_taken_away(desk: Any, picture: np.ndarray, button: Any, key: Any) -> None:
    made = opened(desk, picture)
    made.paint((150, 60))
    settled(made)
    made.paint((150, 150), button=button, modifier=key)
    settled(made)
    made.press(Qt.Key.Key_Return)
    data = made.session.labels.data
    assert data[150, 60]
    assert not data[150, 155:].any()


def test_an_object_that_is_there_is_cut_from_its_first_click_outside(desk: Any, picture: np.ndarray) -> None:
    made = opened(desk, picture)
    labels = made.session.labels
    labels.data[140:160, 40:200] = 7
    made.paint((150, 150), modifier=SHIFT)
    settled(made)
    made.press(Qt.Key.Key_Return)
    assert labels.data[150, 60] == 7
    assert not labels.data[150, 155:].any()
    made.paint((20, 20), modifier=SHIFT)  # nothing there
    settled(made)
    assert not made.tool.pending
    assert "Click the cell first" in made.dock.correct.count.text()


def test_a_drag_scribbles_and_with_control_draws_a_box(desk: Any, picture: np.ndarray) -> None:
    made = opened(desk, picture)
    centre = made.viewer.scene.camera.center
    made.paint((150, 60), (150, 90), (150, 120))
    settled(made)
    assert len(made.tool._drawing.prompt.inside) >= 3
    assert made.viewer.scene.camera.center == centre
    made.press(Qt.Key.Key_Escape)
    made.paint((40, 40), (60, 60), (80, 80), modifier=CONTROL)
    settled(made)
    made.press(Qt.Key.Key_Return)
    assert made.session.labels.data[60, 60]
    assert not made.session.labels.data[60, 150]


def test_another_tool_puts_it_away(desk: Any, picture: np.ndarray) -> None:
    made = opened(desk, picture)
    made.paint((60, 60))
    settled(made)
    made.dock.correct.tools.take("paint")
    assert not made.dock.correct.tools.hand.tool
    assert not made.tool.pending
    made.paint((100, 100), (100, 120))
    assert made.session.labels.data[100, 110]


def test_an_object_is_followed_through_a_stack_in_one_edit(desk: Any, picture: np.ndarray) -> None:
    stack = np.zeros((7, *picture.shape), np.uint8)
    stack[1:6] = picture
    made = opened(desk, stack)
    made.viewer.dims.set_current_step(0, 3)
    made.qtbot.wait(50)
    made.paint((60, 60))
    settled(made)
    made.press(Qt.Key.Key_Return)
    data = made.session.labels.data
    assert [z for z in range(7) if data[z].any()] == [3]
    made.click(made.dock.correct.tools.through)
    settled(made)
    assert [z for z in range(7) if data[z].any()] == [1, 2, 3, 4, 5]
    made.press(Qt.Key.Key_Z, CONTROL)
    assert [z for z in range(7) if data[z].any()] == [3]


def test_a_dock_that_closes_meanwhile_leaves_nothing(desk: Any, picture: np.ndarray) -> None:
    made = desk(picture)
    before = list(made.viewer.mouse_drag_callbacks)
    made.dock.correct.start_empty()
    made.click(made.dock.correct.tools.ours["click"])
    made.paint((60, 60))
    made.viewer.window.remove_dock_widget(made.dock)
    made.qtbot.wait(100)
    assert [layer.name for layer in made.viewer.layers] == ["cells", "cells_unet_labels"]
    assert list(made.viewer.mouse_drag_callbacks) == before


def test_a_click_after_enter_begins_another_object(desk: Any, picture: np.ndarray, monkeypatch: Any) -> None:
    made = opened(desk, picture)
    settled(made)
    held = threading.Event()
    look = click_tool.outline
    monkeypatch.setattr(click_tool, "outline", lambda *a, **k: (held.wait(10), look(*a, **k))[1])
    made.paint((60, 60))
    made.press(Qt.Key.Key_Return)
    made.paint((60, 150))
    held.set()
    settled(made)
    made.press(Qt.Key.Key_Return)
    data = made.session.labels.data
    assert data[60, 60] != data[60, 150] > 0


def test_what_was_dropped_says_nothing_of_the_next_object(desk: Any, picture: np.ndarray, monkeypatch: Any) -> None:
    made = opened(desk, picture)
    settled(made)
    held, before = threading.Event(), []
    look = click_tool.outline

    def slow(*given: Any, **how: Any) -> Any:
        before.append(how["mask"])
        held.wait(10)
        return look(*given, **how)

    monkeypatch.setattr(click_tool, "outline", slow)
    made.paint((60, 60))
    made.wait(lambda: len(before) == 1)
    made.press(Qt.Key.Key_Escape)
    made.paint((60, 150))
    held.set()
    settled(made)
    assert before == [None, None]


def test_nothing_is_clicked_where_no_plane_is_shown(desk: Any, picture: np.ndarray) -> None:
    made = opened(desk, np.stack([picture] * 7))
    made.session.labels.visible = False
    made.paint((60, 60))
    settled(made)
    assert not made.tool.pending
    made.session.labels.visible = True
    made.session.labels.contour = 0  # napari warns that it draws none in 3-D
    made.viewer.dims.ndisplay = 3
    assert not made.dock.correct.tools.hand.tool
    made.viewer.dims.ndisplay = 2


def test_what_was_taken_back_is_not_followed(desk: Any, picture: np.ndarray) -> None:
    made = opened(desk, np.stack([picture] * 7))
    made.paint((60, 60))
    settled(made)
    made.press(Qt.Key.Key_Return)
    assert made.dock.correct.tools.through.isVisibleTo(made.dock)
    made.press(Qt.Key.Key_Z, CONTROL)
    assert not made.dock.correct.tools.through.isVisibleTo(made.dock)


def test_another_layer_leaves_the_tool_in_hand(desk: Any, picture: np.ndarray) -> None:
    made = opened(desk, picture)
    made.paint((60, 60))
    settled(made)
    with keep_active(made.viewer):
        made.viewer.add_labels(np.zeros((9, 9), int))
    assert made.dock.correct.tools.hand.tool == "click"
    assert made.tool.pending
