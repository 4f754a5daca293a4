"""Results into a Labels layer: a new one, one step that can be undone, or tile by tile where that would be felt."""

from __future__ import annotations

import math
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_unet.gui.layers import Region, placement, shape_of_region, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.layers import Source
    from napari_unet.gui.runs import Found
    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Annotation

SUFFIX = "_unet_labels"
OUTLINE = 2  # pixels: the image stays to be seen under the objects
OUTLINED = (
    2304**2
)  # pixels of the largest plane with outlines: drawing it anew takes four times as long (bench/redraw.py)
# A plane up to this many pixels is drawn anew in less than a tenth of a second (14 ms at 2048², 329 ms at 8192²).
PLANE = 4096**2
# So many pixels are written in less than a tenth of a second too.
MOST = 2048**2
# So many pixels are kept as they were before and after, for undo: 128 MB.
KEPT = 4096**2
TILE = 256  # side of what is written in one turn of the main loop: 3 ms


def add_labels(session: Session, source: Source, found: Found | None) -> Labels:
    """Add a labels layer exactly over the image, with a result or empty; it becomes the active one, to be corrected."""
    if found is not None and found.region == whole(source.shape):
        data: NDArray[Any] = found.labels
    else:
        dtype: Any = np.uint32 if found is None else found.labels.dtype
        data = np.zeros(source.shape, dtype)
        if found is not None:
            data[found.region] = found.labels
    instances = found is None or found.entry.get().task == "instances"
    labels = lay_over(session, source, data, instances=instances)
    if found is not None and instances:
        labels.selected_label = found.largest + 1
    return labels


def lay_over(session: Session, source: Source, data: NDArray[Any], *, instances: bool) -> Labels:
    """Add labels exactly over the image, outlined if they are objects in a plane that is not too large for that."""
    labels = session.viewer.add_labels(data, name=f"{source.layer.name}{SUFFIX}", **placement(source))
    if instances and math.prod(data.shape[-2:]) <= OUTLINED:
        labels.contour, labels.opacity = OUTLINE, 1.0
    return labels


def write(session: Session, annotation: Annotation, found: Found) -> TileWriter | None:
    """Write a result into the labels that it was joined with; a large one by the writer that is returned."""
    if found.entry.get().task == "instances":
        _step_aside(annotation.layer, found)
    if not is_large(annotation.layer, found.region):
        write_region(annotation, found.region, found.labels)
        return None
    session.pending = found.largest
    writer = TileWriter(annotation, found.region, found.labels)
    writer.start()
    return writer


def _step_aside(layer: Labels, found: Found) -> None:
    """Let a number that was selected but not painted yet become none of the objects that are written."""
    if found.was < layer.selected_label <= found.largest < np.iinfo(layer.data.dtype).max:
        layer.selected_label = found.largest + 1


def is_large(layer: Labels, region: Region) -> bool:
    """Return whether to write a region or to draw its plane would be felt, or the layer's pixels lie on a disk."""
    felt = math.prod(shape_of_region(region)) > MOST or math.prod(layer.data.shape[-2:]) > PLANE
    return felt or not isinstance(layer.data, np.ndarray)


def write_region(annotation: Annotation, region: Region, values: NDArray[Any]) -> None:
    """Write into a layer in one step that Ctrl+Z takes back; pixels that are known by hand stay.

    napari's own `data_setitem` would keep indices of each pixel; slices say the same in a hundredth of the memory.
    """
    layer = annotation.layer
    old = np.array(layer.data[region])
    new = np.where(annotation.protected(region), old, values).astype(old.dtype, copy=False)
    with annotation.not_by_hand(), layer.block_history():  # also where the model proposes what is there already
        if np.array_equal(old, new):
            return
        layer._save_history((region, old, new))
        layer.data[region] = new
        layer.refresh(extent=False)


class TileWriter(QObject):
    """Writes a large result tile by tile, between the turns of the main loop.

    It waits while a stroke is being painted, and ends early if the layer gets other data. Meanwhile there is nothing to
    undo: a step taken back between two tiles would bring up pixels of before the run. At the end the run is one more
    step that Ctrl+Z takes back, if it is no larger than `KEPT` and nothing was painted meanwhile; otherwise napari's
    undo cannot span it and stays empty.

    Attributes
    ----------
    cut : bool
        Whether the layer got other data before the end.
    """

    finished = Signal()

    def __init__(self, annotation: Annotation, region: Region, values: NDArray[Any]) -> None:
        super().__init__()
        self.annotation = annotation
        self._region, self._values = region, values
        self.cut = False
        self._data = annotation.layer.data
        self._old: NDArray[Any] | None = None
        self._new: NDArray[Any] | None = None
        self._undo: list[Any] | None = None  # napari's steps of before, from the start until something is painted
        self._begun = False
        side = [1] * (len(region) - 2) + [TILE] * 2
        steps = [range(0, n, s) for n, s in zip(shape_of_region(region), side[-len(region) :], strict=True)]
        self._corners = iter(list(product(*steps)))
        self._side = side[-len(region) :]
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._turn)

    def start(self) -> None:
        """Begin."""
        if not self.annotation.layer._block_history:  # what the values hold is not undone before the first turn
            self._hold_history()
        self._timer.start(0)

    def stop(self) -> None:
        """End, with whatever is written."""
        self._timer.stop()

    def _turn(self) -> None:
        layer = self.annotation.layer
        if layer.data is not self._data:
            self.cut = True
            self._timer.stop()
            self.finished.emit()
            return
        if layer._block_history:
            return
        self._hold_history()
        corner = next(self._corners, None)
        if corner is None:
            self._timer.stop()
            self._give_history_back()
            self.finished.emit()
            return
        inside = tuple(slice(c, min(c + s, n)) for c, s, n in zip(corner, self._side, self._values.shape, strict=True))
        region = tuple(slice(r.start + i.start, r.start + i.stop) for r, i in zip(self._region, inside, strict=True))
        old = np.asarray(layer.data[region])
        new = np.where(self.annotation.protected(region), old, self._values[inside]).astype(old.dtype, copy=False)
        changed = np.nonzero(new != old)
        if not changed[0].size:
            return
        if self._new is not None:
            self._new[inside] = new
        with self.annotation.not_by_hand(), _unrecorded(layer):
            if _is_shown(layer, region):
                layer.data_setitem(tuple(i + r.start for i, r in zip(changed, region, strict=True)), new[changed])
            else:  # a tenth of the time
                layer.data[region] = new

    def _hold_history(self) -> None:
        """Leave nothing to undo; at the start the steps are kept, later ones were painted between the tiles."""
        layer = self.annotation.layer
        if not self._begun:
            self._begun = True
            if self._values.size <= KEPT:
                self._undo, self._old = list(layer._undo_history), np.array(layer.data[self._region])
                self._new = self._old.copy()
        elif layer._undo_history or layer._redo_history:
            self._undo = self._old = self._new = None
        else:
            return
        with self.annotation.not_by_hand():
            layer._reset_history()

    def _give_history_back(self) -> None:
        """Put the steps of before back, and the run on top of them, if undo can span it."""
        layer = self.annotation.layer
        if self._undo is not None:
            with self.annotation.not_by_hand():
                layer._undo_history.extend(self._undo)
                layer._save_history((self._region, self._old, self._new))


@contextmanager
def _unrecorded(layer: Labels) -> Iterator[None]:
    """Write without napari's history."""
    layer._block_history = True
    try:
        yield
    finally:
        layer._block_history = False
        layer._staged_history = []


def _is_shown(layer: Labels, region: Region) -> bool:
    """Return whether a region lies in the slice on the screen."""
    return all(region[axis].start <= at < region[axis].stop for axis, at in layer._get_pt_not_disp().items())
