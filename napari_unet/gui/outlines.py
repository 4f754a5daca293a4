"""What a hand did, seen on the canvas: shapes of what it called right, dashes around what it painted; and their legend.

Both are layers that are only looked at. Strokes are no shapes: one more among a thousand takes tens of ms to add, the
pixels in a box less than one, however many strokes there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_unet.gui.layers import ONLY_SEEN, keep_active
from napari_unet.gui.look import GOOD, label, row
from napari_unet.gui.writing import put
from napari_unet.learn.corrections import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels, Layer, Shapes
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_unet.gui.marks import Mark
    from napari_unet.gui.regions import Region
    from napari_unet.gui.strokes import Annotation

DASHES = "#ffffff", "#000000"  # labels have all other colours; one of the two is seen on any image
DASH = 3  # pixels
SQUARE = 12  # of the legend, in pixels
TINT = "40"  # alpha of an accepted object: labels are outlines of all colours, green ones too
FAINT = "18"  # of a tile: its edge lies at the edge of what is in view


class Outlines:
    """Draws what is known by hand about one labels layer after the other.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layers: dict[int, Shapes] = {}  # by id of the labels layer
        self._shown: dict[int, list[Mark]] = {}
        self._dashes: dict[int, Labels] = {}
        self._drawn: dict[int, tuple[list[Region], int]] = {}  # the boxes that an annotation lists, how many are drawn
        self._lonely: list[Layer] = []  # whose labels layer went away

    def show(self, annotation: Annotation) -> None:
        """Draw what is known as it is now; a layer that the user removed comes back with the next mark or stroke."""
        self._show_painted(annotation)
        self._show_marks(annotation)

    def _show_marks(self, annotation: Annotation) -> None:
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

    def _show_painted(self, annotation: Annotation) -> None:
        """Draw dashes around what is painted, anew in the boxes of what was done since the last time."""
        labels, boxes = annotation.layer, annotation.painted
        key, shape = id(labels), tuple(labels.data.shape)
        listed, drawn = self._drawn.get(key, (boxes, 0))
        if listed is not boxes:  # the labels have another shape
            self._lonely += [self._dashes.pop(key)] if key in self._dashes else []
            self.sweep()
            drawn = 0
        self._drawn[key] = boxes, len(boxes)  # at once: the layer that is added below makes the dock ask again
        layer = self._dashes.get(key)
        if layer is not None and layer in self._viewer.layers:
            for box in boxes[drawn:]:
                put(layer, *dashes(annotation, box))
        elif annotation.strokes and len(boxes) > drawn and len(shape) > 1:  # a line has no room for dashes
            data = np.zeros(shape, np.uint8)
            for box in boxes:
                region, values = dashes(annotation, box)
                data[region] = values
            self._dashes[key] = self._add_dashes(labels, data)

    def close(self) -> None:
        """Remove all that is drawn; what is known stays."""
        self._lonely += [*self._layers.values(), *self._dashes.values()]
        self._layers, self._shown, self._dashes, self._drawn = {}, {}, {}, {}
        self.sweep()

    def forget(self, labels: Labels) -> None:
        """Let go of what is drawn over a labels layer that went away; `sweep` removes it."""
        layers = self._layers.pop(id(labels), None), self._dashes.pop(id(labels), None)
        self._shown.pop(id(labels), None)
        self._drawn.pop(id(labels), None)
        self._lonely += [layer for layer in layers if layer is not None]

    def sweep(self) -> None:
        """Remove outlines without labels. Not while napari removes layers: it goes on with a list that they are in."""
        lonely, self._lonely = self._lonely, []
        for layer in lonely:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _add(self, labels: Labels) -> Shapes:
        """Add an empty layer over the labels, without taking the brush out of the user's hand."""
        with keep_active(self._viewer):
            layer = self._viewer.add_shapes(None, ndim=labels.ndim, **_placed(labels, "confirmed"))
        layer.editable = False
        return layer

    def _add_dashes(self, labels: Labels, data: NDArray[np.uint8]) -> Labels:
        """Add a layer of dashes over the labels; their tool stays in hand."""
        from napari.utils.colormaps import DirectLabelColormap

        colours: dict[int | None, Any] = {None: "transparent", 0: "transparent", 1: DASHES[0], 2: DASHES[1]}
        with keep_active(self._viewer):
            layer = self._viewer.add_labels(
                data, colormap=DirectLabelColormap(color_dict=colours), opacity=1, **_placed(labels, "painted")
            )
        layer.editable = False  # nobody can paint on it, nor choose it as labels to correct
        return layer


def dashes(annotation: Annotation, box: Region) -> tuple[Region, NDArray[np.uint8]]:
    """Return where the painted pixels of a box, or beside it, end: a region and 1 or 2 there, 0 elsewhere."""
    shape, last = annotation.layer.data.shape, len(box) - 2
    seen, region = (
        tuple(
            slice(max(r.start - by, 0), min(r.stop + by, n)) if axis >= last else r
            for axis, (r, n) in enumerate(zip(box, shape, strict=True))
        )
        for by in (2, 1)
    )
    painted = annotation.state(seen) == State.PAINTED
    around = np.pad(painted, [(0, 0)] * last + [(1, 1)] * 2)
    inside = around[..., :-2, 1:-1] & around[..., 2:, 1:-1] & around[..., 1:-1, :-2] & around[..., 1:-1, 2:]
    crop = tuple(slice(r.start - s.start, r.stop - s.start) for r, s in zip(region, seen, strict=True))
    y, x = (np.arange(r.start, r.stop) for r in region[-2:])
    pattern = 1 + (y[:, None] + x) // DASH % 2
    return region, np.where((painted & ~inside)[crop], pattern, 0).astype(np.uint8)


def _placed(labels: Labels, what: str) -> dict[str, Any]:
    """Return name and place of a layer over the labels."""
    same = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    name = f"{labels.name.removesuffix('_labels')}_{what}"
    return {"name": name, "metadata": {ONLY_SEEN: True}} | {each: getattr(labels, each) for each in same}


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
        faces = [GOOD + (TINT if mark.state == State.ACCEPTED else FAINT) for mark in marks for _ in mark.outlines]
        layer.add_polygons(polygons, edge_width=widths, edge_color=GOOD, face_color=faces)
    layer.selected_data = set()
    layer.editable = False


def _width(mark: Mark) -> float:
    """Return how wide to draw an outline, in pixels: that of a large tile is seen from afar."""
    side = max(r.stop - r.start for r in mark.region[-2:])
    return max(side / 250, 0.8) if mark.state == State.CONFIRMED else 0.8


class Legend(QWidget):
    """What the shapes and the dashes mean; each is said where there are some."""

    def __init__(self) -> None:
        super().__init__()
        self.right = _said("called right", "Tiles and objects that you called right.", [GOOD], GOOD + TINT)
        self.painted = _said("changed by hand", "Pixels that you painted, rubbed out or changed with a tool.", DASHES)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(14)
        line.addWidget(self.right)
        line.addWidget(self.painted)
        line.addStretch(1)
        self.show_known(None)

    def show_known(self, annotation: Annotation | None) -> None:
        """Explain what is drawn of an annotation."""
        self.right.setVisible(annotation is not None and bool(annotation.marks))
        self.painted.setVisible(annotation is not None and annotation.strokes > 0)
        self.setVisible(annotation is not None and annotation.known())


def _said(text: str, tip: str, colours: Sequence[str], face: str = "#80808080") -> QWidget:
    """Return a square with a border of these colours in turn, and what it means."""
    square = QPixmap(2 * SQUARE, 2 * SQUARE)  # twice as fine, for screens that are
    square.setDevicePixelRatio(2)
    square.fill(QColor(f"#{face[7:]}{face[1:7]}"))  # Qt has alpha first
    painter = QPainter(square)
    for i, colour in enumerate(colours):
        pen = QPen(QColor(colour), 2.0)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        if len(colours) > 1:
            pen.setDashPattern([1.5, 1.5 * (len(colours) - 1)])  # in widths of the pen
            pen.setDashOffset(1.5 * i)
        painter.setPen(pen)
        painter.drawRect(1, 1, SQUARE - 2, SQUARE - 2)
    painter.end()
    picture, made = QLabel(), QWidget()
    picture.setPixmap(square)
    made.setToolTip(tip)
    made.setLayout(row(picture, label(text, "quiet")))
    return made
