"""How long the viewer keeps its user waiting while a model trains: gaps between turns of the main loop.

A 2048² image and labels, the dock open, brush strokes with a real mouse at 60 Hz; first with nothing else, then while
the dock fine-tunes, curve and all, then while it segments again and again. Needs a screen: without one,
`xvfb-run -a -s "-screen 0 1600x1000x24" python bench/latency.py`.

    python bench/latency.py --json latency.json
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from report import arguments, report
from speed import mosaic

from napari_unet.gui.writing import OUTLINE
from napari_unet.infer.segment import segment_job
from napari_unet.learn.corrections import Corrections, State
from napari_unet.learn.finetune import fine_tune
from napari_unet.learn.settings import TrainSettings
from napari_unet.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.session import Session

SIZE = 2048
TURN = 5  # ms between two looks at the clock


class Clock:
    """Records the gaps between turns of the main loop, and paints with the mouse at 60 Hz."""

    def __init__(self, viewer: napari.Viewer, labels: napari.layers.Labels) -> None:
        self._labels = labels
        self.gaps: list[float] = []
        self.strokes: list[float] = []
        self._last = time.perf_counter()
        self._canvas = viewer.window._qt_viewer.canvas.native
        self._moves = 0
        self._turns, self._mouse = QTimer(), QTimer()
        self._turns.setTimerType(Qt.TimerType.PreciseTimer)
        self._turns.timeout.connect(self._turn)
        self._mouse.timeout.connect(self._move)

    def start(self) -> None:
        """Begin to record and to paint."""
        self.gaps, self.strokes = [], []
        self._last = time.perf_counter()
        self._turns.start(TURN)
        self._mouse.start(1000 // 60)

    def stop(self) -> None:
        """End both."""
        self._turns.stop()
        self._mouse.stop()
        QTest.mouseRelease(self._canvas, Qt.MouseButton.LeftButton, pos=self._point())
        self._moves = 0

    def _turn(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def _point(self) -> QPoint:
        angle = self._moves / 20
        width, height = self._canvas.width(), self._canvas.height()
        radius = height * (0.15 + 0.2 * math.sin(angle / 7) ** 2)
        return QPoint(int(width / 2 + radius * math.cos(angle)), int(height / 2 + radius * math.sin(angle)))

    def _move(self) -> None:
        began = time.perf_counter()
        if self._moves % 120 == 0:  # a stroke takes two seconds
            if self._moves:
                QTest.mouseRelease(self._canvas, Qt.MouseButton.LeftButton, pos=self._point())
            self._labels.selected_label += 1  # painting the same number again would change nothing
            QTest.mousePress(self._canvas, Qt.MouseButton.LeftButton, pos=self._point())
        QTest.mouseMove(self._canvas, self._point())
        self._moves += 1
        self.strokes.append(time.perf_counter() - began)


def main() -> None:
    """Record the three situations and print a line for each."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--seconds", type=float, default=30)
    chosen = parser.parse_args()
    image = mosaic(SIZE)
    model = Model.load(chosen.model)
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(image)
    labels = viewer.add_labels(np.zeros(image.shape, np.uint32))
    labels.contour = OUTLINE  # as the dock shows them
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet-live", "U-Net")
    dock.session.set_labels(labels)  # its strokes are followed as in use
    viewer.layers.selection.active = labels
    labels.mode, labels.brush_size, labels.selected_label = "paint", 20, 1
    clock = Clock(viewer, labels)

    state = np.zeros(image.shape, np.uint8)
    state[:512, :512] = State.CONFIRMED
    truth = model.segment(image)
    corrections = [Corrections(image, truth, state)]
    jobs: dict[str, Callable[[], Any] | None] = {
        "": None,
        "learn": lambda: fine_tune(model, corrections, TrainSettings(steps=100_000)),
        "segment": lambda: forever(model, image),
    }
    rows = [measure(clock, dock.session, name, make, chosen.seconds) for name, make in jobs.items()]
    report(rows, chosen.json)
    viewer.close()


def forever(model: Model, image: np.ndarray) -> Any:
    """Segment an image again and again."""
    while True:
        yield from segment_job(model, image)


def measure(
    clock: Clock, session: Session, name: str, make: Callable[[], Any] | None, seconds: float
) -> dict[str, Any]:
    """Paint for a while beside a job of the dock and return the gaps."""
    done = [0]
    if make:
        session.progressed.connect(lambda progress: done.append(progress.done))
        session.run(name, make, print)
    wait(5)  # let it begin in earnest
    clock.start()
    wait(seconds)
    clock.stop()
    session.cancel()
    while session.busy:
        wait(0.1)
    gaps, strokes = np.array(clock.gaps) * 1000, np.array(clock.strokes) * 1000
    return {
        "beside": name or "nothing",
        "gap p50 ms": float(np.median(gaps)),
        "gap p99 ms": float(np.percentile(gaps, 99)),
        "gap max ms": float(gaps.max()),
        "stroke p99 ms": float(np.percentile(strokes, 99)),
        "strokes per s": len(strokes) / seconds,
        "steps or tiles": done[-1],
    }


def wait(seconds: float) -> None:
    """Let the main loop run."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.0005)


if __name__ == "__main__":
    main()
