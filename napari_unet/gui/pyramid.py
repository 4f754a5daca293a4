"""Labels of a large image in several sizes, as napari shows them while they grow or are corrected."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_unet.exchange.ome_zarr import shapes_of_levels
from napari_unet.gui.regions import overlap, shape_of_region
from napari_unet.infer.lazy import LazyArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.regions import Region

KEPT = 2**23  # pixels of a level that is held in memory: napari reads the smallest one whole at each refresh
TRIES, MOMENT = 5, 0.005  # to read what is being written, and seconds between them
OFTEN = 300  # ms between two refreshes: one takes some ten


class Pyramid:
    """What a multiscale labels layer shows: arrays on disk or in memory, the small ones in memory in any case.

    Parameters
    ----------
    arrays : sequence of array
        The levels, the finest first; they may be written.

    Attributes
    ----------
    shown : list of array
        The data for the layer.
    holes : list of tuple of slice
        Where nothing is shown of the large levels, in pixels of the finest: windows with these labels lie there.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.holes: list[Region] = []
        self._early: list[tuple[Region, NDArray[Any]]] = []
        self.arrays = list(arrays)
        self.factors = [_factors(each.shape, arrays[0].shape) for each in arrays]
        self.shown: list[Any] = []
        for level, each in enumerate(arrays):
            # napari reads the smallest level once, and asks no more: it gets what is written into
            if isinstance(each, np.ndarray):
                self.shown.append(each)
            elif math.prod(each.shape) <= KEPT or level == len(arrays) - 1:
                self.shown.append(np.array(each[...]))
            else:
                self.shown.append(LazyArray(each.shape, np.dtype(each.dtype), partial(self._read, level)))

    @classmethod
    def empty(cls, shape: Sequence[int], dtype: Any) -> Pyramid:
        """Make one with the levels of large labels that shows nothing yet; only the small ones take memory."""
        return cls([LazyArray(each, np.dtype(dtype), partial(_nothing, dtype)) for each in shapes_of_levels(shape)])

    @property
    def early(self) -> bool:
        """Whether what it shows is from before the first block."""
        return bool(self._early)

    def read_again(self, arrays: Sequence[Any]) -> None:
        """Show these arrays on disk, of the same shapes as those before."""
        self.arrays = list(arrays)
        for each, shown in zip(arrays, self.shown, strict=True):
            if isinstance(shown, np.ndarray):
                shown[...] = each[...]
        for region, labels in self._early:
            self.take(region, labels)

    def take_early(self, region: Region, labels: NDArray[Any]) -> None:
        """Show labels of a region, in pixels of the finest level, until `forget_early`."""
        self._early.append((region, labels))
        self.take(region, labels)

    def forget_early(self) -> None:
        """Show no longer what was there before the first block."""
        early, self._early = self._early, []
        for region, labels in early:
            self.take(region, np.zeros_like(labels))

    def take(self, region: Region, labels: NDArray[Any]) -> None:
        """Take over labels of a region, in pixels of the finest level, into all that is held in memory."""
        for shown, factors in zip(self.shown, self.factors, strict=True):
            if isinstance(shown, np.ndarray) and (fits := at_level(region, factors, shown.shape)) is not None:
                shown[fits[0]] = labels[fits[1]]

    def _read(self, level: int, at: tuple[slice, ...]) -> NDArray[Any]:
        part = read_whole(self.arrays[level], at)
        if any(each.step not in (None, 1) for each in at):
            return part
        for hole in self.holes:
            fits = at_level(hole, self.factors[level], self.arrays[level].shape)
            here, _ = (None, None) if fits is None else overlap(at, fits[0])
            if here is not None:
                part[here] = 0
        for region, labels in self._early:
            fits = at_level(region, self.factors[level], self.arrays[level].shape)
            here, there = (None, None) if fits is None else overlap(at, fits[0])
            if fits is not None and here is not None and there is not None:
                part[here] = labels[fits[1]][there]
        return part


class Redraw(QObject):
    """Draws a layer anew when its pixels have changed: at once, but not too often."""

    def __init__(self, layer: Labels) -> None:
        super().__init__()
        self._layer, self._drawn = layer, -math.inf
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._draw)

    def soon(self) -> None:
        """Draw it."""
        if not self._later.isActive():
            self._later.start(round(max(OFTEN - 1000 * (time.monotonic() - self._drawn), 0)))

    def _draw(self) -> None:
        self._layer.refresh(extent=False, highlight=False)
        self._drawn = time.monotonic()

    def close(self) -> None:
        """Draw it no more."""
        self._later.stop()


def read_whole(array: Any, at: Region) -> NDArray[Any]:
    """Read a part, again if a thread has just replaced it: zarr reads a piece's index first, and then its pixels."""
    for _ in range(TRIES):
        with suppress(RuntimeError, ValueError, OSError):
            return np.array(array[at])
        time.sleep(MOMENT)
    return np.array(array[at])


def at_level(region: Region, factors: Sequence[int], shape: Sequence[int]) -> tuple[Region, Region] | None:
    """Return which pixels of a coarser level lie in a region, and which of the region they show; None if none do.

    Pixels of it are every n-th of the finest level; other programs leave out the last one of an odd number.
    """
    pairs = list(zip(region, factors, strict=True))
    there = tuple(
        slice(min(-(-r.start // f), n), min(-(-r.stop // f), n)) for (r, f), n in zip(pairs, shape, strict=True)
    )
    if not all(shape_of_region(there)):
        return None
    ends = zip(there, pairs, strict=True)
    return there, tuple(slice(t.start * f - r.start, (t.stop - 1) * f - r.start + 1, f) for t, (r, f) in ends)


def _nothing(dtype: Any, at: Region) -> NDArray[Any]:
    return np.zeros(shape_of_region(at), dtype)


def _factors(shape: Sequence[int], finest: Sequence[int]) -> list[int]:
    return [max(round(n / m), 1) for m, n in zip(shape, finest, strict=True)]
