"""Training tiles to batches of crops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

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
    """

    def __init__(self, tiles: Sequence[TrainingTile], channels: int, settings: TrainSettings) -> None:
        self.tiles = list(tiles)
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

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return image ``(N, C, *read)``, target ``(N, 3, *read)`` and weight ``(N, 3, *read)``."""
        picks = self._random.choice(len(self.tiles), self._count, p=self._shares)
        crops = [self._crop(i) for i in picks]
        image, target, weight = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
        return image, target, weight

    def _crop(self, index: int) -> tuple[NDArray[np.float32], ...]:
        tile = self.tiles[index]
        shape = tile.image.shape[1:]
        known = self._known[index]
        if known is None or not len(known):
            start = [self._start(n, read, use) for n, read, use in zip(shape, self._read, self.size, strict=True)]
        else:
            centre = np.unravel_index(self._random.choice(known), shape)
            jitter = [self._random.integers(-(use // 4), use // 4 + 1) for use in self.size]
            start = [int(c) - read // 2 + int(j) for c, read, j in zip(centre, self._read, jitter, strict=True)]
        image = cut(tile.image, start, self._read, "reflect")
        if len(image) < self._channels:
            image = np.repeat(image[:1], self._channels, axis=0)
        return image, cut(tile.target, start, self._read, "edge"), cut(tile.weight, start, self._read)

    def _start(self, length: int, read: int, use: int) -> int:
        """Let the used middle of the crop reach every pixel; what is read around it may lie outside."""
        margin = (read - use) // 2
        if length <= use:
            return (length - read) // 2
        return int(self._random.integers(-margin, length - use - margin + 1))


def cut(
    array: NDArray[np.float32], start: Sequence[int], size: Sequence[int], mode: str = "constant"
) -> NDArray[np.float32]:
    """Return a window of ``(channel, *spatial)``, filled outside as :func:`numpy.pad` does in this mode."""
    inside = [slice(max(s, 0), max(s + n, 0)) for s, n in zip(start, size, strict=True)]
    found = array[(slice(None), *inside)]
    pad = [(max(-s, 0), max(s + n - length, 0)) for s, n, length in zip(start, size, array.shape[1:], strict=True)]
    if not any(before or after for before, after in pad):
        return found
    padded: NDArray[np.float32] = np.pad(found, [(0, 0), *pad], mode=mode)  # type: ignore[call-overload]
    return padded
