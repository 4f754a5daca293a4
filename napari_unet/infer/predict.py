"""Image to maps, tile by tile."""

from __future__ import annotations

import weakref
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import DeviceError
from napari_unet.infer.device import half_precision, out_of_memory, pick_device
from napari_unet.infer.tiles import plan_tiles
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_unet.model import Model
    from napari_unet.nets.unet import UNet

# Pixels of a tile. The halo is computed again by each neighbour, so larger is less work; at these sizes a network
# of width 24 needs about 1 GB.
PIXELS = {1: 2**20, 2: 1280**2, 3: 160**3}

_folded: weakref.WeakKeyDictionary[UNet, dict[tuple[str, torch.dtype], UNet]] = weakref.WeakKeyDictionary()


def predict_tiles(
    model: Model,
    image: NDArray[np.float32],
    device: str = "auto",
    *,
    tile: int | None = None,
    precise: bool = False,
    flips: bool = False,
) -> Job[NDArray[np.float32]]:
    """Run the network over an image.

    Parameters
    ----------
    model : Model
        The model.
    image : float32 array, ``(in_channels, *spatial)``
        Normalised.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    tile : int, optional
        Longest side of a tile in pixels; the default fits into about 1 GB. It is halved when memory runs out.
    precise : bool
        Compute in float32 even where a 16-bit type is faster.
    flips : bool
        Give the mean over all ways to mirror the image along its spatial axes: 2, 4 or 8 in 1, 2 or 3 dimensions.

    Yields
    ------
    Progress
        Tiles done of all tiles, each counted as often as the network looks at it.

    Returns
    -------
    float32 array, ``(channel, *spatial)``
        Class probabilities, then boundary and distance; 0 to 1.

    Raises
    ------
    DeviceError
        If the device is not there, or even a small tile does not fit into its memory.
    """
    import torch

    place = pick_device(device)
    dtype = (None if precise else half_precision(place)) or torch.float32
    network = _ready(model.network, place, dtype)
    side = tile or longest_side(image.shape[1:], PIXELS[model.ndim])
    while True:
        try:
            return (yield from _run(network, image, side, place, dtype, flips))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if side <= network.stride:
                mend = "close other programs" if place.type == "cpu" else "choose the device 'cpu'"
                raise DeviceError(f"The memory of {place} is too small even for one tile: {mend}.") from error
        if place.type == "cuda":
            torch.cuda.empty_cache()
        side = min(side, max(image.shape[1:])) // 2


def features(model: Model, image: NDArray[np.float32], device: str = "auto") -> NDArray[np.float32]:
    """Return the means over an image ``(in_channels, *spatial)`` of all features on the way down, ``(channels,)``.

    It is read whole, so it should be no larger than a tile.
    """
    import torch

    from napari_unet.nets.unet import pad_to

    place = pick_device(device)
    dtype = half_precision(place) or torch.float32
    network = _ready(model.network, place, dtype)
    with torch.inference_mode():
        x = torch.from_numpy(np.array(image, order="C")).to(place, dtype)[None]
        levels = network.encode(_channels_last(pad_to(x, network.stride)))
        found: NDArray[np.float32] = torch.cat([x[0].float().flatten(1).mean(dim=1) for x in levels]).cpu().numpy()
    return found


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
    network: UNet, image: NDArray[np.float32], side: int, place: torch.device, dtype: torch.dtype, flips: bool
) -> Job[NDArray[np.float32]]:
    import torch

    from napari_unet.nets.unet import activate, pad_to

    plan = plan_tiles(image.shape[1:], side, network.halo, network.stride)
    looks = _mirrorings(image.ndim - 1) if flips else [()]
    steps = list(product(plan, looks))
    maps = np.zeros((network.config.out_channels, *image.shape[1:]), np.float32)
    for done, (part, axes) in enumerate(steps):
        yield Progress(done, len(steps), "tiles")
        with torch.inference_mode():
            x = torch.from_numpy(np.array(image[(slice(None), *part.read)], order="C")).to(place, dtype)[None]
            # whole cells of the pooling grid before they are mirrored: so the grid lies on the same pixels after it
            x = pad_to(x, network.stride).flip(axes) if axes else x
            logits = network(_channels_last(x)).flip(axes)[(..., *part.crop)]
            seen = activate(logits, network.config.classes)[0] / len(looks)
            maps[(slice(None), *part.write)] += seen.cpu().numpy()
    yield Progress(len(steps), len(steps), "tiles")
    return maps


def _mirrorings(ndim: int) -> list[tuple[int, ...]]:
    """Return the axes, counted from the last, to mirror along in each look; the first look is at the image as it is."""
    axes = range(-ndim, 0)
    return [chosen for count in range(ndim + 1) for chosen in combinations(axes, count)]


def _ready(network: UNet, place: torch.device, dtype: torch.dtype) -> UNet:
    """Return the network folded, on its device, in its precision; made once, kept as long as the network."""
    import torch

    from napari_unet.nets.unet import fold

    versions = _folded.setdefault(network, {})
    key = (str(place), dtype)
    if key not in versions:
        ready = fold(network).to(place, dtype)
        if network.config.ndim == 2:
            ready = ready.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        versions[key] = ready
    return versions[key]


def _channels_last(x: Tensor) -> Tensor:
    """Lay 2-D images out as processors and GPUs read them fastest."""
    import torch

    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
