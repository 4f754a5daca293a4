"""What is drawn around is segmented again: whole objects only, one step, and what a hand made stays."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet.infer import segment
from napari_unet.jobs import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

CTRL = Qt.KeyboardModifier.ControlModifier
CORNERS = [(16, 16), (16, 70), (50, 70), (50, 16), (18, 15)]  # around the first two squares


def squares(*numbers: int) -> np.ndarray:
    """Squares, 20 pixels wide, with some of the numbers 1 to 4."""
    made = np.zeros((120, 160), np.uint32)
    for number, (y, x) in enumerate([(22, 22), (22, 45), (30, 110), (80, 60)], start=1):
        if number in numbers:
            made[y : y + 20, x : x + 20] = number
    return made


@pytest.fixture(autouse=True)
def finds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[slice, ...]]:
    """A model that finds all four squares, in each slice; the list tells what it was asked to look at."""
    asked: list[tuple[slice, ...]] = []

    def job(model: object, data: np.ndarray, axes: str, settings: object, *, region: tuple[slice, ...], first: object):
        asked.append(region)
        yield Progress(1, 1, "tiles")
        labels = np.broadcast_to(squares(1, 2, 3, 4), data.shape)[region]
        return segment.Segmentation(labels.copy(), (), 0.0)

    monkeypatch.setattr(segment, "segment_job", job)
    return asked


def opened(desk, labels: np.ndarray, **layer: object):
    """A person at an image with labels, the tool in hand; the image has the place that `layer` says."""
    at = desk(np.zeros(labels.shape, np.uint8), **layer)
    at.click(at.dock.correct.empty)
    at.dock.correct.tools.take("paint")  # puts it away
    at.session.labels.data[:] = labels
    at.session.labels.refresh()
    at.viewer.reset_view()
    at.qtbot.wait(20)
    at.press(Qt.Key.Key_O)
    assert at.dock.correct.tools.ours["region"].isChecked()
    return at


def said(at) -> str:
    return at.dock.correct.count.text()


def same_objects(one: np.ndarray, other: np.ndarray) -> None:
    """Whatever their numbers."""
    np.testing.assert_array_equal(one > 0, other > 0)
    pairs = {(a, b) for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_only_what_is_drawn_around_is_found_again_in_one_step(desk) -> None:
    merged = np.where(squares(1, 2) > 0, 9, 0)
    merged[22:42, 42:45] = 9
    before = np.where(merged > 0, merged, squares(4)).astype(np.uint32)
    at = opened(desk, before)
    at.paint(*CORNERS)
    at.wait()
    labels = at.session.labels.data
    same_objects(labels, squares(1, 2, 4))
    assert (labels[squares(4) > 0] == 4).all(), "what lies outside keeps its number"
    assert at.session.annotation.strokes == 0, "a run is no correction"
    assert "2 objects" in at.dock.segment.note.text()
    assert at.dock.correct.tools.ours["region"].isChecked(), "to draw another one"
    after = labels.copy()
    at.press(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(labels, before)
    at.click(at.dock.correct.again)
    np.testing.assert_array_equal(labels, after)


def test_objects_on_the_line_are_exchanged_as_a_whole_or_stay(desk) -> None:
    at = opened(desk, squares(2, 4))
    at.paint((16, 16), (16, 48), (50, 48), (50, 16), (18, 15))  # the first square and a part of the second one
    at.wait()
    same_objects(at.session.labels.data, squares(1, 2, 4))
    assert (at.session.labels.data[squares(2) > 0] == 2).all()


def test_what_was_painted_or_called_right_stays(desk) -> None:
    wrong = squares(2)
    wrong[20:44, 45:69] = 2  # a bit wide, but accepted
    at = opened(desk, wrong)
    at.session.labels.selected_label = 2
    at.dock.correct.accept_object()
    at.dock.correct.tools.take("paint")
    at.session.labels.selected_label, at.session.labels.brush_size = 7, 4
    at.paint((30, 30))
    at.press(Qt.Key.Key_O)
    known = at.session.annotation.state() > 0
    kept = at.session.labels.data.copy()
    at.paint(*CORNERS)
    at.wait()
    labels = at.session.labels.data
    np.testing.assert_array_equal(labels[known], kept[known])
    assert (labels[wrong > 0] == 2).all()
    assert (labels[squares(1) > 0] == 7).all(), "what was found goes on as the object that was begun by hand"


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_only_the_slice_that_is_shown_of_a_scaled_and_moved_stack(desk, finds, factor: float) -> None:
    before = np.stack([squares(4)] * 3)
    place = {"scale": (2, factor, factor), "translate": (5, 30, -12), "axis_labels": ("z", "y", "x")}
    at = opened(desk, before, **place)
    at.viewer.dims.set_current_step(0, 1)
    at.paint(*((y * factor + 30, x * factor - 12) for y, x in CORNERS))
    at.wait()
    labels = at.session.labels.data
    same_objects(labels[1], squares(1, 2, 4))
    np.testing.assert_array_equal(labels[::2], before[::2])
    assert len(finds) == 1
    assert finds[0][0] == slice(1, 2), "no other slice is looked at"


def test_the_model_sees_more_than_the_outline(desk, finds) -> None:
    at = opened(desk, squares(4))
    at.paint(*CORNERS)
    at.wait()
    rows, columns = finds[0]
    assert rows.start == columns.start == 0
    assert rows.stop >= 50 + 20
    assert columns.stop >= 70 + 20


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([(30, 30)], "draw around"),
        ([(30, 30), (30, 60), (30, 30)], "The outline holds"),
        ([(30, 30), (32, 30), (32, 32)], "The outline holds"),
        ([(-9, 30), (-9, 60), (-3, 60), (-3, 30)], "beside the image"),
        ([(30, 163), (60, 163), (60, 170)], "beside the image"),
    ],
)
def test_an_outline_of_nothing_is_told(desk, finds, told: list[str], path, words: str) -> None:
    at = opened(desk, squares(1))
    at.paint(*path)
    assert words in said(at)
    assert said(at).count(".") == 1
    np.testing.assert_array_equal(at.session.labels.data, squares(1))
    assert not finds
    assert not at.session.busy
    assert told == []


def test_escape_drops_the_drawing_and_then_the_tool(desk, finds) -> None:
    at = opened(desk, squares(1))
    tool = at.dock.correct.tools.ours["region"]
    at.paint(*CORNERS, meanwhile=lambda: at.press(Qt.Key.Key_Escape))
    assert not at.session.busy
    assert not finds
    assert tool.isChecked()
    at.press(Qt.Key.Key_Escape)
    assert not tool.isChecked()
    assert at.session.labels.mouse_pan


def test_another_slice_drops_the_drawing(desk, finds) -> None:
    at = opened(desk, np.stack([squares(4)] * 3), axis_labels=("z", "y", "x"))
    at.paint(*CORNERS, meanwhile=lambda: at.viewer.dims.set_current_step(0, 2))
    assert not at.session.busy
    assert not finds


@pytest.fixture
def held(finds) -> Iterator[threading.Event]:
    """Keep the model at work until this is set."""
    going, real = threading.Event(), segment.segment_job

    def job(*given: object, **named: object):
        found = yield from real(*given, **named)
        while not going.is_set():
            time.sleep(0.005)
            yield Progress(1, 1, "tiles")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "segment_job", job)
        yield going
        going.set()


def test_the_outline_is_seen_until_the_objects_are(desk, held) -> None:
    at = opened(desk, squares(4))
    scene = at.viewer.window._qt_viewer.canvas.layer_to_visual[at.session.labels].node.parent
    before, layers = len(scene.children), list(at.viewer.layers)
    at.paint(*CORNERS)
    assert at.session.busy
    assert len(scene.children) > before
    held.set()
    at.wait()
    assert len(scene.children) == before
    assert list(at.viewer.layers) == layers


def test_while_something_runs_it_says_so(desk, finds, held) -> None:
    at = opened(desk, squares(4))
    at.paint(*CORNERS)
    at.paint(*CORNERS)
    assert "still running" in said(at)
    held.set()
    at.wait()
    assert len(finds) == 1
    same_objects(at.session.labels.data, squares(1, 2, 4))
