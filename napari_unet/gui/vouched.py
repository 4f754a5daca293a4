"""Which pixels of a labels layer a user vouches for: painted, in a tile called right, of an accepted object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui.regions import overlap, shape_of_region
from napari_unet.learn.corrections import State
from napari_unet.store.actions import Runs, bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.gui.marks import Mark
    from napari_unet.gui.regions import Region
    from napari_unet.gui.steps import Step


class Vouched:
    """The pixels of labels that a user vouches for.

    Parameters
    ----------
    shape : tuple of int
        Of the labels.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.marks: list[Mark] = []
        self.strokes = 0
        self.painted: list[Region] = []  # boxes of all edits by hand and their undoing, so that only they are redrawn
        self._painted = np.zeros(shape, bool)

    @property
    def tiles(self) -> int:
        """How many tiles are confirmed."""
        return sum(mark.state == State.CONFIRMED for mark in self.marks)

    @property
    def objects(self) -> int:
        """How many objects are accepted."""
        return sum(mark.state == State.ACCEPTED for mark in self.marks)

    def known(self) -> bool:
        """Return whether there is anything to learn from."""
        return bool(self.marks) or self.strokes > 0

    def state(self, region: Region | None = None) -> NDArray[np.uint8]:
        """Return a `State` for each pixel of a region, a new ``uint8`` array."""
        region = region or tuple(slice(0, n) for n in self._painted.shape)
        result = np.zeros(shape_of_region(region), np.uint8)
        for mark in sorted(self.marks, key=lambda mark: mark.state):
            here, there = overlap(region, mark.region)
            if here is not None:
                known = True if mark.mask is None else mark.mask[there]
                result[here] = np.where(known, np.uint8(mark.state), result[here])
        result[self._painted[region]] = State.PAINTED
        return result

    def protected(self, region: Region) -> NDArray[np.bool_]:
        """Return which pixels of a region no run may overwrite."""
        return self.state(region) > State.UNKNOWN

    def _vouch(self, step: Step) -> None:
        """Know what a step vouches for."""
        region, vouched = step.action.region, step.action.vouched
        if step.mark is not None:
            self.marks.append(step.mark)
        elif vouched is not None:
            there = vouched.unpack()
            if step.fresh is None:
                painted = self._painted[region]
                step.fresh = Runs.pack(there & ~painted) if painted.any() else vouched
            self._painted[region] |= there
            self.painted.append(region)
            self.strokes += step.strokes

    def _withdraw(self, step: Step) -> None:
        """Know no longer what a step vouched for; it is the last one."""
        if step.mark is not None:
            self.marks.pop()
        elif step.fresh is not None:
            self._painted[step.action.region] &= ~step.fresh.unpack()
            self.painted.append(step.action.region)
            self.strokes -= step.strokes

    def _keep(self, old: Any, new: Any) -> None:
        """Know only what agrees with other labels than before; with those of another shape nothing does."""
        if new.shape != old.shape:
            self._painted = np.zeros(new.shape, bool)
            self.marks, self.strokes, self.painted = [], 0, []
            return
        if (box := bounds(self._painted)) is not None:
            self._painted[box] &= _same(old, new, box)
            self.painted.append(box)
        self.marks = [mark for mark in self.marks if mark.agrees(_same(old, new, mark.region))]
        self.strokes = self.strokes if self._painted.any() else 0


def _same(old: Any, new: Any, region: Region) -> NDArray[np.bool_]:
    """Return where in a region two arrays agree; zarr's do not compare pixels, and none is read as a whole."""
    return np.asarray(np.asarray(old[region]) == np.asarray(new[region]))
