"""When to stop correcting: how much a person still changes of what the model proposes, before it learns from that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

# So many objects are pooled, at least: tiles differ much, and a person wants an answer after two or three of them.
# Where 9 % of the pixels are to be changed in all, below 5 % were in 27 of 100 draws of tiles with so many objects in
# sum (`nuclei` in kidney, bench/annotator.py --review).
OBJECTS = 40
# Share of the objects' pixels that is little: what a person changes of a model that is on its own ground (`nuclei` in
# fluorescence: 4.1 %; in histology, which it finds hard, 20 %, and there no draw was below this).
LITTLE = 0.05


@dataclass(frozen=True)
class Review:
    """What a person changed of a model's labels, in pixels that they looked at and the model had not learned from.

    Attributes
    ----------
    objects : int
        Looked at: those that were proposed and those that are there now, each pair of the same object counted once.
    changed : int
        Of them, those of which any pixel changed: missed, not there, cut, joined, or drawn otherwise.
    pixels : int
        Of objects, proposed or now.
    pixels_changed : int
        Of them, those that were background, became background, or went to another object.
    """

    objects: int
    changed: int
    pixels: int
    pixels_changed: int


@dataclass(frozen=True)
class Advice:
    """Whether more corrections will change much.

    Attributes
    ----------
    enough : bool
        More will change little. False as long as that is not known.
    missing : int
        Objects to look at before it is known.
    message : str
        One sentence for the user; empty if nothing was looked at.
    objects : int
        The last ones, that this is said about.
    share : float
        Of their pixels, how many were changed, 0 to 1.
    before : float or None
        The same of as many objects before them; None if there were too few.
    """

    enough: bool
    missing: int
    message: str
    objects: int
    share: float
    before: float | None


def review(
    proposed: NDArray[np.integer[Any]],
    corrected: NDArray[np.integer[Any]],
    looked_at: NDArray[np.bool_] | None = None,
) -> Review:
    """Compare the labels that a model proposed with what a person made of them.

    An object is the same in both if each shares more pixels with the other than with any other one; its number
    does not matter.

    Parameters
    ----------
    proposed, corrected : integer array
        Labels of one shape, 0 = background; of a tile, say, that was called right.
    looked_at : bool array, optional
        Their shape: which pixels count; default: all.
    """
    old, new = proposed.ravel(), corrected.ravel()
    if looked_at is not None and not looked_at.all():
        old, new = proposed[looked_at], corrected[looked_at]
    # runs of equal pixels: few numbers for many pixels
    begins = np.ones(old.size, bool)
    begins[1:] = (old[1:] != old[:-1]) | (new[1:] != new[:-1])
    starts = np.flatnonzero(begins)
    n_old, row = _codes(old[starts])
    n_new, column = _codes(new[starts])
    keys, which = np.unique(row * n_new + column, return_inverse=True)
    shared = np.bincount(which, np.diff(starts, append=old.size), len(keys)).astype(np.int64)
    row, column = np.divmod(keys, n_new)
    pixels = int(shared[(row > 0) | (column > 0)].sum())
    of_same_size = np.bincount(row, shared, n_old)[row] == np.bincount(column, shared, n_new)[column]
    whole = of_same_size & (shared == np.bincount(row, shared, n_old)[row])
    both = (row > 0) & (column > 0)
    row, column, shared, whole = row[both], column[both], shared[both], whole[both]
    order = np.argsort(shared, kind="stable")  # so that the last one, which stays, is the largest
    of_old, of_new = np.zeros(n_old, np.intp), np.zeros(n_new, np.intp)
    of_old[row[order]], of_new[column[order]] = column[order], row[order]
    pair = (of_old[row] == column) & (of_new[column] == row)
    objects = (n_old - 1) + (n_new - 1) - int(pair.sum())
    return Review(objects, objects - int((pair & whole).sum()), pixels, pixels - int(shared[pair].sum()))


def advice(reviews: Sequence[Review]) -> Advice:
    """Say whether more corrections will change much, by the last `OBJECTS` objects that were looked at.

    A rise or fall of the share from round to round is shown but not judged: tiles differ so much that two windows of
    a few dozen objects do not tell a model that still learns from one that does not. The score on held-out
    corrections before and after a round does, since it is of the same objects.

    Parameters
    ----------
    reviews : sequence of Review
        The oldest first, each taken before the model learned from it.
    """
    left = list(reviews)
    last = _pool(_pop(left))
    earlier = _pool(_pop(left))
    share = last.pixels_changed / max(last.pixels, 1)
    before = earlier.pixels_changed / max(earlier.pixels, 1) if earlier.objects >= OBJECTS else None
    missing = max(OBJECTS - last.objects, 0)
    enough = not missing and share < LITTLE
    return Advice(enough, missing, _sentence(last, missing, share, before), last.objects, share, before)


def _sentence(last: Review, missing: int, share: float, before: float | None) -> str:
    if not last.objects:
        return ""
    objects = f"{last.objects} object{'s' * (last.objects != 1)}"
    if missing:
        return f"In {objects} you changed {_percent(share)} of the pixels: {missing} more tell whether to go on."
    text = f"In the last {objects} you changed {_percent(share)} of the pixels"
    if share < LITTLE:
        return f"{text}: more corrections will change little."
    return f"{text}{'' if before is None else f' (before that {_percent(before)})'}: more corrections will help."


def _pop(reviews: list[Review]) -> Iterable[Review]:
    """Take the last ones off a list, until they are of `OBJECTS` objects."""
    count = 0
    while reviews and count < OBJECTS:
        count += reviews[-1].objects
        yield reviews.pop()


def _pool(reviews: Iterable[Review]) -> Review:
    """Return the sum of reviews."""
    counts = [(each.objects, each.changed, each.pixels, each.pixels_changed) for each in reviews]
    return Review(*(sum(each) for each in zip(*counts, strict=True))) if counts else Review(0, 0, 0, 0)


def _codes(values: NDArray[Any]) -> tuple[int, NDArray[np.intp]]:
    """Return how many labels there are, background always among them, and which of them each value is."""
    ids = np.unique(np.append(values, np.zeros(1, values.dtype)))
    return len(ids), np.searchsorted(ids, values)


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
