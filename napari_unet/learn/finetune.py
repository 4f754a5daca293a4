"""Fine-tuning: a model and corrections in, a better model and its scores out."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.infer.familiar import middle, plane_of, remembering
from napari_unet.infer.segment import see
from napari_unet.learn.corrections import correction_tiles, learned_scale
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.targets import typical_diameter
from napari_unet.learn.train import enough_steps, train
from napari_unet.model import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.infer.familiar import Plane
    from napari_unet.jobs import Job
    from napari_unet.learn.corrections import Corrections
    from napari_unet.learn.train import TrainResult
    from napari_unet.model import Model


def fine_tune(
    model: Model,
    corrections: list[Corrections],
    settings: TrainSettings | None = None,
    *,
    stop: Callable[[], bool] = bool,
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
    settings = settings or TrainSettings()
    tiles, held_out = yield from correction_tiles(model, corrections)
    model = yield from remembering(model, _planes(model, corrections), settings.device)
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
    return (yield from train(model, tiles, held_out, settings, provenance=provenance, stop=stop))


def _planes(model: Model, corrections: list[Corrections]) -> list[Plane]:
    """Return the planes that are corrected, and the one in the middle of each image, which it will be known by."""
    found = []
    for each in corrections:
        if each.state.any():
            seen = see(model, each.image, each.axes, each.channel)
            corrected = each.state.any(axis=tuple(range(each.state.ndim - model.ndim, each.state.ndim)))
            places = {middle(seen, model.ndim), *map(tuple, np.argwhere(corrected).tolist())}
            found += [plane_of(seen, place, model.ndim) for place in sorted(places)]
    return found
