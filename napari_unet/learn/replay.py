"""Made images on which a model shows what it knows, to be learned along with corrections so that it forgets less.

Shipped models come without the images they learned from. These here are drawn at random, as unlike each other as
nuclei in fluorescence, in stained tissue and in bright field are; their labels are the model's own answer, right or
wrong (learning without forgetting: Li & Hoiem 2016, arXiv:1606.09282).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.infer.segment import SegmentSettings, prepare, segment_job
from napari_unet.jobs import Job, Progress, as_part
from napari_unet.learn.targets import training_tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_unet.learn.settings import TrainSettings
    from napari_unet.learn.targets import TrainingTile
    from napari_unet.model import Model

COUNT = 48  # images: about as many as crops of them are drawn in a short training
SIDE = 256  # pixels
DIAMETERS = (9.0, 50.0)  # pixels
KINDS = ("fluorescence", "stained") * 4 + ("fluorescence", "bright field")
# Optical density of haematoxylin and eosin in red, green and blue (Ruifrok & Johnston 2001)
HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


def replay_tiles(
    model: Model, share: float, weight: float, settings: TrainSettings, stop: Callable[[], bool] = bool
) -> Job[list[TrainingTile]]:
    """Return made images with the model's own labels.

    Parameters
    ----------
    model : Model
        Of objects, 2-D and trained; of any other there is nothing to replay.
    share : float
        How often they are drawn, all together, relative to other tiles.
    weight : float
        Of their pixels: as much as is known of a pixel elsewhere, or a few strokes would be lost among them.
    settings : TrainSettings
        Seed, which gives the same images again, and device.
    stop : callable
        Asked before each image; on True there are no more.

    Yields
    ------
    Progress
        Images done.
    """
    if model.ndim != 2 or model.task == "classes" or not model.provenance.recipe or not share * weight:
        return []
    random = np.random.default_rng(settings.seed)
    how = SegmentSettings(device=settings.device)
    tiles: list[TrainingTile] = []
    for i in range(COUNT):
        if stop():
            break
        image = draw(random, KINDS[i % len(KINDS)])
        axes = "YX" if image.ndim == 2 else "YXS"
        job = as_part(segment_job(model, image, axes, how), lambda _, i=i: Progress(i, COUNT, "recalling"))  # type: ignore[misc]
        labels = (yield from job).labels.astype(np.int64)
        array, _ = prepare(model, image, axes)
        grey = array[:1] if image.ndim == 2 else array
        tile = training_tile(grey, labels, "instances", share=share / COUNT, name="made image")
        tiles.append(replace(tile, weight=tile.weight * np.float32(weight)))
    return tiles


def draw(random: np.random.Generator, kind: str) -> NDArray[Any]:
    """Return a made image: ``float32 (Y, X)``, or ``uint8 (Y, X, 3)`` if `kind` is ``"stained"``."""
    diameter = np.exp(random.uniform(*np.log(DIAMETERS)))
    dye = ndi.gaussian_filter(_nuclei(random, diameter), random.uniform(0.5, 1.8))
    if kind == "fluorescence":
        haze = random.uniform(0, 0.4) * ndi.gaussian_filter(dye, 0.8 * diameter)
        light = dye + haze + random.uniform(0, 0.1) * (_texture(random, 60) + 2)
        noise = random.uniform(0.005, 0.06) * np.sqrt(light.clip(0) + 0.05)
        return (light + noise * random.standard_normal(light.shape)).astype(np.float32)
    tissue = (0.5 + 0.35 * _texture(random, random.uniform(4, 25)) + 0.15 * _texture(random, 1.5)).clip(0)
    density = random.uniform(0.6, 1.6) * np.multiply.outer(dye, HAEMATOXYLIN + random.normal(0, 0.08, 3))
    density += random.uniform(0.1, 0.6) * np.multiply.outer(tissue, 0.6 * EOSIN + 0.15 + random.normal(0, 0.06, 3))
    colours = np.exp(-density) + 0.015 * random.standard_normal(density.shape)
    if kind == "bright field":
        return colours.mean(axis=-1).astype(np.float32)
    return (255 * colours.clip(0, 1)).astype(np.uint8)


def _nuclei(random: np.random.Generator, diameter: float) -> NDArray[np.float64]:
    """Draw ellipses, alone and in clumps, that cover 8 to 45 % of the image."""
    dye = np.zeros((SIDE, SIDE))
    count = int(np.clip(random.uniform(0.08, 0.45) * SIDE**2 / (np.pi / 4 * diameter**2), 3, 160))
    centres: list[NDArray[np.float64]] = []
    for _ in range(count):
        near = centres and random.random() < 0.45  # the next one of a clump
        at = centres[random.integers(len(centres))] + random.normal(0, 0.9 * diameter, 2) if near else None
        centres.append(random.uniform(0, SIDE, 2) if at is None else at)
        stretch, angle = np.exp(random.normal(0, 0.25)), random.uniform(0, np.pi)
        radius = diameter / 2 * np.exp(random.normal(0, 0.18))
        reach = 3 * radius + 2
        box = tuple(slice(int(max(c - reach, 0)), int(np.clip(c + reach, 0, SIDE))) for c in centres[-1])
        y, x = np.ogrid[box]
        y, x = y - centres[-1][0], x - centres[-1][1]
        along = (y * np.cos(angle) + x * np.sin(angle)) / (radius * stretch)
        across = (x * np.cos(angle) - y * np.sin(angle)) / (radius / stretch)
        depth = (1 - along**2 - across**2).clip(0, 1)
        body = (4 * depth).clip(0, 1) * (0.6 + 0.4 * depth) * np.exp(random.normal(0, 0.5))
        dye[box] = np.maximum(dye[box], body) if random.random() < 0.6 else dye[box] + body
    return np.asarray(dye * (1 + 0.2 * _texture(random, max(1.0, diameter / 10))))


def _texture(random: np.random.Generator, size: float) -> NDArray[np.float64]:
    """Return smooth noise of standard deviation 1 with bumps of about this size in pixels."""
    noise = ndi.gaussian_filter(random.standard_normal((SIDE, SIDE)), size, mode="wrap")
    return np.asarray(noise / noise.std())
