"""What to look at next: the camera goes from one doubtful object to the next, and says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from napari_unet.gui import runs
from napari_unet.gui.hand import is_down
from napari_unet.gui.layers import ONLY_SEEN, keep_active, placement
from napari_unet.gui.look import button, label, row, say
from napari_unet.gui.results import WAIT
from napari_unet.infer.segment import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image

    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Annotation
    from napari_unet.infer.doubt import Doubt, Doubts
    from napari_unet.jobs import Progress

SHARE = 0.2  # of the view that an object takes: its neighbours stay to be seen


class Next(QWidget):
    """Walks through the objects, the most doubtful first; the button and the box have their places elsewhere.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.found: Doubts | None = None
        self.passed = 0  # of the order: looked at, or corrected before it came to that
        self.layer: Image | None = None  # the picture of the doubt
        self._of: tuple[Annotation | None, Any] = (None, None)  # whose doubts, and with which data
        self._then: Callable[[], None] = self._step  # what the order was asked for
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._arrive)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._hide)
        self.button = button(
            "Next",
            "Go to the object that is most worth a look (N): the model doubts it, or saw something there "
            "and drew nothing.\nThe first time it looks at the image once more.",
            self.go,
        )
        self.overlay = QCheckBox("Show doubt")
        self.overlay.setToolTip("Lay over the image where the model is not sure: bright is as likely object as not.")
        self.overlay.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.overlay.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.overlay.clicked.connect(self.show_doubt)
        self.bar = QProgressBar()
        self.stop = button("Stop", "Look no further; nothing is changed.", session.cancel)
        self.running = QWidget()
        self.running.setLayout(row(self.bar, self.stop, stretch=0))
        self.running.setVisible(False)
        self.note = label("", "quiet")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.running)
        column.addWidget(self.note)
        session.model_changed.connect(self.forget)
        session.image_changed.connect(self._check)
        session.labels_changed.connect(self._check)
        session.corrections_changed.connect(self._check)
        session.busy_changed.connect(self.show_busy)
        session.progressed.connect(self._on_progress)
        session.viewer.layers.events.removed.connect(self._on_removed)

    # ---- shows

    def show_busy(self) -> None:
        """Show how far the look at the image is."""
        running = self.session.busy == "next"
        if running and self.running.isHidden():
            self.bar.setRange(0, 0)
            say(self.note, "Getting ready …")
        elif not running and self.note.text().endswith("…"):
            say(self.note, "Stopped; nothing was changed.")
        self.running.setVisible(running)
        awaited = running or self._soon.isActive()
        self.overlay.setChecked(self.layer is not None or (awaited and self.overlay.isChecked()))

    def _on_progress(self, progress: Progress) -> None:
        if self.session.busy == "next":
            self.bar.setRange(0, progress.total if progress.total > 1 else 0)
            self.bar.setValue(progress.done)
            self.bar.setFormat("")
            say(self.note, f"{progress.message[:1].upper()}{progress.message[1:]} …")

    def _check(self) -> None:
        """Forget the order if it is of other labels."""
        now = self.session.annotation
        if self.found is not None and (
            now is not self._of[0] or (now is not None and now.layer.data is not self._of[1])
        ):
            self.forget()

    def _on_changed(self, by_hand: bool) -> None:
        """Forget the order, or what will be found: a run, its undo or redo has replaced what it was of."""
        if not by_hand:
            self.forget()

    def forget(self) -> None:
        """Know no order; it is found again when somebody asks."""
        if self.session.busy != "next":
            say(self.note, "")
        self._follow(None, None)
        self.found, self.passed = None, 0
        self._later.start(0)  # not while napari changes its list of layers

    # ---- does

    def go(self) -> None:
        """Move to the next object, or first find out which that is; not under a hand that draws."""
        if is_down(self.session) or self._soon.isActive():
            return
        if self.session.busy == "next":
            self._then = self._step
        elif self.found is None:
            self._look(self._step)
        else:
            self._step()

    def _look(self, then: Callable[[], None]) -> None:
        """Find the doubts, and go on."""
        session = self.session
        source, entry, annotation = session.source, session.model, session.annotation
        if source is None or annotation is None:
            return
        if entry is None:
            say(self.note, "Choose a model in step 1: it says what is doubtful.")
            return
        if session.busy:
            say(self.note, "The image has to be looked at first: wait until the other work has ended.")
            return
        annotation.settle()
        settings = SegmentSettings(channel=session.channel, diameter=session.diameter, **session.thresholds())
        data = annotation.layer.data
        self._follow(annotation, data)
        self._then = then

        def done(found: Doubts) -> None:
            same = session.annotation is self._of[0] is annotation and annotation.layer.data is data
            if not same or session.model is not entry or not source.is_current():
                say(self.note, "The image, its labels or the model changed meanwhile: press Next again.")
                return
            self.found, self.passed = found, 0
            say(self.note, "")
            self._arrive()

        session.run("next", lambda: runs.find_doubts(entry, source, settings, data), done)

    def _follow(self, annotation: Annotation | None, data: Any) -> None:
        """Notice runs over labels whose doubts are looked for or known, and over no others."""
        if self._of[0] is not None:
            self._of[0].changed.disconnect(self._on_changed)
        self._of = annotation, data
        if annotation is not None:
            annotation.changed.connect(self._on_changed)

    def _arrive(self) -> None:
        """Show what was found, as soon as no hand draws: the view would move under it."""
        if self.found is None:
            return
        if is_down(self.session):
            self._soon.start(WAIT)
            return
        if self.overlay.isChecked():
            self._draw()
        self._then()

    def _step(self) -> None:
        """Move to the first object of the order that nobody has corrected or confirmed."""
        order = self.found.order if self.found is not None else []
        while self.passed < len(order):
            each = order[self.passed]
            self.passed += 1
            if self._is_open(each):
                self._move(each)
                say(self.note, f"{self.passed} of {len(order)} looked at: {each.why}.")
                return
        say(self.note, f"All {len(order)} were looked at." if order else "There is nothing to look at.")

    def _is_open(self, each: Doubt) -> bool:
        """Return whether an object is there and not known by hand, or a place still empty."""
        annotation = self.session.annotation
        if annotation is None:
            return False
        box = each.box if each.number else tuple(slice(at, at + 1) for at in each.point)
        there = np.asarray(annotation.layer.data[box]) == each.number
        return bool(there.any() and not annotation.protected(box)[there].any())

    def _move(self, each: Doubt) -> None:
        """Bring an object into the middle of the view, in its slice, and select its number."""
        annotation, source, viewer = self.session.annotation, self.session.source, self.session.viewer
        if annotation is None or source is None:
            return
        layer, dims = annotation.layer, viewer.dims
        slices = each.point[:-2]
        low = [*slices, *(r.start - 0.5 for r in each.box[len(slices) :])]
        high = [*slices, *(r.stop - 0.5 for r in each.box[len(slices) :])]
        ends = np.array([layer.data_to_world(low), layer.data_to_world(high)])
        before = dims.ndim - layer.ndim
        for axis in set(range(before, dims.ndim)) - set(dims.displayed):
            if source.letters[axis - before] == "C":
                continue  # the labels have one pixel there: which channel is seen is up to the user
            dims.set_point(axis, float(ends[:, axis - before].mean()))
        shown = [axis - before for axis in dims.displayed if axis >= before]
        size = np.abs(np.diff(ends, axis=0))[0, shown].max()
        middle = ends.mean(axis=0)[shown]
        viewer.scene.camera.center = (*[0.0] * (3 - len(middle)), *middle.tolist())
        viewer.scene.camera.zoom = SHARE * min(viewer.canvas.size) / max(float(size), 1e-9)
        viewer.layers.selection.active = layer
        number = each.number or annotation.largest() + 1  # what is drawn there becomes an object of its own
        layer.selected_label = min(number, np.iinfo(layer.data.dtype).max)

    def show_doubt(self) -> None:
        """Lay the doubt over the image, or take it away."""
        if not self.overlay.isChecked():
            self._hide()
        elif self.found is not None:
            self._draw()
        elif self.session.busy != "next":
            self._look(lambda: None)
            self.show_busy()

    def _draw(self) -> None:
        source, found, viewer = self.session.source, self.found, self.session.viewer
        if source is None or found is None:
            return
        with keep_active(viewer):
            self.layer = viewer.add_image(
                found.unsure,
                name=f"{source.layer.name}_doubt",
                colormap="magma",
                blending="additive",
                opacity=0.5,
                contrast_limits=(0, 255),
                metadata={ONLY_SEEN: True},
                **placement(source),
            )

    def _hide(self) -> None:
        layer, self.layer = self.layer, None
        if layer is not None and layer in self.session.viewer.layers:
            self.session.viewer.layers.remove(layer)
        if not self.session.closed:  # else the widgets may be gone
            self.show_busy()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self._later.start(0)

    def close_part(self) -> None:
        """Let go of the viewer, and remove the picture."""
        self.session.viewer.layers.events.removed.disconnect(self._on_removed)
        self.found = None
        self._hide()
