"""How the viewer answers while a large image is worked on: until the first objects are seen, and gaps of the main loop.

An OME-Zarr of real fluorescence tiles is opened, and each of these is timed, in one session after the other: the whole
image to the disk as the very first thing, model not yet read; the same again; a window opened to be corrected; painting
in it with a real mouse; segmenting what is in view. It is in a process of its own, to which nothing is known that
earlier ones kept on the disk.
Needs a screen: without one, `xvfb-run -a -s "-screen 0 1600x1000x24" python bench/large.py`.

    python bench/large.py --json large.json
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from latency import TURN, ZOOM, Clock, wait, wait_for
from napari.layers import Labels
from qtpy.QtCore import Qt, QTimer
from report import arguments, report
from speed import mosaic

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.dock import UNetDock

LEVELS = 4
CLICK = 1.0  # seconds
TILED = 4096  # the image repeats this much of it


def main() -> None:
    """Time each act and print a line for it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--size", type=int, default=8192, help="side of the image in pixels (8192)")
    parser.add_argument("--seconds", type=float, default=10, help="how long to paint (10)")
    parser.add_argument("--idle", type=float, default=8, help="seconds to look at the image before the first click (8)")
    parser.add_argument("--one", type=Path, help="do all of it here, with this image")
    chosen = parser.parse_args()
    if chosen.one:
        report(session(chosen.one, chosen.idle, chosen.seconds), chosen.json)
        return
    with TemporaryDirectory() as folder:
        path = pyramid(Path(folder) / "slide.ome.zarr", chosen.size)
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(path)]
        subprocess.run(command, env=os.environ | {"XDG_CACHE_HOME": folder}, check=True)


def pyramid(path: Path, size: int) -> Path:
    """Write the image."""
    import zarr

    tile = mosaic(min(size, TILED))
    whole = np.tile(tile, (size // len(tile),) * 2)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    sets = []
    for level in range(LEVELS):
        group.create_array(str(level), data=whole[:: 2**level, :: 2**level], chunks=(1024, 1024))
        scale = {"type": "scale", "scale": [2.0**level] * 2}
        sets.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": sets}]}
    return path


def session(path: Path, idle: float, seconds: float) -> list[dict[str, Any]]:
    """Do all acts, one after the other."""
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.open(path, plugin="napari-ome-zarr")
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet-live", "U-Net")
    wait(idle)
    turns = Turns(viewer)
    middle = viewer.layers[0].data[0].shape[-1] / 2
    dock.segment.part.setCurrentIndex(dock.segment.part.findData("whole"))
    rows = [turns.during("whole to disk, first", dock, dock.segment.segment)]
    for layer in [each for each in viewer.layers if isinstance(each, Labels)]:
        viewer.layers.remove(layer)
    shutil.rmtree(path / "labels")
    wait(1)
    rows.append(turns.during("whole to disk, again", dock, dock.segment.segment))
    viewer.scene.camera.zoom, viewer.scene.camera.center = ZOOM, (0, middle, middle)
    wait(1)
    rows.append(turns.during("open a window", dock, dock.segment.large.correct_view))
    rows.append(painting(dock, seconds))
    dock.segment.part.setCurrentIndex(dock.segment.part.findData("view"))
    rows.append(turns.during("segment in view", dock, dock.segment.segment))
    viewer.close()
    return rows


class Turns:
    """Looks at the clock at each turn of the main loop."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self.gaps: list[float] = []
        self._last = self._began = 0.0
        self._seen: float | None = None
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._turn)

    def during(self, name: str, dock: UNetDock, act: Callable[[], Any]) -> dict[str, Any]:
        """Act, and wait until no job runs."""
        before = {id(layer) for layer in self._viewer.layers}
        self.gaps, self._seen = [], None
        self._new = lambda: [layer for layer in self._viewer.layers if id(layer) not in before]
        self._began = self._last = time.perf_counter()
        self._timer.start(TURN)
        act()
        wait_for(lambda: not dock.session.busy)
        took = time.perf_counter() - self._began
        wait(0.5)  # what is drawn at the end
        self._timer.stop()
        # the click itself adds a layer
        later = [gap for gap, at in zip(self.gaps, np.cumsum(self.gaps), strict=True) if at - gap > CLICK]
        rest = {"max after 1 s ms": 1000 * max(later, default=0), "first objects s": self._seen or "", "s": took}
        return row(name, self.gaps) | rest | {"said": dock.segment.note.text()}

    def _turn(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now
        if self._seen is None and any(shows_objects(layer) for layer in self._new()):
            self._seen = now - self._began


def shows_objects(layer: Any) -> bool:
    """Return whether a layer shows objects on the screen."""
    return isinstance(layer, Labels) and layer.visible and bool(np.any(layer._slice.image.raw))


def painting(dock: UNetDock, seconds: float) -> dict[str, Any]:
    """Paint in the window that is open; strokes go to the disk meanwhile."""
    clock = Clock(dock.session.viewer)
    dock.correct.tools.take("paint")
    dock.session.labels.brush_size = 20
    clock.start(dock.session.labels)
    wait(seconds)
    clock.stop()
    dock.correct.tools.hand.put_away()
    wait(2)
    return row("paint in it", clock.gaps) | {"max after 1 s ms": "", "first objects s": "", "s": seconds, "said": ""}


def row(name: str, gaps: list[float]) -> dict[str, Any]:
    """Return the figures of the gaps."""
    ms = 1000 * np.array(gaps)
    each = {"gap p50 ms": np.median(ms), "gap p99 ms": np.percentile(ms, 99), "gap max ms": ms.max()}
    return {"act": name, **{key: float(value) for key, value in each.items()}}


if __name__ == "__main__":
    main()
