"""Take the pictures of the documentation: the real window, on the project's own samples, at each step of the loop.

The nuclei are segmented by the shipped model; the cells, which it does not know, are what it learns.

Run it with ``make screenshots``; it needs a display, which may be a virtual one. The corrections are taken from the
sample's exact labels, as if a hand had painted them: the picture shows what the program really did with them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_unet import sample_data
from napari_unet.gui import models
from napari_unet.gui.dock import UNetDock
from napari_unet.gui.launch import open_viewer
from napari_unet.gui.look import Fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer

IMAGES = Path(__file__).with_name("images")
SIZE = (1440, 920)
PATIENCE = 600.0  # seconds for one job


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model file, instead of the shipped one")
    parser.add_argument("--steps", type=int, default=120, help="how long to learn (120)")
    parser.add_argument("--output", type=Path, default=IMAGES, help="where to put the pictures")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        models.folder = lambda: Path(folder) / "models"  # the user's own models are no part of the pictures
        take(given.output, given.model, given.steps)
        large(given.output, Path(folder))


def take(output: Path, model: str | None, steps: int) -> None:
    """Go once through the loop, and take a picture at each step."""
    viewer = open_viewer()
    viewer.window._qt_window.resize(*SIZE)
    dock = viewer.window._qt_window.findChild(UNetDock)
    session = dock.session

    def idle() -> bool:
        return not session.busy

    def picture(name: str) -> None:
        pause(0.5)
        viewer.screenshot(str(output / f"{name}.png"), canvas_only=False, flash=False)

    pause(1)
    if model is not None:
        dock.image.open_file(model)
        wait(idle)
    if session.model is None or session.model.name == models.UNTRAINED:
        sys.exit("There is no model to take pictures with: give one with --model FILE.")
    picture("open")
    dock.segment.start.click()
    wait(idle)
    picture("segment")
    viewer.open_sample("napari-unet-live", "movie")
    many = dock.segment.many
    fold = fold_of(dock, many)
    fold.toggle.click()
    many.start.click()
    wait(idle)
    picture("many")
    fold.toggle.click()
    viewer.layers.clear()
    pause(1)
    viewer.open_sample("napari-unet-live", "cells")
    viewer.reset_view()
    pause(1)
    dock.segment.start.click()
    wait(idle)
    outline(viewer, dock)
    picture("click")
    dock.correct.tools.hand.put_away()
    correct(viewer, dock)
    picture("correct")
    dock.correct.tools.fold.toggle.click()
    picture("tools")
    dock.correct.tools.fold.toggle.click()
    dock.finetune.settings.set("steps", steps)
    dock.finetune.start.click()
    wait(lambda: dock.finetune.bar.value() >= 0.6 * steps or idle())
    picture("learn")
    wait(idle)
    picture("result")
    dock.finetune.keep.click()
    wait(idle)
    dock.finetune.again.click()
    wait(idle)
    viewer.reset_view()
    picture("again")
    fold = fold_of(dock, dock.finetune.versions)
    fold.toggle.click()
    picture("versions")
    fold.toggle.click()
    viewer.theme = "light"
    picture("light")
    viewer.close()
    pause(0.2)
    reopen(output)


def reopen(output: Path) -> None:
    """Open the image again after the end: what was done to it is offered."""
    viewer = open_viewer()
    viewer.theme = "dark"
    viewer.window._qt_window.resize(*SIZE)
    viewer.layers.clear()
    viewer.open_sample("napari-unet-live", "cells")
    viewer.reset_view()
    dock = viewer.window._qt_window.findChild(UNetDock)
    wait(lambda: not dock.offer.isHidden())
    pause(0.5)
    viewer.screenshot(str(output / "restore.png"), canvas_only=False, flash=False)
    viewer.close()
    pause(0.2)


def large(output: Path, folder: Path) -> None:
    """Segment a slide of many nuclei to the disk, and open a part of it."""
    viewer = open_viewer()
    viewer.theme = "dark"
    viewer.window._qt_window.resize(*SIZE)
    viewer.layers.clear()
    viewer.open(slide(folder / "slide.ome.zarr"), plugin="napari-ome-zarr")
    dock = viewer.window._qt_window.findChild(UNetDock)
    viewer.reset_view()
    pause(5)
    dock.segment.part.setCurrentIndex(dock.segment.part.findData("whole"))
    dock.segment.start.click()
    wait(lambda: dock.segment.bar.maximum() > 0 and dock.segment.bar.value() > 0.7 * dock.segment.bar.maximum())
    pause(0.5)
    viewer.screenshot(str(output / "large.png"), canvas_only=False, flash=False)
    wait(lambda: not dock.session.busy)
    viewer.scene.camera.zoom, viewer.scene.camera.center = 1.5, (0, 2000, 3000)
    pause(1)
    dock.correct.open.click()
    wait(lambda: not dock.session.busy)
    pause(1)
    viewer.screenshot(str(output / "part.png"), canvas_only=False, flash=False)
    viewer.close()
    pause(0.2)


def slide(path: Path) -> Path:
    """Write an OME-Zarr of mirrored copies of the sample of nuclei, side by side."""
    import zarr

    tile = sample_data.load("nuclei").image
    pair = np.block([[tile, tile[:, ::-1]], [tile[::-1], tile[::-1, ::-1]]])
    whole = np.tile(pair, (6, 6))
    group, levels = zarr.open_group(path, mode="w", zarr_format=3), []
    for level in range(3):
        group.create_array(str(level), data=whole[:: 2**level, :: 2**level], chunks=(1024, 1024))
        scale = {"type": "scale", "scale": [2.0**level] * 2}
        levels.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    return path


def fold_of(dock: UNetDock, content: QWidget) -> Fold:
    """Return the fold that a part of the dock is in."""
    return next(each for each in dock.findChildren(Fold) if each.content is content)


def outline(viewer: Viewer, dock: UNetDock) -> None:
    """Click into the largest cell with the Click tool, and wait for its outline."""
    truth = sample_data.load("cells").labels
    number = int(np.bincount(truth[truth > 0]).argmax())
    tools, canvas = dock.correct.tools, viewer.window._qt_viewer.canvas.native
    tools.ours["click"].click()
    wait(lambda: tools.clicks._worker is None)
    world = np.argwhere(truth == number).mean(axis=0) * dock.session.labels.scale
    offset = (world - viewer.scene.camera.center[-2:]) * viewer.scene.camera.zoom
    at = QPoint(round(canvas.width() / 2 + offset[1]), round(canvas.height() / 2 + offset[0]))
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    pause(0.2)
    wait(lambda: tools.clicks._worker is None)


def correct(viewer: Viewer, dock: UNetDock) -> None:
    """Put the exact labels into what is in view, as strokes, and call it right."""
    labels = dock.session.labels
    viewer.scene.camera.zoom *= 1.6
    pause(0.5)
    truth = sample_data.load("cells").labels
    low, high = labels.corner_pixels
    inside = np.zeros(truth.shape, bool)
    inside[low[0] : high[0] + 1, low[1] : high[1] + 1] = True
    wrong = inside & ((truth > 0) != (labels.data > 0))
    numbers = np.unique(truth[wrong])
    for number in numbers[numbers > 0]:
        labels.data_setitem(np.nonzero(truth == number), int(number) + 1000)
    labels.data_setitem(np.nonzero(inside & (truth == 0) & (labels.data > 0)), 0)
    dock.correct.tools.napari["paint"].click()
    dock.correct.tile.click()


def pause(seconds: float) -> None:
    """Let the viewer run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


def wait(done: Callable[[], bool]) -> None:
    """Let the viewer run until something is done."""
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            sys.exit(f"This took longer than {PATIENCE:g} s.")
        pause(0.02)


if __name__ == "__main__":
    main()
