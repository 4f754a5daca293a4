"""One step of training: a batch, its loss, the optimisers and the averaged weights."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.errors import DataError
from napari_unet.infer.device import free_memory, half_precision, pick_device
from napari_unet.learn.augment import augment
from napari_unet.learn.batches import Batches
from napari_unet.learn.losses import total_loss
from napari_unet.learn.memory import check_memory, needed, tiles_size
from napari_unet.learn.optimiser import optimisers
from napari_unet.learn.settings import CROP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_unet.learn.settings import TrainSettings
    from napari_unet.learn.targets import TrainingTile
    from napari_unet.model import Model, Provenance
    from napari_unet.nets.unet import UNet

# Steps for each crop's worth of known pixels, at least, and at most. Ten corrected tiles of phase contrast gave AP.50
# .673 and .668 with 150 steps, .717 and .721 with 300 (two seeds); 150 are a minute or two on a laptop.
WORTH, LEAST, MOST = 40, 150, 600
WARM_UP = 0.05  # share of the steps in which the learning rate rises
CLIP = 1.0  # largest norm of the gradient; one bad crop may not throw the weights far
# Share of the free memory that tiles may take on a device; else they stay on the host and crops are copied
ROOM = 0.25


class Trainer:
    """Network, optimiser and averaged weights; one call, one step.

    Parameters
    ----------
    model : Model
        Its network is copied.
    tiles : sequence of TrainingTile
        What to learn from.
    settings : TrainSettings
        How.
    """

    def __init__(self, model: Model, tiles: Sequence[TrainingTile], settings: TrainSettings) -> None:
        self.settings = settings
        self.steps = settings.steps or enough_steps(tiles)
        self.given = tiles
        self.device = pick_device(settings.device)
        half = half_precision(self.device)
        # float16 would need loss scaling; bfloat16 has the range of float32
        self.dtype = half if half == torch.bfloat16 else None
        free = free_memory(self.device)
        self.held = self.device if free is None or tiles_size(tiles) < ROOM * free else torch.device("cpu")
        self.batches = self.crops(tiles, model, settings)
        size = self.batches.size
        self.memory = needed(model.config, settings.batch, size, self.dtype or torch.float32)
        if self.held.type != "cpu":
            self.memory += tiles_size(tiles)
        check_memory(self.memory, free, self.device, settings.batch, size)
        self.network = copy.deepcopy(model.network).to(self.device).requires_grad_(True)
        if not settings.freeze_norms and settings.batch == 1 and max(size) <= self.network.stride:
            raise DataError(
                f"One crop of {' × '.join(map(str, size))} pixels is too little for the "
                "statistics of the norms: make the batch or the crop larger, or freeze the norms."
            )
        if model.ndim == 2:
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: UNet = copy.deepcopy(self.network).requires_grad_(False)
        self.network.train()
        if settings.freeze_norms:
            for module in self.network.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
        self.optimisers = optimisers(self.network, settings.learning_rate, settings.weight_decay)
        self.random = torch.Generator().manual_seed(settings.seed)

    def crops(self, tiles: Sequence[TrainingTile], model: Model, settings: TrainSettings) -> Any:
        """Return what draws the batches."""
        return Batches(tiles, model.config.in_channels, settings, self.held)

    def step(self, step: int) -> float | None:
        """Make one step and return its loss; None, with all weights as they were, if that is not a number."""
        for group in (group for each in self.optimisers for group in each.param_groups):
            group["lr"] = self.settings.learning_rate * schedule(step, self.steps)
        self.network.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        value, length = torch.stack((loss.detach(), norm)).tolist()  # both at once: a GPU is waited for
        if not (math.isfinite(value) and math.isfinite(length)):
            return None
        for each in self.optimisers:
            each.step()
        self._update_average(step)
        return float(value)

    def loss(self) -> Tensor:
        """Return the loss of one batch."""
        image, target, weight = (part.to(self.device) for part in self.batches.draw())
        how = self.settings.augmentation
        image, target, weight = augment(image, target, weight, self.batches.size, how, self.random)
        return total_loss(self.logits(self.network, image), target, weight, self.network.config.classes)

    def logits(self, network: UNet, image: Tensor) -> Tensor:
        """Return what a network says of a batch, computed in the precision of the device."""
        if image.ndim == 4:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            found: Tensor = network(image)
        return found

    def averaged(self, model: Model, provenance: Provenance) -> Model:
        """Return `model` with the averaged weights; what it knew of images is no longer true of them."""
        network = copy.deepcopy(self.average).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return replace(model, network=network.eval(), provenance=provenance, familiar=None, base=None)

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        """Exponential moving average; short at the start, where old weights are worthless."""
        keep = min(self.settings.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(_floats(self.average), _floats(self.network), 1 - keep)


def enough_steps(tiles: Sequence[TrainingTile]) -> int:
    """Return how many steps tiles are worth, by the pixels that are known in them."""
    ndim = tiles[0].image.ndim - 1
    known = sum(int(np.count_nonzero(tile.weight[0])) for tile in tiles) / CROP[ndim] ** ndim
    return int(np.clip(round(WORTH * known), LEAST, MOST))


def schedule(step: int, steps: int) -> float:
    """Return the learning rate's factor, 0 to 1: a linear rise, then half a cosine to 1 %."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _floats(network: torch.nn.Module) -> list[Tensor]:
    return [t for t in network.state_dict().values() if t.is_floating_point()]
