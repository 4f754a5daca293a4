"""Outlines on the canvas of what the user confirmed: a shapes layer that is only looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui.look import GOOD
from napari_unet.learn.corrections import State

if TYPE_CHECKING:
    from napari.layers import Labels, Shapes
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_unet.gui.layers import Region
    from napari_unet.gui.strokes import Annotation, Mark

CORNERS = 48  # of an object's outline, at most


class Outlines:
    """Draws the marks of one labels layer after the other.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layers: dict[int, Shapes] = {}  # by id of the labels layer
        self._shown: dict[int, list[Mark]] = {}

    def show(self, annotation: Annotation) -> None:
        """Draw the marks as they are now; a layer that the user removed comes back with the next mark."""
        key = id(annotation.layer)
        layer = self._layers.get(key)
        if layer is not None and layer not in self._viewer.layers:
            del self._layers[key]
            layer = None
        if annotation.marks == self._shown.get(key, []):
            return
        self._shown[key] = list(annotation.marks)
        if layer is None and not annotation.marks:
            return
        if layer is None:
            layer = self._layers[key] = self._add(annotation.layer)
        layer.editable = True
        layer.selected_data = set()
        layer.data = []
        outlines = [mark.outline for mark in annotation.marks if mark.outline is not None]
        if outlines:
            side = max(np.ptp(outlines[0], axis=0).max(), 32)
            width = [max(side / 250, 0.8) if m.state == State.CONFIRMED else 0.8 for m in annotation.marks]
            layer.add_polygons(outlines, edge_width=width, edge_color=GOOD, face_color="transparent")
        layer.editable = False

    def forget(self, labels: Labels) -> None:
        """Remove the outlines of a labels layer that went away."""
        layer = self._layers.pop(id(labels), None)
        self._shown.pop(id(labels), None)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _add(self, labels: Labels) -> Shapes:
        """Add an empty layer over the labels, without taking the brush out of the user's hand."""
        selection = self._viewer.layers.selection
        active = selection.active
        said: dict[str, Any] = {
            name: getattr(labels, name)
            for name in ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
        }
        layer = self._viewer.add_shapes(
            None, ndim=labels.ndim, name=f"{labels.name.removesuffix('_labels')}_confirmed", **said
        )
        if active is not None:
            selection.active = active
        return layer


def tile_outline(region: Region) -> NDArray[np.float64]:
    """Return the four corners of a tile; in a stack, in its slice."""
    *leading, y, x = region if len(region) > 1 else (slice(0, 1), *region)
    top, bottom, left, right = y.start - 0.5, y.stop - 0.5, x.start - 0.5, x.stop - 0.5
    plane = np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
    return np.hstack([np.full((4, len(leading)), [r.start for r in leading] or 0.0), plane])


def object_outline(region: Region, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the corners of an object's outline in its plane."""
    from skimage.measure import find_contours

    plane = mask.reshape(mask.shape[-2:])
    longest = max(find_contours(np.pad(plane, 1).astype(np.float32), 0.5), key=len)[:-1]
    corners = longest[:: -(-len(longest) // CORNERS)] - 1 + [region[-2].start, region[-1].start]
    leading = [r.start for r in region[:-2]]
    return np.hstack([np.full((len(corners), len(leading)), leading or 0.0), corners])
