"""Learning to outline what is clicked: crops around single objects, and simulated clicks on what is still wrong.

The network sees the image, the mask so far, and where was clicked inside and outside (Sofiiuk et al. 2022, RITM,
arXiv:2102.06583). In training an annotator is simulated: it clicks, or draws a stroke or a box, looks at what the
averaged weights make of that, and clicks into the middle of the largest error, up to `AGAIN` times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage as ndi
from torch.nn import functional as F

from napari_unet.errors import DataError
from napari_unet.infer.clicks import LEAST, NARROW, SIDE, WIDE, draw
from napari_unet.learn.augment import augment
from napari_unet.learn.batches import MARGIN, as_tensor, cut
from napari_unet.learn.losses import total_loss
from napari_unet.learn.trainer import Trainer
from napari_unet.model_file import PROMPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_unet.learn.settings import TrainSettings
    from napari_unet.learn.targets import TrainingTile
    from napari_unet.model import Model

AGAIN = 3  # simulated clicks after the first, at most
SMALLEST = 30  # pixels: smaller objects are debris as often as not
# Shares of what the simulated person begins with: a stroke, a box, or a mask that a model proposed; else a click
STROKE, BOX, WRONG = 0.1, 0.1, 0.35
JITTER = 0.15  # of the side of a crop: how far from its middle an object may lie


@dataclass
class Prompts:
    """What was said of an object so far, drawn for the network: each map ``float32 (SIDE, SIDE)``, 0 or 1."""

    maps: NDArray[np.float32]  # (PROMPTS, SIDE, SIDE): mask so far, clicks inside, clicks outside

    @classmethod
    def none(cls) -> Prompts:
        """Return that nothing was said."""
        return cls(np.zeros((PROMPTS, SIDE, SIDE), np.float32))

    def click(self, at: Sequence[int], inside: bool) -> None:
        """Add a click."""
        draw(self.maps[1 if inside else 2], at)

    def correct(self, truth: NDArray[np.bool_], said: NDArray[np.bool_], known: NDArray[np.bool_]) -> None:
        """Take what was said for the mask so far, and click where it is most wrong; beyond the image nobody clicks."""
        said = said & known
        self.maps[0] = said
        if (truth != said)[known].any():
            self.click(*worst(truth & known, said))


def worst(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> tuple[tuple[int, ...], bool]:
    """Return the middle of the largest connected error, and whether it belongs to the object; there must be one."""
    errors = [largest(error) for error in (truth & ~said, said & ~truth)]
    inside = np.count_nonzero(errors[0]) >= np.count_nonzero(errors[1])
    return middle(errors[0] if inside else errors[1]), bool(inside)


def largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected piece of a mask, nothing if there is nothing."""
    numbers, count = ndi.label(mask)
    return numbers == 1 + int(np.bincount(numbers.ravel())[1:].argmax()) if count else mask


def middle(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return the pixel of a mask that is farthest from its edge; the border of the array is an edge."""
    boxes = ndi.find_objects(mask.astype(np.uint8))[0]
    far = ndi.distance_transform_edt(np.pad(mask[boxes], 1))[tuple([slice(1, -1)] * mask.ndim)]
    found = np.unravel_index(int(far.argmax()), far.shape)
    return tuple(int(i) + box.start for i, box in zip(found, boxes, strict=True))


class ObjectCrops:
    """Draws crops around objects: a tile by its share, an object in it, a frame about as the product would choose it.

    Parameters
    ----------
    tiles : sequence of TrainingTile
        In two dimensions, with objects.
    channels : int
        Of the image; a grey tile is repeated.
    settings : TrainSettings
        Batch and seed are read.
    """

    size = (SIDE, SIDE)

    def __init__(self, tiles: Sequence[TrainingTile], channels: int, settings: TrainSettings) -> None:
        self._channels, self._count = channels, settings.batch
        self.random = np.random.default_rng(settings.seed)
        found = [(tile, _objects(tile)) for tile in tiles]
        self._tiles = [(tile, objects) for tile, objects in found if objects]
        if not self._tiles:
            raise DataError(f"No object has {SMALLEST} pixels or more: give masks of larger objects.")
        shares = np.array([tile.share for tile, _ in self._tiles])
        self._shares = shares / shares.sum()
        self._read = round(SIDE * MARGIN)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return image ``(N, C, *read)``, target ``(N, 3, *read)`` and weight ``(N, 3, *read)``.

        The class of the target is that of the object meant; it has number 1, the others higher ones.
        """
        picks = self.random.choice(len(self._tiles), self._count, p=self._shares)
        image, target, weight = zip(*(self._crop(*self._tiles[i]) for i in picks), strict=True)
        return torch.cat(image), torch.cat(target), torch.cat(weight)

    def _crop(self, tile: TrainingTile, objects: list[tuple[int, Any]]) -> tuple[Tensor, Tensor, Tensor]:
        random = self.random
        number, box = objects[random.integers(len(objects))]
        longest = max(side.stop - side.start for side in box)
        side = max(longest * NARROW * (WIDE / NARROW) ** random.random(), LEAST)
        if random.random() < 0.5:  # around a click somewhere in the object
            where = np.argwhere(tile.target[1][box] == number)
            centre = where[random.integers(len(where))] + [s.start for s in box]
        else:
            centre = np.array([(s.start + s.stop) / 2 for s in box]) + random.uniform(-JITTER, JITTER, 2) * side
        read = round(side * MARGIN)
        start = [round(float(c) - read / 2) for c in centre]
        image = cut(as_tensor(tile.image), start, (read, read), "reflect")[None]
        numbers = cut(as_tensor(tile.target[1:2]), start, (read, read))[None]
        known = cut(as_tensor(tile.weight[:1]), start, (read, read))[None]
        image = F.interpolate(image, (self._read, self._read), mode="bilinear", antialias=True, align_corners=False)
        numbers, known = (F.interpolate(x, (self._read, self._read), mode="nearest-exact") for x in (numbers, known))
        numbers = torch.where(numbers == number, 1.0, torch.where(numbers > 0, numbers + 1, 0.0))
        target = torch.cat(((numbers == 1).float(), numbers, torch.zeros_like(numbers)), dim=1)
        return image.expand(-1, self._channels, -1, -1), target, known.expand(-1, 3, -1, -1)


def _objects(tile: TrainingTile) -> list[tuple[int, Any]]:
    """Return number and box of each object that is large enough."""
    numbers = tile.target[1].astype(np.int64)
    sizes = np.bincount(numbers.ravel())
    boxes = ndi.find_objects(numbers)
    return [(i, box) for i, box in enumerate(boxes, start=1) if box is not None and sizes[i] >= SMALLEST]


class ClickTrainer(Trainer):
    """As :class:`Trainer`, but for a network that is told by clicks which object is meant."""

    def crops(self, tiles: Sequence[TrainingTile], model: Model, settings: TrainSettings) -> ObjectCrops:
        """Return what draws the batches."""
        return ObjectCrops(tiles, model.config.in_channels - PROMPTS, settings)

    def loss(self) -> Tensor:
        """Return the loss of one batch, after up to `AGAIN` simulated clicks."""
        image, target, weight = (part.to(self.device) for part in self.batches.draw())
        image, target, weight = augment(
            image, target, weight, ObjectCrops.size, self.settings.augmentation, self.random
        )
        random = self.batches.random
        numbers, known = target[:, 1].cpu().numpy(), weight[:, 0].cpu().numpy() > 0
        said = [begin(each, there, random) for each, there in zip(numbers, known, strict=True)]
        for _ in range(int(random.integers(AGAIN + 1))):
            with torch.no_grad():
                found = self.logits(self.average, self._with(image, said)).argmax(dim=1).cpu().numpy() == 1
            for each, truth, now, there in zip(said, numbers, found, known, strict=True):
                each.correct(truth == 1, now, there)
        return total_loss(self.logits(self.network, self._with(image, said)), target, weight, 2)

    def _with(self, image: Tensor, said: list[Prompts]) -> Tensor:
        maps = torch.from_numpy(np.stack([each.maps for each in said])).to(image)
        return torch.cat((image, maps), dim=1)


def begin(numbers: NDArray[np.floating[Any]], known: NDArray[np.bool_], random: np.random.Generator) -> Prompts:
    """Return what a person might begin with who means the object of number 1, of which the known pixels are seen."""
    said, truth = Prompts.none(), (numbers == 1) & known
    if not truth.any():
        return said
    kind = random.random()
    if kind < STROKE:
        _stroke(said, truth, random)
    elif kind < STROKE + BOX:
        box = ndi.find_objects(truth.astype(np.uint8))[0]
        ends = [(s.start, s.stop, (s.stop - s.start) * 0.1) for s in box]
        low = [max(round(a + random.normal(0, d)), 0) for a, _, d in ends]
        high = [round(b + random.normal(0, d)) for _, b, d in ends]
        said.maps[0][tuple(slice(a, max(a + 2, b)) for a, b in zip(low, high, strict=True))] = 1
        said.maps[0] *= known
    elif kind < STROKE + BOX + WRONG:
        proposed = _proposed(numbers, truth, random)
        if random.random() < 0.5:
            said.correct(truth, proposed, known)
        else:  # it says which object is meant, and not what is wrong with it
            said.maps[0] = proposed & known
            said.click(_inside(truth, random), True)
    if not said.maps.any():
        said.click(_inside(truth, random), True)
    return said


def _inside(truth: NDArray[np.bool_], random: np.random.Generator) -> tuple[int, ...]:
    """Return where a person clicks: half of them into the middle, the others anywhere but at the edge."""
    if random.random() < 0.5:
        return middle(truth)
    far = ndi.distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1]
    where = np.argwhere(far > 0.3 * far.max())
    return tuple(where[random.integers(len(where))].tolist())


def _stroke(said: Prompts, truth: NDArray[np.bool_], random: np.random.Generator) -> None:
    """Draw a straight stroke between two places in the object, as far as it lies in it."""
    ends = [np.array(_inside(truth, random)) for _ in range(2)]
    for share in np.linspace(0, 1, 2 + int(np.abs(ends[1] - ends[0]).max())):
        at = tuple(np.round(ends[0] + share * (ends[1] - ends[0])).astype(int).tolist())
        if truth[at]:
            said.click(at, True)


def _proposed(
    numbers: NDArray[np.floating[Any]], truth: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a mask as a model gets it: with a neighbour, without a part, too large or too small, or nearly right."""
    kind = random.integers(4)
    around = np.unique(numbers[ndi.binary_dilation(truth, iterations=4) & (numbers > 1)])
    if kind == 0 and len(around):
        return truth | (numbers == random.choice(around))
    if kind == 1:
        direction = random.normal(size=2)
        place = np.argwhere(truth) @ direction
        grid = np.moveaxis(np.indices(truth.shape), 0, -1) @ direction
        return truth & (grid < np.quantile(place, random.uniform(0.2, 0.8)))
    times = int(random.integers(2, 7)) if kind == 2 else 1
    return (
        ndi.binary_dilation(truth, iterations=times)
        if random.random() < 0.5
        else ndi.binary_erosion(truth, iterations=times)
    )
