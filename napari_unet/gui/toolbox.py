"""The tools of step 3: napari's own and ours, which of them is in hand, and where their buttons are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QPushButton, QVBoxLayout, QWidget

from napari_unet.gui.click_tool import ClickTool
from napari_unet.gui.hand import Hand
from napari_unet.gui.look import Fold, Theme, button, icon, row, tool_button
from napari_unet.gui.notices import binding
from napari_unet.gui.object_tools import ObjectTools
from napari_unet.gui.region_tool import RegionTool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Labels

    from napari_unet.gui.session import Session

TOOLS = {  # mode of the layer: icon, text, tip with napari's own shortcut
    "paint": ("paint", "Brush", "Paint the object whose number is selected (2 or P). Right button: draw around it."),
    "erase": ("erase", "Erase", "Rub out what is no object, or cut two that grew together (1 or E)."),
    "pick": ("picker", "Pick", "Click an object to go on painting it (5 or L)."),
    "fill": ("fill", "Fill", "Give one whole object the selected number; 0 removes it (4 or F)."),
}
IN_HAND = {  # tool of ours: icon, text, tip with its shortcut
    "click": ("select", "Click", "Click a cell to outline it (C): Enter keeps it, Esc drops it."),
    "merge": ("merge", "Merge", "Drag from one object across others: all that you touch become one (J)."),
    "split": ("split", "Split", "Draw a line across an object to cut it, or click once in each half of it (K)."),
    "delete": ("delete", "Delete", "Click objects that should not be there (Delete: the one under the mouse)."),
    "region": (
        "polygon_lasso",
        "Region",
        "Draw around cells to find them once more (O). Cells on the line are kept or replaced as a whole;\n"
        "what you corrected stays as it is.",
    ),
}
AT_ONCE = {  # what the buttons do to the selected object: text, tip, key
    "fill holes": ("Fill holes", "Fill the holes in the selected object", "H"),
    "smooth": ("Smooth", "Even out the outline of the selected object", "U"),
    "reject": ("Reject", "The selected object is none: it goes, and what was under it counts as background", "D"),
    "grow": ("Grow", "Make the selected object wider by one pixel, where there is background", "G"),
    "shrink": ("Shrink", "Make the selected object narrower by one pixel", "Shift+G"),
}


class Toolbox(QWidget):
    """Six tools at sight, the others under More.

    Parameters
    ----------
    session : Session
        What the sections share.
    tell : callable
        Shows a line to the user; "" shows what is known again.
    again : callable
        Segments what is in view, or what was drawn around.
    accept : QPushButton
        Calls an object right; it has its place among the tools for objects.
    """

    def __init__(
        self, session: Session, tell: Callable[[str], None], again: Callable[..., bool], accept: QPushButton
    ) -> None:
        super().__init__()
        self.session = session
        self._tell = tell
        self.hand = Hand(session)
        self.objects = ObjectTools(session, self.hand, tell)
        self.clicks = ClickTool(session, self.hand)
        self.region = RegionTool(session, self.hand, tell, partial(again, "slice"))
        self.clicks.said.connect(tell)
        self.clicks.changed.connect(self.show_clicks)
        self.hand.changed.connect(self.show_mode)
        session.corrections_changed.connect(self.show_clicks)
        self._watched: Labels | None = None
        self._escapes = False  # whether Escape puts one of napari's tools away
        self.napari = {mode: tool_button(*said[1:], partial(self.take, mode)) for mode, said in TOOLS.items()}
        self.ours = {tool: tool_button(*said[1:], partial(self.take_ours, tool)) for tool, said in IN_HAND.items()}
        self.new = tool_button(
            "New",
            "Start an object with a number that is not used yet, and take the brush (M).",
            self.new_object,
            checkable=False,
        )
        act = self.objects.act
        self.at_once = {
            kind: button(said, f"{tip} ({key}: the one under the mouse).", partial(act, kind, under_mouse=False))
            for kind, (said, tip, key) in AT_ONCE.items()
        }
        self.view_again = button(
            "Segment the view again",
            "Find the objects in what is in view once more (R). What you corrected stays as it is.",
            partial(again, "view"),
        )
        self.through = button(
            "Through the slices", "Outline the same object in the slices above and below too.", self.clicks.through
        )
        self._lay_out(accept)

    def _lay_out(self, accept: QPushButton) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        under_more, region = [self.napari["pick"], self.napari["fill"], self.ours["delete"]], self.ours["region"]
        for tool in (*under_more, region):
            tool.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        more = QWidget()
        self.seldom = seldom = QVBoxLayout(more)
        seldom.setContentsMargins(0, 0, 0, 4)
        seldom.setSpacing(3)
        seldom.addLayout(_grid([*under_more, *self.at_once.values(), accept], 3))
        seldom.addLayout(row(self.view_again, region, stretch=0))
        self.fold = Fold("More", more)
        at_sight = [self.ours["click"], self.napari["paint"], self.napari["erase"], self.new]
        at_sight += [self.ours["merge"], self.ours["split"]]
        column.addLayout(_grid(at_sight, 6))
        column.addWidget(self.fold)
        column.addWidget(self.through)

    def set_theme(self, theme: Theme) -> None:
        """Colour the icons."""
        for name, tool in (self.napari | self.ours).items():
            tool.setIcon(icon((TOOLS | IN_HAND)[name][0], theme.icon))
        self.new.setIcon(icon("plus", theme.icon))

    # ---- shows

    def watch(self, labels: Labels | None) -> None:
        """Show the tool that is taken for these labels."""
        if labels is not self._watched:
            self._unwatch()
            self._watched = labels
            if labels is not None:
                labels.events.mode.connect(self.show_mode)
        self.show_mode()
        self.show_clicks()

    def show_mode(self, event: Any = None) -> None:
        """Show which tool is in hand."""
        del event
        mode = str(self._watched.mode) if self._watched is not None else ""
        if self._watched is not None and mode in self.napari:
            self._watched.bind_key("Escape", binding(self.put_away), overwrite=True)
            self._escapes = True
        elif self._watched is not None and self._escapes and not self.hand.tool:
            self._watched.bind_key("Escape", None)
            self._escapes = False
        for name, tool in self.napari.items():
            tool.setChecked(name == mode)
        for name, tool in self.ours.items():
            tool.setChecked(name == self.hand.tool)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.events.mode.disconnect(self.show_mode)
            if self._escapes:
                self._watched.bind_key("Escape", None)
                self._escapes = False
            self._watched = None

    def show_clicks(self) -> None:
        """Show whether there is something to follow through the slices."""
        self.through.setVisible(self.clicks.followable)

    def show_busy(self) -> None:
        """Lock what cannot be done while something runs."""
        self.view_again.setEnabled(not self.session.busy and self.session.model is not None)

    def close_tools(self) -> None:
        """Let go of the viewer's layers."""
        self._unwatch()
        self.hand.close()
        self.objects.close()
        self.clicks.close()
        self.region.close()

    # ---- does

    def take(self, mode: str) -> None:
        """Take a tool, or put it away if it is in hand."""
        labels = self.session.labels
        if labels is None:
            return
        self.session.viewer.layers.selection.active = labels
        if not labels.visible:  # to set it puts the tool away
            labels.visible = True
        labels.mode = "pan_zoom" if str(labels.mode) == mode else mode
        self.show_mode()
        paints = f"Paints object {labels.selected_label}. New starts another, Pick goes on with one that is there."
        self._tell(paints if str(labels.mode) == "paint" else "")

    def put_away(self) -> None:
        """Put away whichever of napari's tools is in hand."""
        if self._watched is not None:
            self._watched.mode = "pan_zoom"
            self._tell("")

    def take_ours(self, tool: str) -> None:
        """Take one of our own tools, or put it away if it is in hand."""
        if tool == "click":
            self.clicks.take()
        elif tool == "region":
            self.region.take()
        else:
            self.objects.take(tool)

    def new_object(self) -> None:
        """Select a number that is not used yet, nor about to be written, and take the brush."""
        annotation = self.session.annotation
        if annotation is None:
            return
        labels, number = annotation.layer, annotation.largest() + 1
        most = np.iinfo(labels.data.dtype).max
        if number > most:
            self._tell(
                f"The labels layer holds numbers up to {most} ({labels.data.dtype}), but {number} are needed: "
                "convert it to uint32 (right click > Convert data type).",
            )
            return
        labels.selected_label = number
        if str(labels.mode) == "paint":
            labels.mode = "pan_zoom"
        self.take("paint")


def _grid(widgets: Sequence[QWidget], columns: int) -> QGridLayout:
    """Return widgets in rows of so many, all equally wide."""
    made = QGridLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(3)
    for i, widget in enumerate(widgets):
        made.addWidget(widget, *divmod(i, columns))
    for column in range(columns):
        made.setColumnStretch(column, 1)
    return made
