"""Training tiles to batches of crops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_unet.learn.settings import CROP, TrainSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_unet.learn.targets import TrainingTile

# Crops are read this much larger than used, so that turning and shrinking bring real pixels into view.
MARGIN = 1.5
# Tiles of which less than this is known are read around a known pixel, so that no crop teaches nothing.
SPARSE = 0.5


class Batches:
    """Draws crops at random: a tile by its share, a place in it, wide enough for the augmentation.

    Parameters
    ----------
    tiles : sequence of TrainingTile
        At least one, all with the same number of axes.
    channels : int
        Input channels of the network; a grey tile is repeated.
    settings : TrainSettings
        Batch, crop and seed are read.
    device : torch.device, optional
        Where the tiles are held, so that no step copies them; on the processor they are not copied at all.
    """

    def __init__(
        self,
        tiles: Sequence[TrainingTile],
        channels: int,
        settings: TrainSettings,
        device: torch.device | None = None,
    ) -> None:
        self._device = device or torch.device("cpu")
        self._tiles = [self._hold(tile) for tile in tiles]
        self._channels = channels
        self._count = settings.batch
        self._random = np.random.default_rng(settings.seed)
        shares = np.array([tile.share for tile in tiles], float)
        self._shares = shares / shares.sum()
        self._known = [np.flatnonzero(t.weight[0]) if (t.weight[0] > 0).mean() < SPARSE else None for t in tiles]
        shapes = np.array([tile.image.shape[1:] for tile in tiles])
        side = settings.crop or CROP[shapes.shape[1]]
        self.size = tuple(int(n) for n in np.minimum(side, shapes.max(axis=0)))
        self._read = tuple(math.ceil(n * MARGIN) for n in self.size)

    def replace(self, index: int, tile: TrainingTile) -> None:
        """Draw from another tile in the place of one; what is known of it stays."""
        self._tiles[index] = self._hold(tile)

    def _hold(self, tile: TrainingTile) -> tuple[Tensor, ...]:
        return tuple(as_tensor(part).to(self._device) for part in (tile.image, tile.target, tile.weight))

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return image ``(N, C, *read)``, target ``(N, 3, *read)`` and weight ``(N, 3, *read)``."""
        picks = self._random.choice(len(self._tiles), self._count, p=self._shares)
        crops = [self._crop(i) for i in picks]  # views, but for what lies outside
        image, target, weight = (torch.stack(part) for part in zip(*crops, strict=True))
        return image, target, weight

    def _crop(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image, target, weight = self._tiles[index]
        shape = image.shape[1:]
        known = self._known[index]
        if known is None or not len(known):
            start = [self._start(n, read, use) for n, read, use in zip(shape, self._read, self.size, strict=True)]
        else:
            centre = np.unravel_index(self._random.choice(known), shape)
            jitter = [self._random.integers(-(use // 4), use // 4 + 1) for use in self.size]
            start = [int(c) - read // 2 + int(j) for c, read, j in zip(centre, self._read, jitter, strict=True)]
        image = cut(image, start, self._read, "reflect")
        if len(image) < self._channels:
            image = image[:1].expand(self._channels, *self._read)
        return image, cut(target, start, self._read, "edge"), cut(weight, start, self._read)

    def _start(self, length: int, read: int, use: int) -> int:
        """Let the used middle of the crop reach every pixel; what is read around it may lie outside."""
        margin = (read - use) // 2
        if length <= use:
            return (length - read) // 2
        return int(self._random.integers(-margin, length - use - margin + 1))


def as_tensor(array: NDArray[np.float32]) -> Tensor:
    """Return an array as a tensor of the same memory; of one that may only be read, a copy, else torch warns."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def cut(array: Tensor, start: Sequence[int], size: Sequence[int], mode: str = "constant") -> Tensor:
    """Return a window of ``(channel, *spatial)``, filled outside as :func:`numpy.pad` does; a view if it can be."""
    pads: list[int] = []  # of the last axis first, as F.pad wants them
    for axis, (first, count) in enumerate(zip(start, size, strict=True), start=1):
        low, high = max(first, 0), min(first + count, array.shape[axis])
        array = array.narrow(axis, low, high - low)
        pads = [low - first, first + count - high, *pads]
    room = [n - 1 for n in reversed(array.shape[1:]) for _ in range(2)]
    if mode == "reflect" and not all(room):  # one pixel has nothing to reflect: it is repeated
        array = F.pad(array, [0 if n else pad for pad, n in zip(pads, room, strict=True)], mode="replicate")
        pads = [pad if n else 0 for pad, n in zip(pads, room, strict=True)]
    while any(pads):
        now = [min(pad, n) for pad, n in zip(pads, room, strict=True)] if mode == "reflect" else pads
        array = F.pad(array, now, mode="replicate" if mode == "edge" else mode)
        pads = [pad - n for pad, n in zip(pads, now, strict=True)]
        room = [n - 1 for n in reversed(array.shape[1:]) for _ in range(2)]
    return array
