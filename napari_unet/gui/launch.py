"""Open napari with an image and the dock, ready to segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import napari

    from napari_unet.infer.image import Image

SAMPLE = "nuclei"


def launch(image: str | Path | None = None) -> None:
    """Open napari with the dock, and stay until its window is closed.

    Parameters
    ----------
    image : path, optional
        What to open; the default is a sample image of the project.

    Raises
    ------
    ImageError
        If the image cannot be read.
    """
    import napari

    open_viewer(image)
    napari.run()


def open_viewer(image: str | Path | None = None, *, show: bool = True) -> napari.Viewer:
    """Return a viewer with an image and the dock."""
    import napari

    from napari_unet.gui.dock import UNetDock
    from napari_unet.gui.samples import nuclei
    from napari_unet.infer.read import read_image

    if image is None:
        found: list[Any] = nuclei()
    else:
        found = [layer_data(read_image(image))]
    viewer = napari.Viewer(title="napari · U-Net", show=show)
    for data, settings, _ in found:
        viewer.add_image(data, **settings)
    viewer.window.add_dock_widget(UNetDock(viewer), name="U-Net", area="right")
    return viewer


def layer_data(read: Image) -> tuple[Any, dict[str, Any], str]:
    """Return an image that was read as napari wants it: pixels, settings, kind of layer."""
    data, axes = arranged(read.data, read.axes)
    spatial = axes.removesuffix("S")
    settings = {
        "name": read.name,
        "rgb": "S" in axes,
        "axis_labels": tuple(letter.lower() for letter in spatial),
        "scale": tuple(read.scale.get(letter, 1.0) for letter in spatial),
        "units": tuple("um" if letter in read.scale else "pixel" for letter in spatial),
    }
    return data, settings, "image"


def arranged(data: Any, axes: str) -> tuple[Any, str]:
    """Return an image and its axes as napari shows them best: channels first, colours last."""
    from napari_unet.infer.lazy import channels_first

    at = axes.find("C")
    if at > 0:
        data, axes = channels_first(data, at, slice(0, data.shape[at]), False, 1), "C" + axes.replace("C", "")
    at = axes.find("S")
    if -1 < at < len(axes) - 1:
        data, axes = np.moveaxis(np.asarray(data), at, -1), axes.replace("S", "") + "S"
    return data, axes
