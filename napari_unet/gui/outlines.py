"""Outlines on the canvas of what the user confirmed: a shapes layer that is only looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.gui.look import GOOD
from napari_unet.learn.corrections import State

if TYPE_CHECKING:
    from napari.layers import Labels, Shapes
    from napari.viewer import Viewer

    from napari_unet.gui.marks import Mark
    from napari_unet.gui.strokes import Annotation


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
        self._lonely: list[Shapes] = []  # whose labels layer went away

    def show(self, annotation: Annotation) -> None:
        """Draw the marks as they are now; a layer that the user removed comes back with the next mark."""
        key, marks = id(annotation.layer), annotation.marks
        shown = self._shown.get(key, [])
        if marks == shown:
            return
        self._shown[key] = list(marks)  # at once: the layer that is added below makes the dock ask again
        layer = self._layers.get(key)
        if layer is None or layer not in self._viewer.layers:
            if not marks:
                return
            layer, shown = self._add(annotation.layer), []
            self._layers[key] = layer
        pairs = enumerate(zip(marks, shown, strict=False))
        same = next((i for i, (mine, theirs) in pairs if mine is not theirs), min(len(marks), len(shown)))
        _draw(layer, sum(len(mark.outlines) for mark in marks[:same]), marks[same:])

    def close(self) -> None:
        """Remove all outlines; the marks stay."""
        self._lonely += self._layers.values()
        self._layers, self._shown = {}, {}
        self.sweep()

    def forget(self, labels: Labels) -> None:
        """Let go of the outlines of a labels layer that went away; `sweep` removes them."""
        layer = self._layers.pop(id(labels), None)
        self._shown.pop(id(labels), None)
        self._lonely += [layer] if layer is not None else []

    def sweep(self) -> None:
        """Remove outlines without labels. Not while napari removes layers: it goes on with a list that they are in."""
        lonely, self._lonely = self._lonely, []
        for layer in lonely:
            if layer in self._viewer.layers:
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
        layer.editable = False
        return layer


def _draw(layer: Shapes, kept: int, marks: list[Mark]) -> None:
    """Let go of all outlines but the first ones, and draw those of some marks; to draw all anew takes long."""
    outlines = [(outline, _width(mark)) for mark in marks for outline in mark.outlines]
    if kept == len(layer.data) and not outlines:
        return
    layer.editable = True
    layer.selected_data = set(range(kept, len(layer.data)))
    layer.remove_selected()
    if outlines:
        polygons, widths = map(list, zip(*outlines, strict=True))
        layer.add_polygons(polygons, edge_width=widths, edge_color=GOOD, face_color="transparent")
    layer.selected_data = set()
    layer.editable = False


def _width(mark: Mark) -> float:
    """Return how wide to draw an outline, in pixels: that of a large tile is seen from afar."""
    side = max(r.stop - r.start for r in mark.region[-2:])
    return max(side / 250, 0.8) if mark.state == State.CONFIRMED else 0.8
