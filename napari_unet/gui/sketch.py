"""What a tool draws on the canvas before anything is written: outlines, boxes and clicks, on a layer only looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui.layers import keep_active

if TYPE_CHECKING:
    from napari.layers import Labels, Shapes
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_unet.infer.clicks import Outline, Prompt

INSIDE, OUTSIDE, DRAWN = "#4fc36b", "#ff5c5c", "#ffd166"
LINE, DOT = 2.0, 4.0  # pixels of the screen: width of a line, radius of a click
DOTS = 30  # of a stroke, at most
_CORNERS = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], float)


class Sketch:
    """A shapes layer that is there as long as something is drawn on it.

    Parameters
    ----------
    viewer : Viewer
        Where the layer is added.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layer: Shapes | None = None

    def show(self, labels: Labels, place: tuple[int, ...], prompt: Prompt, found: Outline | None) -> None:
        """Draw, in a slice of the labels, an outline and what was said of it."""
        layer = self._emptied(labels)
        pixel = 1 / max(self._viewer.scene.camera.zoom * abs(float(labels.scale[-1])), 1e-6)  # of the screen
        if found is not None:
            for line in _contours(found):
                _line(layer, place, line, LINE * pixel, DRAWN)
        elif prompt.box is not None:
            (top, bottom), (left, right) = ((s.start - 0.5, s.stop - 0.5) for s in prompt.box)
            box = np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
            _line(layer, place, box, LINE * pixel, INSIDE)
        for places, colour in ((prompt.inside, INSIDE), (prompt.outside, OUTSIDE)):
            some = places[:: 1 + len(places) // DOTS]
            dots = [_in(place, np.array(at) + DOT * pixel * _CORNERS) for at in some]
            if dots:
                layer.add_ellipses(dots, edge_width=0, edge_color=colour, face_color=colour)
        layer.selected_data = set()
        layer.editable = False

    def clear(self) -> None:
        """Rub out what is drawn."""
        if self._layer is not None and self._layer in self._viewer.layers and len(self._layer.data):
            self._layer.editable = True
            self._layer.selected_data = set(range(len(self._layer.data)))
            self._layer.remove_selected()
            self._layer.editable = False

    def remove(self) -> None:
        """Remove the layer."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _emptied(self, labels: Labels) -> Shapes:
        """Return the layer with nothing on it; a new one lies over the labels, which stay the active layer."""
        if self._layer is None or self._layer not in self._viewer.layers:
            where: dict[str, Any] = {
                name: getattr(labels, name)
                for name in ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
            }
            with keep_active(self._viewer):
                self._layer = self._viewer.add_shapes(None, ndim=labels.ndim, name="sketch", **where)
        self.clear()
        self._layer.editable = True
        return self._layer


def _contours(found: Outline) -> list[NDArray[np.float64]]:
    """Return the outlines of an object as corners, in pixels of the plane."""
    from skimage.measure import find_contours

    lines = find_contours(np.pad(found.mask, 1).astype(np.float32), 0.5)
    return [line - 1 + [s.start for s in found.box] for line in lines]


def _line(layer: Shapes, place: tuple[int, ...], corners: NDArray[np.float64], width: float, colour: str) -> None:
    """Draw a closed line; napari would fill a polygon with triangles, which takes it long for many corners."""
    layer.add_paths([_in(place, np.vstack((corners, corners[:1])))], edge_width=width, edge_color=colour)


def _in(place: tuple[int, ...], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return corners in a plane as corners in the slice of all axes."""
    return np.hstack((np.tile(np.array(place, float), (len(corners), 1)), corners))
