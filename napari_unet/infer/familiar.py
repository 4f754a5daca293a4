"""Which model an image is for: the one that learned from corrections, or the one that it came from.

What learns a new kind of image forgets the kinds it knew. So a fine-tuned model carries the one it came from, and both
carry what the images that they learned from look like. If the corrected images are unlike those of the former, then an
image that is like those, and unlike the corrected ones, is segmented by the former. The idea is that of Expert Gate
(Aljundi et al. 2017, arXiv:1611.06194), with the nearest neighbours among deep features (Sun et al. 2022,
arXiv:2204.06507) as the gate.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.infer.predict import features
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.infer.segment import Seen
    from napari_unet.model import Model
    from napari_unet.nets.unet import UNet

# What reads a window, float32 (channel, *spatial), of a normalised image; and the spatial shape of that image
Plane = tuple[Callable[[tuple[slice, ...]], "NDArray[np.float32]"], Sequence[int]]

SIDE = {1: 4096, 2: 192, 3: 64}  # of a window in pixels
WINDOWS = {1: 9, 2: 3, 3: 2}  # along each axis, evenly spread; to look costs a twentieth of segmenting 2048²
MOST = 256  # images that a model remembers
FEW = 20  # images: fewer do not tell how different those of one kind are
# Images are like others if they are no farther from these than 95 % of the base's images are from their fellows.
LIKE = 0.95
# The base's images must be nearer than the corrected ones by this factor: where these were five tiles of phase contrast
# and the base `nuclei`, the ratio was up to 0.52 in fluorescence, 0.91 in histology, and from 1.0 in phase contrast.
NEARER = 0.8


def signature(model: Model, plane: Plane, device: str = "auto") -> Job[NDArray[np.float32]]:
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
    float32 array, ``(windows, channels of all levels)``
        Windows are named again where an image is too small for so many.
    """
    read, shape = plane
    side, most = SIDE[model.ndim], WINDOWS[model.ndim]
    starts = [np.unique(np.linspace(0, max(n - side, 0), min(most, -(-n // side))).astype(int)) for n in shape]
    found = []
    for corner in product(*starts):
        yield Progress(0, 1, "looking at the image")
        window = read(tuple(slice(int(start), int(start) + side) for start in corner))
        if len(window) < model.config.in_channels:  # grey
            window = np.repeat(window[:1], model.config.in_channels, axis=0)
        found.append(features(model, window, device))
    return np.resize(np.stack(found), (most**model.ndim, len(found[0])))


def signatures(model: Model, planes: Sequence[Plane], device: str = "auto") -> Job[NDArray[np.float32]]:
    """Return the signatures of images ``float32 (images, windows, channels)``; of many images, of some of them."""
    some = range(len(planes))
    if len(planes) > MOST:
        some = np.random.default_rng(0).choice(len(planes), MOST, replace=False).tolist()
    found = []
    for i in some:
        found.append((yield from signature(model, planes[i], device)))
    return np.stack(found)


def remembering(model: Model, planes: Sequence[Plane], device: str = "auto") -> Job[Model]:
    """Return a model that is about to learn from these images, with what it will need to tell them from others.

    It carries itself, as it was before it learned anything from corrections. A model that does not know what its own
    images look like stays as it is: it will be asked about all.
    """
    base = model.base or (model if model.familiar is not None else None)
    if base is None or not planes:
        return model
    own = yield from signatures(base, planes, device)
    if model.base is not None and model.familiar is not None:
        own = np.unique(np.concatenate((model.familiar, own)), axis=0)
    return replace(model, base=base, familiar=own)


def choose(model: Model, seen: Seen, device: str = "auto") -> Job[tuple[Model, list[str]]]:
    """Return the model to segment an image with, the one given or its base, and what to say about it.

    Parameters
    ----------
    model : Model
        Maybe one with a base.
    seen : Seen
        The image; of a stack or a movie the plane in the middle is looked at.
    device : str
        Where to look.
    """
    base = model.base
    if base is None or base.familiar is None or model.familiar is None or len(base.familiar) < FEW:
        return model, []
    memory = _memories.get(model.network) or _memories.setdefault(model.network, _memory(base.familiar, model.familiar))
    if not memory.foreign:
        return model, []
    it = yield from signature(base, plane_of(seen, middle(seen, model.ndim), model.ndim), device)
    to_own, to_base = (
        float(_distances(it[None] / memory.spread, each)[0].min()) for each in (memory.own, memory.known)
    )
    if to_own <= memory.like or to_base > NEARER * to_own:
        return model, []
    return base, [f"with {base.name!r}, since the image is like those it knew and unlike the corrected ones"]


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
    """What `choose` knows of two models before it sees an image; signatures are divided by `spread`."""

    spread: NDArray[np.float32]  # of each channel, over the base's images
    known: NDArray[np.float32]  # images of the base
    own: NDArray[np.float32]  # corrected images
    like: float  # images no farther than this are like each other
    foreign: bool  # whether the corrected images are unlike those of the base


_memories: weakref.WeakKeyDictionary[UNet, _Memory] = weakref.WeakKeyDictionary()


def _memory(known: NDArray[np.float32], own: NDArray[np.float32]) -> _Memory:
    spread = known.std(axis=(0, 1)) + np.float32(1e-3)
    known, own = known / spread, own / spread
    fellows = _distances(known, known)
    np.fill_diagonal(fellows, np.inf)
    like = float(np.quantile(fellows.min(axis=1), LIKE))
    return _Memory(spread, known, own, like, bool(np.median(_distances(own, known).min(axis=1)) > like))


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
