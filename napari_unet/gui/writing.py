"""Pixels into a Labels layer: at once where nobody feels it, else tile by tile between the turns of the main loop."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_unet.gui.regions import Region, overlap, shape_of_region
from napari_unet.store.actions import Parts, Runs

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

# So many pixels are written and drawn in less than a tenth of a second.
MOST = 2048**2
TILE = 256  # side of what is written in one turn of the main loop: 3 ms


def is_large(layer: Labels, region: Region) -> bool:
    """Return whether to write a region would be felt; where the layer's pixels lie on a disk that is sooner."""
    return math.prod(shape_of_region(region)) > (MOST if isinstance(layer.data, np.ndarray) else TILE**2)


def put(layer: Labels, region: Region, values: NDArray[Any]) -> None:
    """Write pixels and draw that part of the layer anew: of the whole, napari would take 329 ms at 8192².

    napari's own `data_setitem` writes pixel by pixel and into its history; nobody is told of what is written here.
    """
    layer.data[region] = values
    if not layer._slicing_state.loaded:  # a slice that is being read may have been read before
        layer.refresh(extent=False)
        return
    hidden = layer._get_pt_not_disp()
    if not all(region[axis].start <= at < region[axis].stop for axis, at in hidden.items()):
        return
    displayed = layer._slice_input.displayed
    box = tuple(region[axis] for axis in displayed)
    image = layer._slice.image
    if not isinstance(layer.data, np.ndarray):  # else the slice is a view of the data
        order = np.argsort(np.argsort(displayed))
        plane = values[tuple(hidden[a] - region[a].start if a in hidden else slice(None) for a in range(values.ndim))]
        image.raw[box] = plane.transpose(order)
    if layer.contour == 0:  # else napari draws it from the raw pixels
        image.view[box] = layer.colormap._data_to_texture(image.raw[box])
    layer._accumulate_updated_slice(region)
    layer._partial_labels_refresh()


class TileWriter(QObject):
    """Makes a region of a layer equal to some labels, tile by tile.

    It waits while a stroke is being painted, and ends early if the layer gets other data. To whoever paints meanwhile
    the labels count as written: `ahead` says what will be there, and `take` brings in what was painted over it.

    Parameters
    ----------
    layer : Labels layer
        It is written.
    region : tuple of slice
        Where.
    values : array or Runs, the region's shape
        What; an array is changed by `take`. Packed ones are unpacked as it goes on.
    old : Runs, optional
        With packed values: only pixels that are as in these become others. Default: all.

    Attributes
    ----------
    cut : bool
        Whether the layer got other data before the end.
    """

    finished = Signal()

    def __init__(self, layer: Labels, region: Region, values: NDArray[Any] | Runs, old: Runs | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.cut = False
        self._region = region
        self._packed = Parts(values) if isinstance(values, Runs) else None
        self._old = None if old is None else Parts(old)
        self._values = np.empty(values.shape, values.dtype) if isinstance(values, Runs) else values
        self._data = layer.data
        self._side = ([1] * len(region) + [TILE] * 2)[-len(region) :]
        self._tiles = tuple(-(-n // side) for n, side in zip(values.shape, self._side, strict=True))
        self._next = 0  # of the tiles in C order
        rows = math.prod(self._tiles[:-1])  # of tiles
        self._ready = [self._packed is None] * rows  # whether their values are unpacked
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._turn)

    @property
    def largest(self) -> int:
        """The largest number that is written."""
        return int(self._values.max(initial=0)) if self._packed is None else self._packed.largest

    def start(self) -> None:
        """Begin."""
        self._timer.start(0)

    def stop(self) -> None:
        """End, with whatever is written."""
        self._timer.stop()

    def finish(self) -> None:
        """Write all that is left at once."""
        self._timer.stop()
        if self.layer.data is not self._data:
            self.cut = True
        elif self._next < math.prod(self._tiles):
            rows = self._next // math.prod(self._tiles[1:]) * self._side[0]  # the first axis up to here is written
            region = (slice(self._region[0].start + rows, self._region[0].stop), *self._region[1:])
            for row in range(len(self._ready)):
                self._unpack(row)
            put(self.layer, region, self._values[rows:])
        self._next = math.prod(self._tiles)
        self.finished.emit()

    def ahead(self, region: Region, pixels: NDArray[Any]) -> None:
        """Fill in what is not written yet in some pixels of a region; they are those that the layer had, or has."""
        here, there = overlap(region, self._region)
        if here is None or there is None:
            return
        sides, filled = zip(there, self._side, strict=True), []
        for tile in product(*(range(r.start // side, -(-r.stop // side)) for r, side in sides)):
            if (number := int(np.ravel_multi_index(tile, self._tiles))) >= self._next:
                self._unpack(number // self._tiles[-1], region, pixels)
                edges = zip(self._box(tile), there, strict=True)
                ours = tuple(slice(max(i.start, r.start), min(i.stop, r.stop)) for i, r in edges)
                theirs = tuple(
                    slice(o.start - t.start + h.start, o.stop - t.start + h.start)
                    for o, t, h in zip(ours, there, here, strict=True)
                )
                filled.append((theirs, self._values[ours]))
        for theirs, values in filled:  # only now: until all is unpacked they tell what the layer had
            pixels[theirs] = values

    def take(self, region: Region, pixels: NDArray[Any]) -> None:
        """Take over what was painted in a region."""
        here, there = overlap(region, self._region)
        if here is not None and there is not None:
            self._values[there] = pixels[here]

    def _box(self, tile: tuple[int, ...]) -> Region:
        """Return where in the values a tile lies."""
        at = zip(tile, self._side, self._values.shape, strict=True)
        return tuple(slice(i * side, min((i + 1) * side, n)) for i, side, n in at)

    def _turn(self) -> None:
        if self.layer.data is not self._data or self._next == math.prod(self._tiles):
            self.finish()
            return
        if self.layer._block_history:
            return
        self._unpack(self._next // self._tiles[-1])
        inside = self._box(tuple(map(int, np.unravel_index(self._next, self._tiles))))
        region = self._in_layer(inside)
        self._next += 1
        if not np.array_equal(np.asarray(self.layer.data[region]), self._values[inside]):
            put(self.layer, region, self._values[inside])

    def _in_layer(self, inside: Region) -> Region:
        """Return where in the layer a box of the values lies."""
        return tuple(slice(r.start + i.start, r.start + i.stop) for r, i in zip(self._region, inside, strict=True))

    def _unpack(self, row: int, region: Region | None = None, pixels: NDArray[Any] | None = None) -> None:
        """Unpack the values of a row of tiles, once; `pixels` are what the layer had in a region, if it has others."""
        if self._ready[row] or self._packed is None:
            return
        self._ready[row] = True
        first = self._box(tuple(map(int, np.unravel_index(row * self._tiles[-1], self._tiles))))
        inside = (*first[:-1], slice(0, self._values.shape[-1]))
        values = self._values[inside]
        start = int(np.ravel_multi_index([part.start for part in inside], self._values.shape))
        values[...] = self._packed.unpack(start, start + values.size).reshape(values.shape)
        if self._old is not None:
            now = np.array(self.layer.data[self._in_layer(inside)])
            if region is not None and pixels is not None:
                here, there = overlap(self._in_layer(inside), region)
                if here is not None and there is not None:
                    now[here] = pixels[there]
            old = self._old.unpack(start, start + values.size).reshape(values.shape)
            np.copyto(values, now, where=now != old)
