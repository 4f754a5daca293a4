"""Large images in the viewer: windows, labels on disk that grow and are corrected, nothing read or held as a whole."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox
from scipy import ndimage as ndi

from napari_unet.exchange import ome_zarr, work
from napari_unet.gui import growing, layers, on_disk, pyramid, windows
from napari_unet.gui.dock import UNetDock
from napari_unet.gui.pyramid import read_whole
from napari_unet.gui.runs import segment_part
from napari_unet.infer import blocks
from napari_unet.infer.lazy import LazyArray
from napari_unet.infer.segment import segment
from tests.gui.conftest import Desk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Labels


SIDE = 512  # of the image in these tests


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an image of 512² count as a large one, and cut it as finely."""
    monkeypatch.setattr(layers, "PLANE", 2**16)
    monkeypatch.setattr(windows, "WINDOW", 128)
    monkeypatch.setattr(windows, "CELL", 32)
    monkeypatch.setattr(work, "CHUNK", {2: 64})
    monkeypatch.setattr(blocks, "PIXELS", {2: 128**2})
    monkeypatch.setattr(ome_zarr, "SMALLEST", 128)
    monkeypatch.setattr(growing, "FIRST", 64)
    monkeypatch.setattr(pyramid, "KEPT", 128**2)
    monkeypatch.setattr(pyramid, "OFTEN", 10)
    monkeypatch.setattr(on_disk, "SOON", 10)


class Counted(LazyArray):
    """An array that knows how many pixels were read of it at once at most."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.most = 0

        def read(at: tuple[slice, ...]) -> Any:
            part = pixels[at]
            self.most = max(self.most, prod((s.stop - s.start) for s in at))
            return part

        super().__init__(pixels.shape, pixels.dtype, read)


def picture() -> np.ndarray:
    """Return 512² of bright squares on a dark ground."""
    image = np.random.default_rng(0).normal(10, 2, (SIDE, SIDE))
    for y in range(8, SIDE - 24, 32):
        for x in range(8, SIDE - 24, 32):
            image[y : y + 18, x : x + 18] += 100
    return image.clip(0, 255).astype(np.uint8)


def empty(at: Desk, rank: int = 0) -> tuple[tuple[int, int], tuple[np.ndarray, ...]]:
    """A pixel of the window that is open where the model finds nothing: in pixels of the image, and of the window."""
    window = at.session.source.window
    found = segment(at.session.model.get(), picture())[window]
    found[:2] = found[-2:] = 1
    row, column = np.argwhere(ndi.maximum_filter(found, 3) == 0)[rank]
    return (window[0].start + row, window[1].start + column), (np.array([row]), np.array([column]))


def slide(folder: Path, side: int = SIDE, name: str = "slide") -> Path:
    """Write the picture as an OME-Zarr pyramid of 0.5 µm pixels."""
    path, full = folder / f"{name}.ome.zarr", picture()[:side, :side]
    write_pyramid(path, full)
    return path


def labels_beside(image: Path, labels: np.ndarray, *, floor: bool = False) -> Path:
    """Write labels into the OME-Zarr of an image, as another program does."""
    path = image / "labels" / "theirs"
    zarr.open_group(path.parent, mode="w", zarr_format=3).attrs["ome"] = {"version": "0.5", "labels": [path.name]}
    write_pyramid(path, labels, floor=floor)
    group = zarr.open_group(path, mode="r+")
    group.attrs["ome"] = group.attrs["ome"] | {"image-label": {}}
    return path


def write_pyramid(path: Path, full: np.ndarray, *, floor: bool = False) -> None:
    """Write three levels; of an odd number of pixels the last one may be left out of the next level."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    levels = []
    for level in range(3):
        part = full[:: 2**level, :: 2**level]
        if floor:
            part = part[: full.shape[0] // 2**level, : full.shape[1] // 2**level]
        array = group.create_array(str(level), shape=part.shape, chunks=(64, 64), dtype=full.dtype)
        array[...] = part
        steps = [{"type": "scale", "scale": [0.5 * 2**level] * 2}]
        levels.append({"path": str(level), "coordinateTransformations": steps})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}


@pytest.fixture
def at(desk: Callable[..., Desk], tmp_path: Path) -> Desk:
    """A person who has opened the slide as napari does."""
    made = desk()
    made.viewer.open(slide(tmp_path), plugin="napari-ome-zarr")
    made.qtbot.wait(50)
    return made


def choose(at: Desk, part: str) -> None:
    """Choose what to segment."""
    box = at.dock.segment.part
    box.setCurrentIndex(box.findData(part))


def segment_all(at: Desk) -> None:
    """Segment all of the image to the disk."""
    choose(at, "whole")
    at.click(at.dock.segment.start)
    at.wait()


def zoom(at: Desk, y: float, x: float, to: float = 6.0) -> None:
    """Look at a place of the world closely."""
    at.viewer.scene.camera.center, at.viewer.scene.camera.zoom = (0, y, x), to
    at.qtbot.wait(100)


def on_the_disk(at: Desk, level: int = 0) -> np.ndarray:
    """Return the labels that lie in the OME-Zarr."""
    (disk,) = at.session.on_disk.values()
    return read_whole(zarr.open_array(disk.folder / str(level), mode="r"), ...)


def open_window(at: Desk) -> None:
    """Open what is in view to be corrected."""
    at.click(at.dock.correct.open)
    at.wait()


def open_parts(at: Desk, *places: float) -> list[Labels]:
    """Open parts around some rows to be corrected; return their labels."""
    parts = []
    for y in places:
        zoom(at, y, 100)
        at.dock.segment.large.correct_view()
        at.wait()
        parts.append(at.session.labels)
    return parts


def test_what_is_in_view_is_segmented_in_a_window(at: Desk) -> None:
    assert at.session.source.large
    assert at.dock.segment.part.currentData() == "view"
    zoom(at, 128, 64)
    labels = at.segment()
    assert labels.data.shape <= (192, 192)
    window = at.session.source.window
    assert labels.data_to_world((0, 0)) == pytest.approx([window[0].start / 2, window[1].start / 2])
    assert tuple(labels.scale) == (0.5, 0.5)
    assert labels.units == at.session.image.units
    assert at.session.labels is labels


def test_a_window_is_seen_as_in_the_whole_image(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    zoom(at, 128, 64)
    image = at.session.whole_of(at.session.image)
    window, region = windows.in_view(at.viewer, image, 0)
    from napari_unet import jobs
    from napari_unet.infer.segment import SegmentSettings, see

    found = jobs.run(segment_part(at.session.model, window, SegmentSettings(device="cpu"), region, None))
    at.session.model.get()
    whole = at.session.model.model.segment(picture(), axes="YX", device="cpu")
    assert ((found.labels > 0) == (whole[window.within(region)] > 0)).mean() > 0.999
    seen = see(at.session.model.model, window.data, "YX")
    everything = see(at.session.model.model, picture(), "YX")
    assert (seen.low, seen.high) == (everything.low, everything.high)


def test_from_afar_a_coarse_level_is_segmented_if_objects_are_still_seen(at: Desk) -> None:
    at.viewer.fit_to_view()
    at.viewer.scene.camera.zoom = 1.0  # two pixels of the image for one of the screen
    at.qtbot.wait(100)
    assert at.session.image.data_level == 1
    at.dock.image.diameter.setValue(20)
    at.click(at.dock.segment.start)
    at.wait()
    seen = at.viewer.layers[-1]
    assert tuple(seen.scale) == (1.0, 1.0)
    assert at.session.labels is None
    assert "zoom in" in at.dock.segment.note.text()
    at.dock.image.diameter.setValue(5)
    at.click(at.dock.segment.start)
    at.wait()
    assert "zoom in" in at.dock.segment.note.text()
    assert "expected 4 or more" in at.dock.segment.note.text()


def test_all_of_it_goes_to_the_disk_and_grows_in_the_viewer(at: Desk) -> None:
    grown: list[int] = []

    def look(progress: Any) -> None:
        layer = at.dock.segment.growing.layer
        if layer is not None and isinstance(progress.payload, tuple):
            grown.append(int(np.count_nonzero(layer.data[-1])))

    at.session.progressed.connect(look)
    segment_all(at)
    labels = on_the_disk(at)
    assert labels.shape == (SIDE, SIDE)
    assert len(grown) == 16
    assert sorted(grown) == grown
    (disk,) = at.session.on_disk.values()
    assert disk.layer in at.viewer.layers
    assert disk.folder.name == "tiny"
    np.testing.assert_array_equal(np.asarray(disk.layer.data[0][...]), labels)
    np.testing.assert_array_equal(np.asarray(disk.layer.data[-1]), labels[::4, ::4])
    assert str(disk.folder) in at.dock.segment.note.text()
    assert not [layer for layer in at.viewer.layers if "so far" in layer.name]


def test_what_was_stopped_goes_on(at: Desk) -> None:
    done: list[int] = []

    def stop(progress: Any) -> None:
        if isinstance(progress.payload, tuple):
            done.append(progress.done)
            if len(done) == 3:
                at.click(at.dock.segment.cancel)

    at.session.progressed.connect(stop)
    choose(at, "whole")
    at.click(at.dock.segment.start)
    at.wait()
    assert "goes on" in at.dock.segment.note.text()
    assert not at.session.on_disk
    assert [layer for layer in at.viewer.layers if "so far" in layer.name], "what was found stays to be seen"
    segment_all(at)
    assert 3000 < done[3] < 6000
    assert on_the_disk(at).shape == (SIDE, SIDE)


def test_labels_that_are_there_are_replaced_only_if_the_user_says_so(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    segment_all(at)
    asked: list[str] = []
    monkeypatch.setattr(QMessageBox, "question", lambda *said: asked.append(said[2]) or QMessageBox.StandardButton.No)
    choose(at, "whole")
    at.click(at.dock.segment.start)
    assert not at.session.busy
    assert "may have been corrected" in asked[0]


def test_a_stroke_in_a_window_reaches_the_disk_and_its_undo_too(at: Desk) -> None:
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    before = on_the_disk(at)
    annotation, labels = at.session.annotation, at.session.labels
    window = at.session.source.window
    np.testing.assert_array_equal(labels.data, before[window])
    assert annotation.taken == before.max()
    at.click(at.dock.correct.tools.new)
    number = labels.selected_label
    assert number > before.max()
    labels.brush_size = 10
    at.paint((100, 120), (104, 124))
    at.wait(lambda: number in on_the_disk(at))
    after = on_the_disk(at)
    np.testing.assert_array_equal(after[window], labels.data)
    rest = np.ones(after.shape, bool)
    rest[window] = False
    np.testing.assert_array_equal(after[rest], before[rest])
    for level in (1, 2):
        at.wait(lambda level=level: np.array_equal(on_the_disk(at, level), after[:: 2**level, :: 2**level]))
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    at.wait(lambda: np.array_equal(on_the_disk(at), before))


def test_a_window_that_is_removed_is_on_the_disk_and_seen_there(at: Desk) -> None:
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    (disk,) = at.session.on_disk.values()
    window = at.session.source.window
    assert not np.asarray(disk.layer.data[0][window]).any(), "it would be seen twice"
    at.session.labels.data_setitem((np.array([3]), np.array([4])), 9999)
    at.viewer.layers.remove(at.session.labels)
    assert np.asarray(disk.layer.data[0][window])[3, 4] == 9999
    assert at.session.source.large


def test_a_run_in_a_window_takes_numbers_that_are_free_and_reaches_the_disk(at: Desk) -> None:
    segment_all(at)
    most = int(on_the_disk(at).max())
    zoom(at, 100, 120)
    choose(at, "view")
    at.click(at.dock.segment.start)  # it opens the window first
    at.wait(lambda: not at.session.busy and " s." in at.dock.segment.note.text())
    labels, window = at.session.labels, at.session.source.window
    new = np.setdiff1d(np.unique(labels.data), [0])
    assert not new.size or new.max() > most or np.isin(new, np.unique(on_the_disk(at)[window])).all()
    at.wait(lambda: np.array_equal(on_the_disk(at)[window], labels.data))


def test_what_a_window_was_painted_with_is_on_the_disk_when_the_dock_closes(at: Desk) -> None:
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    folder = next(iter(at.session.on_disk.values())).folder
    labels, window = at.session.labels, at.session.source.window
    labels.data_setitem((np.array([3, 3]), np.array([4, 5])), 9999)
    at.session.close()
    assert (np.asarray(zarr.open_array(folder / "0", mode="r")[window])[3, 4:6] == 9999).all()


def test_what_was_done_in_a_window_is_restored_in_its_place(
    at: Desk, desk: Callable[..., Desk], tmp_path: Path
) -> None:
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    window = at.session.source.window
    before = at.session.labels.data[3, 4]
    at.session.labels.data_setitem((np.array([3]), np.array([4])), 9999)
    at.session.close()
    folder = tmp_path / "slide.ome.zarr" / "labels" / "tiny" / "0"
    stored = zarr.open_array(folder, mode="r+")
    stored[window[0].start + 3, window[1].start + 4] = before  # as if it had been killed before
    again = desk()
    again.viewer.open(tmp_path / "slide.ome.zarr", plugin="napari-ome-zarr")
    offer = again.dock.offer
    again.wait(lambda: offer.restore.isVisibleTo(again.dock))
    again.click(offer.restore)
    assert again.session.source.window == window
    assert again.session.labels.data[3, 4] == 9999
    again.wait(lambda: read_whole(stored, window)[3, 4] == 9999)


def test_the_part_whose_labels_are_selected_is_the_one_that_is_corrected(at: Desk) -> None:
    segment_all(at)
    parts = open_parts(at, 100, 300)
    at.viewer.layers.selection.active = parts[0]
    assert at.session.labels is parts[0]
    assert at.session.source.window[0].start < 100
    at.viewer.layers.selection.active = parts[1]
    assert at.session.labels is parts[1]


def test_new_objects_in_two_parts_get_two_numbers(at: Desk) -> None:
    segment_all(at)
    parts = open_parts(at, 40, 200)
    numbers = []
    for part, y in zip(parts, (40, 200), strict=True):
        at.viewer.layers.selection.active = part
        zoom(at, y, 100)
        numbers.append(stroke(at, y, 100))
    assert len(set(numbers)) == 2
    at.wait(lambda: set(numbers) <= set(np.unique(on_the_disk(at))))


def test_strokes_in_parts_that_overlap_are_all_restored(at: Desk, desk: Callable[..., Desk], tmp_path: Path) -> None:
    segment_all(at)
    places = []
    for number, (y, rank) in enumerate(((100, 0), (140, 20)), start=7777):
        zoom(at, y, 100)
        at.dock.segment.large.correct_view()
        at.wait()
        place, here = empty(at, rank)
        places.append(place)
        at.session.labels.data_setitem(here, number)
        at.wait(lambda number=number: number in on_the_disk(at))
    at.session.close()
    stored = zarr.open_array(tmp_path / "slide.ome.zarr" / "labels" / "tiny" / "0", mode="r+")
    before = stored[...]
    stored[places[1]] = 0  # as if it had been killed before
    again = desk()
    again.viewer.open(tmp_path / "slide.ome.zarr", plugin="napari-ome-zarr")
    offer = again.dock.offer
    again.wait(lambda: offer.restore.isVisibleTo(again.dock))
    again.click(offer.restore)
    assert not offer.buttons.isVisibleTo(again.dock)
    (disk,) = again.session.on_disk.values()
    again.wait(lambda: disk.settled)
    np.testing.assert_array_equal(stored[...], before)
    for annotation, window in again.session.windows_of(again.session.image):
        np.testing.assert_array_equal(annotation.layer.data, before[window])


def test_what_was_corrected_before_the_whole_was_segmented_is_in_it(at: Desk) -> None:
    zoom(at, 100, 120)
    at.click(at.dock.correct.empty)
    painted = at.session.labels
    source = at.session.source
    place, here = empty(at)
    painted.data_setitem(here, 1)
    painted.selected_label = 1
    segment_all(at)
    at.wait(lambda: "in them" in at.dock.segment.note.text())
    assert at.session.labels is painted
    shown = next(layer for layer in at.viewer.layers if "_labels" in layer.name and layer.multiscale)
    assert shown.translate.tolist() == [0, 0], "it lies over the whole image, not over the window"
    (disk,) = at.session.on_disk.values()
    at.wait(lambda: disk.settled)
    labels = on_the_disk(at)
    mine = labels[place]
    assert mine == painted.data[here] > 0
    assert painted.selected_label == mine, "the brush goes on with the same object"
    assert np.count_nonzero(labels == mine) == 1, "no other object has its number"
    assert len(np.unique(painted.data)) > 2, "what was found is there, too"
    np.testing.assert_array_equal(labels[source.window], painted.data)
    assert at.session.annotation.known()
    painted.data_setitem(here, mine + 1)
    at.wait(lambda: on_the_disk(at)[place] == mine + 1)
    at.dock.correct.undo()
    at.wait(lambda: on_the_disk(at)[place] == mine)
    at.dock.correct.undo()
    assert painted.data[here] == mine, "what was done before the run cannot be taken back"


def test_corrections_in_parts_that_overlap_are_all_taken_over(at: Desk) -> None:
    places = []
    for y, x, rank in ((100, 100, 0), (140, 100, 20)):
        zoom(at, y, x)
        if at.session.labels is None:
            at.click(at.dock.correct.empty)
        else:
            at.dock.segment.large.correct_view()
        place, here = empty(at, rank)
        places.append(place)
        at.session.labels.data_setitem(here, 1)
    segment_all(at)
    at.wait(lambda: "in them" in at.dock.segment.note.text())
    (disk,) = at.session.on_disk.values()
    at.wait(lambda: disk.settled)
    labels = on_the_disk(at)
    numbers = {int(labels[place]) for place in places}
    assert len(numbers) == 2
    assert 0 not in numbers
    assert all(np.count_nonzero(labels == number) == 1 for number in numbers)


def test_what_was_done_in_a_part_that_no_disk_knew_does_not_go_there(
    at: Desk, desk: Callable[..., Desk], tmp_path: Path
) -> None:
    zoom(at, 100, 120)
    at.click(at.dock.correct.empty)
    at.session.labels.data_setitem((np.array([30, 31]), np.array([30, 30])), 1)
    at.session._journal._file.close()  # as if the program had been killed
    at.session._journal._file = None
    at.session._journal.over = True
    at.viewer.layers.remove(at.session.labels)
    segment_all(at)
    at.session.close()
    stored = zarr.open_array(tmp_path / "slide.ome.zarr" / "labels" / "tiny" / "0", mode="r")
    before = stored[...]
    again = desk()
    again.viewer.open(tmp_path / "slide.ome.zarr", plugin="napari-ome-zarr")
    offer = again.dock.offer
    again.wait(lambda: offer.restore.isVisibleTo(again.dock))
    again.click(offer.restore)
    assert again.session.labels.data[30, 30] == 1
    assert "not of the labels on the disk" in offer.line.text()
    again.session.labels.data_setitem((np.array([40]), np.array([40])), 1)
    again.viewer.window.remove_dock_widget(again.dock)
    again.session.close()
    dock = UNetDock(again.viewer)
    again.viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    again.qtbot.wait(200)
    dock.session.close()
    np.testing.assert_array_equal(stored[...], before)


def test_strokes_in_two_windows_are_both_learned_from(at: Desk) -> None:
    for y, x in ((60, 60), (200, 200)):
        zoom(at, y, x)
        if at.session.labels is None:
            at.click(at.dock.correct.empty)
        else:
            at.dock.segment.large.correct_view()
        at.session.labels.data_setitem((np.array([30]), np.array([30])), 1)
    found = at.dock.finetune._corrections()
    assert len(found) == 2
    for each in found:
        assert each.image.shape == each.labels.shape == each.state.shape
    sources = [source for source, _ in at.session.annotated()]
    np.testing.assert_array_equal(found[1].image[...], picture()[sources[1].window])


def test_nothing_is_read_or_held_as_a_whole(
    desk: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = [Counted(picture()[:: 2**level, :: 2**level]) for level in range(3)]
    at = desk()
    at.viewer.add_image(levels, multiscale=True, name="counted", contrast_limits=(0, 255))
    monkeypatch.setattr("napari_unet.infer.lazy.PATCHES_ABOVE", 2**16)
    monkeypatch.setattr("napari_unet.infer.image.SAMPLE", 2**14)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    zoom(at, 250, 250, 3.0)
    levels[0].most = 0
    at.segment()
    segment_all(at)
    at.dock.segment.large.correct_view()
    at.wait()
    assert 0 < levels[0].most < SIDE**2 / 2
    assert (tmp_path / "counted_labels.ome.zarr").is_dir()
    held = [layer.data for layer in at.viewer.layers if type(layer).__name__ == "Labels" and not layer.multiscale]
    assert max(prod(each.shape) for each in held) <= 256**2


def test_labels_in_one_zarr_array_are_painted_on_the_disk(desk: Callable[..., Desk], tmp_path: Path) -> None:
    at = desk(picture()[:128, :128])
    stored = zarr.open_array(tmp_path / "labels.zarr", mode="w", shape=(128, 128), chunks=(64, 64), dtype="u4")
    stored[4:8, 4:8] = 5
    layer = at.viewer.add_labels(stored, name="mine")
    at.dock.correct.which.setCurrentIndex(at.dock.correct.which.findText("mine"))
    at.dock.correct._choose()
    assert at.session.labels is layer
    assert at.session.annotation.largest() == 5
    at.dock.correct.tools.new_object()
    layer.brush_size = 6
    at.paint((60, 60), (64, 70))
    fresh = zarr.open_array(tmp_path / "labels.zarr", mode="r")
    assert (np.asarray(fresh[...]) == 6).any()
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert sorted(np.unique(fresh[...])) == [0, 5]


class Full:
    """A level of labels on a disk that is full as long as the test says so."""

    def __init__(self, array: Any, full: list[bool]) -> None:
        self.array, self.full = array, full
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, at: Any) -> Any:
        return self.array[at]

    def __setitem__(self, at: Any, values: Any) -> None:
        if self.full:
            raise self.full[-1]
        self.array[at] = values


def fill_up(at: Desk, error: Exception | None = None) -> list[Any]:
    """Let the disk be full until the list that is returned is emptied."""
    (disk,) = at.session.on_disk.values()
    full: list[Any] = [error or OSError(28, "No space left on device")]
    disk.pyramid.arrays[-1] = Full(disk.pyramid.arrays[-1], full)
    return full


def stroke(at: Desk, y: float, x: float) -> int:
    """Paint a new object in the window; return its number."""
    at.click(at.dock.correct.tools.new)
    at.session.labels.brush_size = 10
    at.paint((y, x), (y + 4, x + 4))
    return int(at.session.labels.selected_label)


def test_what_a_full_disk_refuses_is_told_kept_and_written_with_the_next_stroke(at: Desk, told: list[str]) -> None:
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    full = fill_up(at)
    stroke(at, 100, 120)
    at.wait(lambda: len(told) == 1)
    assert "No space left" in told[0]
    at.qtbot.wait(100)
    assert len(told) == 1, "once for each failure"
    stroke(at, 110, 120)
    at.wait(lambda: len(told) == 2)
    full.clear()
    stroke(at, 90, 120)
    labels, window = at.session.labels.data, at.session.source.window
    for level in range(3):
        where = tuple(slice(w.start // 2**level, w.stop // 2**level) for w in window)
        every = 2**level
        at.wait(lambda where=where, e=every, n=level: np.array_equal(on_the_disk(at, n)[where], labels[::e, ::e]))
    assert len(told) == 2


def test_an_error_while_a_removed_window_is_written_is_told_and_nothing_is_lost(at: Desk, told: list[str]) -> None:
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    (disk,) = at.session.on_disk.values()
    window = at.session.source.window
    full = fill_up(at, ValueError("could not broadcast"))
    at.session.labels.data_setitem((np.array([4]), np.array([4])), 9999)
    disk._write()  # it is being written in the thread when the window goes away
    at.viewer.layers.remove(at.session.labels)
    assert len(told) == 1
    assert "could not broadcast" in told[0]
    assert at.session.source.large
    assert at.session.annotation is None
    open_window(at)
    assert at.session.labels.data[4, 4] == 9999, "what could not be written is read all the same"
    assert at.session.annotation.taken == 9999
    full.clear()
    at.session.close()
    last = np.asarray(zarr.open_array(disk.folder / "2", mode="r")[...])
    assert last[window[0].start // 4 + 1, window[1].start // 4 + 1] == 9999


def test_a_dock_closes_though_the_disk_refuses(at: Desk, told: list[str]) -> None:
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    fill_up(at, ValueError("could not broadcast"))
    at.session.labels.data_setitem((np.array([4]), np.array([4])), 9999)
    at.session.close()
    assert len(told) == 1
    assert not at.session.on_disk
    assert "undo" not in vars(at.viewer.layers[-1])


def test_levels_of_other_programs_that_leave_out_the_last_pixel_are_written(
    desk: Callable[..., Desk], tmp_path: Path, told: list[str]
) -> None:
    path = slide(tmp_path, SIDE - 3)
    labels_beside(path, np.ones((SIDE - 3,) * 2, "u4"), floor=True)
    at = desk()
    at.viewer.open(path, plugin="napari-ome-zarr")
    at.qtbot.wait(50)
    zoom(at, 250, 250)
    open_window(at)
    labels, window = at.session.labels, at.session.source.window
    assert window[0].stop == SIDE - 3
    number = stroke(at, 252, 252)
    at.wait(lambda: number in on_the_disk(at, 2) and at.session.labels is labels)
    assert not told
    for level in range(3):
        shown = on_the_disk(at, 0)[:: 2**level, :: 2**level]
        stored = on_the_disk(at, level)
        np.testing.assert_array_equal(stored, shown[: stored.shape[0], : stored.shape[1]])


def test_strokes_reach_the_disk_after_the_dock_was_closed_and_opened(at: Desk) -> None:
    segment_all(at)
    for y in (200, 100):
        zoom(at, y, 120)
        at.dock.segment.large.correct_view()
        at.wait()
    first = next(each for each in at.viewer.layers if "(part)" in each.name)
    last, folder = at.session.labels, next(iter(at.session.on_disk.values())).folder
    assert first is not last
    at.viewer.window.remove_dock_widget(at.dock)
    at.session.close()
    last.data_setitem((np.array([3]), np.array([4])), 9999)  # painted while there was no dock
    dock = UNetDock(at.viewer)
    at.viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    again = Desk(at.viewer, dock, at.qtbot)
    again.qtbot.wait(50)
    assert again.session.labels is last
    (disk,) = again.session.on_disk.values()
    assert disk.folder == folder
    zoom(again, 100, 120)
    number = stroke(again, 100, 120)
    window = again.session.source.window
    again.wait(lambda: number in on_the_disk(again)[window])
    assert on_the_disk(again)[window][3, 4] == 9999
    assert not np.asarray(disk.layer.data[0][window]).any(), "it would be seen twice"
    first.data_setitem((np.array([90]), np.array([90])), 8888)
    again.wait(lambda: 8888 in on_the_disk(again))


def test_an_image_of_the_same_shape_gets_labels_of_its_own(at: Desk, tmp_path: Path) -> None:
    at.viewer.layers.clear()
    paths = [slide(tmp_path, name="a"), slide(tmp_path, name="b")]
    theirs = labels_beside(paths[0], np.full((SIDE, SIDE), 7, "u4"))
    (a, *_), (b, *_) = [at.viewer.open(path, plugin="napari-ome-zarr") for path in paths]
    at.qtbot.wait(50)
    at.viewer.layers.selection.active = b
    zoom(at, 100, 120)
    assert at.session.image is b
    assert not at.dock.segment.large.has_labels()
    at.click(at.dock.correct.empty)
    at.wait()
    assert not at.session.labels.data.any()
    assert not at.session.on_disk
    stroke(at, 100, 120)
    at.viewer.layers.selection.active = a
    assert at.dock.segment.large.has_labels()
    open_window(at)
    assert (at.session.labels.data == 7).all()
    (disk,) = at.session.on_disk.values()
    assert disk.folder == theirs
    at.viewer.layers.selection.active = b
    assert not at.dock.segment.large.has_labels()
    segment_all(at)
    assert sorted(each.folder for each in at.session.on_disk.values()) == [theirs, paths[1] / "labels" / "tiny"]
    assert (np.asarray(zarr.open_array(theirs / "0", mode="r")[...]) == 7).all()


def test_old_windows_do_not_write_into_new_labels(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    segment_all(at)
    before = on_the_disk(at)
    zoom(at, 100, 120)
    open_window(at)
    old = at.session.labels
    painted = stroke(at, 100, 120)
    at.wait(lambda: painted in on_the_disk(at))
    at.dock.correct.undo()
    at.wait(lambda: painted not in on_the_disk(at))
    segment_all(at)
    assert old not in at.viewer.layers
    np.testing.assert_array_equal(on_the_disk(at), before)
    (disk,) = at.session.on_disk.values()
    assert [each for each in at.viewer.layers if each.name.endswith((")", "]"))] == [disk.layer]
    open_window(at)
    number = stroke(at, 100, 120)
    at.wait(lambda: number in on_the_disk(at))


def test_what_was_corrected_in_old_labels_is_in_new_ones(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    place, here = empty(at)
    at.session.labels.data_setitem(here, 77)
    at.wait(lambda: on_the_disk(at)[place] == 77)
    segment_all(at)
    at.wait(lambda: "in them" in at.dock.segment.note.text())
    at.wait(lambda: on_the_disk(at)[place] > 0)
    assert at.session.labels.data[here] == on_the_disk(at)[place]


def test_labels_can_be_corrected_after_another_run_was_cancelled(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    segment_all(at)
    zoom(at, 100, 120)
    open_window(at)
    choose(at, "whole")
    at.click(at.dock.segment.start)
    at.click(at.dock.segment.cancel)
    at.wait()
    number = stroke(at, 100, 120)
    at.wait(lambda: number in on_the_disk(at))
