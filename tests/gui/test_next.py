"""Next goes from one doubtful object to the next and passes over what is known by hand; the doubt can be shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet.gui.layers import ONLY_SEEN
from napari_unet.gui.models import ModelEntry
from napari_unet.model import Model

RANDOM = np.random.default_rng(0)


@pytest.fixture
def seeing(tmp_path) -> ModelEntry:
    """A tiny model that finds objects in noise: each with some middle."""
    model = Model.new(width=8, depth=2, name="seeing")
    model = replace(model, diameter=20.0, decode=replace(model.decode, foreground=0.3, middle=0.0, min_size=30))
    return ModelEntry("seeing", model.save(tmp_path / "seeing.unet"))


@pytest.fixture
def ready(desk, seeing):
    """Return a function that opens an image with nine squares as labels."""

    def make(shape: tuple[int, ...] = (120, 120), **settings: object):
        at = desk(RANDOM.integers(0, 200, shape).astype(np.uint8), **settings)
        at.session.set_model(seeing)
        at.dock.correct.start_empty()
        labels = at.session.labels
        data = np.zeros(shape, np.uint32)
        for i, (y, x) in enumerate([(y, x) for y in (10, 50, 90) for x in (10, 50, 90)]):
            data[..., y : y + 20, x : x + 20] = i + 1
        labels.data = data
        labels.mode = "pan_zoom"
        return at

    return make


def objects(at) -> list[int]:
    return [each.number for each in at.dock.correct.next.found.order if each.number]


def look(at) -> str:
    """Press N, and return what is said."""
    at.press(Qt.Key.Key_N)
    at.wait()
    return at.dock.correct.next.note.text()


def centre(at) -> tuple[float, float]:
    return tuple(at.viewer.scene.camera.center[-2:])


def test_next_walks_through_all_objects(ready) -> None:
    at = ready()
    following = at.dock.correct.next
    at.click(following.button)
    at.wait()
    order, seen = following.found.order, []
    assert sorted(objects(at)) == list(range(1, 10))
    for i, each in enumerate(order):
        assert following.note.text() == f"{i + 1} of {len(order)} looked at: {each.why}."
        middle = [(r.start + r.stop - 1) / 2 for r in each.box]
        np.testing.assert_allclose(centre(at), middle)
        side = max(r.stop - r.start for r in each.box) * at.viewer.scene.camera.zoom
        assert side == pytest.approx(min(at.viewer.canvas.size) / 5)
        seen.append(at.session.labels.selected_label)
        look(at)
    assert following.note.text() == f"All {len(order)} were looked at."
    assert [number for number in seen if number < 10] == objects(at)
    assert all(number == 10 for number, each in zip(seen, order, strict=True) if not each.number)
    assert not following.running.isVisibleTo(at.dock)


def test_what_was_corrected_or_confirmed_meanwhile_is_passed_over(ready) -> None:
    at = ready()
    look(at)
    order = [each for each in at.dock.correct.next.found.order if each.number]
    accepted, painted, deleted = order[1:4]
    labels = at.session.labels
    labels.selected_label = accepted.number
    at.more()
    at.click(at.dock.correct.accept)
    labels.data_setitem((np.array([painted.point[0]]), np.array([painted.point[1]])), 0)
    labels.data_setitem(np.nonzero(labels.data == deleted.number), 0)
    seen = set()
    while not look(at).startswith("All"):
        seen.add(labels.selected_label)
    assert accepted.number not in seen
    assert deleted.number not in seen
    assert order[4].number in seen


def test_a_new_run_or_model_is_looked_at_anew(ready, seeing) -> None:
    at = ready()
    following = at.dock.correct.next
    look(at)
    look(at)
    first = following.found
    at.segment()
    assert following.found is None
    assert following.note.text() == ""
    assert look(at).startswith("1 of ")
    assert following.found is not first
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert following.found is None, "the run was taken back"
    look(at)
    at.session.set_model(replace(seeing, name="another"))
    assert following.found is None


def test_the_order_stays_as_long_as_its_labels_do(ready) -> None:
    at = ready()
    at.segment()
    look(at)
    order = at.dock.correct.next.found
    at.session.image.name = "renamed"
    assert at.dock.correct.next.found is order


def test_a_run_that_is_taken_back_or_done_again_while_it_looks_counts(ready) -> None:
    at = ready()
    following, labels = at.dock.correct.next, at.session.labels
    at.segment()
    labels.data_setitem((np.array([2]), np.array([2])), 99)
    for again in (labels.undo, labels.undo):
        again()
    at.click(following.button)
    labels.redo()
    at.wait()
    assert following.found is None
    assert "press Next again" in following.note.text()
    assert look(at).startswith("1 of ")
    assert labels.undo() is None
    assert following.found is None
    look(at)
    labels.redo()
    assert following.found is None, "also where a stroke is still to be done again after the run"


@pytest.mark.parametrize("tool", ["paint", "merge"])
def test_the_view_does_not_move_under_a_hand_that_draws(ready, tool: str) -> None:
    at = ready()
    following = at.dock.correct.next
    view = at.viewer.scene.camera.center, at.viewer.scene.camera.zoom
    names = [layer.name for layer in at.viewer.layers]
    seen = []

    def meanwhile() -> None:
        at.wait()
        at.qtbot.wait(50)
        at.press(Qt.Key.Key_N)
        seen.append((at.viewer.scene.camera.center, at.viewer.scene.camera.zoom))
        assert [layer.name for layer in at.viewer.layers if "painted" not in layer.name] == names

    at.more()
    at.click(following.overlay)
    at.click(at.dock.correct.tools.napari["paint"] if tool == "paint" else at.dock.correct.tools.ours["merge"])
    at.click(following.button)
    at.paint((20, 15), (20, 40), (20, 55), meanwhile=meanwhile)
    assert seen == [view]
    at.wait(lambda: following.note.text().startswith("1 of "))
    assert following.layer in at.viewer.layers
    assert (at.viewer.scene.camera.center, at.viewer.scene.camera.zoom) != view


def test_it_looks_as_the_image_was_segmented(ready, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_unet.infer import doubt

    given, real = [], doubt.doubt_job

    def job(*args):
        given.append(args[-1])
        return real(*args)

    monkeypatch.setattr(doubt, "doubt_job", job)
    at = ready()
    at.dock.segment.settings.set("seed", 0.6)
    at.dock.segment.settings.set("device", "cpu")
    look(at)
    assert (given[0].seed, given[0].device, given[0].foreground) == (0.6, "cpu", None)


def test_without_a_model_it_says_what_is_missing(ready) -> None:
    at = ready()
    at.session.model = None
    at.click(at.dock.correct.next.button)
    assert "Choose a model" in at.dock.correct.next.note.text()


def test_in_stacks_the_slice_is_chosen_too(ready) -> None:
    at = ready((5, 120, 120), scale=(2.0, 0.5, 0.5))
    look(at)
    for each in at.dock.correct.next.found.order[:6]:
        assert at.viewer.dims.current_step[0] == each.point[0]
        np.testing.assert_allclose(centre(at), [0.5 * (r.start + r.stop - 1) / 2 for r in each.box[1:]])
        look(at)


def test_the_labels_of_channels_have_one_pixel_there(ready, desk, seeing) -> None:
    at = desk(RANDOM.integers(0, 200, (3, 2, 64, 64)).astype(np.uint8))
    at.session.set_model(seeing)
    at.session.set_axes("ZCYX")
    at.dock.correct.start_empty()
    labels = at.session.labels
    labels.mode = "pan_zoom"
    assert labels.data.shape == (3, 1, 64, 64)
    labels.data_setitem(np.nonzero(np.indices(labels.data.shape)[2:].max(axis=0) < 20), 1)
    at.viewer.dims.set_current_step(1, 1)
    look(at)
    assert at.viewer.dims.current_step[1] == 1, "which channel is seen is up to the user"
    order = at.dock.correct.next.found.order
    assert all(len(each.box) == len(each.point) == 4 and each.point[1] == 0 for each in order)
    assert at.dock.correct.next.found.unsure.shape == labels.data.shape


def test_the_doubt_is_shown_and_taken_away(ready) -> None:
    at = ready(scale=(0.5, 0.5))
    following, session = at.dock.correct.next, at.session
    image, labels = session.image, session.labels
    at.more()
    at.click(following.overlay)
    at.wait()
    assert following.overlay.isChecked()
    layer = following.layer
    assert layer in at.viewer.layers
    assert layer.name == "cells_doubt"
    np.testing.assert_array_equal(layer.scale, image.scale)
    assert layer.metadata[ONLY_SEEN]
    assert session.image is image
    assert session.labels is labels
    at.viewer.layers.selection.active = layer
    assert session.image is image, "it is looked at, and nothing to segment"
    at.viewer.layers.selection.active = labels
    assert look(at).startswith("1 of ")
    at.click(following.overlay)
    assert layer not in at.viewer.layers
    assert look(at).startswith("2 of ")
    at.click(following.overlay)
    assert following.layer in at.viewer.layers
    at.viewer.layers.remove(following.layer)
    at.wait(lambda: not following.overlay.isChecked())
    at.click(following.overlay)
    at.segment()
    at.wait(lambda: following.layer is None)
    assert [each.name for each in at.viewer.layers if ONLY_SEEN in each.metadata] == []


def test_it_can_be_stopped_and_waits_for_other_work(ready) -> None:
    at = ready()
    following = at.dock.correct.next
    session = at.session
    at.click(following.button)
    assert session.busy == "next"
    assert following.running.isVisibleTo(at.dock)
    assert at.dock.correct.tile.isEnabled()
    at.click(following.stop)
    at.wait()
    assert following.found is None
    assert following.note.text() == "Stopped; nothing was changed."
    assert not following.running.isVisibleTo(at.dock)
    at.click(at.dock.segment.start)
    at.click(following.button)
    assert "wait until the other work has ended" in following.note.text()
    at.wait()
    assert look(at).startswith("1 of ")


def test_without_labels_there_is_no_next(desk) -> None:
    at = desk(RANDOM.integers(0, 200, (64, 64)).astype(np.uint8))
    assert not at.dock.correct.next.button.isVisibleTo(at.dock)
    assert look(at) == ""
    at.viewer.layers.clear()
    assert look(at) == ""
