"""Image to maps, tile by tile."""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DeviceError
from napari_unet.infer.device import free_memory, out_of_memory
from napari_unet.infer.engine import engine_for, torch_engine
from napari_unet.infer.tiles import plan_tiles, within
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.infer.engine import Engine, Pending
    from napari_unet.infer.tiles import Tile
    from napari_unet.model import Model
    from napari_unet.nets.unet import UNet, Window

# Bytes of the tiles under way at most, and their share of what is free. The halo is computed again by each neighbour,
# so larger is less work. A GPU needs large tiles to be busy.
MOST = {"cpu": 2**29, "cuda": 2**32, "mps": 2**30}
LEAST = 2**18  # pixels of a tile; with less almost all of it is halo, and if that is too much, it is halved
SHARE = {"cpu": 0.25, "cuda": 0.5, "mps": 0.25}
AHEAD = 1  # tiles that are started before the oldest one is waited for: copies and Python's part overlap
POLL = 0.1  # seconds between two chances to cancel a tile


def predict_tiles(
    model: Model,
    image: NDArray[np.float32],
    device: str = "auto",
    *,
    tile: int | None = None,
    precise: bool = False,
    flips: bool = False,
    waited_for: bool = False,
    region: Sequence[slice] | None = None,
    many: bool = False,
    only: Sequence[int] | None = None,
) -> Job[NDArray[np.float32]]:
    """Run the network over an image, or a region of it.

    Parameters
    ----------
    model : Model
        The model.
    image : float32 array, ``(in_channels, *spatial)``
        Normalised.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    tile : int, optional
        Longest side of a tile in pixels; the default is as large as memory allows. It is halved when memory runs out.
    precise : bool
        Compute in float32 even where a 16-bit type is faster.
    flips : bool
        Give the mean over all ways to mirror the image along its spatial axes: 2, 4 or 8 in 1, 2 or 3 dimensions.
    waited_for : bool
        Whether somebody waits for the answer, see :func:`~napari_unet.infer.engine.engine_for`.
    region : sequence of slice, optional
        The part of each spatial axis that is wanted, start and stop given.
    many : bool
        Whether this is one of many regions of a large image.
    only : sequence of int, optional
        The channels that are wanted.

    Yields
    ------
    Progress
        Tiles done of all tiles, each counted as often as the network looks at it.

    Returns
    -------
    float32 array, ``(channel, *spatial)``
        Class probabilities, then boundary and distance; 0 to 1. Of the region, if one is given.

    Raises
    ------
    DeviceError
        If the device is not there, or even a small tile does not fit into its memory.
    """
    import torch

    engine = engine_for(model.network, device, precise=precise, waited_for=waited_for)
    wanted = list(region or (slice(0, n) for n in image.shape[1:]))
    reach = [min(n, w.stop - w.start + 2 * model.network.halo) for n, w in zip(image.shape[1:], wanted, strict=True)]
    side = tile or longest_side(reach, tile_pixels(engine, many=many))
    while True:
        try:
            return (yield from _run(engine, model.network, image, side, wanted, flips, many, only))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if side <= model.network.stride:
                mend = "close other programs" if engine.place.type == "cpu" else "choose the device 'cpu'"
                raise DeviceError(f"The memory of {engine.place} is too small even for one tile: {mend}.") from error
        if engine.place.type == "cuda":
            torch.cuda.empty_cache()
        side = min(side, max(reach)) // 2


def flat_maps(model: Model, value: float, device: str = "auto") -> NDArray[np.float32]:
    """Return the maps ``(channel,)`` of a pixel around which, as far as the network sees, all pixels have one value."""
    known = _flat.setdefault(model.network, {})
    if value not in known:
        side = -(-(2 * model.network.halo + 1) // model.network.stride) * model.network.stride
        x = np.full((model.config.in_channels, *[side] * model.ndim), value, np.float32)
        middle = ((side // 2, side // 2 + 1),) * model.ndim
        known[value] = engine_for(model.network, device).start(x, middle).maps().ravel()
    return known[value]


_flat: weakref.WeakKeyDictionary[UNet, dict[float, NDArray[np.float32]]] = weakref.WeakKeyDictionary()


def features(model: Model, image: NDArray[np.float32], device: str = "auto") -> NDArray[np.float32]:
    """Return the means over an image ``(in_channels, *spatial)`` of all features on the way down, ``(channels,)``.

    It is read whole, so it should be no larger than a tile.
    """
    import torch

    engine = torch_engine(model.network, device)
    with torch.inference_mode():
        levels = engine.network.encode(engine.load(_on_grid(image, model.network.stride)))
        found: NDArray[np.float32] = torch.cat([x[0].float().flatten(1).mean(dim=1) for x in levels]).cpu().numpy()
    return found


def tile_pixels(engine: Engine, *, many: bool = False) -> int:
    """Return how many pixels a tile may have, so that those under way fit into the device's free memory.

    `many` tells whether it is one of many that are alike.
    """
    kind, free = engine.place.type, free_memory(engine.place)
    room = MOST[kind] if free is None else min(MOST[kind], SHARE[kind] * free)
    return max(int(room / engine.memory(many)), LEAST)


def longest_side(shape: Sequence[int], pixels: int) -> int:
    """Return the longest side that tiles of at most so many pixels can have; what short axes leave, others use."""
    left = float(pixels)
    for axes, length in zip(range(len(shape), 0, -1), sorted(shape), strict=True):
        side = int(left ** (1 / axes) + 1e-9)
        if length > side:
            return side
        left /= length
    return max(shape)


def _run(
    engine: Engine,
    network: UNet,
    image: NDArray[np.float32],
    side: int,
    region: list[slice],
    flips: bool,
    many: bool,
    only: Sequence[int] | None,
) -> Job[NDArray[np.float32]]:
    plan = plan_tiles(image.shape[1:], side, network.halo, network.stride, region)
    looks = _mirrorings(image.ndim - 1) if flips else [()]
    channels = list(range(network.config.out_channels) if only is None else only)
    maps = np.zeros((len(channels), *(r.stop - r.start for r in region)), np.float32)
    steps = [_Step(part, _kept(part, image.shape[1:], network), axes) for part, axes in product(plan, looks)]
    if (
        many
    ):  # those that are alike together, and the last is waited for before others begin: there is one scratch memory
        steps.sort(key=lambda step: step.kind)
    under_way: deque[tuple[Pending, _Step]] = deque()
    started = done = 0
    try:
        while done < len(steps):
            yield Progress(done, len(steps), "tiles")
            while started < len(steps) and len(under_way) <= AHEAD:
                step = steps[started]
                if many and under_way and under_way[-1][1].kind != step.kind:
                    break
                x = np.flip(_on_grid(image[(slice(None), *step.part.read)], network.stride), step.axes)
                pending = engine.start(x, _mirrored(step.kept, x.shape[1:], step.axes), often=many)
                under_way.append((pending, step))
                started += 1
            pending, step = under_way[0]
            while not pending.ready(POLL):
                yield Progress(done, len(steps), "tiles")  # so that it can be cancelled
            wanted = within(step.part.crop, [slice(*ends) for ends in step.kept])
            found = np.flip(pending.maps(), step.axes)[(slice(None), *wanted)]
            here = within(step.part.write, region)
            for to, channel in zip(maps, channels, strict=True):
                if flips:
                    to[here] += found[channel] / len(looks)
                else:
                    to[here] = found[channel]
            under_way.popleft()
            done += 1
    finally:
        for pending, _ in under_way:
            pending.cancel()
        if many:
            engine.release()
    yield Progress(len(steps), len(steps), "tiles")
    return maps


@dataclass(frozen=True)
class _Step:
    """A look at a tile: which part of it is computed, and along which axes it is mirrored."""

    part: Tile
    kept: Window
    axes: tuple[int, ...]

    @property
    def kind(self) -> tuple[Any, ...]:
        """The same for steps that an engine gets ready for once."""
        return *(read.stop - read.start for read in self.part.read), self.kept, self.axes


def _on_grid(x: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Repeat the last pixels of an image ``(channel, *spatial)`` up to whole cells of the pooling grid.

    Before it is mirrored: so the grid lies on the same pixels after it.
    """
    return np.pad(x, [(0, 0), *((0, -n % stride) for n in x.shape[1:])], mode="edge")


def _kept(part: Tile, shape: Sequence[int], network: UNet) -> Window:
    """Return what is computed of a tile: what is wanted, and a few pixels more where that makes tiles alike."""
    halo = -(-network.halo // network.stride) * network.stride
    ends = []
    for read, crop, size in zip(part.read, part.crop, shape, strict=True):
        length = read.stop - read.start
        start = halo if read.start > 0 and crop.start >= halo else crop.start
        stop = length - halo if read.stop < size and crop.stop <= length - halo else crop.stop
        ends.append((start, stop))
    return tuple(ends)


def _mirrored(kept: Window, shape: Sequence[int], axes: tuple[int, ...]) -> Window:
    """Return which part of a tile is computed, once it is mirrored along some axes, counted from the last."""
    ends = list(kept)
    for axis in axes:
        start, stop = ends[axis]
        ends[axis] = shape[axis] - stop, shape[axis] - start
    return tuple(ends)


def _mirrorings(ndim: int) -> list[tuple[int, ...]]:
    """Return the axes, counted from the last, to mirror along in each look; the first look is at the image as it is."""
    axes = range(-ndim, 0)
    return [chosen for count in range(ndim + 1) for chosen in combinations(axes, count)]
