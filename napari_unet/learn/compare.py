"""Two segmentations of the same image held against each other: what both found, what only one, what otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.learn.matching import match_objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME = 0.75  # two outlines of one object by two people reach about as much
TOUCH = 0.1  # IoU from which an object of one is an object of the other, drawn otherwise
GAINED, LOST, CHANGED = 1, 2, 3  # in the picture


@dataclass(frozen=True, eq=False)
class Difference:
    """How the labels of one model differ from those of another.

    Attributes
    ----------
    picture : uint8 array, the shape of the labels
        `GAINED` and `LOST` on whole objects, `CHANGED` where both have an object and its pixels differ, else 0.
    same, changed, gained, lost : int
        Objects, or for classes pixels: in both alike; in both, otherwise; only in the new ones; only in the old ones.
    """

    picture: NDArray[np.uint8]
    same: int
    changed: int
    gained: int
    lost: int


def object_difference(old: NDArray[np.integer[Any]], new: NDArray[np.integer[Any]]) -> Difference:
    """Compare objects; their numbers do not matter.

    An object is the same if its IoU with its partner is at least `SAME`, and another outline of it from `TOUCH` on.

    Parameters
    ----------
    old, new : integer array
        Labels of one shape, 0 = background.

    Raises
    ------
    DataError
        If the shapes differ, or they are no labels.
    """
    same = match_objects(old, new, SAME)
    rest_old, rest_new = _without(old, same.truth), _without(new, same.prediction)
    rest = match_objects(rest_old, rest_new, TOUCH)  # in two rounds: one of 0.1 would rather have two bad pairs
    picture = np.zeros(old.shape, np.uint8)
    picture[_numbered(rest_old, rest.truth) != _numbered(rest_new, rest.prediction)] = CHANGED
    picture[np.isin(rest_old, rest.missed)] = LOST
    picture[np.isin(rest_new, rest.spurious)] = GAINED
    return Difference(picture, len(same.truth), len(rest.truth), len(rest.spurious), len(rest.missed))


def class_difference(old: NDArray[np.integer[Any]], new: NDArray[np.integer[Any]]) -> Difference:
    """Compare the classes of pixels: 0 is background, so a pixel is gained where only the new ones name a class."""
    picture = np.zeros(old.shape, np.uint8)
    picture[old != new] = CHANGED
    picture[(old == 0) & (new > 0)] = GAINED
    picture[(old > 0) & (new == 0)] = LOST
    counts = np.bincount(picture.ravel(), minlength=4)
    alike = int(np.count_nonzero((old == new) & (old > 0)))
    return Difference(picture, alike, int(counts[CHANGED]), int(counts[GAINED]), int(counts[LOST]))


def _without(labels: NDArray[Any], ids: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isin(labels, ids), 0, labels)


def _numbered(labels: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.intp]:
    """Return the place of each pixel's object among `ids`, from 1 up; 0 for all others."""
    if not len(ids):
        return np.zeros(labels.shape, np.intp)
    order = np.argsort(ids)
    at = np.searchsorted(ids, labels, sorter=order).clip(max=len(ids) - 1)
    place = order[at]
    return np.where(ids[place] == labels, place + 1, 0)
