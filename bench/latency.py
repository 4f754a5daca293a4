"""How long the viewer keeps its user waiting: gaps between turns of the main loop, strokes, clicks and undo.

An image of real fluorescence tiles with its labels, the dock open, brush strokes with a real mouse at 60 Hz, then
clicks with the Click tool and undo: with nothing else, then while the dock fine-tunes, while it fine-tunes with the
preview on, and while it segments again and again. Needs a screen: without one,
`xvfb-run -a -s "-screen 0 1600x1000x24" python bench/latency.py`.

    python bench/latency.py --json latency.json
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from report import arguments, report
from speed import mosaic

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.dock import UNetDock

TURN = 5  # ms between two looks at the clock
CLICKS = 15  # clicks and undos, for a median
ZOOM = 1.0  # of the camera: a screen's pixel for each of the image's


class Clock:
    """Records the gaps between turns of the main loop, and paints with the mouse at 60 Hz."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.gaps: list[float] = []
        self.strokes: list[float] = []
        self._labels: napari.layers.Labels | None = None
        self._last = time.perf_counter()
        self.canvas = viewer.window._qt_viewer.canvas.native
        self._moves = 0
        self._turns, self._mouse = QTimer(), QTimer()
        self._turns.setTimerType(Qt.TimerType.PreciseTimer)
        self._turns.timeout.connect(self._turn)
        self._mouse.timeout.connect(self._move)

    def start(self, labels: napari.layers.Labels) -> None:
        """Begin to record and to paint."""
        self._labels = labels
        self.gaps, self.strokes = [], []
        self._last = time.perf_counter()
        self._turns.start(TURN)
        self._mouse.start(1000 // 60)

    def stop(self) -> None:
        """End both."""
        self._turns.stop()
        self._mouse.stop()
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=self._point())
        self._moves = 0

    def _turn(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def _point(self) -> QPoint:
        angle = self._moves / 20
        width, height = self.canvas.width(), self.canvas.height()
        radius = height * (0.15 + 0.2 * math.sin(angle / 7) ** 2)
        return QPoint(int(width / 2 + radius * math.cos(angle)), int(height / 2 + radius * math.sin(angle)))

    def _move(self) -> None:
        began = time.perf_counter()
        if self._moves % 120 == 0:  # a stroke takes two seconds
            if self._moves:
                QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=self._point())
            self._labels.selected_label += 1  # painting the same number again would change nothing
            QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=self._point())
        QTest.mouseMove(self.canvas, self._point())
        self._moves += 1
        self.strokes.append(time.perf_counter() - began)


def main() -> None:
    """Record the four situations and print a line for each."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--size", type=int, default=4096, help="side of the image in pixels (4096)")
    parser.add_argument("--seconds", type=float, default=30, help="how long to paint in each situation (30)")
    chosen = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(mosaic(chosen.size), name="image")
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet-live", "U-Net")
    wait(2)
    dock.segment.segment()
    wait_for(lambda: not dock.session.busy)
    viewer.scene.camera.zoom = ZOOM
    wait(2)
    dock.correct.confirm_tile()
    dock.finetune.settings.set("steps", 100_000)
    clock = Clock(viewer)
    situations: dict[str, Callable[[], None]] = {
        "nothing": lambda: None,
        "fine-tuning": dock.finetune.learn,
        "fine-tuning, preview": lambda: (dock.finetune.preview.wanted.setChecked(True), dock.finetune.learn()),
        "segmenting": lambda: segment_for_ever(dock),
    }
    rows = [measure(clock, dock, name, begin, chosen.seconds) for name, begin in situations.items()]
    report(rows, chosen.json)
    viewer.close()


def segment_for_ever(dock: UNetDock) -> None:
    """Segment, and again each time that it ends."""

    def again() -> None:
        if not dock.session.busy and not dock.session.closed:
            QTimer.singleShot(0, dock.segment.segment)

    dock.session.busy_changed.connect(again)
    dock.segment.segment()


def measure(clock: Clock, dock: UNetDock, name: str, begin: Callable[[], None], seconds: float) -> dict[str, Any]:
    """Paint for a while beside a job of the dock, click and undo; return what it took."""
    done = [0]
    dock.session.progressed.connect(lambda progress: done.append(progress.done))
    tools = dock.correct.tools
    begin()
    wait(5)  # let it begin in earnest
    tools.take("paint")
    dock.session.labels.brush_size = 20
    clock.start(dock.session.labels)
    wait(seconds)
    clock.stop()
    wait(0.5)
    undone = [timed(dock.correct.undo) for _ in range(5)]
    clicked = clicks(clock, dock)
    tools.hand.put_away()
    gaps, strokes = np.array(clock.gaps) * 1000, np.array(clock.strokes) * 1000
    row = {
        "beside": name,
        "gap p50 ms": float(np.median(gaps)),
        "gap p99 ms": float(np.percentile(gaps, 99)),
        "gap max ms": float(gaps.max()),
        "stroke p50 ms": float(np.median(strokes)),
        "stroke p99 ms": float(np.percentile(strokes, 99)),
        "strokes per s": len(strokes) / seconds,
        "undo ms": 1000 * float(np.median(undone)),
        "click p50 ms": 1000 * float(np.median(clicked)),
        "click max ms": 1000 * float(np.max(clicked)),
        "steps or tiles": max(done),
    }
    if dock.session.busy == "learn":
        dock.session.cancel()
        wait_for(lambda: not dock.session.busy)
        if dock.session.result is not None:
            dock.finetune.discard_result()
    return row


def clicks(clock: Clock, dock: UNetDock) -> list[float]:
    """Click into objects in view with the Click tool; return the seconds until each outline was there."""
    session, tool, viewer = dock.session, dock.correct.tools.clicks, dock.session.viewer
    dock.correct.tools.ours["click"].click()
    wait_for(lambda: tool._worker is None)
    rng, took = np.random.default_rng(0), []
    while len(took) < CLICKS:
        at = QPoint(*(int(rng.uniform(0.2, 0.8) * n) for n in (clock.canvas.width(), clock.canvas.height())))
        QTest.mouseMove(clock.canvas, at)
        wait(0.05)
        if not session.labels.get_value(viewer.cursor.position, world=True):
            continue
        began = time.perf_counter()
        QTest.mouseClick(clock.canvas, Qt.MouseButton.LeftButton, pos=at)
        wait_for(lambda: tool._worker is None)
        took.append(time.perf_counter() - began)
        tool.accept()  # from the first on, it knows how wide objects are here
        wait(0.3)
    return took


def timed(does: Callable[[], Any]) -> float:
    """Return the seconds that something takes, until the turn of the main loop after it."""
    began = time.perf_counter()
    does()
    QApplication.processEvents()
    return time.perf_counter() - began


def wait(seconds: float) -> None:
    """Let the main loop run, as it does in use: between events it sleeps, and holds nobody up."""
    loop = QEventLoop()
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()


def wait_for(done: Callable[[], bool]) -> None:
    """Let the main loop run until something is done."""
    while not done():
        wait(0.002)


if __name__ == "__main__":
    main()
