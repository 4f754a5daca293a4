"""One entry of a layer's history; and what of it was changed by hand over a model's proposal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui.marks import called_right
from napari_unet.gui.regions import overlap
from napari_unet.learn.stopping import review
from napari_unet.store.actions import Action, Runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_unet.gui.marks import Mark
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.regions import Region
    from napari_unet.learn.stopping import Review


EARLIER = "earlier"  # in an action's `about`: it sums up what cannot be taken back any more


@dataclass(eq=False)
class Step:
    """An action, and what taking it back must know besides.

    Attributes
    ----------
    action : Action
        What was done to the labels.
    fresh : Runs or None
        Of an edit by hand: which pixels of the box nobody had painted before it, bool.
    mark : Mark or None
        What it called right.
    proposal : Proposal or None
        Of another model's run: the proposal that does not count now, the one before it or, once taken back, its own.
    """

    action: Action
    fresh: Runs | None = None
    mark: Mark | None = None
    proposal: Proposal | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        mask = None if self.mark is None else self.mark.mask
        return self.action.nbytes + (self.fresh.nbytes if self.fresh else 0) + (0 if mask is None else mask.nbytes)

    @property
    def strokes(self) -> int:
        """How many edits by hand it stands for."""
        by_hand = self.mark is None and self.action.vouched is not None
        return int(self.action.about.get("strokes", 1)) if by_hand else 0


@dataclass(eq=False)
class Proposal:
    """What a model proposed, told by what a hand changed over it: no copy of it is kept.

    Attributes
    ----------
    model : ModelEntry or None
        Whose it is.
    steps : list of Step
        Edits by hand since then that stand.
    taken : set of Mark and Step
        That it learned from, or that are older.
    """

    model: ModelEntry | None = None
    steps: list[Step] = field(default_factory=list)
    taken: set[Mark | Step] = field(default_factory=set)

    def review(self, tile: Mark, others: Iterable[Mark], labels: NDArray[Any], painted: NDArray[np.bool_]) -> Review:
        """Compare a tile with what was proposed, but for what lies in other marks or was learned from.

        Parameters
        ----------
        tile : Mark
            Which tile.
        others : iterable of Mark
            That are reviewed themselves.
        labels, painted : array, the tile's shape
            The labels there; which of them were painted by hand.
        """
        proposed, looked_at = labels.copy(), ~painted
        for step in self.steps:
            here, there = overlap(tile.region, step.action.region)
            if here is not None and step not in self.taken and step.fresh is not None:
                fresh, before = step.fresh.unpack()[there], step.action.before.unpack()[there]
                proposed[here] = np.where(fresh, before, proposed[here])
                looked_at[here] |= fresh
        marks = [each for each in self.taken if not isinstance(each, Step)]
        for mark in (*marks, *others):
            here, there = overlap(tile.region, mark.region)
            if here is not None:
                looked_at[here] &= False if mark.mask is None else ~mark.mask[there]
        return review(proposed, labels, looked_at)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is known by hand when a model begins to learn from it, and the reviews of it."""

    reviews: list[Review]
    known: set[Mark | Step]
    data: Any  # of the labels layer


def known_before(
    labels: NDArray[Any], marks: Iterable[Mark], box: Region | None, painted: NDArray[np.bool_] | None, strokes: int
) -> list[Action]:
    """Return what is known of labels as actions that lead to it, for a history that begins with them.

    Parameters
    ----------
    labels : array
        All of them.
    marks : iterable of Mark
        What was called right.
    box, painted : tuple of slice, bool array; None
        Which pixels of a box were painted by hand.
    strokes : int
        With how many strokes.
    """
    known = [called_right(mark, labels) for mark in marks]
    if box is not None and painted is not None:
        there = Runs.pack(np.asarray(labels[box]))
        known.insert(0, Action("stroke", box, there, there, Runs.pack(painted), about={"strokes": strokes}))
    return [replace(action, about={**action.about, EARLIER: True}) for action in known]
