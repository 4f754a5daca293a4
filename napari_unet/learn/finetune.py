"""Fine-tuning: a model and corrections in, a better model and its scores out."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.infer.familiar import memory_after, middle, plane_of
from napari_unet.infer.seen import see
from napari_unet.learn.corrections import correction_tiles, learned_scale
from napari_unet.learn.outcome import recorded
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.targets import typical_diameter
from napari_unet.learn.train import train
from napari_unet.learn.trainer import enough_steps
from napari_unet.model import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_unet.infer.familiar import Plane
    from napari_unet.jobs import Job
    from napari_unet.learn.corrections import Corrections
    from napari_unet.learn.preview import Look
    from napari_unet.learn.train import TrainResult
    from napari_unet.model import Model

PLANES = 8  # of a stack or movie: its planes are much alike


def fine_tune(
    model: Model,
    corrections: list[Corrections],
    settings: TrainSettings | None = None,
    *,
    stop: Callable[[], bool] = bool,
    preview: Callable[[], Look | None] | None = None,
) -> Job[TrainResult]:
    """Learn from corrections.

    The thresholds from maps to objects stay those of the model: a few tiles are too few to choose them on. The new
    model carries the one that it comes from, for images that only that one knows: see
    :mod:`napari_unet.infer.familiar`.

    Parameters
    ----------
    model : Model
        Where to start; it is not changed.
    corrections : list of Corrections
        Of one or more images.
    settings : TrainSettings, optional
        How to train.
    stop : callable
        Asked before each step; on True it ends early and keeps what it has.
    preview : callable, optional
        See :func:`napari_unet.learn.train.train`.

    Yields
    ------
    Progress
        See :func:`napari_unet.learn.train.train`.

    Returns
    -------
    TrainResult
        Both models' scores are of the same held-out corrections; None if there were too few to hold some out.

    Raises
    ------
    DataError
        If nothing is corrected, or labels do not fit their image.
    """
    given, settings = model, settings or TrainSettings()
    tiles, held_out = yield from correction_tiles(model, corrections)
    names = (f"corrections of {each.name or 'an image'}" for each in corrections)
    provenance = Provenance.now(
        data=tuple(dict.fromkeys((*model.provenance.data, *names))),  # each once, however many rounds
        notices=model.provenance.notices,
        recipe=asdict(settings) | {"steps": settings.steps or enough_steps(tiles)},
        parent=model.version,
    )
    if all(learned_scale(model, each) == 1 for each in corrections):
        model = replace(model, smallest=None)  # it will work at the scale it learned at, without a look at the image
    if model.diameter is None or not any(each.diameter for each in corrections):  # nobody said it
        model = replace(model, diameter=typical_diameter(tiles) or model.diameter)
    result = yield from train(model, tiles, held_out, settings, provenance=provenance, stop=stop, preview=preview)
    if not result.steps:
        return result
    memory = yield from memory_after(given, _planes(given, corrections), settings.device)
    recipe = {**provenance.recipe, **recorded(given, corrections, result)}
    return replace(result, model=replace(result.model, provenance=replace(provenance, recipe=recipe), **memory))


def _planes(model: Model, corrections: list[Corrections]) -> Iterator[Plane]:
    """Yield some of the planes that are corrected, and the one in the middle of each image, which it is judged by."""
    for each in corrections:
        if each.state.any():
            seen = see(model, each.image, each.axes, each.channel)
            corrected = each.state.any(axis=tuple(range(each.state.ndim - model.ndim, each.state.ndim)))
            places = np.argwhere(corrected)
            some = places[np.linspace(0, len(places) - 1, min(len(places), PLANES)).astype(int)].tolist()
            for place in sorted({middle(seen, model.ndim), *map(tuple, some)}):
                yield plane_of(seen, place, model.ndim)
