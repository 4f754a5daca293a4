"""Versions of the model: the list follows what is kept and what is done to the files; use, rename, export, compare."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLineEdit

from napari_unet.gui import models, runs
from napari_unet.gui.look import Fold
from napari_unet.jobs import Progress
from napari_unet.learn.compare import CHANGED, GAINED, LOST
from napari_unet.learn.outcome import recorded
from napari_unet.learn.train import TrainResult
from napari_unet.model import Model, Provenance

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 128


def disks() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] % 32 - 16
    return np.where(np.hypot(y, x) < 9, 200, 20).astype(np.uint8)


def truth() -> np.ndarray:
    numbers = (np.mgrid[:SIDE, :SIDE] // 32 * np.array([4, 1])[:, None, None]).sum(0) + 1
    return np.where(disks() > 100, numbers, 0).astype(np.uint32)


def kept(name: str, day: int, start: Model | None = None, seed: int = 0, **recipe: object) -> Model:
    """Keep a version that was taught on a day of May."""
    model = Model.new(width=8, depth=2, seed=seed, name=name)
    origin = Provenance(
        recipe={"start": start.name if start else "", **recipe},
        date=f"2026-05-{day:02}T10:00:00+00:00",
        parent=start.version if start else None,
    )
    model = replace(model, provenance=origin)
    models.keep(model)
    return model


@pytest.fixture
def two(desk):
    """A dock with two kept versions, the later one from the earlier one; what is open is a third model."""
    first = kept("cells · 1", 1)
    scores = {"measure": "AP.50", "before": 0.5, "after": 0.75, "tiles": 2, "objects": 9}
    kept("cells · 2", 2, first, 1, scores=scores, corrections={"images": 1, "tiles": 3, "objects": 1, "strokes": 0})
    return opened(desk(disks()))


def opened(at):
    (fold,) = (each for each in at.dock.finetune.findChildren(Fold) if each.content is versions(at))
    at.click(fold.toggle)
    at.wait(lambda: versions(at).list.count() > 0)
    return at


def versions(at):
    return at.dock.finetune.versions


def names(at) -> list[str]:
    view = versions(at).list
    return [view.item(i).text() for i in range(view.count())]


def select(at, name: str) -> None:
    """Click a row of the list."""
    view = versions(at).list
    row = view.visualItemRect(view.item(names(at).index(name)))
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(row.left() + 20, row.center().y()))
    assert versions(at).chosen().entry.name == name


def tool(at, name: str) -> None:
    at.click(versions(at).tools[name])


def write_name(at, name: str) -> None:
    """Write into the editor of the list, and press Enter."""
    (editor,) = versions(at).list.findChildren(QLineEdit)
    editor.selectAll()
    QTest.keyClicks(editor, name)
    QTest.keyClick(editor, Qt.Key.Key_Return)
    at.wait(lambda: not versions(at)._rows.editing)
    at.wait()


def test_the_newest_is_first_and_each_says_what_it_has(two) -> None:
    assert names(two) == ["cells · 2", "cells · 1", "tiny"]
    later, earlier, used = versions(two)._shown
    assert later.score == "0.50 → 0.75"
    assert later.origin == "3 tiles, 1 object · from cells · 1"
    assert "2 held-out tiles with 9 objects" in later.tip
    assert (earlier.score, earlier.origin, earlier.used) == ("", "", False)
    assert used.used
    assert not versions(two).tools["use"].isEnabled(), "it is in use"


def test_one_click_returns_to_an_earlier_one(two) -> None:
    select(two, "cells · 1")
    tool(two, "use")
    two.wait()
    assert two.session.model.name == "cells · 1"
    assert two.dock.image.model.currentText() == "cells · 1"
    assert [version.used for version in versions(two)._shown] == [False, True, False]
    view = versions(two).list
    select(two, "cells · 2")
    QTest.mouseDClick(view.viewport(), Qt.MouseButton.LeftButton, pos=view.visualItemRect(view.currentItem()).center())
    two.wait()
    assert two.session.model.name == "cells · 2"


def test_f2_renames_in_list_and_file(two, own_folder: Path) -> None:
    select(two, "cells · 1")
    QTest.keyClick(versions(two).list, Qt.Key.Key_F2)
    write_name(two, "liver")
    assert names(two) == ["cells · 2", "liver", "tiny"], "its date is as it was"
    assert sorted(path.name for path in own_folder.iterdir()) == ["cells · 2.unet", "liver.unet"]
    assert Model.load(own_folder / "liver.unet").name == "liver"
    assert versions(two)._shown[0].origin.endswith("from liver"), "its child knows it under the new name"
    assert two.dock.image.model.findText("liver") >= 0


@pytest.mark.parametrize(("name", "said"), [("cells · 2", "already"), ("a/b", "cannot be called"), (" ", "cannot be")])
def test_a_name_that_cannot_be_is_told(two, told, own_folder: Path, name: str, said: str) -> None:
    before = {path.name: path.read_bytes() for path in own_folder.iterdir()}
    select(two, "cells · 1")
    tool(two, "rename")
    write_name(two, name)
    assert said in told[0]
    assert names(two)[1] == "cells · 1"
    assert {path.name: path.read_bytes() for path in own_folder.iterdir()} == before


def test_what_lies_elsewhere_is_not_renamed(two) -> None:
    select(two, "tiny")
    assert not versions(two).tools["rename"].isEnabled()
    QTest.keyClick(versions(two).list, Qt.Key.Key_F2)
    assert not versions(two).list.findChildren(QLineEdit)


def test_a_copy_is_exported(two, tmp_path: Path) -> None:
    select(two, "cells · 2")
    versions(two).export(tmp_path / "given away")
    two.wait()
    copy = Model.load(tmp_path / "given away.unet")
    assert copy.version == versions(two).chosen().entry.get().version
    assert copy.provenance.parent
    assert "given away.unet" in versions(two).note.text()


def test_an_export_that_cannot_be_written_is_told(two, told, tmp_path: Path) -> None:
    versions(two).export(tmp_path / "nowhere" / "it.unet")
    two.wait()
    assert "does not exist" in told[0]


def test_the_list_follows_the_folder(two, own_folder: Path) -> None:
    select(two, "cells · 1")
    tool(two, "use")
    two.wait()
    entry = two.session.model
    (own_folder / "cells · 1.unet").rename(own_folder / "brain.unet")
    two.wait(lambda: "brain" in names(two))
    assert names(two) == ["cells · 2", "brain", "tiny"]
    assert two.session.model is entry
    assert (entry.name, entry.get().name, entry.path) == ("brain", "brain", own_folder / "brain.unet")
    assert two.dock.image.model.currentText() == "brain"
    (own_folder / "cells · 2.unet").unlink()
    two.wait(lambda: "cells · 2" not in names(two))
    assert two.dock.image.model.findText("cells · 2") == -1
    kept("came by mail", 9, seed=3)
    two.wait(lambda: "came by mail" in names(two))
    assert names(two)[0] == "came by mail"


def test_what_is_in_use_stays_though_its_file_is_gone(two, own_folder: Path, tmp_path: Path, told) -> None:
    select(two, "cells · 1")
    tool(two, "use")
    two.wait()
    for path in own_folder.iterdir():
        path.unlink()
    two.wait(lambda: "cells · 2" not in [entry.name for entry in two.session.models])
    assert two.session.model.name == "cells · 1"
    two.segment()
    assert not told, "it is in memory"


def test_a_broken_file_is_named_and_does_no_harm(two, own_folder: Path) -> None:
    (own_folder / "bad.unet").write_bytes(b"broken, and longer than eight bytes")
    two.wait(lambda: versions(two).broken.isVisibleTo(two.dock))
    assert "'bad.unet'" in versions(two).broken.text()
    assert "\n" not in versions(two).broken.text()
    assert "bad" not in names(two)
    (own_folder / "worse.unet").write_bytes(b"broken as well, in the same way")
    two.wait(lambda: "worse.unet" in versions(two).broken.text())
    assert "bad.unet" in versions(two).broken.text()
    for name in ("bad", "worse"):
        (own_folder / f"{name}.unet").unlink()
    two.wait(lambda: not versions(two).broken.isVisibleTo(two.dock))


def test_a_version_whose_file_breaks_is_not_used(two, own_folder: Path, told) -> None:
    before = two.session.model
    select(two, "cells · 2")
    (own_folder / "cells · 2.unet").write_bytes(b"broken, and longer than eight bytes")
    versions(two).use()
    two.wait()
    assert "not a whole model file" in told[0]
    assert two.session.model is before


def confirm(at) -> None:
    """Call all of an image right, whose labels are exact."""
    at.click(at.dock.correct.empty)
    at.session.labels.data[:] = truth()
    at.session.labels.refresh()
    at.viewer.reset_view()
    at.wait(lambda: at.session.labels.corner_pixels.tolist() == [[0, 0], [SIDE - 1, SIDE - 1]])
    at.press(Qt.Key.Key_T)


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """What each model finds, by its name."""
    from napari_unet.infer import segment

    found: dict[str, np.ndarray] = {}

    def job(model, image, axes, settings, region, first):
        yield Progress(1, 1, "tiles")
        return segment.Segmentation(found.get(model.name, truth())[region], (), 0.0)

    monkeypatch.setattr(segment, "segment_job", job)
    return found


def test_two_versions_are_compared_on_the_tiles_and_in_view(two, finds) -> None:
    confirm(two)
    labels, before = two.session.labels, two.session.labels.data.copy()
    one, used = truth(), truth()
    one[one == 3] = 0  # only the one in use has it
    used[used > 14] = 0  # only the chosen one has these
    used[:, :16][used[:, :16] == 1] = 0  # cut in half
    finds |= {"cells · 1": one, "tiny": used}
    select(two, "cells · 1")
    tool(two, "compare")
    two.wait()
    comparison = versions(two).comparison
    table = comparison.table
    assert [table.item(0, i).text() for i in range(4)] == ["tile 1", "0.94", "◀", "0.88"]
    assert table.rowCount() == 2
    assert not comparison.flattered.text(), "none of them learned from it"
    legend = comparison.legend.text()
    assert "2 found by “cells · 1” only" in legend
    assert "1 found by “tiny” only" in legend
    assert "1 found by both, drawn" in legend
    assert "12 found by both alike" in legend
    layer = two.viewer.layers["cells_differences"]
    assert set(np.unique(layer.data)) == {0, GAINED, LOST, CHANGED}
    assert layer not in two.session.candidates()
    assert two.session.labels is labels
    assert two.viewer.layers.selection.active is labels, "the brush stays in the hand"
    np.testing.assert_array_equal(labels.data, before)
    two.click(comparison.hide_button)
    assert "cells_differences" not in two.viewer.layers
    assert not comparison.legend.isVisibleTo(two.dock)


def test_without_tiles_the_view_is_compared_where_it_lies(two, finds) -> None:
    two.viewer.layers["cells"].scale = (0.5, 0.5)
    two.viewer.layers["cells"].translate = (3, 7)
    two.viewer.layers["cells"].rotate = 90
    two.viewer.reset_view()
    two.viewer.scene.camera.zoom *= 3
    two.qtbot.wait(50)
    finds["tiny"] = np.zeros((SIDE, SIDE), np.uint32)
    select(two, "cells · 1")
    tool(two, "compare")
    two.wait()
    assert "Call tiles right" in versions(two).comparison.note.text()
    assert not versions(two).comparison.table.isVisibleTo(two.dock)
    layer, image = two.viewer.layers["cells_differences"], two.viewer.layers["cells"]
    assert layer.data.size < image.data.size
    corner = image.world_to_data(layer.data_to_world((0, 0)))
    low = image.corner_pixels[0]
    np.testing.assert_allclose(corner, low, atol=1)


def test_the_differences_go_with_their_image(two, finds) -> None:
    select(two, "cells · 1")
    tool(two, "compare")
    two.wait()
    assert "cells_differences" in two.viewer.layers
    two.viewer.layers.remove("cells")
    two.wait(lambda: not two.viewer.layers)
    assert not versions(two).comparison.hide_button.isVisibleTo(two.dock)


def test_models_that_find_other_things_are_not_compared(two, told) -> None:
    models.keep(Model.new(width=8, depth=2, task="classes", classes=("background", "a", "b"), name="classes"))
    two.wait(lambda: "classes" in names(two))
    select(two, "classes")
    tool(two, "compare")
    two.wait()
    assert "choose two that find the same" in told[0]


def test_what_is_learned_and_kept_becomes_a_version(desk, finds, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(entry, corrections, settings, stop, preview):
        model = entry.get()
        yield Progress(1, 1, "steps")
        result = TrainResult(model, None, None, 1)
        origin = Provenance.now(recipe=recorded(model, corrections, result), parent=model.version)
        new = Model.new(width=8, depth=2, seed=len(names(at))).network
        return replace(result, model=replace(model, network=new, provenance=origin))

    monkeypatch.setattr(runs, "learn", learn)
    at = opened(desk(disks()))
    confirm(at)
    for _ in range(2):
        at.click(at.dock.finetune.start)
        at.wait()
        at.click(at.dock.finetune.keep)
        at.wait()
    assert names(at)[:2] == ["tiny · 2", "tiny · 1"]
    newest, first = versions(at)._shown[:2]
    assert newest.used
    assert newest.origin == "1 tile · from tiny · 1"
    assert first.origin == "1 tile · from tiny"
    select(at, "tiny · 1")
    tool(at, "compare")
    at.wait()
    comparison = versions(at).comparison
    assert "“tiny · 1” and “tiny · 2” learned from them, so they flatter both" in comparison.flattered.text()
    assert comparison.table.item(0, 1).text().endswith("*")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: object):
        for i in range(10**6):
            yield Progress(i % 9, 9, "what is in view, tiny")
            time.sleep(0.002)

    monkeypatch.setattr(runs, "compare", compare)


def test_a_comparison_can_be_stopped(two, slow) -> None:
    select(two, "cells · 1")
    tool(two, "compare")
    comparison = versions(two).comparison
    two.wait(lambda: comparison.bar.text().endswith("of 9"))
    assert not versions(two).tools["use"].isEnabled()
    two.click(comparison.stop)
    two.wait()
    assert comparison.note.text() == "Stopped; nothing was compared."
    assert versions(two).tools["compare"].isEnabled()


@pytest.mark.parametrize("what", ["dock", "viewer"])
def test_the_dock_is_closed_while_it_compares(two, slow, qtbot, what: str) -> None:
    select(two, "cells · 1")
    tool(two, "compare")
    two.wait(lambda: versions(two).comparison.bar.text().endswith("of 9"))
    if what == "dock":
        two.viewer.window.remove_dock_widget(two.dock)
        two.dock.deleteLater()
    else:
        with qtbot.waitSignal(two.dock.destroyed, timeout=20_000):
            two.viewer.close()


def test_the_dock_takes_its_layer_along(two, finds) -> None:
    select(two, "cells · 1")
    tool(two, "compare")
    two.wait()
    two.viewer.window.remove_dock_widget(two.dock)
    assert "cells_differences" not in two.viewer.layers
    two.dock.deleteLater()


def test_they_are_compared_as_they_would_segment(two, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_unet.infer import segment

    given = []

    def job(model, image, axes, settings, region, first):
        given.append(settings)
        yield Progress(1, 1, "tiles")
        return segment.Segmentation(truth()[region], (), 0.0)

    monkeypatch.setattr(segment, "segment_job", job)
    confirm(two)
    two.dock.segment.settings.set("seed", 0.6)
    two.dock.segment.settings.set("device", "cpu")
    select(two, "cells · 1")
    tool(two, "compare")
    two.wait()
    assert [(each.seed, each.device) for each in given] == [(0.6, "cpu")] * 4


def test_an_image_that_went_away_while_they_were_compared_is_said(two, finds, monkeypatch: pytest.MonkeyPatch) -> None:
    real, gone = runs.compare, threading.Event()

    def compare(*given):
        while not gone.is_set():
            time.sleep(0.005)
            yield Progress(0, 1)
        return (yield from real(*given))

    monkeypatch.setattr(runs, "compare", compare)
    select(two, "cells · 1")
    tool(two, "compare")
    two.viewer.layers.remove("cells")
    gone.set()
    two.wait()
    assert "went away" in versions(two).comparison.note.text()
    assert "Call tiles right" in versions(two).comparison.note.text()


def test_an_export_replaces_no_file_that_nobody_was_asked_about(two, tmp_path) -> None:
    there = tmp_path / "mine.unet"
    there.write_bytes(b"somebody's")
    select(two, "cells · 1")
    versions(two).export(tmp_path / "mine")
    two.wait()
    assert there.read_bytes() == b"somebody's"
    assert "mine.unet is there already" in versions(two).note.text()
    versions(two).export(there)
    two.wait()
    assert Model.load(there).name == "cells · 1"
