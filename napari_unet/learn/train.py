"""Training: the one job that learns, from scratch and from corrections alike."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError, DeviceError
from napari_unet.infer.device import out_of_memory
from napari_unet.infer.familiar import memory_after, planes_of
from napari_unet.infer.seen import prepare
from napari_unet.infer.segment import check_names
from napari_unet.jobs import Job, Progress, run
from napari_unet.learn.batches import Batches
from napari_unet.learn.completion import complete, incomplete
from napari_unet.learn.evaluate import check_pairs, headline, predict_tile, quality, quietly, score_tiles
from napari_unet.learn.memory import gigabytes
from napari_unet.learn.preview import Looks
from napari_unet.learn.settings import SCRATCH, TrainSettings
from napari_unet.learn.targets import check_objects, training_tile, typical_diameter
from napari_unet.learn.trainer import Trainer
from napari_unet.model import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from napari_unet.learn.metrics import Scores
    from napari_unet.learn.preview import Look
    from napari_unet.learn.targets import TrainingTile
    from napari_unet.model import Model

# Shares of the steps after which objects known in part are completed: once class and boundary are learned, and again
COMPLETE = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class TrainResult:
    """What came out of a training.

    Attributes
    ----------
    model : Model
        With the last weights, averaged; with `TrainSettings.keep_best` those that scored best at a check.
    before, after : Scores or None
        Of the model given and of `model`, on the held-out tiles.
    steps : int
        Steps that were made.
    ended : str
        Why it ended, in one sentence, if before its time; else empty.
    """

    model: Model
    before: Scores | None
    after: Scores | None
    steps: int
    ended: str = ""


def train(
    model: Model,
    tiles: Sequence[TrainingTile],
    held_out: Sequence[TrainingTile],
    settings: TrainSettings,
    *,
    provenance: Provenance | None = None,
    stop: Callable[[], bool] = bool,
    preview: Callable[[], Look | None] | None = None,
    trainer: type[Trainer] | None = None,
) -> Job[TrainResult]:
    """Learn from tiles; Muon and AdamW, cosine schedule, averaged weights.

    Parameters
    ----------
    model : Model
        Where to start; it is not changed.
    tiles : sequence of TrainingTile
        What to learn from.
    held_out : sequence of TrainingTile
        What to score on; may be empty.
    settings : TrainSettings
        How.
    provenance : Provenance, optional
        What to write into the new model; the default names the parent and the settings.
    stop : callable
        Asked before each step; on True the training ends early and keeps what it has.
    preview : callable, optional
        What is to be seen of the model meanwhile; see :class:`napari_unet.learn.preview.Looks`.
    trainer : type, optional
        What makes the steps; default: :class:`Trainer`.

    Yields
    ------
    Progress
        First, with nothing to count, how much memory it needs. Then steps; `values` has ``loss`` and, after each
        check, ``score`` (held-out AP at .50, or Dice for classes); `payload` then is the best Model so far.

    Raises
    ------
    DataError
        If there is nothing to learn from, or the tiles do not fit the model.
    DeviceError
        If it needs more memory than is free, or memory runs out.
    """
    _check(model, tiles, held_out)
    if model.task == "clicks" and trainer is None:
        raise DataError(f"The model {model.name!r} outlines what is clicked: choose one that segments images.")
    try:
        made = (trainer or Trainer)(model, tiles, settings)
        with closing(Looks(preview, stop)) as looks:
            return (yield from _train(made, model, held_out, provenance, stop, looks))
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise DeviceError(
            f"The device ran out of memory in training: make the batch ({settings.batch}) or crop smaller."
        ) from error


def _check(model: Model, tiles: Sequence[TrainingTile], held_out: Sequence[TrainingTile]) -> None:
    """Refuse tiles that the model cannot learn from."""
    if not any((tile.weight[0] > 0).any() for tile in tiles):
        raise DataError("There are no labelled pixels to learn from: paint some, or confirm a tile.")
    for tile in (*tiles, *held_out):
        ndim, largest = tile.image.ndim - 1, int(tile.target[0].max())
        if ndim != model.ndim:
            raise DataError(
                f"{tile.name or 'A tile'} has {ndim} axes and the model {model.ndim}: cut it into slices, or "
                "choose another model."
            )
        if largest >= len(model.classes):
            raise DataError(
                f"{tile.name or 'A tile'} has class {largest}, but the classes are 0 to "
                f"{len(model.classes) - 1}: renumber the mask, or choose a model of more classes."
            )


def _train(
    trainer: Trainer,
    model: Model,
    held_out: Sequence[TrainingTile],
    provenance: Provenance | None,
    stop: Callable[[], bool],
    looks: Looks,
) -> Job[TrainResult]:
    settings, steps = trainer.settings, trainer.steps
    origin = provenance or Provenance.now(
        data=(*model.provenance.data, "own annotations"),
        notices=model.provenance.notices,
        recipe=asdict(settings) | {"steps": steps},
        parent=model.version,
    )

    def scored(model: Model, step: int) -> Job[Scores]:
        return quietly(score_tiles(model, held_out, settings.device), step, steps)

    yield Progress(0, 0, f"training needs about {gigabytes(trainer.memory)} of memory")
    before = (yield from scored(model, 0)) if held_out else None
    best, after, ended, step = model, before, "", 0
    checks = {round((i + 1) * steps / settings.checks) for i in range(settings.checks)}
    completions = {round(share * steps) for share in COMPLETE} if model.task == "instances" else set()
    yield Progress(0, steps, "steps", {} if before is None else {"score": headline(before)})
    while step < steps and not stop():
        if step in completions:
            yield from _complete(trainer, model, origin, step)
        began = time.monotonic()
        loss = trainer.step(step)
        took = time.monotonic() - began
        if loss is None:
            ended = f"The loss was not a number at step {step + 1}; the last good weights were kept."
            break
        step += 1
        values: dict[str, float] = {"loss": loss}
        if step in checks and held_out:
            now = trainer.averaged(model, origin)
            scores = yield from scored(now, step)
            if best is model or after is None or not settings.keep_best or quality(scores) >= quality(after):
                best, after = now, scores
            values["score"] = headline(scores)
        yield Progress(step, steps, "steps", values, payload=best if "score" in values else None)
        if step < steps:
            yield from looks.after(took, lambda: trainer.averaged(model, origin), step, steps)
    unscored = best is model or (not settings.keep_best and step not in checks)
    if step and (unscored or not held_out):
        best = trainer.averaged(model, origin)
        after = (yield from scored(best, step)) if held_out else None
    if step < steps and not ended:
        ended = f"Stopped at step {step} of {steps}."
    return TrainResult(best, before, after, step, ended)


def _complete(trainer: Trainer, model: Model, origin: Provenance, step: int) -> Job[None]:
    """Let the model, as far as it has come, complete objects that are known in part."""
    now = trainer.averaged(model, origin)
    for i, tile in enumerate(trainer.given):
        if incomplete(tile):
            maps = yield from quietly(predict_tile(now, tile, trainer.settings.device), step, trainer.steps)
            trainer.batches.replace(i, complete(tile, maps, len(model.classes)))


def fit(
    model: Model,
    images: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    epochs: int = 20,
    axes: str | None = None,
    held_out: float = 0.0,
    report: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> Model:
    """Return a new model that has learned from images and masks; the one given is untouched.

    Parameters
    ----------
    model : Model
        Where to start. An untrained one learns with its own statistics, a trained one keeps them.
    images : sequence of array
        Any numeric dtype.
    masks : sequence of integer array
        Object numbers or classes, an image's shape without channels, 0 = background.
    epochs : int
        How often each pixel is seen, about; ignored if ``steps`` is among the settings.
    axes : str, optional
        Of the images; guessed if not given.
    held_out : float
        Share of the images, 0 to 0.5, taken from the end of the list, that chooses the best weights and is
        not learned from.
    report : callable, optional
        Gets each Progress.
    **settings
        The fields of :class:`~napari_unet.learn.settings.TrainSettings`.

    Raises
    ------
    DataError
        If numbers or shapes do not fit, all masks are empty, or there is no setting of that name.
    """
    check_names(settings, ("epochs", "axes", "held_out", "report", *(each.name for each in fields(TrainSettings))))
    check_pairs(model, images, masks)
    if not 0 <= held_out <= 0.5:
        raise DataError(f"The share to hold out is {held_out}, expected 0 to 0.5.")
    kept = len(images) - round(held_out * len(images))
    parts = [_slices(model, *pair, axes, i) for i, pair in enumerate(zip(images, masks, strict=True))]
    tiles, scored = list(chain(*parts[:kept])), list(chain(*parts[kept:]))
    check_objects(tiles)
    if epochs < 1:
        raise DataError(f"The epochs are {epochs}, expected a number from 1 up.")
    base = TrainSettings() if model.provenance.data else SCRATCH
    chosen = replace(base, **{"keep_best": held_out > 0, **settings})
    if "steps" not in settings:
        pixels = sum(tile.target[0].size for tile in tiles)
        seen = chosen.batch * math.prod(Batches(tiles, 1, chosen).size)
        chosen = replace(chosen, steps=max(1, round(epochs * pixels / seen)))
    provenance = Provenance.now(
        data=(*model.provenance.data, f"{kept} images given as arrays"),
        notices=model.provenance.notices,
        recipe=asdict(chosen),
        parent=model.version if model.provenance.data else None,
    )
    # they are learned as large as they are, so that is how others are to be segmented
    start = replace(model, diameter=typical_diameter(tiles) or model.diameter, smallest=None)
    if model.provenance.data:
        start = replace(start, name=f"{model.name} fitted")
    result = run(train(start, tiles, scored, chosen, provenance=provenance), report)
    memory = run(memory_after(model, planes_of(tile.image for tile in tiles), chosen.device), report)
    return replace(result.model, **memory) if result.steps else result.model


def _slices(model: Model, image: ArrayLike, mask: ArrayLike, axes: str | None, number: int) -> list[TrainingTile]:
    """Make a tile of an image, or one of each slice where the model has fewer axes than the image."""
    array, _ = prepare(model, image, axes)
    labels = np.asarray(mask)
    if array.shape[1:] != labels.shape:
        raise DataError(f"Mask {number} is {labels.shape} pixels and its image {array.shape[1:]}: make them equal.")
    return [
        training_tile(array[:, *index], labels[index], model.task, name=f"image {number}")
        for index in np.ndindex(labels.shape[: labels.ndim - model.ndim])
    ]
