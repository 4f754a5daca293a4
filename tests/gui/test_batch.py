"""Many images in one go: open ones and folders, with a line for each; what fails, what is kept, Stop, and the end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_unet.exchange import files
from napari_unet.exchange.labels import write_tiff
from napari_unet.gui import runs, strokes
from napari_unet.gui.batch import Outcome
from napari_unet.gui.batch_section import summary
from napari_unet.gui.look import Fold
from napari_unet.gui.models import ModelEntry
from napari_unet.infer.read import read_image, read_labels
from napari_unet.jobs import Progress

if TYPE_CHECKING:
    from pathlib import Path


def squares(count: int, *leading: int) -> np.ndarray:
    """An image with so many bright squares in each plane."""
    image = np.zeros((*leading, 48, 52), np.uint8)
    for y, x in ((4, 4), (4, 30), (30, 4), (30, 30))[:count]:
        image[..., y : y + 12, x : x + 12] = 200
    return image


@pytest.fixture
def at(desk, thresholding):
    """The dock without an image, with a model that takes what is bright for an object, and the part for many open."""
    made = desk()
    made.session.set_model(ModelEntry("bright", None, thresholding(name="bright")))
    made.many = made.dock.segment.many
    made.click(next(fold for fold in made.dock.segment.findChildren(Fold) if fold.content is made.many).toggle)
    return made


def lines(at) -> list[str]:
    return [at.many.lines.item(i).text() for i in range(at.many.lines.count())]


def click_line(at, number: int) -> None:
    rect = at.many.lines.visualItemRect(at.many.lines.item(number))
    QTest.mouseClick(at.many.lines.viewport(), Qt.MouseButton.LeftButton, pos=rect.center())
    at.qtbot.wait(10)


def choose(at, box, data: str) -> None:
    """Choose in a box as a person does: with the keys."""
    box.setFocus()
    box.setCurrentIndex(box.findData(data))
    box.activated.emit(box.currentIndex())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good image, a broken file, one with too few axes, and one whose labels were corrected by hand."""
    where = tmp_path / "day 1"
    where.mkdir()
    for name in ("good", "corrected"):
        write_tiff(where / f"{name}.tif", squares(3), "YX", {"Y": 0.5, "X": 0.5})
    tifffile.imwrite(where / "corrected_labels.tif", np.full((48, 52), 7, np.uint16))
    (where / "broken.tif").write_bytes((where / "good.tif").read_bytes()[:100])
    np.save(where / "line.npy", np.arange(20, dtype=np.uint8))
    return where


@pytest.fixture
def pick(monkeypatch: pytest.MonkeyPatch):
    """Answer the question for a folder."""
    answer: list[str] = []
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: answer.pop(0))
    return answer


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch):
    """The second image goes on until it is let go."""
    gate, seen = threading.Event(), []

    def hold(real):
        def job(*given):
            seen.append(given)
            if len(seen) == 2:
                while not gate.is_set():
                    time.sleep(0.005)
                    yield Progress(1, 4, "blocks")
            return (yield from real(*given))

        return job

    monkeypatch.setattr(runs, "segment_part", hold(runs.segment_part))
    monkeypatch.setattr(files, "segment_file", hold(files.segment_file))
    return gate


def test_two_open_images_become_two_layers(at) -> None:
    at.viewer.add_image(squares(4), name="a", scale=(0.5, 0.5), units=("um", "um"))
    stack = at.viewer.add_image(squares(2, 3), name="b", axis_labels=("z", "y", "x"), visible=False)
    at.click(at.many.start)
    at.wait()
    assert at.session.image is stack
    assert at.viewer.layers.selection.active is stack, "what was chosen stays chosen"
    a, b = at.viewer.layers["a_unet_labels"], at.viewer.layers["b_unet_labels"]
    np.testing.assert_array_equal(a.data > 0, squares(4) > 0)
    assert b.data.max() == 6
    assert tuple(a.scale) == (0.5, 0.5)
    assert (a.visible, b.visible) == (True, False)
    assert lines(at)[0] == "a: 4 objects"
    assert lines(at)[1].startswith("b: 6 objects. Each slice by itself")
    assert at.many.note.text() == "2 of 2 images, 10 objects."
    assert at.many.running.isHidden()
    assert at.session.labels is b
    click_line(at, 0)
    assert at.session.labels is a
    assert at.viewer.layers.selection.active is a
    assert (stack.visible, b.visible, a.visible) == (False, False, True)


def test_what_a_hand_corrected_stays(at) -> None:
    at.viewer.add_image(squares(4), name="a")
    at.viewer.add_image(squares(2), name="b")
    at.viewer.layers.selection.active = at.viewer.layers["a"]
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    labels.data_setitem(tuple(np.nonzero(np.ones((10, 10)))), 77)
    at.click(at.many.start)
    at.wait()
    assert at.viewer.layers["a_unet_labels"] is labels
    assert (labels.data[:10, :10] == 77).all()
    assert len(np.unique(labels.data[30:, :])) == 3
    assert [layer.name for layer in at.viewer.layers if layer.name.endswith("_unet_labels")] == [
        "a_unet_labels",
        "b_unet_labels",
    ]
    labels.undo()
    assert set(np.unique(labels.data)) == {0, 77}, "a run is one step"
    assert at.session.annotation_of(at.session.source) is at.session.annotation


@pytest.mark.parametrize("large", [False, True])
def test_what_is_painted_meanwhile_stays(at, held, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    monkeypatch.setattr(strokes, "is_large", lambda *_: large)
    at.viewer.add_image(squares(1), name="a")
    b = at.viewer.add_image(squares(4), name="b")
    at.session.set_image(b)
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    at.click(at.many.start)
    at.wait(lambda: at.many.lines.count() == 1)
    at.wait(lambda: at.many.bar.text().startswith("image 2 of 2"))
    at.wait(lambda: at.many.note.text() == "b: finding objects, 25 % …")
    assert not at.dock.segment.start.isEnabled()
    labels.data_setitem(tuple(np.nonzero(np.ones((10, 10)))), 77)
    held.set()
    at.wait()
    assert (labels.data[:10, :10] == 77).all()
    assert len(np.unique(labels.data)) >= 5
    assert at.many.note.text() == "2 of 2 images, 5 objects."
    assert at.session.annotation.writer is None


def test_no_stroke_is_cut_by_a_result(at, held) -> None:
    """While the button is down nothing is written and no layer comes: it would take the brush away."""
    at.viewer.add_image(squares(1), name="a")
    at.viewer.add_image(squares(4), name="b")
    at.viewer.layers.selection.active = at.viewer.layers["a"]
    at.click(at.dock.correct.empty)
    at.click(at.many.start)
    at.wait(lambda: at.many.lines.count() == 1)
    brush = at.viewer.layers.selection.active
    with brush.block_history():
        held.set()
        at.wait(lambda: at.many._offer is not None)
        at.qtbot.wait(100)
        assert len(at.viewer.layers) == 3
    at.wait()
    assert at.viewer.layers["b_unet_labels"].data.max() == 4
    assert at.viewer.layers.selection.active is brush


def test_no_gesture_of_our_own_tools_is_cut_either(at, held) -> None:
    at.viewer.add_image(squares(1), name="a")
    at.viewer.add_image(squares(4), name="b")
    at.viewer.layers.selection.active = at.viewer.layers["a"]
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    labels.data_setitem((np.array([20, 20]), np.array([10, 30])), np.array([1, 2]))
    at.click(at.dock.correct.tools.ours["merge"])
    at.click(at.many.start)
    at.wait(lambda: at.many.lines.count() == 1)
    layers = list(at.viewer.layers)

    def meanwhile() -> None:
        held.set()
        at.wait(lambda: at.many._offer is not None)
        at.qtbot.wait(100)
        assert list(at.viewer.layers) == layers

    at.paint((20, 10), (20, 20), (20, 30), meanwhile=meanwhile)
    assert set(np.unique(labels.data[20])) == {0, 1}
    at.wait()
    assert at.viewer.layers["b_unet_labels"].data.max() == 4


def test_labels_that_go_away_while_a_result_is_written_are_said(at, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strokes, "is_large", lambda *_: True)
    at.viewer.add_image(squares(4), name="a")
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    with monkeypatch.context() as patch:
        patch.setattr(strokes.TileWriter, "start", lambda _: None)
        at.click(at.many.start)
        at.wait(lambda: at.many._written is not None)
    at.viewer.layers.remove(labels)
    at.wait()
    assert lines(at) == ["a: The labels were removed while the result was written, so the rest of it was dropped."]


def test_a_folder(at, folder: Path, pick) -> None:
    pick.append(str(folder))
    choose(at, at.many.images, "folder")
    assert at.many.results.currentText() == "next to the images"
    before = sorted(path.name for path in folder.iterdir())
    kept = (folder / "corrected_labels.tif").read_bytes()
    at.click(at.many.start)
    at.wait()
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "good_labels.tif"])
    np.testing.assert_array_equal(read_labels(folder / "good_labels.tif") > 0, squares(3) > 0)
    assert read_image(folder / "good_labels.tif").scale == {"Y": 0.5, "X": 0.5}
    assert (folder / "corrected_labels.tif").read_bytes() == kept
    said = {line.partition(":")[0]: line for line in lines(at)}
    assert list(said) == ["corrected.tif", "broken.tif", "good.tif", "line.npy"]
    assert "corrected_labels.tif is there and may have been corrected by hand" in said["corrected.tif"]
    assert said["broken.tif"].startswith("broken.tif: broken.tif could not be read")
    assert "needs 2" in said["line.npy"]
    assert said["good.tif"] == "good.tif: 3 objects"
    assert at.many.note.text() == "1 of 4 images, 3 objects, 2 could not be segmented, 1 left as it is."
    assert not at.viewer.layers, "images are let go"

    click_line(at, 2)
    image, labels = at.viewer.layers
    assert (image.name, labels.name) == ("good", "good_unet_labels")
    assert at.session.labels is labels
    assert not at.session.annotation.foreign
    assert tuple(labels.scale) == (0.5, 0.5)
    np.testing.assert_array_equal(labels.data > 0, squares(3) > 0)
    click_line(at, 0)
    assert (at.session.labels.data == 7).all()
    assert at.session.annotation.foreign, "what it changed says nothing about the model"
    click_line(at, 2)
    assert at.session.labels is labels
    assert len(at.viewer.layers) == 4, "it is open already"

    at.click(at.many.overwrite)
    at.click(at.many.start)
    at.wait()
    assert read_labels(folder / "corrected_labels.tif").max() == 3
    assert at.many.note.text() == "2 of 4 images, 6 objects, 2 could not be segmented."


def test_a_line_that_cannot_be_opened_is_said(at, folder: Path, told) -> None:
    at.many.choose_images(folder)
    at.click(at.many.start)
    at.wait()
    click_line(at, 1)
    assert "broken.tif" in told[-1]
    assert not at.viewer.layers


def test_labels_of_another_shape_are_not_bent_to_the_image(at, folder: Path, told) -> None:
    tifffile.imwrite(folder / "corrected_labels.tif", np.full((52, 48), 7, np.uint16))
    at.many.choose_images(folder)
    at.click(at.many.start)
    at.wait()
    click_line(at, 0)
    assert "does not fit" in told[-1]
    assert at.session.labels is None


def test_labels_that_are_corrected_before_their_turn_stay(at, held, tmp_path: Path) -> None:
    for i in range(3):
        write_tiff(tmp_path / f"{i}.tif", squares(i + 1), "YX", {})
    at.many.choose_images(tmp_path)
    at.click(at.many.start)
    at.wait(lambda: at.many.lines.count() == 1)
    tifffile.imwrite(tmp_path / "2_labels.tif", np.full((48, 52), 7, np.uint16))
    held.set()
    at.wait()
    assert (read_labels(tmp_path / "2_labels.tif") == 7).all()
    assert at.many.note.text() == "2 of 3 images, 3 objects, 1 left as it is."


def test_open_images_into_files(at, tmp_path: Path, folder: Path, pick) -> None:
    at.viewer.open(folder / "good.tif", plugin="napari")
    at.viewer.add_image(squares(2), name="drawn: 1")
    at.many.results.setCurrentIndex(at.many.results.findData("beside"))
    at.many.results.activated.emit(at.many.results.currentIndex())
    at.click(at.many.start)
    at.wait()
    assert lines(at) == [
        "drawn: 1: It was not opened from a file: choose a folder for the results.",
        "good: 3 objects",
    ]
    assert read_labels(folder / "good_labels.tif").max() == 3
    assert len(at.viewer.layers) == 2
    output = tmp_path / "out"
    output.mkdir()
    pick.append(str(output))
    choose(at, at.many.results, "folder")
    assert at.many.results.currentText() == "in “out”"
    at.click(at.many.start)
    at.wait()
    assert sorted(path.name for path in output.iterdir()) == ["drawn_ 1_labels.tif", "good_labels.tif"]
    click_line(at, 1)
    assert at.session.labels.data.max() == 2


def test_a_question_that_is_not_answered_changes_nothing(at, pick) -> None:
    pick += ["", ""]
    choose(at, at.many.images, "folder")
    choose(at, at.many.results, "folder")
    assert at.many.images.currentData() == "open"
    assert at.many.results.currentData() == "layers"
    assert not at.many.start.isEnabled()


def test_a_folder_without_images_is_said(at, tmp_path: Path, told) -> None:
    (tmp_path / "none").mkdir()
    at.many.choose_images(tmp_path / "none")
    at.click(at.many.start)
    at.wait()
    assert "holds no images" in told[-1]
    assert at.many.note.isHidden()


def test_stop_in_the_middle_keeps_what_is_finished(at, held, tmp_path: Path) -> None:
    for i in range(3):
        write_tiff(tmp_path / f"{i}.tif", squares(i + 1), "YX", {})
    at.many.choose_images(tmp_path)
    at.click(at.many.start)
    at.wait(lambda: at.many.lines.count() == 1)
    at.click(at.many.stop)
    at.wait()
    assert sorted(path.name for path in tmp_path.glob("*_labels*")) == ["0_labels.tif"]
    assert at.many.note.text() == "Stopped: 1 of 3 images, 1 object."
    assert at.many.start.isEnabled()
    held.set()
    at.click(at.many.start)
    at.wait()
    assert at.many.note.text() == "3 of 3 images, 6 objects."


def test_an_image_that_goes_away_is_said(at, held) -> None:
    at.viewer.add_image(squares(1), name="a")
    at.viewer.add_image(squares(2), name="b")
    at.click(at.many.start)
    at.wait(lambda: at.many.lines.count() == 1)
    at.viewer.layers.remove("b")
    held.set()
    at.wait()
    assert "went away" in lines(at)[1]
    assert at.many.note.text() == "1 of 2 images, 1 object, 1 could not be segmented."


def test_something_unforeseen_ends_nothing(at, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.segment_file

    def job(model, image, *given):
        if image.stem == "0":
            yield Progress(0, 1, "reading")
            raise ZeroDivisionError("by zero")
        return (yield from real(model, image, *given))

    monkeypatch.setattr(files, "segment_file", job)
    for i in range(2):
        write_tiff(tmp_path / f"{i}.tif", squares(2), "YX", {})
    at.many.choose_images(tmp_path)
    at.click(at.many.start)
    at.wait()
    assert lines(at) == ["0.tif: Something unforeseen (ZeroDivisionError: by zero).", "1.tif: 2 objects"]


def test_own_settings_of_an_image_go_before_the_shown_ones(at) -> None:
    two = np.stack([squares(1), squares(4)])
    for name in "abc":
        at.viewer.add_image(two, name=name, axis_labels=("c", "y", "x"))
    at.viewer.add_image(squares(3), name="grey")
    for name, channel in (("a", 0), ("b", 1)):
        at.session.set_image(at.viewer.layers[name])
        at.session.set_how(channel, None)
    at.click(at.many.start)
    at.wait()
    assert [each.outcome.objects for each in at.many.lines.rows] == [1, 4, 4, 3]


def test_classes_have_shares(at, thresholding, tmp_path: Path) -> None:
    model = thresholding(task="classes", classes=("background", "bright"), name="two")
    at.session.set_model(ModelEntry("two", None, model))
    at.viewer.add_image(squares(4), name="a")
    at.click(at.many.start)
    at.wait()
    assert lines(at) == ["a: background 76.9%, bright 23.1%"]
    assert at.many.note.text() == "1 of 1 image."


@pytest.mark.parametrize("source", ["open", "folder"])
def test_closing_the_dock_in_the_middle(at, held, tmp_path: Path, source: str) -> None:
    for i in range(3):
        if source == "open":
            at.viewer.add_image(squares(i + 1), name=f"{i}")
        write_tiff(tmp_path / f"{i}.tif", squares(i + 1), "YX", {})
    if source == "folder":
        at.many.choose_images(tmp_path)
    at.click(at.many.start)
    at.wait(lambda: at.many.lines.count() == 1)
    at.viewer.window.remove_dock_widget(at.dock)
    at.qtbot.wait(100)
    held.set()
    assert len(list(tmp_path.glob("*_labels*"))) == (source == "folder")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_in_words() -> None:
    def outcome(state, objects=None):
        return Outcome("x", state, "", objects)

    done = [outcome("done", 600), outcome("done", 604), outcome("failed"), outcome("kept"), outcome("kept")]
    said = "2 of 13 images, 1,204 objects, 1 could not be segmented, 2 left as they are."
    assert summary(done, 13, stopped=False) == said
    assert summary(done, 13, stopped=True) == f"Stopped: {said}"
