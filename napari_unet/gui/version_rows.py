"""A line in the list of versions: what it says of a model, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, QRect, QSize, Qt
from qtpy.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from napari_unet.gui.look import in_digits
from napari_unet.model import SHIPPED

if TYPE_CHECKING:
    from qtpy.QtGui import QPainter

    from napari_unet.gui.look import Theme
    from napari_unet.gui.models import ModelEntry
    from napari_unet.learn.outcome import Outcome
    from napari_unet.model_file import Head


@dataclass(frozen=True, eq=False)
class Version:
    """A line in the list.

    Attributes
    ----------
    head : Head
        What its file says.
    parent : str
        What the model it came from is called now, or was then; empty if nobody knows.
    used : bool
        Whether it is the one in use.
    """

    entry: ModelEntry
    head: Head
    outcome: Outcome
    parent: str
    used: bool

    @property
    def shipped(self) -> bool:
        """Whether it came with the program."""
        return is_shipped(self.entry)

    @property
    def score(self) -> str:
        """Before and after, on held-out tiles."""
        found = self.outcome
        return f"{in_digits(found.before)} → {in_digits(found.after)}" if found.measure else ""

    @property
    def origin(self) -> str:
        """What it learned from, and which model it came from."""
        if self.shipped:
            return "comes with the program"
        found = self.outcome
        counts = [("tile", found.tiles), ("object", found.objects), ("stroke", found.strokes)]
        parts = [f"{n} {what}{'s' * (n != 1)}" for what, n in counts if n]
        return " · ".join([*([", ".join(parts)] if parts else []), *([f"from {self.parent}"] if self.parent else [])])

    @property
    def tip(self) -> str:
        """All that is known, in lines."""
        found, lines = self.outcome, [self.entry.name + " (in use)" * self.used]
        if found.measure:
            count = found.held_out_objects
            objects = f" with {count} object{'s' * (count != 1)}" if count else ""
            tiles = f"{found.held_out} held-out tile{'s' * (found.held_out != 1)}"
            lines.append(f"{found.measure} {self.score} (before → after) on {tiles}{objects}")
        elif not self.shipped:
            lines.append("No score: nothing was held out, or an earlier program wrote the file.")
        lines += [self.origin, _date(self.head.provenance.date, whole=True)]
        if self.entry.path is None:
            lines.append("It has no file yet: export it to keep it.")
        else:
            lines.append(str(self.entry.path))
        return "\n".join(line for line in lines if line)


class Rows(QStyledItemDelegate):
    """Draws a version in two lines: name and score; where it comes from and when. A bar marks the one in use."""

    PAD = 4
    BAR = 3

    def __init__(self) -> None:
        super().__init__()
        self.theme: Theme | None = None
        self.editing = False  # a name is being written, which must not be disturbed

    def createEditor(self, parent: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex) -> QWidget | None:
        """Begin to edit a name."""
        self.editing = True
        return super().createEditor(parent, option, index)

    def destroyEditor(self, editor: QWidget | None, index: QModelIndex) -> None:
        """End it."""
        self.editing = False
        super().destroyEditor(editor, index)

    def height(self, view: QWidget) -> int:
        """Return the height of a row in pixels."""
        return 2 * view.fontMetrics().height() + 2 * self.PAD

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return the size of a row; it is as wide as the list."""
        del index
        return QSize(0, 2 * option.fontMetrics.height() + 2 * self.PAD)

    def updateEditorGeometry(self, editor: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Edit the name where it stands."""
        del index
        if editor is not None:
            editor.setGeometry(option.rect.adjusted(self.BAR, 0, 0, 0))

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw a row."""
        version: Version | None = index.data(Qt.ItemDataRole.UserRole)
        theme = self.theme
        if painter is None or version is None or theme is None:
            return
        painter.save()
        whole: QRect = option.rect
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        if selected:
            painter.fillRect(whole, theme.chosen)
        if version.used:
            painter.fillRect(QRect(whole.left(), whole.top() + 2, self.BAR, whole.height() - 4), theme.accent)
        inside = whole.adjusted(self.BAR + self.PAD, self.PAD, -self.PAD, -self.PAD)
        line = option.fontMetrics.height()
        upper = QRect(inside.left(), inside.top(), inside.width(), line)
        font = option.font
        font.setBold(version.used)
        painter.setFont(font)
        name = version.entry.name + " · in use" * version.used
        painter.setPen(theme.text)
        _two(painter, upper, name, version.score)
        font.setBold(False)
        painter.setFont(font)
        painter.setPen(theme.text if selected else theme.quiet)
        _two(painter, upper.translated(0, line), version.origin, _date(version.head.provenance.date))
        painter.restore()


def _two(painter: QPainter, place: QRect, left: str, right: str) -> None:
    """Write two texts on a line; the left one is cut in its middle where there is no room."""
    metrics = painter.fontMetrics()
    width = metrics.horizontalAdvance(right)
    room = place.width() - (width + 8 if right else 0)
    middle = Qt.AlignmentFlag.AlignVCenter
    painter.drawText(place, middle | Qt.AlignmentFlag.AlignRight, right)
    cut = metrics.elidedText(left, Qt.TextElideMode.ElideMiddle, room)
    painter.drawText(place, middle | Qt.AlignmentFlag.AlignLeft, cut)


def _date(text: str, *, whole: bool = False) -> str:
    """Return a date in local time: of today the time, of other days the day, or both; empty if it is none."""
    try:
        date = datetime.fromisoformat(text).astimezone()
    except ValueError:
        return ""
    if whole:
        return f"{date:%Y-%m-%d %H:%M}"
    return f"{date:%H:%M}" if date.date() == datetime.now(date.tzinfo).date() else f"{date:%Y-%m-%d}"


def is_shipped(entry: ModelEntry) -> bool:
    """Return whether a model came with the program."""
    return entry.path is not None and entry.path.parent == SHIPPED
