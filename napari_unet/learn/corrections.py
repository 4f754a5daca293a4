"""Corrections: what a user said is right, and what can be learned from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.errors import DataError
from napari_unet.infer.image import median_diameter, nearest, rescale
from napari_unet.infer.scale import enlargement, may_enlarge, scale_factor
from napari_unet.infer.seen import Seen, see
from napari_unet.jobs import Job, Progress
from napari_unet.learn.targets import MAX_ID, TrainingTile, make_target

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_unet.model import Model

CELL = 128  # side in pixels of the cells that held-out parts are made of; wide enough for a few objects
CONTEXT = 64  # pixels around a cell that the network sees too
WHOLE = 0.95  # an object counts as known as a whole from this share of known pixels up

Cells = list["NDArray[np.intp]"]  # for each axis, the number of the cell that each pixel is in; it rises


class State(IntEnum):
    """How a pixel of the labels came to be known."""

    UNKNOWN = 0  # a prediction that nobody looked at: it is never learned from as it is
    CONFIRMED = 1  # in a tile that the user called right
    ACCEPTED = 2  # of an object that the user called right, or of the thin ring of background around it
    PAINTED = 3  # painted or erased by hand


# A hand's stroke is sure. A tile called right was looked at as a whole, so some pixels of it will be off.
WEIGHT = {State.UNKNOWN: 0.0, State.CONFIRMED: 0.5, State.ACCEPTED: 1.0, State.PAINTED: 1.0}


@dataclass(frozen=True)
class Corrections:
    """One image with its corrections.

    Attributes
    ----------
    image : array
        Any numeric dtype.
    axes : str or None
        Of the image; guessed if None.
    labels : integer array
        The image's shape without channels: object numbers or classes.
    state : uint8 array
        The shape of `labels`: a :class:`State` for each pixel.
    channel, diameter
        As the image was segmented, see :class:`~napari_unet.infer.segment.SegmentSettings`.
    name : str
        Of the image.
    tiles, objects, strokes : int
        How many tiles and objects were called right, and strokes painted; to be told of, not learned from.
    """

    image: ArrayLike
    labels: NDArray[np.integer[Any]]
    state: NDArray[np.uint8]
    axes: str | None = None
    channel: int | None = None
    diameter: float | None = None
    name: str = ""
    tiles: int = 0
    objects: int = 0
    strokes: int = 0


def correction_tiles(
    model: Model, corrections: list[Corrections]
) -> Job[tuple[list[TrainingTile], list[TrainingTile]]]:
    """Make tiles from corrections, and hold some of them out to score on.

    Each slice is parted into cells, at the scale the model works at; of any 2 by 2 block of them one is held
    out, the same in every round, so that no later model is scored on what an earlier one has learned, and the
    same in every slice, since neighbours show the same objects.

    Parameters
    ----------
    model : Model
        Says how images are normalised and what labels mean.
    corrections : list of Corrections
        One for each corrected image.

    Yields
    ------
    Progress
        Images read.

    Returns
    -------
    tiles, held_out : list of TrainingTile
        To learn from, one for each slice; to score on, one for each held-out cell.

    Raises
    ------
    DataError
        If labels do not fit their image, or nothing is corrected.
    """
    tiles: list[TrainingTile] = []
    held_out: list[TrainingTile] = []
    for i, each in enumerate(corrections):
        yield Progress(i, len(corrections), f"reading the corrections of {each.name}")
        if not each.state.any():
            continue
        seen = see(model, each.image, each.axes, each.channel)
        if not seen.shape == each.labels.shape == each.state.shape:
            raise DataError(
                f"The labels of {each.name!r} are {each.labels.shape} pixels and the image "
                f"{seen.shape}: segment it again, so that they fit."
            )
        factor = learned_scale(model, each)
        for index in np.ndindex(each.labels.shape[: each.labels.ndim - model.ndim]):
            if not each.state[index].any():
                continue
            learned, scored = _part(*_slice_tile(model, each, seen, index, factor))
            tiles += [learned] if learned.weight.any() else []
            held_out += scored
    if not tiles and not held_out:
        raise DataError("Nothing is corrected yet: paint on the labels, or confirm a tile that is right.")
    if not tiles:  # so little that all of it fell into held-out cells: learning comes before scoring
        return held_out, []
    return tiles, held_out


def known_weight(
    labels: NDArray[np.integer[Any]], state: NDArray[np.uint8], task: str = "instances"
) -> NDArray[np.float32]:
    """Return how much each pixel counts, ``float32 (3, *spatial)``: for its class; for its boundary; for its distance.

    The distance of a pixel of an object is known only if the object is known as a whole. Its boundary is known also
    where all pixels around it are known, or one that is known has another number: single strokes teach it. On
    the background both are 0, and known wherever the background is; but where objects are known and none as a
    whole, distances of background alone would teach that there are no others.
    """
    table = np.array([WEIGHT[s] for s in State], np.float32)
    weight = np.stack([table[state]] * 3)
    if task == "classes":
        weight[1:] = 0
        return weight
    known = state > 0
    ids, inverse = np.unique(labels, return_inverse=True)
    share = np.bincount(inverse.ravel(), weights=known.ravel()) / np.bincount(inverse.ravel())
    whole = ((share >= WHOLE) | (ids == 0))[inverse].reshape(labels.shape)
    numbers = labels.astype(np.int64)
    above = ndi.maximum_filter(np.where(known, numbers, -1), size=3) > numbers
    below = ndi.minimum_filter(np.where(known, numbers, MAX_ID), size=3) < numbers
    weight[1] *= whole | above | below | ndi.minimum_filter(known, size=3)
    weight[2] *= whole
    if (known & (labels > 0)).any() and not weight[2][labels > 0].any():
        weight[2] = 0
    return weight


def learned_scale(model: Model, given: Corrections) -> float:
    """Return by how much an image is enlarged to be learned from: by its diameter, or as wide as its objects are.

    Of objects that are known in part, all of their pixels count: what the model proposed and the hand left of it. The
    model's look at the image, by which it is segmented, is not asked: far from what it knows it sees objects where
    there are none.
    """
    if not may_enlarge(model, given.diameter, given.labels.shape):
        return scale_factor(model, given.diameter)
    sizes = []
    for index in np.ndindex(given.labels.shape[: given.labels.ndim - model.ndim]):
        labels, state = given.labels[index], given.state[index]
        if state.any():
            ids, counts = np.unique(labels, return_counts=True)
            sizes.append(counts[np.isin(ids, labels[state > 0]) & (ids > 0)])
    return enlargement(model, median_diameter(np.concatenate(sizes), model.ndim) if sizes else None)


def _slice_tile(
    model: Model, given: Corrections, seen: Seen, index: tuple[int, ...], factor: float
) -> tuple[TrainingTile, Cells]:
    """Read of a slice what is known and its context, and bring it to the scale the model works at."""
    box = _around(given.state[index])
    # cells are counted from the corner of the slice, so that each stays the same whatever else is corrected
    places = [np.arange(s.start, s.stop) + 0.5 for s in box]
    image, _ = seen.read((*index, *box))
    labels, state = given.labels[index][box], given.state[index][box]
    if factor != 1:
        image = rescale(image, factor)
        look = nearest(labels.shape, image.shape[1:])
        labels, state = labels[np.ix_(*look)], state[np.ix_(*look)]
        places = [place[shown] for place, shown in zip(places, look, strict=True)]
    weight = known_weight(labels, state, model.task)
    tile = TrainingTile(image, make_target(labels, model.task), weight, name=given.name)
    return tile, [(place * factor // CELL).astype(int) for place in places]


def _around(state: NDArray[np.uint8]) -> tuple[slice, ...]:
    """Return the box of what is known and its context, found without a copy of the slice."""
    box = []
    for axis, length in enumerate(state.shape):
        known = np.flatnonzero(state.any(axis=tuple(other for other in range(state.ndim) if other != axis)))
        box.append(slice(max(int(known[0]) - 2 * CONTEXT, 0), min(int(known[-1]) + 1 + 2 * CONTEXT, length)))
    return tuple(box)


def _part(tile: TrainingTile, cells: Cells) -> tuple[TrainingTile, list[TrainingTile]]:
    """Part a tile into what is learned from and the held-out cells, each cut out with its context."""
    weight = tile.weight.copy()
    scored: list[TrainingTile] = []
    for corner in product(*(range(axis[0], axis[-1] + 1) for axis in cells)):
        # in the plane columns count once and rows twice: any 2 by 2 block has each remainder once
        if sum(n << i for i, n in enumerate(reversed(corner[-2:]))) % 4:
            continue
        cell = tuple(slice(*np.searchsorted(axis, (n, n + 1))) for axis, n in zip(cells, corner, strict=True))
        if not tile.weight[:1, *cell].any():
            continue
        weight[:, *cell] = 0
        view = tuple(slice(max(s.start - CONTEXT, 0), s.stop + CONTEXT) for s in cell)
        own = np.zeros_like(tile.weight)
        own[:, *cell] = tile.weight[:, *cell]
        image, target, known = (part[:, *view] for part in (tile.image, tile.target, own))
        scored.append(replace(tile, image=image, target=target, weight=known))
    return replace(tile, weight=weight), scored
