"""A viewer with the dock, a tiny model, and a home of its own for what is saved."""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_unet.gui import models
from napari_unet.gui.first_steps import seen
from napari_unet.gui.models import ModelEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from napari import Viewer

    from napari_unet.gui.dock import UNetDock

PATIENCE = 60_000  # ms; a busy machine is slow


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save into the test's own folder, and know no models but those of the test."""
    monkeypatch.setattr(models, "folder", lambda: tmp_path / "models")
    monkeypatch.setattr(models, "shipped", list)
    seen().touch()  # the dock was opened before
    return tmp_path / "models"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows nothing, in a file."""
    from napari_unet.model import Model

    model = replace(Model.new(width=8, depth=2, name="tiny"), diameter=20.0)
    return model.save(tmp_path_factory.mktemp("model") / "tiny.unet")


TESTS = count()


@pytest.fixture(autouse=True)
def look_for_garbage_only_in_what_is_new() -> None:
    """Let Python pass over libraries, and what napari keeps of each viewer: it looks when a layer is removed, too."""
    if next(TESTS) % 10 == 0:
        import torch._dynamo  # noqa: F401

        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test ends all its threads, and gives Python's switch interval back."""
    before = sys.getswitchinterval()
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("napari-unet")]
    assert sys.getswitchinterval() == before


class Desk:
    """A person at the dock: clicks, paints and waits."""

    def __init__(self, viewer: Viewer, dock: UNetDock, qtbot) -> None:
        self.viewer, self.dock, self.session, self.qtbot = viewer, dock, dock.session, qtbot

    def click(self, button) -> None:
        assert button.isEnabled(), f"{button.text()} is dead"
        assert button.isVisibleTo(self.dock), f"{button.text()} is not to be seen"
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def more(self) -> None:
        """Unfold the tools that are seldom used."""
        fold = self.dock.correct.tools.fold
        if not fold.toggle.isChecked():
            self.click(fold.toggle)
            self.qtbot.wait(20)  # until what was folded away has its place

    def wait(self, condition: Callable[[], bool] | None = None) -> None:
        self.qtbot.waitUntil(condition or (lambda: not self.session.busy), timeout=PATIENCE)

    def segment(self):
        self.click(self.dock.segment.start)
        self.wait()
        return self.session.labels

    def paint(
        self,
        *points: tuple[float, float],
        button: Qt.MouseButton = Qt.MouseButton.LeftButton,
        modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Drag the mouse over the canvas through points (y, x) of the world; one point is a click.

        `meanwhile` is called before the last of them.

        The events are sent as Qt would send them: `QTest.mouseMove` moves the pointer of the screen, and what comes of
        that depends on how busy the screen is.
        """
        none = Qt.MouseButton.NoButton
        self.hover(points[0], modifier)
        self._send(QEvent.Type.MouseButtonPress, points[0], button, button, modifier)
        for i, point in enumerate(points[1:], start=2):
            if i == len(points):
                meanwhile()
            self._send(QEvent.Type.MouseMove, point, none, button, modifier)
        self._send(QEvent.Type.MouseButtonRelease, points[-1], button, none, modifier)

    def hover(self, point: tuple[float, float], modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        """Move the mouse to a point (y, x) of the world, with no button down."""
        none = Qt.MouseButton.NoButton
        self._send(QEvent.Type.MouseMove, point, none, none, modifier)

    def _send(
        self,
        kind: QEvent.Type,
        point: tuple[float, float],
        about: Qt.MouseButton,
        held: Qt.MouseButton,
        modifier: Qt.KeyboardModifier,
    ) -> None:
        canvas, camera = self.viewer.window._qt_viewer.canvas.native, self.viewer.scene.camera
        (y0, x0), zoom = camera.center[-2:], camera.zoom
        at = QPointF(
            round(canvas.width() / 2 + (point[1] - x0) * zoom), round(canvas.height() / 2 + (point[0] - y0) * zoom)
        )
        there = QPointF(canvas.mapToGlobal(at.toPoint()))
        QApplication.sendEvent(canvas, QMouseEvent(kind, at, there, about, held, modifier))
        self.qtbot.wait(10)

    def press(self, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        QTest.keyClick(self.viewer.window._qt_viewer.canvas.native, key, modifier)
        self.qtbot.wait(10)


@pytest.fixture
def desk(make_napari_viewer, qtbot, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Desk]:
    """Return a function that opens a viewer with the dock, and an image if it is given one."""
    from napari_unet.gui import worker
    from napari_unet.gui.dock import UNetDock

    monkeypatch.setattr(worker, "lower_priority", lambda: None)  # a busy machine would let the tests wait for ever

    def make(image: np.ndarray | None = None, *, show: bool = True, **settings: object) -> Desk:
        viewer = make_napari_viewer(show=show)
        if image is not None:
            viewer.add_image(image, **{"name": "cells", **settings})
        dock = UNetDock(viewer)
        viewer.window.add_dock_widget(dock, name="U-Net", area="right")
        dock.session.set_model(ModelEntry("tiny", tiny))
        qtbot.wait(50)
        return Desk(viewer, dock, qtbot)

    return make


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the user was told in notifications."""
    from napari.utils.notifications import notification_manager

    said: list[str] = []
    monkeypatch.setattr(notification_manager, "dispatch", lambda notification: said.append(notification.message))
    return said
