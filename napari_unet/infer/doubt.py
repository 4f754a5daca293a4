"""Which objects are most worth a look: how little a model stands by the labels, object by object.

Two signs told wrong objects from right ones (`bench/next.py`): the model sees no clear middle in the object, and the
object changes when the image is cut apart more finely. Uncertainty of pixels, disagreement between mirrored looks,
unlikely sizes and shapes told nothing beyond these.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.errors import ImageError
from napari_unet.infer.instances import decode_instances
from napari_unet.infer.segment import SegmentSettings, get_ready
from napari_unet.jobs import Job, Progress, as_part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from napari_unet.model import Model

FINER = 0.5  # times the model's seed threshold: neighbours that it nearly cut apart then are
PIECE = 0.2  # share of an object that a piece of it must have to be called another object
DEVIANT = 0.2  # share of an object that changed: less is no reason to name
LITTLE = 0.25  # doubt about an object: of a hundred below it 2 to 6 were wrong, above it 28 to 51
FAINT = 0.2  # foreground probability of what may be an object that was missed
RIM = 2  # pixels around objects that belong to them
SMALLEST = 0.05  # of the median object: smaller faint places are noise
MISSED = 0.4  # the doubt about such a place: as often as this it was one
CELLS = 4  # along rows and columns, between which the order changes over
WEARY = 0.95  # what the doubts in a cell are worth after each one that was looked at there

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Doubt:
    """An object, or a place that may be one.

    Attributes
    ----------
    number : int
        In the labels; 0: nothing is there yet.
    box : tuple of slice
        Where it is, in pixels of the labels.
    point : tuple of int
        Its middle, as the model sees it.
    value : float
        How doubtful, 0 to 2.
    why : str
        In a few words.
    """

    number: int
    box: Box
    point: tuple[int, ...]
    value: float
    why: str


@dataclass(frozen=True, eq=False)
class Doubts:
    """What to look at, and where the model is unsure.

    Attributes
    ----------
    order : list of Doubt
        The first one first.
    unsure : uint8 array, the labels' shape
        0 where the model is sure of object or background, 255 where it is one as likely as the other.
    """

    order: list[Doubt]
    unsure: NDArray[np.uint8]


def doubt_job(
    model: Model,
    image: ArrayLike,
    labels: NDArray[np.integer[Any]],
    axes: str | None = None,
    settings: SegmentSettings | None = None,
) -> Job[Doubts]:
    """Look at an image again, plane by plane, and order its objects by doubt.

    Parameters
    ----------
    model : Model
        One that finds objects.
    image : array
        Any numeric dtype.
    labels : integer array
        The image's shape without channels; 0 = background.
    axes : str, optional
        Of the image; guessed from the shape if not given.
    settings : SegmentSettings, optional
        How to look at it.

    Yields
    ------
    Progress
        Tiles and planes done.

    Raises
    ------
    ImageError
        If the image fits neither model nor labels, or the model names classes.
    DeviceError
        If the device is missing or has too little memory.
    """
    if model.task != "instances":
        raise ImageError(f"The model {model.name!r} finds no objects ({model.task}): choose one that does.")
    ready = yield from get_ready(model, image, axes, settings or SegmentSettings())
    model, seen = ready.model, ready.seen
    if labels.shape != seen.shape:
        raise ImageError(f"The labels have the shape {labels.shape} and the image {seen.shape}: give labels of it.")
    leading, found = seen.shape[: -model.ndim], []
    unsure = np.zeros(seen.shape, np.uint8)
    planes = int(np.prod(leading))
    for done, index in enumerate(np.ndindex(*leading)):
        part, _ = seen.read([*index, *[slice(None)] * model.ndim])
        said = _of_planes(done, planes)
        maps = yield from as_part(ready.maps(part), said)
        unsure[index] = np.rint(255 * (1 - np.abs(2 * maps[0] - 1)))
        yield said(Progress(1, 1, "objects"))
        before = tuple(slice(i, i + 1) for i in index)
        for each in doubts(model, maps, labels[index]):
            found.append(replace(each, box=(*before, *each.box), point=(*index, *each.point)))
    return Doubts(in_turn(found, seen.shape), unsure)


def doubts(model: Model, maps: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> list[Doubt]:
    """Return a doubt for each object of a plane, and for each place where one may be missed, by number.

    Parameters
    ----------
    model : Model
        One that finds objects.
    maps : float32 array, ``(channel, *spatial)``
        Its maps.
    labels : integer array, ``spatial``
        0 = background.
    """
    numbers, flat = np.unique(labels, return_inverse=True)
    objects = flat.reshape(labels.shape).astype(np.int32) + (numbers[0] > 0)  # 1 to n without gaps
    numbers = numbers[numbers > 0]
    distance = maps[len(model.classes) + 1]
    found = []
    if len(numbers):
        finer = decode_instances(maps, len(model.classes), replace(model.decode, seed=FINER * model.decode.seed))
        changed, pieces = _compared(objects, finer)
        points = ndi.maximum_position(distance, objects, np.arange(1, len(numbers) + 1))
        for i, box in enumerate(ndi.find_objects(objects)):
            vague = 1 - float(distance[points[i]])
            why = _why(vague, float(changed[i]), int(pieces[i]))
            found.append(Doubt(int(numbers[i]), box, _plain(points[i]), vague + float(changed[i]), why))
    return found + _missed(maps, objects, distance, model.decode.min_size)


def in_turn(found: Iterable[Doubt], shape: tuple[int, ...]) -> list[Doubt]:
    """Order doubts: the greatest first, though less and less of the part of a plane that was looked at already.

    Parameters
    ----------
    found : iterable of Doubt
        In any order.
    shape : tuple of int
        Of the labels.
    """
    sides = [max(n // CELLS, 1) for n in shape[-2:]]
    looked: dict[tuple[int, ...], int] = {}
    heap = [(-each.value, i, 0, each) for i, each in enumerate(found)]
    heapq.heapify(heap)
    order = []
    while heap:
        _, i, known, each = heapq.heappop(heap)
        place = each.point
        cell = (*place[:-2], *(at // side for at, side in zip(place[-2:], sides, strict=True)))
        now = looked.get(cell, 0)
        if now > known:  # it was worth more when it was put there
            heapq.heappush(heap, (-each.value * WEARY**now, i, now, each))
            continue
        looked[cell] = now + 1
        order.append(each)
    return order


def _of_planes(done: int, planes: int) -> Any:
    """Return what counts the tiles of one plane among those of all."""
    return lambda p: Progress(done * p.total + p.done, planes * p.total, "looking for doubtful objects")


def _compared(objects: NDArray[np.int32], finer: NDArray[np.uint32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return for each object 1 - IoU with the most similar one of others, and how many large pieces of it they are."""
    count, others = int(objects.max()), int(finer.max(initial=0))
    keys, shared = np.unique(objects.astype(np.int64) * (others + 1) + finer, return_counts=True)
    mine, theirs = keys // (others + 1), keys % (others + 1)
    sizes, their_sizes = np.bincount(objects.ravel()), np.bincount(finer.ravel(), minlength=others + 1)
    both = (mine > 0) & (theirs > 0)
    mine, theirs, shared = mine[both], theirs[both], shared[both]
    best = np.zeros(count + 1)
    np.maximum.at(best, mine, shared / (sizes[mine] + their_sizes[theirs] - shared))
    pieces = np.bincount(mine[shared >= PIECE * sizes[mine]], minlength=count + 1)
    return 1 - best[1:], pieces[1:]


def _why(vague: float, changed: float, pieces: int) -> str:
    if vague + changed < LITTLE:
        return "little doubt"
    if changed > vague and changed >= DEVIANT:
        return "may be two objects" if pieces > 1 else "unsure where it ends"
    return "may be no object, or a part of one"


def _missed(
    maps: NDArray[np.float32], objects: NDArray[np.int32], distance: NDArray[np.float32], least: float
) -> list[Doubt]:
    """Return the places outside of objects where the model is not sure of background."""
    everywhere = np.ones((3,) * objects.ndim, bool)
    near = ndi.binary_dilation(objects > 0, everywhere, iterations=RIM)
    places, count = ndi.label((maps[0] < 1 - FAINT) & ~near, structure=everywhere)
    sizes = np.bincount(places.ravel(), minlength=count + 1)[1:]
    typical = np.bincount(objects.ravel())[1:]
    if len(typical):
        least = max(least, SMALLEST * float(np.median(typical)))
    points = ndi.maximum_position(distance, places, np.arange(1, count + 1)) if count else []
    return [
        Doubt(0, box, _plain(point), MISSED, "may be missed")
        for box, point, size in zip(ndi.find_objects(places), points, sizes, strict=True)
        if size >= least
    ]


def _plain(point: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(at) for at in point)
