"""Masks to training targets: class, object, distance, and how much each pixel counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.errors import DataError
from napari_unet.infer.image import median_diameter, nearest, rescale

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_unet.model_file import Task

ENLARGED = ", enlarged"  # ends the name of a tile that shows another one larger
MAX_ID = 2**24  # object numbers travel as float32, which is exact up to here


@dataclass(frozen=True)
class TrainingTile:
    """A piece of an image and what is known about it.

    Attributes
    ----------
    image : float32 array, ``(channel, *spatial)``
        Normalised.
    target : float32 array, ``(3, *spatial)``
        Class number; object number; normalised distance to the object's edge, 0 outside to 1 in its middle.
    weight : float32 array, ``(3, *spatial)``
        How much a pixel counts: for its class; for its boundary; for its distance. 0 = unknown, it never counts.
    share : float
        How often it is drawn, relative to the others.
    name : str
        Where it comes from.
    """

    image: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    share: float = 1.0
    name: str = ""

    @property
    def labels(self) -> NDArray[np.uint32]:
        """The object numbers, or the classes where there are no objects."""
        numbers: NDArray[np.uint32] = self.target[1 if self.target[1].any() else 0].astype(np.uint32)
        return numbers


def training_tile(
    image: NDArray[np.float32],
    labels: NDArray[np.integer],
    task: Task,
    *,
    share: float = 1.0,
    name: str = "",
) -> TrainingTile:
    """Make a tile of which every pixel is known.

    Parameters
    ----------
    image : float32 array, ``(channel, *spatial)``
        Normalised.
    labels : integer array, ``spatial``
        Object numbers or classes, 0 = background.
    task : {"instances", "classes", "clicks"}
        Which of these.
    share, name
        See :class:`TrainingTile`.
    """
    target = make_target(labels, task)
    return TrainingTile(image, target, np.ones((3, *labels.shape), np.float32), share, name)


def with_enlarged(tile: TrainingTile, task: Task, smallest: float | None) -> list[TrainingTile]:
    """Return a tile of which every pixel is known and, where its objects are small, an enlarged one too.

    Parameters
    ----------
    tile : TrainingTile
        Made by :func:`training_tile`.
    task : {"instances", "classes"}
        What it was made for.
    smallest : float or None
        Objects smaller than this many pixels are enlarged to it, at most to twice their size; such a tile is then
        drawn twice as often as the one it was made of, and both together as often as that was.
    """
    diameter = typical_diameter([tile])
    if smallest is None or diameter is None or diameter > 0.9 * smallest:
        return [tile]
    image = rescale(tile.image, min(smallest / diameter, 2.0))
    labels = tile.labels[np.ix_(*nearest(tile.labels.shape, image.shape[1:]))]
    large = training_tile(image, labels, task, share=tile.share * 2 / 3, name=f"{tile.name}{ENLARGED}")
    return [replace(tile, share=tile.share / 3), large]


def check_objects(tiles: Iterable[TrainingTile]) -> None:
    """Refuse masks that are all empty, or hold no numbers of objects; raises DataError."""
    tiles = list(tiles)
    if not any(tile.target[0].any() for tile in tiles):
        raise DataError("All masks to learn from are 0 everywhere, expected numbers from 1 up: give some with objects.")
    check_numbered([tile.target[1] for tile in tiles])


def check_numbered(masks: Sequence[NDArray[Any]]) -> None:
    """Refuse masks of which none has more than one number, in several pieces: they tell objects from background only.

    Raises
    ------
    DataError
        If it is so.
    """
    numbers, pieces = set(), 0
    for mask in masks:
        inside = np.asarray(mask) > 0
        if not inside.any():
            continue
        first = np.asarray(mask)[inside][0]
        if (np.asarray(mask)[inside] != first).any():
            return
        numbers.add(int(first))
        pieces = max(pieces, ndi.label(inside)[1])
    if pieces > 1:
        raise DataError(
            f"Each mask holds a single number ({min(numbers)}) in up to {pieces} separate pieces, expected one "
            "for each object: number them first, with skimage.measure.label(mask > 0), or train classes instead."
        )


def make_target(labels: NDArray[np.integer], task: Task) -> NDArray[np.float32]:
    """Return class, object number and distance, ``float32 (3, *spatial)``.

    Raises
    ------
    DataError
        If they are not whole numbers, or negative or too large.
    """
    if labels.dtype.kind not in "iub":
        raise DataError(f"The mask is of type {labels.dtype}, expected whole numbers: save it as uint16 or uint32.")
    target = np.zeros((3, *labels.shape), np.float32)
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < MAX_ID:
        raise DataError(
            f"The mask's numbers go from {labels.min()} to {labels.max()}, expected 0 to {MAX_ID - 1}: renumber it."
        )
    if task == "classes":
        target[0] = labels
        return target
    target[0] = labels > 0
    target[1] = labels
    target[2] = normalised_distance(labels)
    return target


def normalised_distance(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return for each pixel its distance to the edge of its object, divided by the largest in that object.

    An object's edge pixels are at distance 1. Any way out of an object leads over them, so one distance
    transform of what lies inside the edges serves all objects at once, touching ones too.

    Parameters
    ----------
    labels : integer array, 1-D to 3-D
        0 = background.

    Returns
    -------
    float32 array
        0 outside, above 0 to 1 inside.
    """
    edge = inner_edge(labels)
    if not edge.any():  # nothing, or one object that fills the image
        return (labels > 0).astype(np.float32)
    distance = ndi.distance_transform_edt(~edge & (labels > 0)).astype(np.float32) + 1
    distance[labels == 0] = 0
    ids, inverse = np.unique(labels, return_inverse=True)
    largest = np.zeros(len(ids), np.float32)
    np.maximum.at(largest, inverse.ravel(), distance.ravel())
    largest[largest == 0] = 1
    return distance / largest[inverse].reshape(labels.shape)


def inner_edge(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the objects' own pixels that touch another number, diagonals included."""
    differs: NDArray[np.bool_] = ndi.maximum_filter(labels, size=3) != ndi.minimum_filter(labels, size=3)
    return differs & (labels > 0)


def typical_diameter(tiles: list[TrainingTile]) -> float | None:
    """Return the median diameter in pixels of the known objects; None without any."""
    if not tiles:
        return None
    sizes = [np.bincount(tile.target[1][tile.weight[2] > 0].astype(np.int64))[1:] for tile in tiles]
    return median_diameter(np.concatenate([size[size > 0] for size in sizes]), tiles[0].target.ndim - 1)
