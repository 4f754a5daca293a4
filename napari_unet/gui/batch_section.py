"""The part of step 2 for many images: all that are open, or a folder of them, with a line for each."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import ImageError, UnetError
from napari_unet.gui import batch
from napari_unet.gui.batch_lines import BatchLines
from napari_unet.gui.hand import is_down
from napari_unet.gui.layers import is_image, keep_active, look_at, scale_of
from napari_unet.gui.look import button, label, row, say
from napari_unet.gui.pace import Pace, in_words
from napari_unet.gui.results import CUT, WAIT, add_result, dropped, write_result
from napari_unet.gui.writing import TileWriter
from napari_unet.infer.segment import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.gui.forms import Form
    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Annotation
    from napari_unet.jobs import Progress
GONE = "The labels were removed while the result was written, so the rest of it was dropped."


class BatchSection(QWidget):
    """Segments many images in one go, and opens each with its result.

    Parameters
    ----------
    session : Session
        What the sections share.
    settings : Form
        The thresholds, which are those of single runs too.
    """

    def __init__(self, session: Session, settings: Form) -> None:
        super().__init__()
        self.session, self.settings = session, settings
        self.images, self.results = _choice(), _choice()
        self.images.setToolTip(
            "All images that are open in the viewer, or those in a folder.\n"
            "Model and thresholds are those above; channel and diameter too, but for open images that have their own."
        )
        self.results.setToolTip(
            "As layers: as a click on Segment would do for each image; what you corrected stays.\n"
            "As files: NAME_labels.tif for each image NAME, beside it or in a folder."
        )
        self.overwrite = QCheckBox("Overwrite corrected labels")
        self.overwrite.setToolTip(
            "Replace label files that another program has saved since, too.\n"
            "Otherwise such images are left as they are; labels that nobody touched are always replaced."
        )
        self.overwrite.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.start = button("Segment all", "Segment these images one after the other, each as a whole.", self.segment)
        self.stop = button("Stop", "Stop after this step; what is finished stays.", self._end)
        self.stop.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.bar, self.note, self.lines = QProgressBar(), label("", "quiet"), BatchLines(session)
        self._folder: Path | None = None  # of images
        self._output: Path | None = None  # for results
        self._total, self._stopped, self._running = 0, False, False
        self._pace = Pace()
        self._offer: batch.Offer | None = None  # that waits until the hand is lifted, or is being written
        self._written: Annotation | None = None  # while a result is written into its layer
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._take_again)
        self._lay_out()
        session.busy_changed.connect(self.show_state)
        session.image_changed.connect(self.show_state)
        session.model_changed.connect(self.show_state)
        session.progressed.connect(self._on_progress)
        self.images.activated.connect(self._on_images)
        self.results.activated.connect(self._on_results)
        self._show_choices()
        self.show_state()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(5)
        form.addRow("Images", self.images)
        form.addRow("Results", self.results)
        self.running = QWidget()
        self.running.setLayout(row(self.bar, self.stop, stretch=0))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addLayout(form)
        for widget in (self.overwrite, self.start, self.running, self.note, self.lines):
            column.addWidget(widget)

    # ---- shows

    def _show_choices(self) -> None:
        """List where images come from and where results go to; a chosen folder has its name there."""
        source, target = self.images.currentData() or "open", self.results.currentData()
        self.images.clear()
        self.images.addItem("all that are open", "open")
        self.images.addItem(f"in “{self._folder.name}”" if self._folder else "in a folder…", "folder")
        self.images.setCurrentIndex(self.images.findData(source))
        self.results.clear()
        if source == "open":
            self.results.addItem("as layers", "layers")
        self.results.addItem("next to the images", "beside")
        self.results.addItem(f"in “{self._output.name}”" if self._output else "in a folder…", "folder")
        self.results.setCurrentIndex(max(0, self.results.findData(target)))
        for box, folder in ((self.images, self._folder), (self.results, self._output)):
            box.setItemData(box.findData("folder"), str(folder or ""), Qt.ItemDataRole.ToolTipRole)
        self.overwrite.setVisible(self.results.currentData() != "layers")

    def show_state(self) -> None:
        """Show what can be done now, or how it ended."""
        session = self.session
        running, free = session.busy == "batch", not session.busy and self._offer is None
        there = session.image is not None or self.images.currentData() == "folder"
        self.start.setEnabled(session.model is not None and there and free)
        for widget in (self.images, self.results, self.overwrite):
            widget.setEnabled(free)
        self.running.setVisible(running)
        self.stop.setEnabled(not self._stopped)
        if self._running and not session.busy:
            self._running = False
            self._sum_up()

    def _sum_up(self) -> None:
        outcomes = [each.outcome for each in self.lines.rows]
        nothing = "Stopped; nothing was done." if self._stopped else ""
        say(self.note, summary(outcomes, self._total, stopped=self._stopped) if self._total else nothing)

    def _on_progress(self, progress: Progress) -> None:
        if self.session.busy != "batch":
            return
        self._total += int(progress.values.get("images", 0))
        if isinstance(progress.payload, batch.Offer):
            self._take(progress.payload)
        elif isinstance(progress.payload, batch.Outcome):
            self.lines.add(progress.payload)
        images = progress.total // batch.PARTS
        self.bar.setRange(0, progress.total if images else 0)
        self.bar.setValue(progress.done)
        if images:
            self._pace.step(progress.done, time.monotonic())
            left = in_words(self._pace.left(progress.total - progress.done))
            number = min(progress.done // batch.PARTS + 1, images)
            self.bar.setFormat(f"image {number} of {images}{' · ' * bool(left)}{left}")
        if progress.message and not self._stopped:
            say(self.note, f"{progress.message} …")

    # ---- choices

    def _on_images(self, index: int) -> None:
        if self.images.itemData(index) == "folder":
            chosen = QFileDialog.getExistingDirectory(self, "The folder of images", str(self._folder or ""))
            self.choose_images(chosen or None)
        else:
            self._show_choices()
            self.show_state()

    def choose_images(self, folder: str | Path | None) -> None:
        """Take the images of a folder; None: of the one that was chosen before, if there is one."""
        self._folder = Path(folder) if folder else self._folder
        self.images.setCurrentIndex(self.images.findData("folder" if self._folder else "open"))
        self._show_choices()
        self.show_state()

    def _on_results(self, index: int) -> None:
        if self.results.itemData(index) == "folder":
            chosen = QFileDialog.getExistingDirectory(self, "The folder for results", str(self._output or ""))
            self.choose_results(chosen or None)
        else:
            self._show_choices()

    def choose_results(self, folder: str | Path | None) -> None:
        """Put the results into a folder; None: into the one that was chosen before, if there is one."""
        self._output = Path(folder) if folder else self._output
        self.results.setCurrentIndex(self.results.findData("folder") if self._output else 0)
        self._show_choices()

    # ---- does

    def segment(self) -> None:
        """Start."""
        session, entry, folder = self.session, self.session.model, self._folder
        if entry is None or session.busy or self._offer is not None:
            return
        overwrite, values = self.overwrite.isChecked(), self.settings.values()
        target, output = self.results.currentData(), self._output
        self._total, self._stopped, self._pace = 0, False, Pace()
        self.lines.start(entry)
        self.bar.reset()
        if self.images.currentData() == "folder" and folder is not None:
            settings = SegmentSettings(channel=session.channel, diameter=session.diameter, **values)
            where = output if target == "folder" and output is not None else folder
            session.run("batch", lambda: batch.segment_folder(entry, folder, where, settings, overwrite), _nothing)
        else:
            items = self._items(values)
            to = output if target == "folder" and output is not None else target
            session.run("batch", lambda: batch.segment_open(entry, items, to, overwrite), _nothing)
        self._running = True
        say(self.note, "Getting ready …")

    def _items(self, values: dict[str, Any]) -> list[batch.Item]:
        """Return the open images; what is none to a model gets its line at once."""
        session, items = self.session, []
        for layer in [each for each in session.viewer.layers if is_image(each)]:
            try:
                source = look_at(layer, session.axes_of(layer))
                if source.large:
                    raise ImageError(f"{layer.name!r} is too large for this list: segment it by itself, to the disk.")
            except UnetError as error:
                self._total += 1
                self.lines.add(batch.Outcome(layer.name, "failed", str(error), layer=layer))
                continue
            channel, diameter = session.how(layer, (session.channel, session.diameter))
            settings = SegmentSettings(channel=channel if source.channels > 1 else None, diameter=diameter, **values)
            path = Path(layer.source.path) if layer.source.path else None
            file = path if path is not None and path.exists() else None
            items.append(batch.Item(layer, layer.name, source, settings, file, scale_of(source)))
        return items

    def _end(self) -> None:
        self._stopped = True
        if self._written is None:  # else when it has written
            self.session.cancel()
        say(self.note, "Stopping …")
        self.show_state()

    def _take(self, offer: batch.Offer) -> None:
        """Write a result into its layer, or ask for it to be joined anew with what is there now."""
        session, found = self.session, offer.found
        if self._stopped:
            return  # nothing waits for an answer
        if lost := dropped(session, found):
            self._finish(offer, lost)
            return
        annotation = session.annotation_of(found.source)
        if is_down(session, annotation) or (annotation is not None and annotation.writer is not None):
            self._offer = offer  # until the hand is lifted, and what is undone is written
            self._later.start(WAIT)
            return
        if not found.fits(annotation):
            offer.answers.put(batch.Join(annotation))
        elif annotation is None:
            self._add_layer(found)
            self._finish(offer)
        else:
            write_result(annotation, found)
            if annotation.writer is None:
                self._finish(offer)
            else:
                self._offer, self._written = offer, annotation
                annotation.writer.finished.connect(self._on_written)

    def _take_again(self) -> None:
        offer, self._offer = self._offer, None
        if offer is not None:
            self._take(offer)
            self.show_state()

    def _add_layer(self, found: Any) -> None:
        """Add a labels layer; what the user had chosen stays chosen, so that a tool goes on working."""
        with keep_active(self.session.viewer):
            labels = add_result(self.session, found)
            labels.visible = found.source.layer.visible

    def _on_written(self) -> None:
        writer = self.sender()
        self._end_writing(CUT if isinstance(writer, TileWriter) and writer.cut else "")

    def _end_writing(self, lost: str) -> None:
        offer, self._written, self._offer = self._offer, None, None
        if offer is not None and not self.session.closed:  # else the widgets may be gone
            self._finish(offer, lost)
            if self._stopped:
                self.session.cancel()
            self.show_state()

    def _finish(self, offer: batch.Offer, lost: str = "") -> None:
        """Say what came of it, and let the job go on."""
        outcome = offer.outcome
        self.lines.add(replace(outcome, state="failed", words=lost, objects=None, notes=()) if lost else outcome)
        if not lost and offer.found.source.layer is self.session.image:
            self.session.learned = False
        offer.answers.put(None)

    def let_go(self) -> None:
        """End what is being written into a layer that was removed, and hold none."""
        if self._written is not None and self._written.layer not in self.session.viewer.layers:
            self._end_writing(GONE)
        self.lines.let_go()

    def stop_writing(self) -> None:
        """Wait no longer for a result to be written; touches no widget."""
        self._written = self._offer = None


def summary(outcomes: Sequence[batch.Outcome], total: int, *, stopped: bool) -> str:
    """Return in one line what came of all images."""
    states = [each.state for each in outcomes]
    counts = [each.objects for each in outcomes if each.objects is not None]
    parts = [f"{states.count('done')} of {total} image{'s' * (total != 1)}"]
    if counts:
        parts.append(f"{sum(counts):,} object{'s' * (sum(counts) != 1)}")
    if "failed" in states:
        parts.append(f"{states.count('failed')} could not be segmented")
    if "kept" in states:
        parts.append(f"{states.count('kept')} left as {'it is' if states.count('kept') == 1 else 'they are'}")
    return ("Stopped: " if stopped else "") + ", ".join(parts) + "."


def _choice() -> QComboBox:
    made = QComboBox()
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return made


def _nothing(_: Any) -> None:
    """Take the result of a job that tells all of it on the way."""
