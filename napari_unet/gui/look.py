"""How the dock looks: one style sheet from napari's theme, icons in its colour, and the step that sections stand in."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QByteArray, QEvent, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtSvg import QSvgRenderer
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = "#3fa66b"  # what is confirmed, and the better model; readable on both themes

SHEET = """
QFrame#step {{ border-left: 3px solid transparent; background: {background}; }}
QFrame#step[next="true"] {{ border-left: 3px solid {accent}; }}
QLabel#number {{ border-radius: 10px; background: {primary}; color: {text}; font-weight: bold; padding: 0px; }}
QLabel#number[next="true"] {{ background: {accent}; color: {accent_text}; }}
QLabel#title {{ font-weight: bold; font-size: {large}; }}
QFrame#first {{ background: {foreground}; border: 0px; border-radius: 2px; }}
QFrame#line {{ background: {foreground}; border: 0px; }}
QFrame#step QLabel {{ padding-left: 0px; margin-left: 0px; }}
QLabel#quiet {{ color: {quiet}; }}
QLabel#warn {{ color: {warning}; }}
QPushButton {{ padding: 5px 8px; }}
QPushButton[primary="true"] {{ background: {accent}; color: {accent_text}; font-weight: bold; }}
QPushButton[primary="true"]:hover {{ background: {accent_hover}; }}
QPushButton:disabled, QPushButton[primary="true"]:disabled {{
    background: {foreground}; color: {faint}; font-weight: normal;
}}
QToolButton {{ background: {primary}; border: 0px; border-radius: 2px; padding: 3px 1px; }}
QToolButton:hover {{ background: {highlight}; }}
QToolButton:checked {{ background: {accent}; color: {accent_text}; }}
QToolButton:disabled {{ background: {foreground}; color: {faint}; }}
QToolButton#fold {{ background: transparent; color: {quiet}; padding: 2px; }}
QToolButton#fold:hover {{ color: {text}; }}
QListWidget, QTableWidget {{ background: {foreground}; border: 0px; border-radius: 2px; }}
QTableWidget QHeaderView::section {{ background: {foreground}; color: {quiet}; border: 0px; padding: 2px; }}
QProgressBar {{
    border: 0px; border-radius: 2px; background: {foreground}; color: {text};
    text-align: center; min-height: 18px; max-height: 18px;
}}
QProgressBar::chunk {{ background: {accent}; border-radius: 2px; }}
"""


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">{}</svg>'
ICONS = {  # of tools that napari has no icon for
    "merge": SVG.format('<circle cx="34" cy="50" r="24"/><circle cx="66" cy="50" r="24"/>'),
    "split": SVG.format(
        '<path d="M40 22v56a28 28 0 0 1 0-56z"/><path d="M60 22a28 28 0 0 1 0 56z"/>'
        '<rect x="47.5" y="10" width="5" height="80"/>'
    ),
}


class Theme:
    """The colours of a napari theme, as the dock uses them.

    Parameters
    ----------
    name : str
        Of the theme.
    """

    def __init__(self, name: str) -> None:
        from napari.utils.theme import get_theme

        theme = get_theme(name)
        self.dark = theme.type == "dark"
        colours = {key: getattr(theme, key).as_hex("long") for key in _COLOURS}
        self.text, self.icon = QColor(colours["text"]), QColor(colours["icon"])
        self.background = QColor(colours["background"])
        self.accent = QColor("#5b7be0" if self.dark else "#3557c4")
        self.chosen = QColor(colours["primary"])
        self.quiet = _between(self.text, self.background, 0.35)
        self.warning = QColor("#e3b617" if self.dark else "#8a5a00")
        size = float(str(theme.font_size).removesuffix("pt"))
        self.sheet = SHEET.format(
            **colours,
            accent=self.accent.name(),
            accent_hover=self.accent.lighter(115).name(),
            accent_text="#ffffff",
            quiet=self.quiet.name(),
            faint=_between(self.text, self.background, 0.6).name(),
            large=f"{size + 2:g}pt",
        ).replace(f"color: {colours['warning']}", f"color: {self.warning.name()}")


_COLOURS = ("background", "foreground", "primary", "highlight", "text", "icon", "warning")


def _between(a: QColor, b: QColor, share: float) -> QColor:
    mixed = (x + (y - x) * share for x, y in zip(a.getRgb()[:3], b.getRgb()[:3], strict=True))
    return QColor(*(round(value) for value in mixed))


def icon(name: str, colour: QColor, on: str = "#ffffff") -> QIcon:
    """Return one of napari's icons or of `ICONS` in a colour; another one where its button is pressed in."""
    from napari.resources import get_colorized_svg, get_icon_path

    drawing, result = ICONS.get(name) or get_icon_path(name), QIcon()
    faint = QColor(colour)
    faint.setAlpha(90)
    states = [
        (colour.name(), 1.0, QIcon.Mode.Normal, QIcon.State.Off),
        (on, 1.0, QIcon.Mode.Normal, QIcon.State.On),
        (colour.name(), 0.35, QIcon.Mode.Disabled, QIcon.State.Off),
    ]
    for shade, opacity, mode, state in states:
        drawn = QSvgRenderer(QByteArray(get_colorized_svg(drawing, shade, opacity).encode()))
        pixmap = QPixmap(QSize(40, 40))
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        drawn.render(painter)
        painter.end()
        result.addPixmap(pixmap, mode, state)
    return result


def set_property(widget: QWidget, name: str, value: bool) -> None:
    """Set a property that the style sheet asks for, and draw the widget by it."""
    if widget.property(name) == value:
        return
    widget.setProperty(name, value)
    style = widget.style()
    if style is not None:
        style.unpolish(widget)
        style.polish(widget)


def button(text: str, tip: str, action: Callable[[], Any], *, primary: bool = False) -> QPushButton:
    """Return a button; a click leaves the keyboard to the canvas, so that shortcuts go on working."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setProperty("primary", primary)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.clicked.connect(lambda *_: action())
    return made


def tool_button(text: str, tip: str, action: Callable[[], Any], *, checkable: bool = True) -> QToolButton:
    """Return a button with a picture, such as to take a tool in hand with."""
    made = QToolButton()
    made.setText(text)
    made.setToolTip(tip)
    made.setIconSize(QSize(20, 20))
    made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setCheckable(checkable)
    made.clicked.connect(lambda *_: action())
    return made


def label(text: str = "", kind: str = "") -> QLabel:
    """Return a line of plain text that wraps; `kind` is ``"quiet"``, ``"warn"`` or nothing."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)  # names of layers and files may look like another
    made.setWordWrap(True)
    made.setObjectName(kind)
    made.setVisible(bool(text))
    return made


def say(line: QLabel, text: str) -> None:
    """Set the text of a line, and hide it when there is none."""
    line.setText(text)
    line.setVisible(bool(text))


def row(*widgets: QWidget, stretch: int | None = None) -> QHBoxLayout:
    """Return widgets beside each other; the one numbered `stretch` takes what is left."""
    made = QHBoxLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(4)
    for i, widget in enumerate(widgets):
        made.addWidget(widget, 1 if i == stretch else 0)
    return made


def in_digits(score: float | None) -> str:
    """Return a score, 0 to 1, as it is written everywhere in the dock; a dash where there is none."""
    return "–" if score is None or isnan(score) else f"{score:.2f}"


def reveal(widget: QWidget) -> None:
    """Scroll the dock, as little as needed, until a widget is in sight, even if it has only just been shown."""
    around = widget.parentWidget()
    while around is not None and not isinstance(around, QScrollArea):
        around = around.parentWidget()
    if around is not None:
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        around.ensureWidgetVisible(widget, 0, 8)


class Fold(QWidget):
    """A part that is out of sight until it is asked for.

    Parameters
    ----------
    title : str
        What is inside.
    content : QWidget
        It.
    """

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self.toggle = QToolButton()
        self.toggle.setObjectName("fold")
        self.toggle.setText(title)
        self.toggle.setCheckable(True)
        self.toggle.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.toggle.setArrowType(Qt.ArrowType.RightArrow)
        self.toggle.toggled.connect(self._on_toggled)
        self.content = content
        content.setVisible(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.toggle, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(content)

    def _on_toggled(self, opened: bool) -> None:
        self.toggle.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self.content.setVisible(opened)
        if opened:
            reveal(self.content)


class Step(QFrame):
    """One of the numbered steps of the dock.

    Parameters
    ----------
    number : int
        Its place in the column.
    title : str
        What it is for.
    """

    def __init__(self, number: int, title: str) -> None:
        super().__init__()
        self.setObjectName("step")
        self.number = QLabel(str(number))
        self.number.setObjectName("number")
        self.number.setFixedSize(20, 20)
        self.number.setAlignment(Qt.AlignmentFlag.AlignCenter)
        heading = QLabel(title)
        heading.setObjectName("title")
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(8, 4, 6, 8)
        self.column.setSpacing(6)
        self.column.addLayout(row(self.number, heading, stretch=1))

    def set_next(self, is_next: bool) -> None:
        """Highlight the step, or not."""
        set_property(self, "next", is_next)
        set_property(self.number, "next", is_next)

    def set_theme(self, theme: Theme) -> None:
        """Take on colours that a style sheet cannot give, such as those of icons."""
