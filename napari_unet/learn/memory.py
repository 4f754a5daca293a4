"""How much memory a training needs, told before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_unet.errors import DeviceError
from napari_unet.learn.batches import MARGIN
from napari_unet.learn.losses import total_loss
from napari_unet.nets.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.learn.targets import TrainingTile
    from napari_unet.nets.config import UNetConfig

# Copies of the weights: the network's, their average, gradients, momentum, its step; and one in 16 bits
COPIES = 5.5
# On the way back the largest map is held as often beside what was kept for it: gradients, and what they are made of
BACK = 4
LIBRARIES = 80e6  # bytes that torch takes for its kernels and threads


def needed(config: UNetConfig, batch: int, size: Sequence[int], dtype: torch.dtype) -> int:
    """Return the bytes that a training takes at most, beside the tiles: an estimate, to about a quarter.

    The network and the loss are run once without numbers, on torch's ``meta`` device, and what they keep for the way
    back is summed.

    Parameters
    ----------
    config : UNetConfig
        The network.
    batch : int
        Crops in a batch.
    size : sequence of int
        Spatial size of a crop.
    dtype : torch.dtype
        In which the network is computed.
    """
    with torch.device("meta"):
        network = UNet(config).to(dtype).eval()  # so that one pixel will do
        image = torch.empty((batch, config.in_channels, *size), dtype=dtype)
        target = torch.empty((batch, 3, *size))
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total_loss(network(image), target, target, config.classes)
    maps = [storage.nbytes() for storage in kept.values()]
    read = batch * (config.in_channels + 6) * torch.Size(round(n * MARGIN) for n in size).numel()
    count = sum(p.numel() for p in network.parameters())
    return round(4 * COPIES * count + sum(maps) + max(BACK * max(maps), 2 * 4 * read) + LIBRARIES)


def tiles_size(tiles: Sequence[TrainingTile]) -> int:
    """Return the bytes of tiles."""
    return sum(part.nbytes for tile in tiles for part in (tile.image, tile.target, tile.weight))


def check_memory(need: int, free: int | None, device: torch.device, batch: int, size: Sequence[int]) -> None:
    """Refuse a training that needs more bytes than are free on a device, as far as that is known: DeviceError."""
    if free is not None and need > free:
        raise DeviceError(
            f"Training needs about {gigabytes(need)} of memory and {gigabytes(free)} are free on the device "
            f"{device.type!r}: make the batch ({batch}) or the crop ({' × '.join(map(str, size))} pixels) smaller."
        )


def gigabytes(size: float) -> str:
    """Return a number of bytes in words, such as ``"1.2 GB"``."""
    return f"{size / 1e9:.1f} GB"
