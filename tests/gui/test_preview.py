"""What the model that learns finds in view is seen meanwhile, if somebody wants it; nothing of it stays."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_unet.errors import DeviceError
from napari_unet.gui import preview, runs
from napari_unet.gui.models import ModelEntry
from napari_unet.gui.regions import shape_of_region
from napari_unet.jobs import Progress
from napari_unet.learn import preview as looks
from napari_unet.learn.train import TrainResult
from napari_unet.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

PREVIEW = "cells_preview"


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Learning that goes on until it is let go, and looks whenever it can; a square is found in the middle."""
    learning = SimpleNamespace(gate=threading.Event(), looked=0, views=[], trouble=False)

    def learn(entry, corrections, settings, stop, preview):
        model = entry.get()
        while not learning.gate.is_set() and not stop():
            time.sleep(0.01)
            yield Progress(1, 100, "steps", {"loss": 1.0})
            look = preview()
            if look is not None:
                time.sleep(0.1)  # more often than that no viewer can show it
                yield from look(model)
                learning.looked += 1
        return TrainResult(model, None, None, 1, "Stopped." if stop() else "")

    def segment_part(entry, source, settings, region, there):
        yield Progress(0, 1, "tiles")
        if learning.trouble:
            raise DeviceError("The device is too small.")
        learning.views.append(preview.View(source, region, settings))
        found = np.zeros(shape_of_region(region), np.uint32)
        found[..., 10:20, 10:20] = 300
        return SimpleNamespace(found=found)

    monkeypatch.setattr(runs, "learn", learn)
    monkeypatch.setattr(preview, "segment_part", segment_part)
    yield learning
    learning.gate.set()


def painted(desk, image: np.ndarray | None = None, **how):
    """Return a dock with an image on which something is painted."""
    at = desk(np.full((96, 96), 7, np.uint8) if image is None else image, **how)
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    at.paint(*(labels.data_to_world((0,) * (labels.ndim - 2) + each)[-2:] for each in ((20, 20), (20, 60))))
    at.viewer.reset_view()
    at.wait(lambda: (labels.corner_pixels[1] - labels.corner_pixels[0] + 1).tolist()[-2:] == [*labels.data.shape[-2:]])
    return at


def tick(at) -> None:
    """Click the box, where a person would."""
    box = at.dock.finetune.preview.wanted
    assert box.isEnabled()
    assert box.isVisibleTo(at.dock)
    QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))


def shown(at) -> bool:
    return PREVIEW in at.viewer.layers


def begin(at) -> None:
    at.click(at.dock.finetune.start)
    at.wait(lambda: at.dock.finetune.bar.value() > 0)


def test_it_is_off_until_it_is_wanted_and_goes_at_the_end(desk, learning) -> None:
    at = painted(desk)
    begin(at)
    at.qtbot.wait(100)
    assert not shown(at)
    assert learning.looked == 0
    tick(at)
    at.wait(lambda: shown(at))
    layer = at.viewer.layers[PREVIEW]
    expected = np.zeros((96, 96), bool)
    expected[10:20, 10:20] = True
    expected[11:19, 11:19] = False
    np.testing.assert_array_equal(np.asarray(layer.data) > 0, expected)
    assert at.dock.finetune.note.text().startswith("Learning"), "the look between two steps is no step of its own"
    learning.gate.set()
    at.wait()
    assert not shown(at)
    assert at.session.result is not None
    assert not at.dock.finetune.preview.isVisibleTo(at.dock)


def test_it_is_no_part_of_the_corrections_and_the_brush_stays_in_hand(desk, learning) -> None:
    at = painted(desk)
    tick(at)
    begin(at)
    at.wait(lambda: shown(at))
    layer = at.viewer.layers[PREVIEW]
    assert at.session.candidates() == [at.session.labels]
    assert not layer.editable
    assert at.viewer.layers.selection.active is at.session.labels
    assert str(at.session.labels.mode) == "paint"
    before = learning.looked
    at.wait(lambda: learning.looked > before)
    at.paint((50, 20), (50, 60))
    assert at.session.annotation.strokes == 2
    assert len([each for each in at.viewer.layers if each.name.startswith(PREVIEW)]) == 1


def test_what_comes_while_the_hand_paints_waits_until_it_is_lifted(desk, learning) -> None:
    at = painted(desk)
    begin(at)
    with at.session.labels.block_history():
        at.dock.finetune.preview.wanted.setChecked(True)
        at.wait(lambda: learning.looked > 2)
        at.qtbot.wait(100)
        assert not shown(at)
    at.wait(lambda: shown(at))


@pytest.mark.parametrize("end", ["stop", "untick", "remove", "image", "other", "data"])
def test_it_goes(desk, learning, end: str) -> None:
    at = painted(desk)
    tick(at)
    begin(at)
    at.wait(lambda: shown(at))
    if end == "stop":
        at.click(at.dock.finetune.stop)
        assert not shown(at), "at once"
    elif end == "untick":
        tick(at)
    elif end == "remove":
        at.viewer.layers.remove(PREVIEW)
        assert not at.dock.finetune.preview.wanted.isChecked(), "who removes it is not contradicted"
    elif end == "image":
        at.viewer.layers.remove("cells")
    elif end == "other":
        at.viewer.add_image(np.zeros((50, 50), np.uint8), name="other")
        at.wait(lambda: "other_preview" in at.viewer.layers)
    else:
        at.session.image.data = np.zeros((90, 90), np.uint8)
        at.wait(lambda: shown(at) and at.viewer.layers[PREVIEW].data.shape == (90, 90))
        return
    at.wait(lambda: not shown(at))
    looked = learning.looked
    at.qtbot.wait(100)
    assert not shown(at)
    assert end in ("stop", "other") or learning.looked <= looked + 1


def test_it_goes_with_the_dock(desk, learning) -> None:
    at = painted(desk)
    tick(at)
    begin(at)
    at.wait(lambda: shown(at))
    at.viewer.window.remove_dock_widget(at.dock)
    assert not shown(at)


def test_it_lies_over_the_middle_of_the_view(desk, learning, monkeypatch: pytest.MonkeyPatch) -> None:
    at = painted(desk, np.full((1400, 1600), 7, np.uint8), scale=(0.5, 0.5), translate=(30, -20), rotate=20)
    at.session.set_how(None, 33.0)
    at.dock.finetune.settings.set("device", "cpu")
    tick(at)
    begin(at)
    at.wait(lambda: shown(at))
    view, layer, image = learning.views[-1], at.viewer.layers[PREVIEW], at.session.image
    assert shape_of_region(view.region) == (1024, 1024)
    assert view.settings.diameter == 33.0
    assert view.settings.device == "cpu"
    start = [r.start for r in view.region]
    assert start == [(1400 - 1024) // 2, (1600 - 1024) // 2]
    np.testing.assert_allclose(layer.data_to_world((0, 0)), image.data_to_world(start))
    np.testing.assert_allclose(layer.data_to_world((9, 4)), image.data_to_world(np.add(start, (9, 4))))
    at.viewer.scene.camera.zoom *= 8
    at.wait(lambda: at.viewer.layers[PREVIEW].data.shape != (1024, 1024))
    moved = preview.placement(at.session.source, learning.views[-1].region)["translate"]
    at.wait(lambda: np.allclose(at.viewer.layers[PREVIEW].translate, moved))


def test_in_a_stack_it_lies_in_the_slice_in_view(desk, learning) -> None:
    at = painted(desk, np.full((5, 64, 64), 7, np.uint8))
    at.viewer.dims.set_current_step(0, 3)
    tick(at)
    begin(at)
    at.wait(lambda: shown(at))
    layer = at.viewer.layers[PREVIEW]
    assert layer.data.shape == (1, 64, 64)
    assert layer.data_to_world((0, 0, 0))[0] == 3
    at.viewer.dims.set_current_step(0, 1)
    at.wait(lambda: layer.data_to_world((0, 0, 0))[0] == 1)
    at.session.labels.contour = 0  # napari warns that it draws no outlines in 3-D
    at.viewer.dims.ndisplay = 3
    at.qtbot.wait(100)
    looked = learning.looked
    at.qtbot.wait(100)
    assert learning.looked <= looked + 1, "no plane is in view"


def test_a_model_of_stacks_has_none_and_says_why(desk, learning, tmp_path) -> None:
    at = painted(desk, np.full((5, 64, 64), 7, np.uint8))
    box = at.dock.finetune.preview.wanted
    tick(at)
    deep = ModelEntry("deep", Model.new(ndim=3, width=4, depth=1).save(tmp_path / "deep.unet"))
    at.session.set_model(deep)
    assert not box.isEnabled()
    assert "stacks" in box.toolTip()
    begin(at)
    at.qtbot.wait(100)
    assert learning.looked == 0
    assert not shown(at)


def test_what_is_wrong_is_said_and_the_learning_goes_on(desk, learning) -> None:
    at = painted(desk)
    tick(at)
    begin(at)
    at.wait(lambda: shown(at))
    learning.trouble = True
    at.wait(lambda: not shown(at))
    assert at.dock.finetune.preview.trouble.text() == "No preview: The device is too small."
    learning.trouble = False
    at.wait(lambda: shown(at))
    assert not at.dock.finetune.preview.trouble.isVisibleTo(at.dock)
    learning.gate.set()
    at.wait()
    assert at.session.result is not None


def test_nothing_that_goes_wrong_in_a_look_ends_the_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    def part(*_: object):
        yield Progress(0, 1)
        raise KeyError("a chunk")

    monkeypatch.setattr(preview, "segment_part", part)
    view = preview.View(None, (slice(0, 9), slice(0, 9)), None)
    *_, last = preview.find(view, SimpleNamespace(name="own"))
    assert last.payload.picture is None
    assert last.payload.trouble == "something unforeseen (KeyError: 'a chunk')."


def test_it_segments_as_step_2_would_but_on_the_device_that_learns(desk, learning) -> None:
    at = painted(desk)
    for name, value in (("seed", 0.6), ("flips", True), ("device", "auto")):
        at.dock.segment.settings.set(name, value)
    at.dock.finetune.settings.set("device", "cpu")
    tick(at)
    begin(at)
    at.wait(lambda: shown(at))
    settings = learning.views[-1].settings
    assert (settings.seed, settings.device, settings.flips) == (0.6, "cpu", False)


def test_it_really_looks_while_it_learns(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "PREVIEW", 0.0)
    monkeypatch.setattr(looks, "SHARE", 1.0)
    y, x = np.mgrid[:128, :128] % 32 - 16
    at = painted(desk, np.where(np.hypot(y, x) < 9, 200, 20).astype(np.uint8))
    seen: list[preview.Previewed] = []
    at.session.progressed.connect(
        lambda progress: seen.append(progress.payload) if isinstance(progress.payload, preview.Previewed) else None
    )
    at.dock.finetune.settings.set("steps", 4)
    at.dock.finetune.settings.set("batch", 1)
    tick(at)
    at.click(at.dock.finetune.start)
    at.wait()
    assert at.session.result.steps == 4
    assert len(seen) == 3
    assert all(each.picture.shape == (128, 128) and not each.trouble for each in seen)
    assert at.dock.finetune.curve.points("loss") == 4
    assert not shown(at)
