"""Step 2 of the dock: segment all of the image, the slice that is shown, or what is in view."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from napari_unet.errors import ImageError
from napari_unet.gui import runs
from napari_unet.gui.batch_section import BatchSection
from napari_unet.gui.forms import Form
from napari_unet.gui.growing import FIRST, Growing, in_memory
from napari_unet.gui.hand import is_down
from napari_unet.gui.look import Fold, Step, Theme, button, label, row, say, set_property
from napari_unet.gui.pace import Pace, in_words
from napari_unet.gui.regions import Part, clamp, region_of
from napari_unet.gui.results import CUT, WAIT, add_result, dropped, write_result
from napari_unet.gui.segment_large import SegmentLarge
from napari_unet.gui.writing import MOST, TileWriter
from napari_unet.infer.segment import SegmentSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.gui.layers import Source
    from napari_unet.gui.regions import Region
    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Annotation
    from napari_unet.jobs import Job, Progress

HAND = "The result waits until the stroke has ended: close the line around the object, or press Esc."
THRESHOLDS = ("foreground", "seed", "boundary", "min_size", "flips", "device")


class SegmentSection(Step):
    """Runs the model over the image and writes what it finds into a labels layer.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(2, "Segment")
        self.session = session
        self.growing = Growing(session.viewer)
        self._running: Source | None = None  # what the run is over
        self._pace = Pace()
        self._offered_large = False
        self.part = QComboBox()
        self.part.setToolTip("How much to segment. A region replaces only what lies in it.")
        self.part.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.part.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.start = button(
            "Segment",
            "Find the objects (S). What you painted or confirmed is never overwritten.\nCtrl+Z takes a run back.",
            self.segment,
            primary=True,
        )
        self.start.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.cancel = button("Cancel", "Stop; the labels stay as they are.", session.cancel)
        self.cancel.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.bar = QProgressBar()
        self.note = label("", "quiet")
        self.settings = Form(SegmentSettings, THRESHOLDS)
        session.thresholds = self.settings.values
        self.fold = Fold("More", self._more())
        self.large = SegmentLarge(session, self.settings, self.growing, self._tell, self._on_found)
        self.many = BatchSection(session, self.settings)
        self.running = QWidget()
        self.running.setLayout(row(self.bar, self.cancel, stretch=0))
        self.running.setVisible(False)
        self.column.addLayout(row(self.part, self.start, stretch=0))
        self.column.addWidget(self.running)
        self.column.addWidget(self.note)
        self.column.addWidget(self.fold)
        self.column.addWidget(Fold("Many images", self.many))
        self._written: Annotation | None = None  # while a result is written into its layer
        self._said = ""  # what to say when it is done
        self._waiting: runs.Found | None = None
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._go_on)
        session.image_changed.connect(self.show_image)
        session.model_changed.connect(self.show_busy)
        session.busy_changed.connect(self.show_busy)
        session.corrections_changed.connect(self.show_busy)
        session.progressed.connect(self._on_progress)
        self.show_image()

    def _more(self) -> QWidget:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.settings.native)
        column.addWidget(
            button("As the model says", "Take the thresholds that the model was tuned to.", self.settings.reset)
        )
        return content

    def set_theme(self, theme: Theme) -> None:
        """Colour the lines about many images."""
        self.many.lines.set_theme(theme)

    # ---- shows

    def show_image(self) -> None:
        """Offer the parts that this image has."""
        source = self.session.source
        chosen, kind = self.part.currentData(), self._is_large()
        if kind is not self._offered_large:  # of a small image all, of a large one what is in view
            chosen = None
        self._offered_large = kind
        self.part.clear()
        stack = source is not None and len(source.shape) > 2
        if self._is_large():
            self.part.addItem("what is in view", "view")
            self.part.addItem("whole stack, to disk" if stack else "whole image, to disk", "whole")
        else:
            self.part.addItem("whole stack" if stack else "whole image", "whole")
            if stack:
                self.part.addItem("this slice", "slice")
            self.part.addItem("what is in view", "view")
        self.part.setCurrentIndex(max(0, self.part.findData(chosen)))
        if self.session.labels is None:
            say(self.note, "")
        self.show_busy()

    def show_busy(self) -> None:
        """Show whether a run is possible, or under way."""
        session = self.session
        running = session.busy in ("segment", "window")
        free = not session.busy and self._waiting is None and self._written is None
        self.start.setEnabled(session.source is not None and session.model is not None and free)
        self.part.setEnabled(free)
        if running and self.running.isHidden():
            self.bar.setRange(0, 0)
            say(self.note, "Getting ready …")
        if free and not self.running.isHidden():
            if self.large.stopped:
                self.growing.rest()
            else:
                self.growing.close()
            if self.note.text().endswith("…"):
                say(self.note, self.large.stopped or "Cancelled; nothing was changed.")
        self.running.setVisible(running)
        self.large.go_on(lambda: self.segment("view"))
        set_property(self.start, "primary", session.learned or session.labels is None)

    def _on_progress(self, progress: Progress) -> None:
        if self.session.busy not in ("segment", "window"):
            return
        if progress.payload is not None and self._running is not None:
            self.growing.take(self._running, progress.payload)
        counted = progress.message == "blocks"
        self.bar.setRange(0, progress.total if counted else 0)
        self.bar.setValue(progress.done)
        left = ""
        if counted:
            self._pace.step(progress.done, time.monotonic())
            left = in_words(self._pace.left(progress.total - progress.done))
        self.bar.setFormat(f"%p %{' · ' * bool(left)}{left}" if counted else "")
        said = progress.message
        say(self.note, "Finding objects …" if counted else f"{said[:1].upper()}{said[1:]} …")

    def _tell(self, text: str) -> None:
        say(self.note, text)

    # ---- does

    def segment(self, part: Part | None = None, outline: NDArray[np.float64] | None = None) -> bool:
        """Start a run, over the chosen part if none is named, or over what was drawn around in it.

        Parameters
        ----------
        part : {"whole", "slice", "view"}, optional
            Of the image.
        outline : float array, ``(n, (y, x))``, optional
            Corners in pixels of the labels, in the slice that is shown.

        Returns
        -------
        bool
            Whether it started.
        """
        session, source, entry = self.session, self.session.source, self.session.model
        if source is None or entry is None or session.busy or self._written or self._waiting:
            return False
        self._pace, self._running = Pace(), source
        self.large.stopped = ""
        if self._is_large():
            if (part or self.part.currentData()) == "whole":
                self._running = session.whole_of(source.layer)
            started: bool | None = False
            with session.told():
                started = self.large.segment(entry, part or self.part.currentData(), outline)
            if started is not None:
                return started
        try:
            region = region_of(session.viewer, source, part or self.part.currentData(), session.labels)
        except ImageError as error:
            say(self.note, str(error))
            return False
        settings = SegmentSettings(channel=session.channel, diameter=session.diameter, **self.settings.values())
        first = self._first(source, region) if outline is None else None
        there = session.annotation
        if there is not None:
            there.settle()  # an undo may still be written

        def job() -> Job[runs.Found]:
            if first is None:
                return runs.segment_part(entry, source, settings, region, there, outline)
            return in_memory(runs.segment_part(entry, source, settings, region, there, None, first), source)

        session.run("segment", job, self._on_found)
        return True

    def _first(self, source: Source, region: Region) -> Region | None:
        """Return what to look at first, if it takes long and nothing is to be seen yet."""
        plane = math.prod(r.stop - r.start for r in region[-2:])
        if self.session.labels is not None or plane <= MOST or "C" in source.letters:
            return None
        try:
            return clamp(region_of(self.session.viewer, source, "view"), FIRST)
        except ImageError:
            return None

    def _is_large(self) -> bool:
        """Return whether only a window of the image is worked on."""
        source = self.session.source
        return source is not None and (source.large or source.window is not None)

    def _on_found(self, found: runs.Found) -> None:
        """Write a result, if what it was found for is still there."""
        session, source = self.session, found.source
        self.growing.close()
        if lost := dropped(session, found):
            say(self.note, lost)
            return
        annotation = session.annotation_of(source)
        if not found.fits(annotation) or is_down(session, annotation):
            self._waiting = found  # until the hand is lifted and this job has ended
            self._later.start(WAIT)
            if annotation is not None and annotation.layer._block_history:
                say(self.note, HAND)
            return
        if session.source is None or session.source.layer is not source.layer:
            session.set_image(source.layer)
        self._said = " ".join([_count(found), *(runs.sentence(note) for note in found.notes)])
        if annotation is None:
            add_result(session, found)
        else:
            self._write(found, annotation)
        session.learned = False
        say(self.note, self._said if self._written is None else "Writing …")

    def _go_on(self) -> None:
        """Join a result with labels that have changed since it was joined with them, in a worker."""
        session, found = self.session, self._waiting
        if found is None:
            return
        annotation = session.annotation_of(found.source)
        if session.busy or is_down(session, annotation):
            self._later.start(WAIT)
            return
        self._waiting = None
        if annotation is not None:
            annotation.settle()
        session.run("segment", lambda: runs.join(found, annotation), self._on_found)

    def _write(self, found: runs.Found, annotation: Annotation) -> None:
        write_result(annotation, found)
        if annotation.writer is not None:
            self._written = annotation
            annotation.writer.finished.connect(self._on_written)

    def _on_written(self) -> None:
        writer = self.sender()
        self._written = None
        if not self.session.closed:  # else the widgets may be gone
            say(self.note, CUT if isinstance(writer, TileWriter) and writer.cut else self._said)
            self.show_busy()

    def stop_writing_if_gone(self) -> None:
        """Wait no longer for a result to be written into a layer that was removed."""
        if self._written is not None and self._written.layer not in self.session.viewer.layers:
            self.stop_writing()

    def stop_writing(self) -> None:
        """Wait no longer for a result to be written."""
        self._waiting, self._said = None, ""
        if self._written is not None:
            self._on_written()


def _count(found: runs.Found) -> str:
    """Return in a sentence what was found."""
    if found.entry.get().task == "classes":
        return f"Done in {found.seconds:.1f} s."
    if not found.objects:
        return "No objects found: try Estimate above, another channel or another model."
    return f"{found.objects} object{'s' * (found.objects != 1)} in {found.seconds:.1f} s."
