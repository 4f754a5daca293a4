"""Scoring a model on labelled images and tiles, and choosing its decode thresholds."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import DataError
from napari_unet.infer.familiar import choose, planes_of
from napari_unet.infer.instances import decode
from napari_unet.infer.predict import predict_tiles
from napari_unet.infer.segment import SegmentSettings, segment_job
from napari_unet.jobs import Job, Progress, T, as_part, run
from napari_unet.learn.metrics import ImageScore, Scores, score_classes, score_instances, summarise
from napari_unet.learn.targets import check_numbered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_unet.learn.targets import TrainingTile
    from napari_unet.model import Model

# What tuning tries. Few and coarse: finer ones fit the noise of a small held-out set.
FOREGROUNDS = (0.4, 0.5, 0.6)
SEEDS = (0.1, 0.15, 0.2, 0.3)
BOUNDARIES = (0.0, 0.5, 1.0)


def evaluate(
    model: Model,
    images: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    axes: str | None = None,
    names: Sequence[str] = (),
    settings: SegmentSettings | None = None,
) -> Scores:
    """Segment images and score the labels against masks; see :func:`evaluate_job`."""
    check_pairs(model, images, masks)
    return run(evaluate_job(model, images, masks, axes=[axes] * len(images), names=names, settings=settings))


def evaluate_job(
    model: Model,
    images: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    axes: Sequence[str | None] = (),
    names: Sequence[str] = (),
    settings: SegmentSettings | None = None,
) -> Job[Scores]:
    """Segment images one after the other and score the labels.

    A model of fewer axes than an image is scored slice by slice, as it segments: it knows no object that goes
    on in the next slice.

    Parameters
    ----------
    model : Model
        What to score.
    images, masks : sequence of array
        In pairs; a mask has the image's shape without channels, 0 = background.
    axes : sequence of str or None
        Of the images; guessed where not given.
    names : sequence of str
        Of the images, for the table.
    settings : SegmentSettings, optional
        How to segment.

    Yields
    ------
    Progress
        Images done.

    Raises
    ------
    DataError
        If there are no pairs, or their numbers or shapes differ.
    """
    check_pairs(model, images, masks)
    if model.task == "instances":
        check_numbered([np.asarray(mask) for mask in masks])
    scored = []
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        name = names[i] if names else f"image {i}"
        yield Progress(i, len(images), name)
        job = segment_job(model, image, axes[i] if axes else None, settings)
        found, truth = (yield from quietly(job, i, len(images))), np.asarray(mask)
        labels, base = found.labels, found.model.name if found.model is not None and found.model is not model else ""
        if truth.shape != labels.shape:
            raise DataError(
                f"The mask of {name} is {truth.shape} pixels and its image {labels.shape}: make them equal."
            )
        scored += [replace(each, base=base) for each in score_labels(model, truth, labels, name)]
    yield Progress(len(images), len(images), "scored")
    return summarise(scored)


def check_pairs(model: Model, images: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> None:
    """Refuse anything but a list of images and one of as many masks; raises DataError."""
    for what, given in (("images", images), ("masks", masks)):
        if isinstance(given, str | os.PathLike):
            raise DataError(
                f"The {what} are the path {os.fspath(given)!r}, expected a list of arrays: read each file first, with "
                "napari_unet.infer.read.read_image(path).data."
            )
        shape = getattr(given, "shape", None)
        if shape is not None and len(shape) <= model.ndim:
            raise DataError(
                f"The {what} are one array of shape {tuple(shape)}, expected a list of arrays: give [image] and "
                "[mask], also if there is only one of each."
            )
    if not len(images) or len(images) != len(masks):
        raise DataError(f"There are {len(images)} images and {len(masks)} masks: give one mask for each image.")


def score_tiles(model: Model, tiles: Sequence[TrainingTile], device: str = "auto") -> Job[Scores]:
    """Score a model on the known pixels of tiles, each with its base if it is for that; yields the tiles done."""
    scored = []
    for i, tile in enumerate(tiles):
        used, _ = yield from quietly(choose(model, planes_of([tile.image])[0], device), i, len(tiles))
        maps = yield from quietly(predict_tile(used, tile, device), i, len(tiles))
        scored.append(_score_tile(used, tile, maps))
    return summarise(scored)


def tune(model: Model, tiles: Sequence[TrainingTile], device: str = "auto") -> Job[Model]:
    """Return the model with the decode thresholds that score best on tiles, by mean AP of .50 to .90.

    The tiles must not be among those that are reported as a test. Thresholds that are no better than the
    model's own are not taken. A model of classes is returned as it is.
    """
    if model.task == "classes":
        return model
    maps = []
    for i, tile in enumerate(tiles):
        job = predict_tile(model, tile, device)
        maps.append((yield from quietly(job, i, len(tiles))))
    best, highest = model, -1.0
    own = model.decode
    tries = [(own.foreground, own.seed, own.boundary), *product(FOREGROUNDS, SEEDS, BOUNDARIES)]
    for i, (foreground, seed, boundary) in enumerate(tries):
        yield Progress(i, len(tries), "choosing thresholds")
        settings = replace(own, foreground=foreground, seed=seed, boundary=boundary)
        candidate = replace(model, decode=settings)
        value = quality(summarise(_score_tile(candidate, t, m) for t, m in zip(tiles, maps, strict=True)))
        if value > highest:
            best, highest = candidate, value
    return best


def headline(scores: ImageScore) -> float:
    """Return the one number that people are told: AP at .50 for objects, Dice for classes."""
    return scores.ap50 if scores.objects else scores.dice


def quality(scores: ImageScore) -> float:
    """Return the number that models are chosen by: mean AP of .50 to .90 for objects, Dice for classes."""
    return float(np.mean(scores.ap[:9])) if scores.objects else scores.dice


def read_pairs(folder: str | Path) -> list[tuple[Path, Path]]:
    """Return the images and masks of a folder that holds ``images/`` and ``masks/`` with the same file names.

    Names are compared without suffix, so that ``a.png`` may have its mask in ``a.tif``.

    Raises
    ------
    DataError
        If the folder or one of the two in it is missing, or an image has no mask.
    ImageError
        If a folder is empty.
    """
    from napari_unet.infer.read import list_images

    root = Path(folder).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"The folder {str(root)!r} {what}, expected one with images/ and masks/ in it: check the path.")
    for part in ("images", "masks"):
        if not (root / part).is_dir():
            raise DataError(f"The folder {str(root)!r} has no folder {part!r}: put images/ and masks/ into it.")
    images, masks = list_images(root / "images"), {p.stem: p for p in list_images(root / "masks")}
    lonely = [p.name for p in images if p.stem not in masks]
    if lonely:
        raise DataError(
            f"{len(lonely)} of {len(images)} images in {str(root)!r} have no mask of the same name, "
            f"{lonely[0]!r} for one: add it to masks/ or take the image away."
        )
    return [(p, masks[p.stem]) for p in images]


def score_labels(
    model: Model, truth: NDArray[np.integer], labels: NDArray[np.integer], name: str = ""
) -> list[ImageScore]:
    """Score the labels of an image or a part of it, slice by slice if the model sees fewer axes than they have."""
    scored = []
    for index in np.ndindex(labels.shape[: labels.ndim - model.ndim]):
        part = f"{name} {list(index)}" if index else name
        if model.task == "classes":
            scored.append(score_classes(truth[index], labels[index], model.classes, name=part))
        else:
            scored.append(score_instances(truth[index], labels[index], name=part))
    return scored


def _score_tile(model: Model, tile: TrainingTile, maps: NDArray[np.float32]) -> ImageScore:
    labels, known = decode(model, maps), tile.weight[0] > 0
    if model.task == "classes":
        return score_classes(tile.labels, labels, model.classes, valid=known, name=tile.name)
    return score_instances(tile.labels, labels, valid=known, name=tile.name)


def predict_tile(model: Model, tile: TrainingTile, device: str = "auto") -> Job[NDArray[np.float32]]:
    """Return the maps of a tile; a grey one is repeated for a model of colour."""
    wanted = model.config.in_channels
    image = tile.image if len(tile.image) == wanted else np.repeat(tile.image[:1], wanted, axis=0)
    return predict_tiles(model, image, device)


def quietly(job: Job[T], done: int, total: int) -> Job[T]:
    """Run a job inside another one, reporting only where the outer one is."""
    return as_part(job, lambda _: Progress(done, total, "scoring"))
