"""Boxes of an image in pixels of its labels: what two of them share, and which part of the image is in view."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_unet.gui.layers import Source

Region = tuple[slice, ...]
Part = Literal["whole", "slice", "view"]

LONGEST = 1024  # side in pixels of a tile that is confirmed in one go: more than that nobody looks at with care


def shape_of_region(region: Region) -> tuple[int, ...]:
    """Return how many pixels a region has along each axis."""
    return tuple(r.stop - r.start for r in region)


def overlap(a: Region, b: Region) -> tuple[Region, Region] | tuple[None, None]:
    """Return what two regions share, in pixels of the one and of the other; None if they share nothing."""
    shared = [(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True)]
    if any(start >= stop for start, stop in shared):
        return None, None
    return (
        tuple(slice(start - r.start, stop - r.start) for (start, stop), r in zip(shared, a, strict=True)),
        tuple(slice(start - r.start, stop - r.start) for (start, stop), r in zip(shared, b, strict=True)),
    )


def whole(shape: tuple[int, ...]) -> Region:
    """Return the region of all pixels."""
    return tuple(slice(0, n) for n in shape)


def region_of(viewer: Viewer, source: Source, part: Part, labels: Layer | None = None) -> Region:
    """Return a part of an image in pixels of its labels.

    Parameters
    ----------
    viewer : Viewer
        Says which slice is shown.
    source : Source
        The image.
    part : {"whole", "slice", "view"}
        All; the plane that is shown; what of that plane is on the screen.
    labels : Labels layer, optional
        If there is one, what is on the screen is read from it.

    Raises
    ------
    ImageError
        If rows and columns of the image are not what the screen shows, so that no plane of it is in view.
    """
    shape = source.shape
    if part == "whole":
        return whole(shape)
    corner = [0] * len(shape) if source.window is None else [w.start for w in source.window]
    kept = source.kept
    layer = source.layer
    point = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    shown = {d - (viewer.dims.ndim - layer.ndim) for d in viewer.dims.displayed}
    if not shown.issuperset(kept[-2:]):
        raise ImageError(
            f"The viewer does not show the rows and columns of {layer.name!r}: roll the axes until it does "
            "(Ctrl+E), so that it is clear what is in view."
        )
    regions = []
    for axis, (i, n) in enumerate(zip(kept, shape, strict=True)):
        if axis < len(shape) - 2:  # the plane of the last two axes at the place of the sliders
            at = min(max(round(float(point[i]) / source.step[axis]) - corner[axis], 0), n - 1)
            regions.append(slice(0, n) if viewer.dims.ndisplay == 3 and i in shown else slice(at, at + 1))
        elif part == "view" and i in shown and viewer.dims.ndisplay == 2:
            low, high = _corners(viewer, source, axis, labels)
            start = min(max(math.floor(low), 0), n - 1)
            regions.append(slice(start, max(min(math.ceil(high) + 1, n), start + 1)))
        else:
            regions.append(slice(0, n))
    return tuple(regions)


def _corners(viewer: Viewer, source: Source, axis: int, labels: Layer | None) -> tuple[float, float]:
    """Return from where to where the screen shows an axis, in pixels of the labels."""
    if labels is not None and labels.visible:
        low, high = labels.corner_pixels[:, axis]
        return float(low), float(high)
    layer, i = source.layer, source.kept[axis]
    low, high = _seen(viewer, layer, i) if layer.multiscale else layer.corner_pixels[:, i]
    corner = 0 if source.window is None else source.window[axis].start
    return low / source.step[axis] - corner, high / source.step[axis] - corner


def _seen(viewer: Viewer, layer: Image, axis: int) -> tuple[float, float]:
    """Return from where to where the screen shows an axis of a pyramid; napari rounds that to whole chunks."""
    half = np.asarray(viewer.canvas.size) / 2 / viewer.scene.camera.zoom
    shown, places = list(viewer.dims.displayed[-2:]), []
    for signs in product((-1, 1), repeat=2):
        point = np.array(viewer.dims.point, float)
        point[shown] = np.asarray(viewer.scene.camera.center[-2:]) + np.array(signs) * half
        places.append(float(layer.world_to_data(point[-layer.ndim :])[axis]))
    return min(places), max(places)


def around(outline: NDArray[np.float64], plane: Region, width: float) -> tuple[Region, NDArray[np.bool_]]:
    """Return the box in a plane around an outline and objects of some width on it, and which of its pixels lie inside.

    Of an outline beside the plane the box is empty.
    """
    from skimage.draw import polygon2mask

    low, high = np.floor(outline.min(axis=0) - 2 * width), np.ceil(outline.max(axis=0) + 2 * width) + 1
    ends = zip(low, high, plane[-2:], strict=True)
    box = [slice(*(int(min(max(end, r.start), r.stop)) for end in (a, b))) for a, b, r in ends]
    region = (*plane[:-2], *box)
    size = shape_of_region(region)
    inside = polygon2mask(size[-2:], outline - [r.start for r in box]) if all(size) else np.zeros(size, bool)
    return region, inside.reshape(size)


def clamp(region: Region, longest: int = LONGEST) -> Region:
    """Return the middle of a region, no longer than that along any axis."""
    result = []
    for r in region:
        spare = max(0, r.stop - r.start - longest)
        result.append(slice(r.start + spare // 2, r.stop - (spare - spare // 2)))
    return tuple(result)
