"""What to do first, in three lines above step 1; it is shown to nobody twice."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QGridLayout, QSizePolicy, QToolButton

from napari_unet.gui import models
from napari_unet.gui.look import label

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.gui.session import Session

STEPS = ("Open an image.", "Segment.", "Correct, and Fine-tune.")


def seen() -> Path:
    """Return the file that is there once the steps were shown, beside the folder of the models."""
    return models.folder().parent / "first-steps-seen"


class FirstSteps(QFrame):
    """Stays until it is closed, or the first run has ended with labels.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._ran = False
        self.setObjectName("first")
        self.shut = QToolButton()
        self.shut.setObjectName("fold")
        self.shut.setText("×")
        self.shut.setToolTip("Close these first steps; they do not come again.")
        self.shut.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.shut.clicked.connect(lambda *_: self.hide())
        grid = QGridLayout(self)
        grid.setContentsMargins(10, 6, 4, 6)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        self.lines = [label(text) for text in STEPS]
        for i, line in enumerate(self.lines):
            number = label(str(i + 1), "quiet")
            number.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
            grid.addWidget(number, i, 0)
            grid.addWidget(line, i, 1)
        grid.addWidget(self.shut, 0, 2, len(STEPS), 1, Qt.AlignmentFlag.AlignTop)
        grid.setColumnStretch(1, 1)
        session.busy_changed.connect(self._on_busy)
        self.setVisible(_is_first())

    def _on_busy(self) -> None:
        """Go away after the first run; one that was cancelled brought nothing."""
        session = self.session
        if session.busy:
            self._ran = session.busy in ("segment", "batch")
        elif self._ran and session.labels is not None:
            self.hide()


def _is_first() -> bool:
    """Return whether the steps were never shown, and remember that they are now."""
    where = seen()
    if where.exists():
        return False
    with suppress(OSError):  # where nothing can be written they are shown again
        where.parent.mkdir(parents=True, exist_ok=True)
        where.touch()
    return True
