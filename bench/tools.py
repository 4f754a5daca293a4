"""What the tools for whole objects take, from the key or the end of the gesture to the next turn of the main loop.

Needs a screen: without one, `xvfb-run -a -s "-screen 0 1600x1000x24" python bench/tools.py`.

    python bench/tools.py --json tools.json
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtWidgets import QApplication
from report import arguments, report

from napari_unet.gui.dock import UNetDock

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 11
ACROSS = 71  # objects in a row: 71² = 5041
WIDE = 44  # pixels; they lie 57 apart


def main() -> None:
    """Print a line for each tool."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--size", type=int, default=4096, help="side of the plane in pixels (4096)")
    chosen = parser.parse_args()
    pitch = chosen.size / ACROSS
    viewer = napari.Viewer()
    viewer.add_image(np.zeros((chosen.size, chosen.size), np.uint8))
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock)
    dock.correct.start_empty()
    dock.correct.tools.take("paint")
    labels, tools = dock.session.labels, dock.correct.tools.objects
    labels.data[:] = disks(chosen.size, pitch)
    labels.refresh()
    places = iter([((i + 0.5) * pitch, (j + 0.5) * pitch) for i in range(1, ACROSS - 1) for j in range(2, ACROSS, 4)])

    def under_mouse(kind: str) -> None:
        viewer.cursor.position = next(places)
        tools.act(kind)

    def merge() -> None:
        y, x = next(places)
        tools.merge([(y, x), (y, x + pitch)])

    def line() -> None:
        y, x = next(places)
        tools.split([(y - WIDE, x), (y + WIDE, x)])

    def clicks() -> None:
        y, x = next(places)
        tools.split_between([(y, x - WIDE / 4), (y, x + WIDE / 4)])
        while tools.seams.busy:  # the model looks at it in a thread
            QApplication.processEvents()

    def fill() -> None:
        viewer.cursor.position = next(places)
        y, x = (round(p) for p in viewer.cursor.position)
        labels.data[y - 9 : y - 5, x : x + 4] = 0
        tools.act("fill holes")

    does: dict[str, Callable[[], object]] = {
        "delete": lambda: under_mouse("delete"),
        "reject": lambda: under_mouse("reject"),
        "merge": merge,
        "split by a line": line,
        "split by clicks": clicks,
        "fill holes": fill,
        "smooth": lambda: under_mouse("smooth"),
        "grow": lambda: under_mouse("grow"),
        "shrink": lambda: under_mouse("shrink"),
        "undo (napari's)": labels.undo,
    }
    rows: list[dict[str, Any]] = []
    for name, do in does.items():
        before = dock.session.annotation.strokes
        alone, drawn = measured(do)
        done = abs(dock.session.annotation.strokes - before)
        rows.append({"tool": name, "processor ms": alone, "until drawn ms": drawn, "changes": done, "of": TIMES})
    viewer.close()
    report(rows, chosen.json)


def disks(size: int, pitch: float) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return labels of numbered disks on a grid, slightly oval so that there is something to smooth."""
    at = (np.arange(size) / pitch).astype(int)
    off = (np.arange(size) / pitch - at - 0.5) * pitch
    inside = np.hypot(off[:, None], 1.2 * off) < WIDE / 2 + np.random.default_rng(0).normal(0, 1, (size, size))
    return np.where(inside, at[:, None] * ACROSS + at + 1, 0).astype(np.uint32)


def measured(do: Callable[[], object]) -> tuple[float, float]:
    """Return medians in ms: the processor's time for something, and all until the turn of the main loop after it."""
    QApplication.processEvents()
    busy, drawn = [], []
    for _ in range(TIMES):
        began, at_work = time.perf_counter(), time.thread_time()
        do()
        busy.append(1000 * (time.thread_time() - at_work))
        QApplication.processEvents()
        drawn.append(1000 * (time.perf_counter() - began))
    return statistics.median(busy), statistics.median(drawn)


if __name__ == "__main__":
    main()
