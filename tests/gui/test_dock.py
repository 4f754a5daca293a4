"""The dock as a person uses it: real clicks, real strokes; and what changes under its hands."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QCheckBox

from napari_unet.gui import models, runs, writing
from napari_unet.gui.dock import UNetDock
from napari_unet.infer.openvino_engine import OpenVINO
from napari_unet.jobs import Progress
from napari_unet.learn.corrections import State
from napari_unet.learn.objects import Edit


def blobs(shape: tuple[int, ...] = (96, 96), dtype: object = np.uint8) -> np.ndarray:
    """An image with a few bright disks."""
    y, x = np.mgrid[: shape[-2], : shape[-1]] % 32 - 16
    plane = np.where(np.hypot(y, x) < 9, 200, 20) + np.random.default_rng(0).integers(0, 20, shape[-2:])
    return np.broadcast_to(plane, shape).astype(dtype)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch):
    """Segmenting goes on until it is let go."""
    import threading

    gate = threading.Event()
    real = runs.segment_part

    def held(*given):
        yield Progress(0, 4, "tiles")
        while not gate.is_set():
            time.sleep(0.005)
            yield Progress(1, 4, "tiles")
        return (yield from real(*given))

    monkeypatch.setattr(runs, "segment_part", held)
    return gate


def next_step(desk) -> int:
    return desk.dock.next_step() + 1


def test_the_dock_comes_from_the_manifest_and_knows_the_viewer_itself(make_napari_viewer, qtbot) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(blobs())
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet-live", "U-Net")
    assert isinstance(dock, UNetDock)
    assert dock.session.viewer is viewer
    assert dock.session.source.layer is viewer.layers[0]


def test_opening_the_dock_does_not_import_torch() -> None:
    program = (
        "import sys, napari_unet.gui.dock, napari_unet.gui.launch\n"
        "assert not {'torch', 'pyqtgraph'} & set(sys.modules), 'imported too early'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_an_image(desk) -> None:
    at = desk(show=False)
    assert "No image" in at.dock.image.name.text()
    assert next_step(at) == 1
    assert not at.dock.segment.start.isEnabled()
    assert not at.dock.finetune.start.isEnabled()
    for action in at.dock._keys.values():
        action()
    assert not at.viewer.layers


def test_every_button_has_a_tip(desk) -> None:
    at = desk(show=False)
    for each in at.dock.findChildren(QAbstractButton):
        if each.objectName() not in ("fold", "qt_toolbar_ext_button") and each.text():
            assert each.toolTip(), each.text()


def test_segment_correct_confirm(desk) -> None:
    at = desk(blobs(), scale=(0.5, 0.5), units=("um", "um"))
    assert next_step(at) == 2
    labels = at.segment()
    assert labels.name == "cells_unet_labels"
    assert labels.data.dtype == np.uint32
    assert tuple(labels.scale) == (0.5, 0.5)
    assert next_step(at) == 3
    at.click(at.dock.correct.tools.new)
    assert str(labels.mode) == "paint"
    number = labels.selected_label
    at.paint((10, 10), (12, 16))
    assert (labels.data == number).any()
    assert next_step(at) == 4
    assert "1 stroke" in at.dock.correct.count.text()
    known = at.session.annotation.state() == State.PAINTED
    np.testing.assert_array_equal(known, labels.data == number)
    at.press(Qt.Key.Key_T)
    assert at.dock.correct.count.text() == "1 tile confirmed, 1 stroke"
    assert at.viewer.layers.selection.active is labels, "the outline does not take the brush away"
    assert "cells_unet_confirmed" in at.viewer.layers
    np.testing.assert_allclose(at.viewer.layers["cells_unet_confirmed"].scale, labels.scale)
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert "tile" not in at.dock.correct.count.text()
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not at.session.annotation.known()
    assert not (labels.data == number).any()
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(at.session.annotation.state() == State.PAINTED, known)


def test_a_second_run_keeps_what_was_corrected_and_can_be_undone(desk) -> None:
    at = desk(blobs())
    labels = at.segment()
    labels.data_setitem(tuple(np.nonzero(np.ones((8, 8)))), 77)
    kept = labels.data.copy()
    at.dock.segment.settings.set("min_size", 100_000)  # this run finds nothing
    at.press(Qt.Key.Key_S)
    at.wait()
    assert at.session.labels is labels
    assert set(np.unique(labels.data)) <= {0, 77}
    labels.undo()
    np.testing.assert_array_equal(labels.data, kept)
    assert at.session.annotation.strokes == 1


def test_flips_are_a_box_under_more(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[tuple[int, ...]] = []
    real = OpenVINO.start

    def start(engine: OpenVINO, x, keep, **how):
        looks.append(tuple(x.shape))
        return real(engine, x, keep, **how)

    monkeypatch.setattr(OpenVINO, "start", start)
    at = desk(blobs())
    section = at.dock.segment
    at.segment()
    assert len(looks) == 1
    at.click(section.fold.toggle)
    (box,) = (each for each in section.fold.findChildren(QCheckBox) if each.isVisibleTo(at.dock))
    assert "mirrored" in box.toolTip()
    at.click(box)
    assert box.isChecked()
    at.segment()
    assert looks[1:] == looks[:1] * 4
    at.click(box)
    at.segment()
    assert len(looks) == 6


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Segmenting finds two squares, 1 and 2, whatever the image."""
    from napari_unet.infer import segment

    squares = np.zeros((96, 96), np.uint32)
    squares[:20, :20], squares[60:80, 60:80] = 1, 2

    def job(*_: object, **__: object):
        yield Progress(1, 1, "tiles")
        return segment.Segmentation(squares, (), 0.0)

    monkeypatch.setattr(segment, "segment_job", job)
    return squares


def test_what_is_painted_after_the_joining_is_joined_too(desk, finds, monkeypatch) -> None:
    """Numbers of strokes and of found objects never meet; and the viewer does not wait for the joining."""
    import threading

    from napari_unet.infer import merge

    real, joined, go_on = runs.segment_part, threading.Event(), threading.Event()

    def held(*given):
        found = yield from real(*given)
        joined.set()
        while not go_on.is_set():
            time.sleep(0.005)
            yield Progress(1, 1, "tiles")
        return found

    merging, by = merge.merge_labels, []

    def merged(*given):
        by.append(threading.current_thread())
        return merging(*given)

    monkeypatch.setattr(runs, "segment_part", held)
    monkeypatch.setattr(merge, "merge_labels", merged)
    at = desk(blobs(), show=False)
    assert at.dock.correct.empty.isEnabled()
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    at.click(at.dock.segment.start)
    at.wait(joined.is_set)
    assert not at.dock.correct.empty.isEnabled()
    assert not at.dock.correct.which.isEnabled()
    labels.paint((40, 40), 1)
    go_on.set()
    at.wait(lambda: "2 objects" in at.dock.segment.note.text() and not at.session.busy)
    assert len(by) == 2
    assert threading.main_thread() not in by
    assert at.dock.correct.which.isEnabled()
    first, second = labels.data[10, 10], labels.data[70, 70]
    assert len({0, 1, first, second}) == 4
    np.testing.assert_array_equal(labels.data == first, finds == 1)
    assert labels.data[40, 40] == 1


def test_what_was_joined_with_labels_that_are_gone_is_written_as_it_was_found(desk, finds) -> None:
    from napari_unet import jobs
    from napari_unet.infer.segment import SegmentSettings

    at = desk(blobs(), show=False)
    at.click(at.dock.correct.empty)
    at.session.labels.paint((40, 40), 9)
    source, there = at.session.source, at.session.annotation
    region = (slice(0, 96), slice(0, 96))
    found = jobs.run(runs.segment_part(at.session.model, source, SegmentSettings(), region, there))
    assert 9 in found.labels
    assert found.fits(there), "nothing changed since"
    at.viewer.layers.remove(at.session.labels)
    at.dock.segment._on_found(found)
    at.wait(lambda: at.session.labels is not None and not at.session.busy)
    np.testing.assert_array_equal(at.session.labels.data, finds)


def test_a_new_number_is_above_what_is_being_written(desk, finds, monkeypatch) -> None:
    from napari_unet.gui import strokes, writing

    at = desk(blobs(), show=False)
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    assert labels.selected_label == 1
    monkeypatch.setattr(strokes, "is_large", lambda layer, region: True)
    monkeypatch.setattr(writing.TileWriter, "start", lambda writer: None)
    at.click(at.dock.segment.start)
    at.wait()
    assert labels.data.max() == 0
    assert labels.selected_label == 3, "the number in hand stepped aside"
    labels.selected_label = 1
    at.click(at.dock.correct.tools.new)
    assert labels.selected_label == 3
    writer = at.session.annotation.writer
    assert not at.dock.segment.start.isEnabled()
    assert at.dock.segment.note.text() == "Writing …"
    writer._timer.start(0)
    at.wait(lambda: at.session.annotation.writer is None)
    assert at.dock.segment.start.isEnabled()
    assert "2 objects" in at.dock.segment.note.text()
    np.testing.assert_array_equal(labels.data, finds)


def test_the_brush_begins_with_a_number_of_its_own(desk, finds) -> None:
    assert desk(blobs(), show=False).segment().selected_label == 3


def test_undo_and_redo_take_back_whatever_was_done(desk, finds) -> None:
    at = desk(blobs())
    back, again, count = at.dock.correct.back, at.dock.correct.again, at.dock.correct.count
    labels = at.segment()
    assert back.toolTip() == "Undo: segment (Ctrl+Z)"
    assert not again.isEnabled()
    at.click(at.dock.correct.tools.new)
    at.paint((40, 40), (44, 48))
    assert back.toolTip() == "Undo: stroke (Ctrl+Z)"
    by_hand = labels.data.copy()
    at.press(Qt.Key.Key_T)
    assert back.toolTip() == "Undo: confirm tile (Ctrl+Z)"
    at.click(back)
    assert count.text() == "1 stroke"
    assert again.toolTip() == "Redo: confirm tile (Ctrl+Shift+Z)"
    at.viewer.layers.selection.active = at.viewer.layers["cells"]
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(labels.data, finds)
    at.click(back)
    assert not labels.data.any()
    assert not back.isEnabled()
    assert back.toolTip() == "There is nothing to undo."
    for _ in range(2):
        at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(labels.data, by_hand)
    at.click(again)
    assert count.text() == "1 tile confirmed, 1 stroke"
    assert not again.isEnabled()


def test_tools_put_a_mode_on_the_labels_and_follow_it(desk) -> None:
    at = desk(blobs())
    labels = at.segment()
    at.more()
    at.qtbot.wait(20)  # until what was folded away has its place
    for mode, tool in at.dock.correct.tools.napari.items():
        at.click(tool)
        assert str(labels.mode) == mode
        assert [t.isChecked() for t in at.dock.correct.tools.napari.values()].count(True) == 1
    at.click(tool)
    assert str(labels.mode) == "pan_zoom"
    labels.mode = "erase"
    assert at.dock.correct.tools.napari["erase"].isChecked()


def test_an_object_is_accepted(desk) -> None:
    at = desk(blobs())
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    labels.data[40:50, 40:50] = 6
    labels.refresh()
    at.more()
    at.click(at.dock.correct.accept)
    assert "no such object" in at.dock.correct.count.text()
    labels.selected_label = 6
    at.click(at.dock.correct.accept)
    state = at.session.annotation.state()
    assert (state[40:50, 40:50] == State.ACCEPTED).all()
    assert 100 < (state == State.ACCEPTED).sum() < 200, "a thin ring of background belongs to it"
    at.viewer.cursor.position = (45, 45)
    at.press(Qt.Key.Key_A)
    assert "2 objects accepted" in at.dock.correct.count.text()


def test_a_stack_slice_by_slice(desk) -> None:
    at = desk(blobs((3, 64, 64)), axis_labels=("z", "y", "x"))
    at.viewer.dims.set_current_step(0, 2)
    part = at.dock.segment.part
    part.setCurrentIndex(part.findData("slice"))
    labels = at.segment()
    assert labels.data.shape == (3, 64, 64)
    assert not labels.data[:2].any()
    at.press(Qt.Key.Key_T)
    state = at.session.annotation.state()
    assert not state[:2].any()
    assert state[2].any()
    part.setCurrentIndex(part.findData("whole"))
    third = labels.data[2].copy()
    at.segment()
    np.testing.assert_array_equal(labels.data[2][state[2] > 0], third[state[2] > 0])


def test_odd_images(desk) -> None:
    at = desk(show=False)
    one = blobs((40, 40))
    broken = np.where(one > 100, np.nan, 1.0).astype(np.float32)
    for name, image, settings in (
        ("1x1", np.ones((1, 1), np.uint8), {}),
        ("constant", np.full((40, 40), 7, np.uint16), {}),
        ("bool", one > 100, {}),
        ("nan", broken, {"contrast_limits": (0, 1)}),
        ("rgb", np.stack([one] * 3, -1), {"rgb": True}),
        ("channels", np.stack([one] * 2), {}),
        ("movie", blobs((6, 24, 24)), {"axis_labels": ("t", "y", "x")}),
        ("pyramid", [one, one[::2, ::2]], {"multiscale": True}),
    ):
        layer = at.viewer.add_image(image, name=name, **settings)
        labels = at.segment()
        assert at.session.source.layer is layer
        assert labels.name == f"{name}_unet_labels"
        assert labels.data.shape == at.session.source.shape


def choose(box, name: str) -> None:
    """Take a line of a list, as the arrow keys do."""
    at = next(i for i in range(box.count()) if name in box.itemText(i))
    box.setFocus()
    key = Qt.Key.Key_Down if at > box.currentIndex() else Qt.Key.Key_Up
    for _ in range(abs(at - box.currentIndex())):
        QTest.keyClick(box, key)
    assert box.currentIndex() == at


def test_channels_are_chosen(desk) -> None:
    at = desk(np.stack([np.zeros((40, 40), np.uint8), blobs((40, 40))]))
    channel = at.dock.image.channel
    assert channel.isVisibleTo(at.dock)
    assert "Channel 0 looks the same everywhere" in at.dock.image.trouble.text()
    choose(channel, "channel 1")
    assert not at.dock.image.trouble.isVisibleTo(at.dock)
    at.segment()
    assert at.session.channel == 1
    assert "channel 1" in at.dock.segment.note.text().lower()
    axes = at.dock.image.axes
    axes.activated.emit(axes.findData("ZYX"))
    assert at.session.source.shape == (2, 40, 40)
    assert at.session.labels is None, "labels of another shape do not fit"


def test_a_hyperstack_as_it_is(desk) -> None:
    """Movie of stacks with channels, as ImageJ writes them: one labels layer for all channels, in its place."""
    image = np.zeros((2, 6, 2, 64, 64), np.uint8)
    image[:, :, 1] = blobs((2, 6, 64, 64))
    at = desk(image)
    assert at.session.source.axes == "TZCYX"
    choose(at.dock.image.channel, "channel 1")
    labels = at.segment()
    assert labels.data.shape == (2, 6, 1, 64, 64)
    for axis, place in enumerate((1, 2, 1)):
        at.viewer.dims.set_current_step(axis, place)
    at.click(at.dock.correct.tools.new)
    number = labels.selected_label
    at.paint((20, 20), (24, 30))
    assert (labels.data[1, 2, 0] == number).any()
    assert not (labels.data[:1] == number).any()
    at.press(Qt.Key.Key_T)
    known = at.session.annotation.state() > 0
    assert known[1, 2].any()
    assert known.sum() == known[1, 2].sum()
    drawn = at.viewer.layers["cells_unet_confirmed"]
    for channel in (0, 1):
        at.viewer.dims.set_current_step(2, channel)
        assert drawn._data_view._displayed.any(), "the outline is seen in each channel"
    by_hand = labels.data[known]
    at.segment()
    assert at.session.labels is labels
    np.testing.assert_array_equal(labels.data[known], by_hand)
    part = at.dock.segment.part
    part.setCurrentIndex(part.findData("slice"))
    at.segment()
    np.testing.assert_array_equal(labels.data[known], by_hand)
    corrections = at.dock.finetune._corrections()[0]
    assert corrections.labels.shape == corrections.state.shape == (2, 6, 64, 64)


def test_wrong_axes_are_mended_where_they_are_said(desk) -> None:
    pixels = np.moveaxis(np.stack([blobs((64, 64))] * 5), 0, -1)
    at = desk(pixels, scale=(0.5, 0.5, 1), units=("um", "um", "pixel"))
    section = at.dock.image
    assert not section.split.isVisibleTo(at.dock)
    choose(section.axes, "channels last")
    assert "split them into layers" in section.trouble.text()
    assert not at.dock.segment.start.isEnabled()
    choose(section.axes, "stack")
    assert not section.trouble.isVisibleTo(at.dock)
    assert at.dock.segment.start.isEnabled()
    choose(section.axes, "channels last")
    at.click(section.split)
    assert [layer.name for layer in at.viewer.layers] == [f"cells channel {i}" for i in range(5)]
    assert not section.trouble.isVisibleTo(at.dock)
    labels = at.segment()
    assert labels.name == "cells channel 0_unet_labels"
    assert tuple(labels.scale) == (0.5, 0.5)


def test_cancel(desk, slow) -> None:
    at = desk(blobs())
    at.click(at.dock.segment.start)
    at.wait(lambda: at.dock.segment.running.isVisibleTo(at.dock))
    assert not at.dock.finetune.start.isEnabled()
    at.click(at.dock.segment.cancel)
    at.wait()
    assert len(at.viewer.layers) == 1
    assert "nothing was changed" in at.dock.segment.note.text()
    slow.set()
    at.segment()
    assert len(at.viewer.layers) == 2


@pytest.mark.parametrize("what", ["image gone", "image replaced", "labels gone", "renamed", "all gone"])
def test_layers_change_during_a_run(desk, slow, what: str) -> None:
    at = desk(blobs(), show=False)
    slow.set()
    labels = at.segment()
    slow.clear()
    image = at.viewer.layers["cells"]
    at.click(at.dock.segment.start)
    at.wait(lambda: at.dock.segment.running.isVisibleTo(at.dock))
    match what:
        case "image gone":
            at.viewer.layers.remove(image)
        case "image replaced":
            before = labels.data.copy()
            image.data = blobs((96, 96)).T.copy()
        case "labels gone":
            at.viewer.layers.remove(labels)
        case "renamed":
            image.name, labels.name = "other", "mine"
        case _:
            at.viewer.layers.clear()
    slow.set()
    at.wait()
    match what:
        case "image gone":
            assert list(at.viewer.layers) == [labels]
        case "image replaced":
            np.testing.assert_array_equal(labels.data, before)
            assert "dropped" in at.dock.segment.note.text()
        case "labels gone":
            at.wait(lambda: at.session.labels is not None and not at.session.busy)
            assert [layer.name for layer in at.viewer.layers] == ["cells", "cells_unet_labels"]
        case "renamed":
            assert [layer.name for layer in at.viewer.layers] == ["other", "mine"]
            assert at.dock.image.name.text() == "other"
        case _:
            assert not at.viewer.layers
            assert next_step(at) == 1


def test_the_active_image_is_followed(desk) -> None:
    at = desk(blobs(), show=False)
    other = at.viewer.add_image(blobs((40, 40)), name="other")
    assert at.dock.image.name.text() == "other"
    at.segment()
    assert at.viewer.layers.selection.active.name == "other_unet_labels"
    assert at.session.source.layer is other, "while its labels are active the image stays"
    at.viewer.layers.selection.active = at.viewer.layers["cells"]
    assert at.session.labels is None
    at.viewer.layers.selection.active = other
    assert at.session.labels is at.viewer.layers["other_unet_labels"]


def test_labels_of_the_user_may_be_corrected(desk) -> None:
    at = desk(blobs(), show=False)
    own = at.viewer.add_labels(np.ones((96, 96), np.uint8), name="own")
    at.viewer.add_labels(np.ones((9, 9), np.uint8), name="does not fit")
    which = at.dock.correct.which
    assert [which.itemText(i) for i in range(which.count())] == ["own"]
    which.setCurrentIndex(0)
    which.activated.emit(0)
    assert at.session.labels is own
    own.paint((10, 10), 3)
    assert at.session.annotation.strokes == 1


def test_labels_that_cannot_be_painted_are_not_offered(desk, finds) -> None:
    dask, zarr = pytest.importorskip("dask.array"), pytest.importorskip("zarr")
    at = desk(blobs(), show=False)
    fixed = np.ones((96, 96), np.uint8)
    fixed.flags.writeable = False
    lazy = dask.zeros((96, 96), dtype=np.uint32, chunks=32)
    for name, data in (("dask", lazy), ("fixed", fixed), ("zarr", zarr.array(np.zeros((96, 96), np.uint32)))):
        at.viewer.add_labels(data, name=name)
    assert [layer.name for layer in at.session.candidates()] == ["zarr"]
    own = at.session.candidates()[0]
    at.session.set_labels(own)
    own.data = lazy
    assert at.session.labels is None
    at.viewer.layers.selection.active = at.viewer.layers["cells"]
    np.testing.assert_array_equal(at.segment().data, finds)


def test_a_list_of_labels_that_is_out_of_date_is_made_anew(desk) -> None:
    at = desk(blobs(), show=False)
    first, second = (at.viewer.add_labels(np.ones((96, 96), np.uint8), name=name) for name in ("first", "second"))
    which = at.dock.correct.which
    first.data = np.ones((9, 9), np.uint8)
    assert [which.itemText(i) for i in range(which.count())] == ["first", "second"]
    which.setCurrentIndex(0)
    which.activated.emit(0)
    assert at.session.labels is None
    assert [which.itemText(i) for i in range(which.count())] == ["second"]
    which.setCurrentIndex(0)
    which.activated.emit(0)
    assert at.session.labels is second


def test_the_line_that_is_chosen_is_the_layer_that_is_taken(desk) -> None:
    at = desk(blobs(), show=False)
    first, second = (at.viewer.add_labels(np.ones((96, 96), np.uint8), name=name) for name in ("first", "second"))
    first.data = np.ones((9, 9), np.uint8)
    at.dock.correct.which.setCurrentIndex(1)
    at.dock.correct.which.activated.emit(1)
    assert at.session.labels is second


def test_labels_without_a_number_left_say_so(desk) -> None:
    at = desk(blobs(), show=False)
    full = at.viewer.add_labels(np.full((96, 96), 255, np.uint8), name="full")
    at.session.set_labels(full)
    at.click(at.dock.correct.tools.new)
    assert "numbers up to 255 (uint8), but 256 are needed" in at.dock.correct.count.text()
    assert full.selected_label == 1


def test_a_tile_with_a_stroke_is_confirmed_once(desk) -> None:
    at = desk(blobs())
    at.click(at.dock.correct.empty)
    at.session.labels.paint((40, 40), 1)
    for _ in range(3):
        at.press(Qt.Key.Key_T)
    assert at.session.annotation.tiles == 1
    assert "confirmed already" in at.dock.correct.count.text()


def test_a_plane_that_is_not_on_the_screen_is_neither_confirmed_nor_segmented(desk) -> None:
    at = desk(blobs((3, 64, 64)), axis_labels=("z", "y", "x"))
    at.click(at.dock.correct.empty)
    at.session.labels.data[:, 20:30, 20:30] = 1
    at.viewer.dims.order = (1, 0, 2)
    at.more()
    for mark in (at.dock.correct.tile, at.dock.correct.accept):
        at.click(mark)
        assert "does not show the rows and columns" in at.dock.correct.count.text()
    assert not at.session.annotation.known()
    part = at.dock.segment.part
    part.setCurrentIndex(part.findData("slice"))
    at.click(at.dock.segment.start)
    assert not at.session.busy
    assert "does not show the rows and columns" in at.dock.segment.note.text()
    at.viewer.dims.order = (0, 1, 2)
    at.click(at.dock.correct.tile)
    assert at.session.annotation.tiles == 1


def test_a_model_of_stacks_takes_a_stack_that_is_one_pixel_high(desk, told: list[str]) -> None:
    from napari_unet.model import Model

    at = desk(blobs((8, 1, 40)), show=False, axis_labels=("z", "y", "x"))
    at.session.set_model(models.ModelEntry("stacks", None, Model.new(ndim=3, width=4, depth=1)))
    assert at.segment().data.shape == (8, 1, 40)
    part = at.dock.segment.part
    part.setCurrentIndex(part.findData("slice"))
    at.segment()
    assert "choose the whole stack" in told[-1]
    assert len(told) == 1


def test_two_docks_at_once_give_the_switch_interval_back(make_napari_viewer, qtbot) -> None:
    import threading

    before, docks = sys.getswitchinterval(), [UNetDock(make_napari_viewer()) for _ in range(2)]
    gates = [threading.Event() for _ in docks]

    def job(gate: threading.Event):
        gate.wait()
        yield Progress(1, 1)

    for dock, gate in zip(docks, gates, strict=True):
        qtbot.addWidget(dock)
        dock.session.run("x", lambda gate=gate: job(gate), lambda _: None)
    for dock, gate in zip(docks, gates, strict=True):
        assert sys.getswitchinterval() < before
        gate.set()
        qtbot.waitUntil(lambda dock=dock: not dock.session.busy, timeout=20_000)
    assert sys.getswitchinterval() == pytest.approx(before)
    for dock in docks:
        dock._ending()


def test_the_diameter_is_estimated_from_corrections(desk) -> None:
    at = desk(blobs(), show=False)
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    labels.brush_size = 12
    for number, place in enumerate([(16, 16), (16, 48), (48, 16), (48, 48)], start=1):
        labels.paint(place, number)
    at.click(at.dock.image.estimate)
    at.wait()
    assert at.session.diameter == pytest.approx(12, abs=1.5)


def test_a_broken_model_file_is_said(desk, told: list[str], tmp_path) -> None:
    at = desk(blobs(), show=False)
    before = at.session.model
    broken = tmp_path / "broken.unet"
    broken.write_bytes(b"nothing")
    for path in (broken, tmp_path / "missing.unet"):
        at.dock.image.open_file(path)
        at.wait()
    assert len(told) == 2
    assert "broken.unet" in told[0]
    assert at.session.model is before


def test_what_nobody_foresaw_is_told_and_the_dock_lives_on(desk, told: list[str], monkeypatch) -> None:
    at = desk(blobs(), show=False)
    real = runs.segment_part

    def broken(*_):
        yield Progress(0, 1)
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(runs, "segment_part", broken)
    at.click(at.dock.segment.start)
    at.wait()
    assert "the sky fell" in told[0]
    monkeypatch.setattr(runs, "segment_part", real)
    assert at.segment() is not None


def test_the_viewer_is_closed_during_a_run(desk, slow, qtbot) -> None:
    at = desk(blobs())
    at.click(at.dock.segment.start)
    at.wait(lambda: at.dock.segment.running.isVisibleTo(at.dock))
    session = at.session
    with qtbot.waitSignal(at.dock.destroyed, timeout=20_000):
        at.viewer.close()
    assert session.closed


def test_the_dock_is_closed_and_opened_again(desk, qtbot) -> None:
    at = desk(blobs())
    labels = at.segment()
    labels.paint((10, 10), 50)
    at.press(Qt.Key.Key_T)
    at.viewer.window.remove_dock_widget(at.dock)
    assert at.session.closed
    assert [layer.name for layer in at.viewer.layers] == ["cells", "cells_unet_labels"]
    assert not at.viewer.keymap
    labels.paint((20, 20), 50)
    again = UNetDock(at.viewer)
    at.viewer.window.add_dock_widget(again)
    assert again.session.labels is labels
    assert again.correct.count.text() == "1 tile confirmed, 1 stroke"
    assert "cells_unet_confirmed" in at.viewer.layers, "what is confirmed is shown again"
    labels.paint((60, 60), 51)
    assert again.session.annotation.strokes == 2
    at.wait(lambda: again.session.leftovers._worker.join(0))
    at.qtbot.wait(50)
    assert again.offer.isHidden(), "what the closed dock did is in the viewer"
    at.dock.deleteLater()


def test_what_was_done_is_offered_again_after_a_normal_end(desk) -> None:
    from napari_unet.model import Model

    at = desk(blobs())
    labels = at.segment()
    labels.paint((10, 10), 50)
    expected = labels.data.copy()
    used = at.session.model
    at.viewer.close()
    again = desk(blobs())
    other = models.ModelEntry("another", None, Model.new(width=2, depth=1))
    again.session.set_model(other)
    again.wait(lambda: not again.dock.offer.isHidden())
    again.click(again.dock.offer.restore)
    np.testing.assert_array_equal(again.session.labels.data, expected)
    assert again.session.annotation.strokes == 1
    assert again.session.model.name == used.name, "the model that was used last"


def test_labels_that_know_no_place_are_laid_over_their_image(desk) -> None:
    at = desk(blobs(), scale=(0.25, 0.25), units=("um", "um"), translate=(3, 4))
    plain = at.viewer.add_labels(np.ones((96, 96), np.uint32), name="from a file")
    placed = at.viewer.add_labels(np.ones((96, 96), np.uint32), name="placed", scale=(0.5, 0.5), units=("um", "um"))
    which = at.dock.correct.which
    for layer, scale in ((plain, 0.25), (placed, 0.5)):
        which.setCurrentIndex(which.findText(layer.name))
        which.activated.emit(which.currentIndex())
        assert at.session.labels is layer
        np.testing.assert_allclose(layer.scale, scale)
    np.testing.assert_allclose(plain.translate, (3, 4))
    assert plain.units == at.session.image.units


def test_pictures_of_ours_are_no_labels_to_correct(desk) -> None:
    at = desk(blobs())
    labels = at.segment()
    labels.paint((10, 10), 50)
    assert "cells_unet_painted" in at.viewer.layers
    assert at.session.candidates() == [labels]
    at.dock.correct.show_labels()
    assert not at.dock.correct.which.isVisibleTo(at.dock)


def test_all_layers_may_be_removed_at_once(desk) -> None:
    at = desk(blobs(), show=False)
    at.segment()
    at.press(Qt.Key.Key_T)
    assert "cells_unet_confirmed" in at.viewer.layers
    at.viewer.layers.selection.update(at.viewer.layers)
    at.viewer.layers.remove_selected()
    at.qtbot.wait(20)
    assert not at.viewer.layers
    assert at.session.labels is None


@pytest.mark.parametrize("largest", [0, 10**6])
def test_objects_are_outlined_where_that_is_quick_to_draw(largest: int, desk, monkeypatch) -> None:
    from napari_unet.gui import results

    monkeypatch.setattr(results, "OUTLINED", largest)
    labels = desk(blobs(), show=False).segment()
    assert labels.contour == (results.OUTLINE if largest else 0)


def test_outlines_go_with_their_labels(desk) -> None:
    at = desk(blobs(), show=False)
    labels = at.segment()
    at.press(Qt.Key.Key_T)
    at.viewer.layers.remove(labels)
    at.wait(lambda: "cells_unet_confirmed" not in at.viewer.layers)


def test_both_themes_and_a_narrow_window(desk) -> None:
    at = desk(blobs())
    at.segment()
    for theme in ("light", "dark"):
        at.viewer.theme = theme
        at.qtbot.wait(20)
    inside = at.dock.findChild(type(at.dock.image)).parentWidget()
    assert inside.minimumSizeHint().width() <= 320, "nothing is cut off at 320 px"
    assert at.dock.minimumWidth() >= inside.minimumSizeHint().width(), "nor at the least width"


def test_models_that_were_kept_are_offered(desk) -> None:
    from napari_unet.model import Model

    models.keep(Model.new(width=8, depth=1, name="mine"))
    at = desk(show=False)
    names = [at.dock.image.model.itemText(i) for i in range(at.dock.image.model.count())]
    assert names == ["tiny", "mine", models.UNTRAINED]


def test_nothing_leaks(desk, qtbot) -> None:
    """A dock that is closed leaves no callbacks, keys, timers or widgets, and is collected."""
    import gc
    import weakref

    from qtpy.compat import isalive
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    at = desk(blobs(), show=False)
    at.segment()
    viewer = at.viewer
    at.viewer.window.remove_dock_widget(at.dock)
    at.dock.deleteLater()
    qtbot.wait(50)
    events = (viewer.layers.events, viewer.layers.selection.events, viewer.events, viewer.layers[0].events)

    def callbacks() -> int:
        emitters = [each for group in events for each in group.emitters.values()]
        return sum(len(emitter.callbacks) for emitter in emitters if hasattr(emitter, "callbacks"))

    def timers() -> int:
        gc.collect()
        return sum(timer.isActive() for timer in gc.get_objects() if type(timer) is QTimer and isalive(timer))

    before = callbacks(), len(viewer.keymap), timers(), len(QApplication.allWidgets())
    for _ in range(2):
        dock = UNetDock(viewer)
        viewer.window.add_dock_widget(dock)
        qtbot.wait(20)
        gone = weakref.ref(dock)
        viewer.window.remove_dock_widget(dock)
        dock.deleteLater()
        del dock
        qtbot.wait(50)
        gc.collect()
        assert gone() is None
    assert (callbacks(), len(viewer.keymap), timers(), len(QApplication.allWidgets())) == before


def test_a_run_brings_its_own_image_back_also_if_another_one_was_selected_meanwhile(desk, slow) -> None:
    at = desk(blobs())
    first = at.session.image
    at.click(at.dock.segment.start)
    other = at.viewer.add_image(blobs(), name="other")
    assert at.session.image is other
    slow.set()
    at.wait()
    labels = at.viewer.layers["cells_unet_labels"]
    assert at.session.image is first
    assert at.session.labels is labels
    at.viewer.layers.selection.active = other
    assert at.session.labels is None


def test_empty_labels_are_those_of_the_image_that_is_shown_and_not_of_the_one_that_is_selected(desk) -> None:
    at = desk(blobs())
    first, _ = at.session.image, at.viewer.add_image(blobs(), name="other")
    at.session.set_image(first)  # as a run does
    at.click(at.dock.correct.empty)
    assert at.session.image is first
    assert at.session.labels.name == "cells_unet_labels"


def test_napari_frees_what_it_drew_of_a_layer_where_it_drew_it(desk, monkeypatch) -> None:
    from qtpy.QtGui import QOpenGLContext

    at = desk()
    canvas, where = at.viewer.window._qt_viewer.canvas, []
    finish = canvas._scene_canvas.context.finish
    monkeypatch.setattr(
        canvas._scene_canvas.context, "finish", lambda: (where.append(QOpenGLContext.currentContext()), finish())
    )
    layer = at.viewer.add_image(blobs(), name="other")
    at.qtbot.wait(50)
    canvas.native.doneCurrent()
    at.viewer.layers.remove(layer)
    assert where == [canvas.native.context()]


@pytest.mark.parametrize("tool", ["merge", "split", "delete", "click", "paint"])
def test_whatever_goes_away_under_a_drag(desk, told, tool: str) -> None:
    at = desk()
    for gone in ("labels", "image", "all", "2-D", "dock"):
        at.viewer.layers.clear()
        at.viewer.add_image(blobs(), name="cells")
        at.click(at.dock.correct.empty)
        labels = at.session.labels
        labels.data[20:60, 20:60] = 3
        labels.refresh()
        at.more()
        at.viewer.layers.selection.active = at.session.image
        tools = at.dock.correct.tools
        at.click({**tools.napari, **tools.ours}[tool])
        at.paint((24, 24), (40, 40), (50, 50), meanwhile=lambda gone=gone: go_away(at, gone))
        at.qtbot.wait(20)
        at.viewer.dims.ndisplay = 2
    assert not [words for words in told if "There is no model 'clicks'" not in words]
    assert at.session.closed
    at.dock.deleteLater()


def go_away(at, what: str) -> None:
    if what == "labels":
        at.viewer.layers.remove(at.session.labels)
    elif what == "image":
        at.viewer.layers.remove(at.session.image)
    elif what == "all":
        at.viewer.layers.clear()
    elif what == "2-D":
        at.viewer.dims.ndisplay = 3
    else:
        at.viewer.window.remove_dock_widget(at.dock)


@pytest.mark.parametrize("around", [False, True])
def test_a_stroke_ends_when_another_layer_becomes_active(desk, around: bool) -> None:
    at = desk(blobs())
    at.click(at.dock.correct.empty)
    labels = at.session.labels
    button = Qt.MouseButton.RightButton if around else Qt.MouseButton.LeftButton
    selection = at.viewer.layers.selection

    def select_other() -> None:
        selection.active = at.session.image

    at.paint((24, 24), (40, 40), (50, 50), button=button, meanwhile=select_other)
    assert at.session.annotation.strokes == (0 if around else 1)
    assert bool(labels.data.any()) != around
    painted = labels.data.copy()
    selection.active = labels
    at.hover((70, 70))
    np.testing.assert_array_equal(labels.data, painted)
    at.segment()
    at.dock.correct.undo()
    np.testing.assert_array_equal(labels.data, painted)


def test_a_result_that_waits_for_the_end_of_a_line_says_so(desk) -> None:
    at = desk(blobs())
    at.click(at.dock.correct.empty)
    at.paint((24, 24), (40, 40), button=Qt.MouseButton.RightButton)
    at.click(at.dock.segment.start)
    at.wait(lambda: "press Esc" in at.dock.segment.note.text())
    at.press(Qt.Key.Key_Escape)
    at.wait(at.dock.segment.start.isEnabled)
    assert at.session.annotation.undoes == "segment"


def test_the_viewer_is_closed_while_a_result_is_written(desk, qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MOST", 100)
    monkeypatch.setattr(writing, "TILE", 4)
    at = desk(blobs())
    at.click(at.dock.correct.empty)
    at.session.annotation.edit("fill", Edit((slice(0, 96), slice(0, 96)), np.ones((96, 96), np.uint32)))
    at.session.annotation.undo()
    writer = at.session.annotation.writer
    assert writer is not None
    with qtbot.waitSignal(at.dock.destroyed, timeout=20_000):
        at.viewer.close()
    assert not writer._timer.isActive()


def test_a_stroke_over_another_image_is_not_cut_by_a_result(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new layer takes the brush away, so it waits until the button is up."""
    pressed, real = threading.Event(), runs.segment_part

    def late(*given):
        while not pressed.is_set():
            time.sleep(0.005)
            yield Progress(0, 1)
        return (yield from real(*given))

    monkeypatch.setattr(runs, "segment_part", late)
    at = desk(np.zeros((64, 64), np.uint8))
    at.click(at.dock.correct.empty)
    brush = at.session.labels
    at.viewer.add_image(np.zeros((64, 64), np.uint8), name="other")
    at.viewer.layers.selection.active = at.viewer.layers["other"]
    at.click(at.dock.segment.start)
    at.viewer.layers.selection.active = brush
    brush.mode = "paint"

    def meanwhile() -> None:
        pressed.set()
        at.wait()
        at.qtbot.wait(100)
        assert "other_unet_labels" not in at.viewer.layers
        assert at.viewer.layers.selection.active is brush

    at.paint((32, 10), (32, 30), (32, 50), meanwhile=meanwhile)
    assert brush.data[32, 10:50].all()
    assert at.session.annotated()[0][1].strokes == 1
    at.wait(lambda: "other_unet_labels" in at.viewer.layers)
