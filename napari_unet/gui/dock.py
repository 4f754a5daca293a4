"""The dock: four steps in one column, the next one highlighted; shortcuts, theme, and a clean end."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from app_model.types import KeyCode, KeyMod
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QComboBox, QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_unet.gui.correct_section import CorrectSection
from napari_unet.gui.finetune_section import FinetuneSection
from napari_unet.gui.first_steps import FirstSteps
from napari_unet.gui.image_section import ImageSection
from napari_unet.gui.look import Step, Theme
from napari_unet.gui.notices import binding
from napari_unet.gui.offer import Offer
from napari_unet.gui.segment_section import SegmentSection
from napari_unet.gui.session import Session
from napari_unet.gui.warm_up import WarmUp

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer


class UNetDock(QWidget):
    """Segment, correct, teach.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        As napari hands it to widgets.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        viewer = getattr(viewer, "__wrapped__", viewer)  # napari's proxy makes a new object of each layer
        self.session = session = Session(viewer)
        self.image = ImageSection(session)
        self.segment = SegmentSection(session)
        self.correct = CorrectSection(session, self.segment.segment, self.segment.large)
        self.finetune = FinetuneSection(session, self.segment.segment)
        self.offer = Offer(session, self.segment.large)
        self.first = FirstSteps(session)
        self.warm_up = WarmUp(session)
        self.steps: tuple[Step, ...] = (self.image, self.segment, self.correct, self.finetune)
        self._lay_out()
        session.image_changed.connect(self._highlight)
        session.labels_changed.connect(self._highlight)
        session.model_changed.connect(self._highlight)
        session.corrections_changed.connect(self._highlight)
        session.busy_changed.connect(self._highlight)
        session.result_changed.connect(self._highlight)
        viewer.events.theme.connect(self._on_theme)
        viewer.layers.events.removing.connect(self._on_removing)
        viewer.layers.events.removed.connect(self._on_removed)
        tools, objects = self.correct.tools, self.correct.tools.objects
        self._keys: dict[str | int, Callable[[], Any]] = {
            "s": self.segment.segment,
            "t": self.correct.confirm_tile,
            "n": self.correct.next.go,
            "c": tools.clicks.take,
            "a": partial(self.correct.accept_object, under_mouse=True),
            "r": tools.view_again.click,
            "o": tools.region.take,
            "j": partial(objects.take, "merge"),
            "k": partial(objects.take, "split"),
            "Delete": objects.delete,
            "Backspace": objects.delete,
            "d": partial(objects.act, "reject"),
            "h": partial(objects.act, "fill holes"),
            "u": partial(objects.act, "smooth"),
            "g": partial(objects.act, "grow"),
            "Shift-g": partial(objects.act, "shrink"),
            # where the labels are active napari's own keys come first, and do the same
            KeyMod.CtrlCmd | KeyCode.KeyZ: self.correct.undo,
            KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ: self.correct.redo,
        }
        for key, action in self._keys.items():
            viewer.bind_key(key, binding(action), overwrite=True)
        self._prepare_end()
        for kind in (QComboBox, QAbstractSpinBox):
            for box in self.findChildren(kind):
                box.installEventFilter(self)
        self._on_theme()
        self._highlight()

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(4)
        column.addWidget(self.first)
        column.addWidget(self.offer)
        for i, step in enumerate(self.steps):
            if i:
                line = QFrame()
                line.setFrameShape(QFrame.Shape.HLine)
                line.setFixedHeight(1)
                line.setObjectName("line")
                column.addWidget(line)
            column.addWidget(step)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(scroll)
        self.setMinimumWidth(335)  # what the widest row needs beside a scroll bar

    # ---- shows

    def next_step(self) -> int:
        """Return which step, from 0, comes next."""
        session = self.session
        if session.source is None or session.model is None:
            return 0
        if session.result is not None or session.busy == "learn":
            return 3
        if session.labels is None or session.learned or session.busy in ("segment", "batch"):
            return 1
        return 3 if session.unlearned and session.annotated() else 2

    def _highlight(self) -> None:
        following = self.next_step()
        for i, step in enumerate(self.steps):
            step.set_next(i == following)

    def _on_theme(self, event: Any = None) -> None:
        del event
        theme = Theme(self.session.viewer.theme)
        self.setStyleSheet(theme.sheet)
        for step in self.steps:
            step.set_theme(theme)

    def _on_removing(self, event: Any) -> None:
        """Let napari free what it drew of a layer where it drew it.

        It does so at once, in whichever OpenGL context is current; in another one than the canvas's the program would
        crash when it is drawn again.
        """
        del event
        with suppress(AttributeError, RuntimeError):  # the window is being closed, or napari is another one
            self.session.viewer.window._qt_viewer.canvas._scene_canvas.set_current()

    def _on_removed(self, event: Any) -> None:
        del event
        self.segment.stop_writing_if_gone()
        self.segment.many.let_go()
        self._highlight()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Let the wheel scroll the dock, and not the values that happen to lie under the mouse."""
        wheel = event is not None and event.type() == QEvent.Type.Wheel
        if wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()  # type: ignore[union-attr]
            return True
        return bool(super().eventFilter(watched, event))

    # ---- the end

    def _prepare_end(self) -> None:
        """List what is to be undone when the dock is closed, the window is, or the program ends."""
        viewer, app = self.session.viewer, QApplication.instance()
        self._ending = ending = Ending()
        ending.add(self.session.close)
        ending.add(self.warm_up.close)
        ending.add(self.finetune.save_unjudged)
        ending.add(self.segment.stop_writing)
        ending.add(self.segment.growing.rest)
        ending.add(self.segment.many.stop_writing)
        ending.add(self.correct.close_section)
        ending.add(self.finetune.versions.close_part)
        ending.add(self.finetune.preview.close_part)
        ending.add(partial(viewer.events.theme.disconnect, self._on_theme))
        ending.add(partial(viewer.layers.events.removing.disconnect, self._on_removing))
        ending.add(partial(viewer.layers.events.removed.disconnect, self._on_removed))
        for key in self._keys:
            ending.add(partial(viewer.bind_key, key, None))
        self.destroyed.connect(ending)
        if app is not None:
            app.aboutToQuit.connect(ending)
            ending.add(partial(app.aboutToQuit.disconnect, ending))

    def event(self, event: QEvent | None) -> bool:
        """Notice when napari takes the dock out of its window: then it is over."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._ending()
        return bool(super().event(event))


class Ending:
    """What is to be undone at the end: once, whoever asks first. It touches no widget, for they may be gone."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []

    def add(self, undo: Callable[[], Any]) -> None:
        """Remember one more thing."""
        self._undo.append(undo)

    def __call__(self, *_: Any) -> None:
        """Undo all of it."""
        # Python may have emptied this object already if dock and all were collected together
        for undo in vars(self).pop("_undo", []):
            undo()
