"""Step 3 of the dock: the tools that correct labels, and the marks that say what is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from napari_unet.errors import ImageError
from napari_unet.gui.layers import LONGEST, region_of
from napari_unet.gui.look import Step, Theme, button, icon, label, row, say, set_property
from napari_unet.gui.marks import BLOCK, DEEP, object_mark, tile_mark
from napari_unet.gui.outlines import Outlines
from napari_unet.gui.writing import add_labels
from napari_unet.learn.corrections import State

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.gui.layers import Part, Region
    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Mark

TOOLS = {  # mode of the layer: icon, text, tip with napari's own shortcut
    "paint": ("paint", "Brush", "Paint the object whose number is selected (2 or P). Right button: draw around it."),
    "erase": ("erase", "Erase", "Rub out what is no object, or cut two that grew together (1 or E)."),
    "fill": ("fill", "Fill", "Give one whole object the selected number; 0 removes it (4 or F)."),
    "pick": ("picker", "Pick", "Click an object to go on painting it (5 or L)."),
}


class CorrectSection(Step):
    """Chooses tools of the labels layer and remembers what was confirmed.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(3, "Correct")
        self.session = session
        self.outlines = Outlines(session.viewer)
        self._sweep = QTimer(self)
        self._sweep.setSingleShot(True)
        self._sweep.timeout.connect(self.outlines.sweep)
        self._watched: Labels | None = None
        self.which = QComboBox()
        self.which.setToolTip("The labels that you correct and teach from.")
        self.which.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.which.activated.connect(lambda *_: self._choose())
        self.empty = button(
            "Start with empty labels", "Draw all objects yourself, to teach from nothing.", self.start_empty
        )
        self.tools = {mode: self._tool(mode, *text[1:]) for mode, text in TOOLS.items()}
        self.new = self._tool(
            "new", "New", "Start an object with a number that is not used yet, and take the brush (M)."
        )
        self.tile = button("This tile is right", "", self.confirm_tile)
        self.accept = button("Object is right", "", self.accept_object)
        self.back = button("↶", "Take the last mark back (Shift+T). Ctrl+Z takes a stroke back.", self.take_back)
        self.back.setFixedWidth(30)
        self.count = label("", "quiet")
        self._lay_out()
        session.image_changed.connect(self.show_labels)
        session.model_changed.connect(self.show_depth)
        session.labels_changed.connect(self.show_labels)
        session.corrections_changed.connect(self.show_count)
        session.busy_changed.connect(self.show_busy)
        for event in (session.viewer.layers.events.inserted, session.viewer.layers.events.removed):
            event.connect(self._on_layers)
        self.show_labels()

    def _lay_out(self) -> None:
        self.bench = QWidget()
        tools = QHBoxLayout(self.bench)
        tools.setContentsMargins(0, 0, 0, 0)
        tools.setSpacing(3)
        for tool in (*self.tools.values(), self.new):
            tools.addWidget(tool, 1)
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.addRow("Labels", self.which)
        self.marks = QWidget()
        self.marks.setLayout(row(self.tile, self.accept, self.back))
        self.column.addLayout(self.form)
        self.column.addWidget(self.bench)
        self.column.addWidget(self.marks)
        self.column.addWidget(self.empty)
        self.column.addWidget(self.count)

    def _tool(self, mode: str, text: str, tip: str) -> QToolButton:
        made = QToolButton()
        made.setText(text)
        made.setToolTip(tip)
        made.setIconSize(QSize(20, 20))
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        made.setCheckable(mode in TOOLS)
        made.clicked.connect(lambda *_: self.new_object() if mode == "new" else self.take(mode))
        return made

    def set_theme(self, theme: Theme) -> None:
        """Colour the icons."""
        for mode, tool in self.tools.items():
            tool.setIcon(icon(TOOLS[mode][0], theme.icon))
        self.new.setIcon(icon("plus", theme.icon))

    # ---- shows

    def show_labels(self) -> None:
        """Show the labels of the image and its tools."""
        session, labels = self.session, self.session.labels
        if labels is not self._watched:
            self._unwatch()
            self._watched = labels
            if labels is not None:
                labels.events.mode.connect(self._on_mode)
        choices = session.candidates()
        self.which.clear()
        for layer in choices:
            self.which.addItem(layer.name, layer)
        self.which.setCurrentIndex(choices.index(labels) if labels in choices else -1)
        self.which.setPlaceholderText("choose labels")
        self.form.setRowVisible(self.which, bool(choices) and choices != [labels])
        self.bench.setVisible(labels is not None)
        self.marks.setVisible(labels is not None)
        self.empty.setVisible(labels is None and session.source is not None)
        self._on_mode()
        self.show_depth()
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
        if annotation is None:
            say(self.count, "" if self.session.source is None else "Segment first; then mend what is wrong.")
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
        lost = f"\n{_many(annotation.lost, 'mark')} let go: the labels there changed." if annotation.lost else ""
        say(self.count, known + lost)
        self.back.setEnabled(bool(annotation.marks))
        set_property(self.tile, "primary", annotation.tiles == 0)

    def show_busy(self) -> None:
        """Lock what would change the labels that a run is to be written into."""
        for widget in (self.which, self.empty):
            widget.setEnabled(self.session.busy != "segment")

    def _on_layers(self, event: Any) -> None:
        if event.type == "removed" and self._watched is event.value:
            self._unwatch()
        if event.type == "removed":
            self.outlines.forget(event.value)
            self._sweep.start(0)
        self.show_labels()

    def _on_mode(self, event: Any = None) -> None:
        del event
        mode = str(self._watched.mode) if self._watched is not None else ""
        for name, tool in self.tools.items():
            tool.setChecked(name == mode)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.events.mode.disconnect(self._on_mode)
            self._watched = None

    def close_section(self) -> None:
        """Let go of the viewer's layers."""
        events = self.session.viewer.layers.events
        events.inserted.disconnect(self._on_layers)
        events.removed.disconnect(self._on_layers)
        self._unwatch()
        self.outlines.close()

    # ---- does

    def _choose(self) -> None:
        layer = self.which.currentData()
        if layer not in self.session.candidates():
            self.show_labels()  # it was listed before it got other data
            return
        self.session.set_labels(layer, foreign=True)  # or its annotation is there already
        self.session.viewer.layers.selection.active = layer

    def start_empty(self) -> None:
        """Add labels with nothing in them, and take the brush."""
        session = self.session
        if session.source is not None and session.labels is None:
            session.set_labels(add_labels(session, session.source, None))
            self.take("paint")

    def take(self, mode: str) -> None:
        """Take a tool, or put it away if it is in hand."""
        labels = self.session.labels
        if labels is None:
            return
        self.session.viewer.layers.selection.active = labels
        if not labels.visible:  # to set it puts the tool away
            labels.visible = True
        labels.mode = "pan_zoom" if str(labels.mode) == mode else mode
        self._on_mode()

    def new_object(self) -> None:
        """Select a number that is not used yet, nor about to be written, and take the brush."""
        labels = self.session.labels
        if labels is None:
            return
        number = max(int(np.max(labels.data)), self.session.pending) + 1
        most = np.iinfo(labels.data.dtype).max
        if number > most:
            say(
                self.count,
                f"The labels layer holds numbers up to {most} ({labels.data.dtype}), but {number} are needed: "
                "convert it to uint32 (right click > Convert data type).",
            )
            return
        labels.selected_label = number
        if str(labels.mode) != "paint":
            self.take("paint")

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
        layer = annotation.layer
        number: Any = layer.selected_label
        if under_mouse:
            number = layer.get_value(session.viewer.cursor.position, world=True)
        plane = self._in_view("slice")
        if plane is None:
            return
        mark = object_mark(layer.data, plane, number, self._depth()) if number else None
        if mark is None:
            say(self.count, "There is no such object here: pick one, or point at one and press A.")
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

    def take_back(self) -> None:
        """Take the last mark back."""
        if self.session.annotation is not None:
            self.session.annotation.take_back()


def _slices(mark: Mark, depth: int) -> str:
    """Say which slices a mark takes in, in the numbers of the viewer's slider."""
    r = mark.region[depth]
    return f"The last one: slices {r.start} to {r.stop - 1}."


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
