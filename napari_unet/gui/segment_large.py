"""Segmenting a large image: what is in view, at the level in view, into a window; all of it, to the disk."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_unet.errors import DataError, ImageError
from napari_unet.exchange.labels import target_of
from napari_unet.gui import runs, windows
from napari_unet.gui.grafting import Grafted, graft_all
from napari_unet.gui.growing import FIRST, Written, to_disk
from napari_unet.gui.hand import is_down
from napari_unet.gui.layers import ONLY_SEEN, keep_active, placement, remove
from napari_unet.gui.on_disk import FOLDER, OnDisk, may_show, plain
from napari_unet.gui.pyramid import Pyramid
from napari_unet.gui.regions import clamp, whole
from napari_unet.gui.results import ALL, add_labels
from napari_unet.infer.segment import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.forms import Form
    from napari_unet.gui.growing import Growing
    from napari_unet.gui.layers import Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.regions import Part, Region
    from napari_unet.gui.session import Session
    from napari_unet.jobs import Job

AGAIN = 50  # ms between two looks whether corrections can be taken over
GOES_ON = "Stopped; the blocks that are done are kept, and the next time it goes on there."


class SegmentLarge(QObject):
    """Segments images of which only a window is worked on.

    Parameters
    ----------
    session : Session
        What the sections share.
    settings : Form
        Thresholds.
    growing : Growing
        Shows what is found.
    tell : callable
        Says something to the user.
    found : callable
        Gets what is found in a window.
    """

    def __init__(
        self,
        session: Session,
        settings: Form,
        growing: Growing,
        tell: Callable[[str], None],
        found: Callable[[runs.Found], None],
    ) -> None:
        super().__init__()
        self.session, self.settings, self.growing = session, settings, growing
        self.stopped = ""  # what to say if the run is cancelled
        self._tell, self._found = tell, found
        self._look: Labels | None = None  # what was found at a coarse level
        self._again = False  # whether to segment once the window is open

    def segment(self, entry: ModelEntry, part: Part, outline: NDArray[np.float64] | None) -> bool | None:
        """Start a run; return whether it began, or None if it is one over the window that is open."""
        session, source = self.session, self.session.source
        if source is None:
            return False
        image = session.whole_of(source.layer)
        if part == "whole":
            return self._segment_all(entry, image)
        if outline is not None and source.window is not None:
            return None
        try:
            level = windows.level_in_view(image)
            window, region = windows.in_view(session.viewer, image, level)
            usual = None if entry.model is None else entry.model.diameter  # else it is looked at in the thread
            windows.diameter_at(window, session.diameter, usual)
        except ImageError as error:
            self._tell(str(error))
            return False
        if level == 0 and holds(source, window.within(region)):
            return None
        self._drop_look()
        if level == 0 and (disk := session.disk_of(image)) is not None:
            self._again = True
            self.open_window(disk, window)
            return True
        settings = SegmentSettings(channel=session.channel, diameter=session.diameter, **self.settings.values())
        done = self._found if level == 0 else self._show_look
        session.run("segment", lambda: _in_window(entry, window, settings, region), done)
        return True

    # ---- a window

    def has_labels(self) -> bool:
        """Return whether there seem to be labels of the image on the disk."""
        session, source = self.session, self.session.source
        if source is None:
            return False
        image = session.whole_of(source.layer)
        return any(may_show(layer, image, session.on_disk) for layer in session.viewer.layers)

    def correct_view(self) -> None:
        """Open what is in view to be corrected: with the labels on the disk, if there are any."""
        session, source = self.session, self.session.source
        if source is None or session.busy:
            return
        image = session.whole_of(source.layer)
        with session.told():
            window, _ = windows.in_view(session.viewer, image, 0)
            self._drop_look()
            disk = session.disk_of(image)
            if disk is None and self.has_labels():
                raise DataError(
                    "The labels of this image lie in no OME-Zarr folder that may be written, expected one: segment the "
                    "whole image to the disk, or remove their layer to begin with empty labels."
                )
            if disk is None:
                labels = add_labels(session, window, np.zeros(window.shape, np.uint32))
                session.set_labels(labels, source=window)
            else:
                self.open_window(disk, window)

    def open_window(self, disk: OnDisk, window: Source) -> None:
        """Read a window of labels on the disk into a layer that can be painted."""
        disk.settle()  # what was corrected in another window
        where = window.window or ()

        def done(read: tuple[NDArray[Any], int]) -> None:
            labels, largest = read
            self._tell("")
            layer = add_labels(self.session, window, labels.reshape(window.shape), outlined=labels.dtype != np.uint8)
            self.session.set_labels(layer, foreign=True, source=window)
            if (annotation := self.session.annotation_of(window)) is not None:
                annotation.taken = max(annotation.taken, largest)
                layer.selected_label = min(largest + 1, np.iinfo(labels.dtype).max)

        self.session.run("window", lambda: disk.read(where), done)

    def go_on(self, segment: Callable[[], object]) -> None:
        """Segment in the window that was opened for that."""
        if self._again and not self.session.busy:
            self._again = False
            QTimer.singleShot(0, segment)

    def _show_look(self, found: runs.Found) -> None:
        """Show what was found at a coarse level; it is no layer to be corrected."""
        if found.source.layer not in self.session.viewer.layers:
            return
        with keep_active(self.session.viewer):
            self._look = self.session.viewer.add_labels(
                found.found,
                name=f"{found.source.layer.name}_seen from afar",
                metadata={ONLY_SEEN: True},
                **placement(found.source, found.region),
            )
        self._look.editable = False
        many = f"{found.objects} object{'s' * (found.objects != 1)} in {found.seconds:.1f} s"
        coarse = f"at {100 / found.source.step[-1]:.3g} % of the size"
        self._tell(f"{many}, seen {coarse}: zoom in to find smaller ones and to correct.")

    def _drop_look(self) -> None:
        remove(self.session.viewer, self._look)
        self._look = None

    # ---- all of it

    def _segment_all(self, entry: ModelEntry, image: Source) -> bool:
        session = self.session
        if "C" in image.letters:
            raise ImageError(
                f"The channels of {image.layer.name!r} lie between its slices, expected one layer for each: take "
                "Layers > Split Stack."
            )
        target = self._target(image, entry)
        if target is None:
            return False
        if (disk := session.on_disk.get(id(image.layer))) is not None:
            disk.settle()  # it may be corrected until the new labels are there
        settings = SegmentSettings(channel=session.channel, diameter=session.diameter, **self.settings.values())
        first = self._first(image)
        self._drop_look()
        self.stopped = GOES_ON
        head = entry.head()
        kind = np.uint8 if head is not None and head.task == "classes" else np.uint32
        pyramid = Pyramid.empty(image.shape, kind)
        self.growing.begin(image, pyramid)
        hold = disk.hold if disk is not None and disk.folder == target else lambda held: None
        job = partial(to_disk, entry, image, settings, target, first, pyramid, hold)
        session.run("segment", job, self._on_written)
        return True

    def _first(self, image: Source) -> Region:
        """Return what to look at first: the middle of what is in view."""
        try:
            window, region = windows.in_view(self.session.viewer, image, 0)
        except ImageError:
            return clamp(tuple(slice(0, n) for n in image.shape), FIRST)
        return clamp(window.within(region), FIRST)

    def _target(self, image: Source, entry: ModelEntry) -> Path | None:
        """Return where the labels are to lie; None if the user thought better of it."""
        path = image.layer.source.path
        file = Path(path) if path else None
        if file is not None and file.is_dir() and _may_write(file):
            target = target_of(file, file, entry.name)
        else:
            near = str(file.parent if file is not None else Path.home())
            folder = QFileDialog.getExistingDirectory(None, "A folder for the labels", near)
            if not folder:
                return None
            target = Path(folder) / f"{plain(image.layer.name)}_labels.ome.zarr"
        if target.exists() and not self._may_replace(target):
            return None
        return target

    def _may_replace(self, target: Path) -> bool:
        """Ask before labels that may have been corrected are replaced."""
        asked = QMessageBox.question(
            None,
            "Replace the labels?",
            f"There are labels in {target} already, and they may have been corrected by hand.\n\n"
            "Shall they be replaced when the new ones are found? What was corrected in parts that are open is kept.",
        )
        return bool(asked == QMessageBox.StandardButton.Yes)

    def _on_written(self, written: Written) -> None:
        """Let the layer that has grown show what lies at its place now."""
        session, image = self.session, written.source
        self.stopped = ""
        result = written.result
        objects = result.found.get("objects")
        many = "Done" if objects is None else f"{objects} object{'s' * (objects != 1)}"
        notes = " ".join(runs.sentence(note) for note in runs.for_people(result.notes))
        said = f"{many} in {result.seconds:.0f} s, written to {written.target}. {notes}".strip()
        self._tell(said)
        if (old := session.on_disk.pop(id(image.layer), None)) is not None:
            old.close(write=old.folder != written.target)
        if image.layer not in session.viewer.layers:
            self.growing.close()
            return
        self.growing.begin(image, written.pyramid)  # somebody may have removed the layer
        layer = self.growing.keep()
        if layer is None:
            return
        for annotation, _ in session.windows_of(image.layer):
            if not annotation.known() and not is_down(session, annotation):  # it shows what was found before
                session.viewer.layers.remove(annotation.layer)
        for other in [each for each in session.viewer.layers if each.metadata.get(FOLDER) == str(written.target)]:
            session.viewer.layers.remove(other)
        layer.metadata = {}
        layer.name = f"{image.layer.name}{ALL}"
        layer.refresh(extent=False)
        session.on_disk[id(image.layer)] = OnDisk(layer, written.pyramid, written.target, image.layer)
        session.learned = False
        session.labels_changed.emit()
        QTimer.singleShot(0, lambda: self._take_over(image, said))  # when this job has ended

    def _take_over(self, image: Source, said: str, tries: int = 3) -> None:
        """Take what was corrected in parts over into the labels on the disk, and go on there."""
        session, disk = self.session, self.session.on_disk.get(id(image.layer))
        if disk is None or session.closed:
            return
        parts = [(each, part) for each, part in session.windows_of(image.layer) if each not in disk.followed]
        if not parts:
            return
        if session.busy or any(is_down(session, each) for each, _ in parts):
            QTimer.singleShot(AGAIN, lambda: self._take_over(image, said, tries))
            return
        if not tries:
            self._tell(f"{said} What you corrected before stays in a layer of its own and is not among these labels.")
            return
        for annotation, _ in parts:
            annotation.settle()
        disk.settle()  # what was corrected in other parts
        changes = disk.changes

        def done(grafted: list[Grafted]) -> None:
            there = [each for each, _ in session.windows_of(image.layer)]
            if session.on_disk.get(id(image.layer)) is not disk or disk.changes != changes:
                return  # it was painted meanwhile: it is tried again
            for each in grafted:
                if each.annotation in there and each.fits() and not is_down(session, each.annotation):
                    each.move()
                    disk.follow(each.annotation, each.part, whole(each.annotation.layer.data.shape))
            if grafted:
                self._tell(f"{said} What you corrected before is in them.")

        session.run("window", lambda: graft_all(disk, parts), done)
        QTimer.singleShot(AGAIN, lambda: self._take_over(image, said, tries - 1))  # what was late, or cancelled


def _in_window(entry: ModelEntry, window: Source, settings: SegmentSettings, region: Region) -> Job[runs.Found]:
    """Segment what is in view, once it is known how wide the model's objects are."""
    model = yield from runs.load(entry)
    settings = replace(settings, diameter=windows.diameter_at(window, settings.diameter, model.diameter))
    return (yield from runs.segment_part(entry, window, settings, region, None))


def holds(source: Source, view: Region) -> bool:
    """Return whether a window holds what is in view, in pixels of the finest level."""
    if source.window is None:
        return False
    pairs = zip(source.window, view, strict=True)
    return all(w.start <= v.start and v.stop <= w.stop for w, v in pairs)


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK)
