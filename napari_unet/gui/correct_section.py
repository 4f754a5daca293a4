"""Step 3 of the dock: the tools that correct labels, and the marks that say what is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QWidget

from napari_unet.errors import ImageError
from napari_unet.gui.layers import lay_over
from napari_unet.gui.look import Step, Theme, button, label, row, say, set_property
from napari_unet.gui.marks import BLOCK, DEEP, object_mark, tile_mark
from napari_unet.gui.next import Next
from napari_unet.gui.outlines import Legend, Outlines
from napari_unet.gui.regions import LONGEST, region_of
from napari_unet.gui.results import add_labels
from napari_unet.gui.toolbox import Toolbox
from napari_unet.gui.windows import WINDOW
from napari_unet.learn.corrections import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.marks import Mark
    from napari_unet.gui.regions import Part, Region
    from napari_unet.gui.segment_large import SegmentLarge
    from napari_unet.gui.session import Session

EMPTY = "Start with empty labels"


class CorrectSection(Step):
    """Chooses tools of the labels layer and remembers what was confirmed.

    Parameters
    ----------
    session : Session
        What the sections share.
    again : callable
        Segments what is in view, or what was drawn around.
    large : SegmentLarge
        Opens windows of large images.
    """

    def __init__(self, session: Session, again: Callable[..., bool], large: SegmentLarge) -> None:
        super().__init__(3, "Correct")
        self.session, self.large = session, large
        self.outlines = Outlines(session.viewer)
        self._sweep = QTimer(self)
        self._sweep.setSingleShot(True)
        self._sweep.timeout.connect(self.outlines.sweep)
        self.which = QComboBox()
        self.which.setToolTip("The labels that you correct and teach from.")
        self.which.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.which.activated.connect(lambda *_: self._choose())
        self.empty = button(EMPTY, "Draw all objects yourself, to teach from nothing.", self.start_empty)
        self.open = button(
            "Correct what is in view",
            "Open this part of the labels on the disk, so that you can paint.\n"
            f"At most {WINDOW} × {WINDOW} pixels, the middle of it. What you change goes to the disk at once.",
            large.correct_view,
        )
        self.tile = button("This tile is right", "", self.confirm_tile)
        self.accept = button("Object is right", "", self.accept_object)
        self.back = button("↶", "", self.undo)
        self.again = button("↷", "", self.redo)
        for each, what in ((self.back, "undo"), (self.again, "redo")):
            each.setFixedWidth(30)
            each.setToolTip(f"There is nothing to {what}.")
        self.count = label("", "quiet")
        self.legend = Legend()
        self.tools = Toolbox(session, self._on_said, again, self.accept)
        self.next = Next(session)
        self._lay_out()
        session.image_changed.connect(self.show_labels)
        session.model_changed.connect(self.show_depth)
        session.model_changed.connect(self.show_busy)
        session.labels_changed.connect(self.show_labels)
        session.corrections_changed.connect(self.show_count)
        session.busy_changed.connect(self.show_busy)
        for event in (session.viewer.layers.events.inserted, session.viewer.layers.events.removed):
            event.connect(self._on_layers)
        self.show_labels()
        self.show_busy()

    def _lay_out(self) -> None:
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.addRow("Labels", self.which)
        self.marks = QWidget()
        self.marks.setLayout(row(self.tile, self.next.button))
        self.tools.seldom.addWidget(self.next.overlay)
        self.column.addLayout(self.form)
        self.column.addWidget(self.tools)
        self.column.addWidget(self.marks)
        self.column.addWidget(self.next)
        self.column.addWidget(self.empty)
        self.column.addWidget(self.open)
        self.column.addLayout(row(self.count, self.back, self.again, stretch=0))
        self.column.addWidget(self.legend)

    def set_theme(self, theme: Theme) -> None:
        """Colour the icons."""
        self.tools.set_theme(theme)

    # ---- shows

    def show_labels(self) -> None:
        """Show the labels of the image and its tools."""
        session, labels = self.session, self.session.labels
        self.tools.watch(labels)
        choices = session.candidates()
        self.which.clear()
        for layer in choices:
            self.which.addItem(layer.name, layer)
        self.which.setCurrentIndex(choices.index(labels) if labels in choices else -1)
        self.which.setPlaceholderText("choose labels")
        self.form.setRowVisible(self.which, bool(choices) and choices != [labels])
        self.tools.setVisible(labels is not None)
        for each in (self.marks, self.back, self.again):
            each.setVisible(labels is not None)
        on_disk = self._on_disk()
        self.open.setVisible(on_disk)
        set_property(self.open, "primary", labels is None)
        self.empty.setVisible(labels is None and session.source is not None and not on_disk)
        self.show_depth()
        self.show_count()

    def _on_disk(self) -> bool:
        source = self.session.source
        return source is not None and (source.large or source.window is not None) and self.large.has_labels()

    def _on_said(self, text: str) -> None:
        if text:
            say(self.count, text)
        else:
            self.show_count()

    def show_depth(self) -> None:
        """Say what the marks take in: for a model of stacks neighbouring slices too."""
        deep = self._depth() is not None
        self.tile.setText("Block is right" if deep else "This tile is right")
        side = BLOCK if deep else LONGEST
        seen = f"what you see now, and {DEEP} slices above and below it: look at these too" if deep else "all you see"
        self.tile.setToolTip(
            f"All of this is right, objects and background (T): {seen}.\n"
            f"Counts as training data; at most {side} × {side} pixels, the middle of what is in view."
        )
        through = ", in all slices that it is in" if deep else ""
        self.accept.setToolTip(
            f"The selected object is right{through} (A: the one under the mouse).\n"
            "It counts, with a thin ring of background."
        )

    def show_count(self) -> None:
        """Say how much is known by hand."""
        annotation = self.session.annotation
        self.legend.show_known(annotation)
        if annotation is None:
            first = "" if self.session.source is None else "Segment first; then mend what is wrong."
            say(self.count, "Zoom to a part and open it, to mend what is wrong." if self._on_disk() else first)
            return
        self.outlines.show(annotation)
        parts = [
            _many(annotation.tiles, "tile") + " confirmed" if annotation.tiles else "",
            _many(annotation.objects, "object") + " accepted" if annotation.objects else "",
            _many(annotation.strokes, "stroke") if annotation.strokes else "",
        ]
        known = ", ".join(part for part in parts if part)
        known = known or "Mend what is wrong, zoom to a part, and say that it is right."
        depth = self._depth()
        if annotation.marks and depth is not None:
            known += f"\n{_slices(annotation.marks[-1], depth)}"
        say(self.count, known)
        for each, what, kind, keys in (
            (self.back, "undo", annotation.undoes, "Ctrl+Z"),
            (self.again, "redo", annotation.redoes, "Ctrl+Shift+Z"),
        ):
            each.setEnabled(bool(kind))
            each.setToolTip(f"{what.title()}: {kind} ({keys})" if kind else f"There is nothing to {what}.")
        set_property(self.tile, "primary", annotation.tiles == 0)

    def show_busy(self) -> None:
        """Lock what would change the labels that a run is to be written into."""
        for widget in (self.which, self.empty):
            widget.setEnabled(self.session.busy != "segment")
        self.open.setEnabled(not self.session.busy)
        self.tools.show_busy()

    def _on_layers(self, event: Any) -> None:
        if event.type == "removed":
            self.outlines.forget(event.value)
            self._sweep.start(0)
        self.show_labels()

    def close_section(self) -> None:
        """Let go of the viewer's layers."""
        events = self.session.viewer.layers.events
        events.inserted.disconnect(self._on_layers)
        events.removed.disconnect(self._on_layers)
        self.tools.close_tools()
        self.next.close_part()
        self.outlines.close()

    # ---- does

    def _choose(self) -> None:
        layer = self.which.currentData()
        if layer not in self.session.candidates():
            self.show_labels()  # it was listed before it got other data
            return
        if self.session.source is not None:
            lay_over(layer, self.session.source)
        self.session.set_labels(layer, foreign=True)  # or its annotation is there already
        self.session.viewer.layers.selection.active = layer

    def start_empty(self) -> None:
        """Add labels with nothing in them, and take the brush."""
        session, source = self.session, self.session.source
        if source is not None and session.labels is None:
            if source.large:
                self.large.correct_view()
                self.tools.take("paint")
                return
            session.set_labels(add_labels(session, source, np.zeros(source.shape, np.uint32)), source=source)
            self.tools.take("paint")

    def confirm_tile(self) -> None:
        """Mark what is in view as right."""
        session, annotation = self.session, self.session.annotation
        if session.source is None or annotation is None:
            return
        if session.viewer.dims.ndisplay != 2:
            say(self.count, "Switch to 2-D first, so that it is clear what is in view.")
            return
        view = self._in_view("view")
        if view is None:
            return
        mark = tile_mark(view, session.source.shape, self._depth())
        if (annotation.state(mark.region) >= State.CONFIRMED).all():
            say(self.count, "This tile is confirmed already.")
            return
        annotation.mark(mark)

    def accept_object(self, *, under_mouse: bool = False) -> None:
        """Mark one object as right: in the plane that is shown, or for a model of stacks in all its slices."""
        session, annotation = self.session, self.session.annotation
        if session.source is None or annotation is None or len(session.source.shape) < 2:
            return
        annotation.settle()
        layer = annotation.layer
        number: Any = layer.selected_label
        if under_mouse:
            number = layer.get_value(session.viewer.cursor.position, world=True)
        plane, seen = self._in_view("slice"), self._in_view("view")
        if plane is None or seen is None:
            return
        mark = object_mark(layer.data, plane, number, self._depth()) if number else None
        if mark is None:
            say(self.count, "There is no such object here: Pick one, or point at one and press A.")
            return
        if not under_mouse and not np.any(np.asarray(layer.data[seen]) == number):
            say(self.count, f"The selected object, {number}, is not in view: Pick one, or point at one and press A.")
            return
        annotation.mark(mark)

    def _in_view(self, part: Part) -> Region | None:
        """Return a part of the plane that is shown; if there is none, say why and return None."""
        source = self.session.source
        try:
            return region_of(self.session.viewer, source, part, self.session.labels) if source is not None else None
        except ImageError as error:
            say(self.count, str(error))
            return None

    def _depth(self) -> int | None:
        """Return the axis of the slices, if the model sees several at once."""
        source, model = self.session.source, self.session.model
        if source is None or model is None or model.ndim < 3 or "Z" not in source.letters:
            return None
        return source.letters.index("Z")

    def undo(self) -> None:
        """Take back what was done last: a stroke, a mark, a run."""
        if self.session.annotation is not None:
            self.session.annotation.undo()

    def redo(self) -> None:
        """Do again what was taken back last."""
        if self.session.annotation is not None:
            self.session.annotation.redo()


def _slices(mark: Mark, depth: int) -> str:
    """Say which slices a mark takes in, in the numbers of the viewer's slider."""
    r = mark.region[depth]
    return f"The last one: slices {r.start} to {r.stop - 1}."


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
