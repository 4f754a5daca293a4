"""Which model an image is for: the one that learned from corrections, or the one that it came from.

What learns a new kind of image forgets the kinds it knew. So a fine-tuned model carries the one it came from, and both
carry what the images that they learned from look like. An image that is like those of the former, and more so than like
the corrected ones, is segmented by the former; every other one by the model itself, and so are all of a kind that the
former knew once one of them was corrected. The idea is that of Expert Gate (Aljundi et al. 2017, arXiv:1611.06194),
with the nearest neighbours among deep features (Sun et al. 2022, arXiv:2204.06507) as the gate.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.infer.predict import features
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.infer.seen import Seen
    from napari_unet.model import Model

# What reads a window, float32 (channel, *spatial), of a normalised image; and the spatial shape of that image
Plane = tuple[Callable[[tuple[slice, ...]], "NDArray[np.float32]"], Sequence[int]]

SIDE = {1: 4096, 2: 192, 3: 64}  # of a window in pixels
WINDOWS = {1: 4, 2: 2, 3: 2}  # at most, along each axis: more images tell more than more windows of each
CLOSER = 3  # times as many windows along each axis, where there was nothing to see in any
MOST = 512  # images that a model remembers
FEW = 20  # images: fewer do not tell how different those of one kind are
# Images of one kind are no farther from the nearest other one than LIKE of the base's images are. An image that nobody
# has seen is for the base up to FAR times that, if it is NEARER to the base's than so many times its distance to the
# corrected ones. `bench/forgetting.py` tells what that keeps.
LIKE, FAR, NEARER = 0.95, 1.75, 0.8


def signature(model: Model, plane: Plane, device: str = "auto") -> Job[NDArray[np.float32] | None]:
    """Return what an image looks like to a model: the means of its features in windows spread over the image.

    Parameters
    ----------
    model : Model
        Its own network looks, not that of its base.
    plane : Plane
        The image; only windows of it are read.
    device : str
        Where to compute.

    Returns
    -------
    float32 array, ``(windows, channels of all levels)``, or None
        With the precision of float16, as it is kept in a file. Windows are named again where an image is too small for
        so many; those in which all pixels are the same do not count. If there are no others, more windows are tried;
        if there still are none, it is None.
    """
    most = WINDOWS[model.ndim]
    found = yield from _looks(model, plane, most, device)
    if not found and max(plane[1]) >= 2 * SIDE[model.ndim]:
        found = yield from _looks(model, plane, CLOSER * most, device)
    if not found:
        return None
    highest = np.finfo(np.float16).max
    kept = np.stack(found).clip(-highest, highest).astype(np.float16).astype(np.float32)
    return np.resize(kept, (most**model.ndim, kept.shape[1]))


def _looks(model: Model, plane: Plane, count: int, device: str) -> Job[list[NDArray[np.float32]]]:
    """Return the features of some of so many windows along each axis, none of which is the same all over."""
    read, shape = plane
    side = SIDE[model.ndim]
    starts = [[max(n - side, 0) // 2] if n < 2 * side else np.linspace(0, n - side, count).astype(int) for n in shape]
    found: list[NDArray[np.float32]] = []
    corners = list(product(*starts))
    for i in np.random.default_rng(0).permutation(len(corners)):  # spread over the image, always the same ones
        if len(found) == WINDOWS[model.ndim] ** model.ndim:
            break
        corner = corners[i]
        yield Progress(0, 1, "looking at the image")
        window = read(tuple(slice(int(start), int(start) + side) for start in corner))
        if window.max() == window.min():
            continue
        if len(window) < model.config.in_channels:  # grey
            window = np.repeat(window[:1], model.config.in_channels, axis=0)
        found.append(features(model, window, device))
    return found


def signatures(
    model: Model,
    planes: Sequence[Plane],
    shares: Sequence[float] | None = None,
    device: str = "auto",
) -> Job[NDArray[np.float32] | None]:
    """Return the signatures of images ``float32 (images, windows, channels)``; None if there are none to see.

    Parameters
    ----------
    model, device
        See :func:`signature`.
    planes : sequence of Plane
        The images. Of more than `MOST`, some are drawn, always the same ones.
    shares : sequence of float, optional
        How often each is drawn, relative to the others.
    """
    odds = None if shares is None else np.asarray(shares, float) / np.sum(shares)
    some = np.random.default_rng(0).choice(len(planes), min(len(planes), MOST), replace=False, p=odds)
    found = []
    for i in some.tolist():
        found.append((yield from signature(model, planes[i], device)))
    seen = [each for each in found if each is not None]
    return np.stack(seen) if seen else None


def memory_after(model: Model, planes: Iterable[Plane], device: str = "auto") -> Job[dict[str, Any]]:
    """Return the fields ``base`` and ``familiar`` of a model that is fine-tuned from this one on these images.

    The base is the one that had learned nothing from corrections yet. A model that hardly knows what its own images
    look like is none: then there is nothing to return.
    """
    base = model.base or model
    if base.familiar is None or len(base.familiar) < FEW:
        return {}
    own = yield from signatures(base, list(planes), None, device)
    if own is None:
        return {}
    if model.base is not None and model.familiar is not None:
        same = model.familiar if model.familiar.shape[1:] == own.shape[1:] else own[:0]
        old = [each for each in same if not (each == own).all(axis=(1, 2)).any()]
        own = np.concatenate((own, old)) if old else own
    return {"base": base, "familiar": own[:MOST]}


def choose(model: Model, plane: Plane, device: str = "auto") -> Job[tuple[Model, list[str]]]:
    """Return the model to segment an image with, the one given or its base, and what to say about it.

    Parameters
    ----------
    model : Model
        Maybe one with a base.
    plane : Plane
        The image, or a plane of it.
    device : str
        Where to look.
    """
    base = model.base
    if base is None or base.familiar is None or model.familiar is None or base.normalisation != model.normalisation:
        return model, []
    memory = _memories.get(model)
    if memory is None:
        memory = _memories[model] = _memory(base.familiar, model.familiar)
    found = (yield from signature(base, plane, device)) if memory.foreign.any() else None
    if found is not None:
        it = found[None] / memory.spread
        to_base, to_own = _distances(it, memory.known)[0], _distances(it, memory.own)[0]
        nearest = min(FAR * memory.like, NEARER * to_own.min())
        if to_base.min() <= nearest and memory.foreign[to_own.argmin()]:
            why = "since the image is more like those it knew than the corrected ones"
            return base, [f"with {base.name!r}, {why}: choose base=false for {model.name!r} itself"]
    return model, []


def middle(seen: Seen, ndim: int) -> tuple[int, ...]:
    """Return the place on the leading axes by which a stack or movie is judged: its middle."""
    return tuple(n // 2 for n in seen.shape[:-ndim])


def plane_of(seen: Seen, place: Sequence[int], ndim: int) -> Plane:
    """Return the plane of an image that has this place on its leading axes."""
    return lambda window: seen.read((*place, *window))[0], seen.shape[-ndim:]


def planes_of(images: Iterable[NDArray[np.float32]]) -> list[Plane]:
    """Return images ``float32 (channel, *spatial)`` that are in memory as planes."""
    return [(lambda window, image=image: image[(slice(None), *window)], image.shape[1:]) for image in images]  # type: ignore[misc]


@dataclass(frozen=True)
class _Memory:
    """What `choose` knows of a model before it sees an image; signatures are divided by `spread`."""

    spread: NDArray[np.float32]  # of each channel, over the base's images
    known: NDArray[np.float32]  # images of the base
    own: NDArray[np.float32]  # corrected images
    like: float  # how far images of one kind are from each other at most
    foreign: NDArray[np.bool_]  # which corrected images are unlike all of the base


_memories: weakref.WeakKeyDictionary[Model, _Memory] = weakref.WeakKeyDictionary()


def _memory(known: NDArray[np.float32], own: NDArray[np.float32]) -> _Memory:
    spread = known.std(axis=(0, 1)) + np.float32(1e-3)
    known, own = known / spread, own / spread
    others = _distances(known, known)
    np.fill_diagonal(others, np.inf)
    like = float(np.quantile(others.min(axis=1), LIKE))
    return _Memory(spread, known, own, like, _distances(own, known).min(axis=1) > like)


def _distances(images: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each image is from each other one, ``(images, others)``.

    Of each window of the image the nearest one of the other counts: root mean square over channels, mean over windows.
    """
    (count, windows, channels), (rest, theirs, _) = images.shape, others.shape
    a, b = images.reshape(-1, channels), others.reshape(-1, channels)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    nearest = squares.reshape(count, windows, rest, theirs).min(axis=3).clip(0)
    mean: NDArray[np.float32] = np.sqrt(nearest / channels).mean(axis=1)
    return mean
