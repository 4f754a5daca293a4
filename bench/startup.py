"""How much later napari opens with the dock than without it.

Each opening is a process of its own, timed from its start until the window is drawn; with and without take turns.
Needs a screen: without one, `xvfb-run -a python bench/startup.py`.

    python bench/startup.py --json startup.json
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from report import arguments, report

OPEN = """
import sys
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer()
if "dock" in sys.argv:
    viewer.window.add_plugin_dock_widget("napari-unet-live", "U-Net")
for _ in range(10):
    QApplication.processEvents()
print("open", flush=True)
viewer.close()
"""


def main() -> None:
    """Open napari in turns and print the medians."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    seconds: dict[str, list[float]] = {"plain": [], "dock": []}
    for _ in range(chosen.repeats + 1):
        for kind, times in seconds.items():
            times.append(opened(kind))
    medians = {kind: statistics.median(times[1:]) for kind, times in seconds.items()}  # the first fills the disk cache
    rows = [
        {"napari": kind, "median s": medians[kind], "min s": min(times[1:]), "max s": max(times[1:])}
        for kind, times in seconds.items()
    ]
    later = {"napari": "later by", "median s": medians["dock"] - medians["plain"], "min s": "", "max s": ""}
    report([*rows, later], chosen.json)


def opened(kind: str) -> float:
    """Return the seconds from the start of a process until its window is drawn."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", OPEN, kind], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken = time.perf_counter() - began
        process.stdout.read()
    if line.strip() != "open" or process.returncode:
        raise SystemExit(f"napari ({kind}) did not open: run this with a screen, or under xvfb-run -a.")
    return taken


if __name__ == "__main__":
    main()
