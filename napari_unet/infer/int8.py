"""A network in 8 bits on processors: limits measured on the user's own tiles, used only if the labels stay the same.

A fifth to a quarter faster than 16 bits (bench/engines.py). The two finest levels stay in these: rounding them changes
the most.
"""

from __future__ import annotations

import json
import os
import weakref
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.infer.device import pick_device
from napari_unet.infer.engine import quantise, torch_engine
from napari_unet.infer.image import rescale
from napari_unet.infer.instances import decode
from napari_unet.infer.merge import pairs
from napari_unet.infer.openvino_engine import OpenVINO
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.infer.engine import Limits
    from napari_unet.infer.seen import Seen
    from napari_unet.model import Model
    from napari_unet.nets.unet import UNet

TILES = 8  # to measure and compare on: a hundred objects or so
SIDE = {1: 2**16, 2: 512, 3: 64}  # pixels of each of them
WORTH = {1: 2**25, 2: 4096**2, 3: 256**3}  # pixels of a job from which it pays to spend seconds on that
ENOUGH = 20  # objects; with fewer it is decided on the next image
SAME = 0.99  # AP against float32, or share of pixels of the same class
ALIKE = 0.9  # IoU of an object with itself; above .5 no two can be the same as a third
# The largest of 100,000 values: one outlier would leave all others fewer steps.
RARE = 1e-5
FINEST = 2  # levels that stay in 16 bits


def consider(
    model: Model, seen: Seen, factor: float, device: str = "auto", region: Sequence[slice] | None = None
) -> Job[None]:
    """Let a model use 8 bits on a large image if they give the same labels; that is found out once for each model.

    A small image is always seen in 16 bits, so that its labels do not depend on what was segmented before.

    Parameters
    ----------
    model : Model
        What will segment the image.
    seen : Seen
        The image.
    factor : float
        By how much it is enlarged before the network sees it.
    device : str
        Where it will compute; on a GPU nothing is done.
    region : sequence of slice, optional
        What of the image will be segmented: for a small part nothing is found out.

    Yields
    ------
    Progress
        Tiles done.
    """
    network = model.network
    if pick_device(device).type != "cpu" or find_spec("openvino") is None:
        return
    quantise(network, None)
    if prod(seen.shape) * factor**model.ndim < WORTH[model.ndim]:  # before the weights are read for their name
        return
    if network not in _known:
        path = _path(model)
        limits = _read(path, network)
        if limits is None:
            if region and prod(r.stop - r.start for r in region) * factor**model.ndim < WORTH[model.ndim]:
                return
            limits = yield from calibrate(model, _tiles(model, seen, factor))
            if limits is None:
                return
            _write(path, limits)
        _known[network] = limits
    quantise(network, _known[network] or None)


def calibrate(model: Model, tiles: Sequence[NDArray[np.float32]]) -> Job[Limits | None]:
    """Return the limits of the convolutions that may compute in 8 bits; none if the labels would not be the same.

    Parameters
    ----------
    model : Model
        It has instances or classes.
    tiles : sequence of float32 array, ``(in_channels, *spatial)``
        Normalised, in the size in which the network sees them, whole cells of its pooling grid.

    Yields
    ------
    Progress
        Tiles done.

    Returns
    -------
    dict or None
        None if there are too few objects to tell.
    """
    exact = torch_engine(model.network, "cpu", precise=True)
    limits: Limits = {}
    expected = []
    for done, tile in enumerate(tiles):
        yield Progress(done, len(tiles), "trying a faster way")
        with _measuring(exact.network, limits):
            expected.append(decode(model, exact.start(tile, _all(tile)).maps()))
    if model.task == "instances" and sum(int(labels.max(initial=0)) for labels in expected) < ENOUGH:
        return None
    engine = OpenVINO(model.network, limits)
    rounded = [decode(model, engine.start(tile, _all(tile)).maps()) for tile in tiles]
    return limits if _agreement(model, expected, rounded) >= SAME else {}


def _tiles(model: Model, seen: Seen, factor: float) -> list[NDArray[np.float32]]:
    """Return tiles from all over an image, in the size in which the network sees them."""
    stride, ndim, tiles = model.network.stride, model.ndim, []
    sides = [min(round(SIDE[ndim] / factor), n) for n in seen.shape[-ndim:]]
    for place in np.random.default_rng(0).random((TILES, len(seen.shape))):
        at = [int(share * n) for share, n in zip(place, seen.shape[:-ndim], strict=False)]
        starts = [int(s * (n - side)) for s, n, side in zip(place[-ndim:], seen.shape[-ndim:], sides, strict=True)]
        part, _ = seen.read([*at, *(slice(start, start + side) for start, side in zip(starts, sides, strict=True))])
        seen_as = rescale(part, factor)
        tiles.append(seen_as[(slice(None), *(slice(n // stride * stride) for n in seen_as.shape[1:]))])
    return tiles


@contextmanager
def _measuring(network: UNet, limits: Limits) -> Iterator[None]:
    """Widen limits by what comes into each coarse convolution while the network runs, but for the rarest values."""
    import torch

    names = {layer: name for name, layer in network.named_modules()}

    def look(layer: Any, given: Any) -> None:
        values = given[0].flatten()
        most = float(torch.topk(values, max(int(RARE * len(values)), 1)).values[-1])
        before = limits.get(names[layer], (0.0, 0.0))
        limits[names[layer]] = min(float(values.min()), before[0]), max(most, before[1])

    coarse = [*network.down[FINEST:], *network.up[: max(len(network.up) - FINEST, 0)]]
    hooks = [layer.register_forward_pre_hook(look) for block in coarse for layer in block[::3]]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _agreement(model: Model, truth: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    if model.task == "classes":
        return float(np.mean([np.mean(a == b) for a, b in zip(truth, found, strict=True)]))
    same = total = 0
    for a, b in zip(truth, found, strict=True):
        sizes = np.bincount(a.ravel()), np.bincount(b.ravel())
        shared = [(m, n, count) for m, n, count in pairs(a.ravel(), b.ravel()) if m and n]
        same += sum(count >= ALIKE * (sizes[0][m] + sizes[1][n] - count) for m, n, count in shared)
        total += sum(int(np.count_nonzero(each[1:])) for each in sizes)
    return same / max(total - same, 1)


def _all(tile: NDArray[np.float32]) -> tuple[tuple[int, int], ...]:
    return tuple((0, n) for n in tile.shape[1:])


_known: weakref.WeakKeyDictionary[UNet, Limits] = weakref.WeakKeyDictionary()


def _path(model: Model) -> Path:
    import platformdirs

    return platformdirs.user_cache_path("napari-unet", appauthor=False) / "int8" / f"{model.version}.json"


def _read(path: Path, network: UNet) -> Limits | None:
    """Return the limits in a file; none of them if 8 bits were refused; None if there is no file that can be used."""
    names = {name for name, _ in network.named_modules()}
    with suppress(OSError, ValueError, TypeError, AttributeError):
        limits = {str(name): (float(low), float(high)) for name, (low, high) in json.loads(path.read_text()).items()}
        if set(limits) <= names and all(np.isfinite(pair).all() and pair[0] < pair[1] for pair in limits.values()):
            return limits
    return None


def _write(path: Path, limits: Limits) -> None:
    """Keep the limits for the next time, whole or not at all; where that is not possible they are found again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(limits))
        part.replace(path)
