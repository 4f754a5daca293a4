"""What outlines cost: a stamp of the brush, and drawing a plane anew, with objects filled and outlined.

Needs a screen: without one, `xvfb-run -a -s "-screen 0 1600x1000x24" python bench/redraw.py`.

    python bench/redraw.py --json redraw.json
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtWidgets import QApplication
from report import arguments, report
from scipy import ndimage as ndi

from napari_unet.gui.results import OUTLINE

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (2048, 2304, 3072, 4096)


def main() -> None:
    """Print a line for each size and way."""
    parser = arguments(__doc__ or "")
    chosen = parser.parse_args()
    noise = ndi.gaussian_filter(np.random.default_rng(0).random((max(SIZES), max(SIZES)), np.float32), 5)
    objects = ndi.label(noise > 0.505)[0].astype(np.uint32)
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        viewer = napari.Viewer()
        labels = viewer.add_labels(objects[:size, :size].copy())
        labels.brush_size = 20
        for shown, contour in (("filled", 0), ("outlined", OUTLINE)):
            labels.contour = contour
            places = iter(range(100, 1000))
            stamp = median_ms(lambda layer=labels, at=places: layer.paint((next(at) * 2, 600), 1 + next(at) % 7), 30)
            redraw = median_ms(lambda layer=labels: layer.refresh(extent=False), 5)
            rows.append({"plane": f"{size}²", "objects": shown, "stamp ms": stamp, "redraw ms": redraw})
        viewer.close()
    report(rows, chosen.json)


def median_ms(do: Callable[[], object], times: int) -> float:
    """Return how long something and the turn of the main loop after it take."""
    QApplication.processEvents()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        QApplication.processEvents()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


if __name__ == "__main__":
    main()
