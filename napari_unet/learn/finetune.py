"""Fine-tuning: a model and corrections in, a better model and its scores out."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from napari_unet.learn.corrections import correction_tiles
from napari_unet.learn.evaluate import score_tiles, tune
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.targets import typical_diameter
from napari_unet.learn.train import train
from napari_unet.model import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable

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

    The thresholds from maps to objects are chosen anew on what was learned from, never on what is scored on.

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
    names = (f"corrections of {each.name or 'an image'}" for each in corrections)
    provenance = Provenance.now(
        data=tuple(dict.fromkeys((*model.provenance.data, *names))),  # each once, however many rounds
        notices=model.provenance.notices,
        recipe=asdict(settings),
        parent=model.version,
    )
    if model.diameter is None or not any(each.diameter for each in corrections):  # learned at the image's own scale
        model = replace(model, diameter=typical_diameter(tiles) or model.diameter)
    result = yield from train(model, tiles, held_out, settings, provenance=provenance, stop=stop)
    if not any(tile.weight[2].any() and tile.target[1].any() for tile in tiles):
        return result  # no whole object to choose thresholds on
    tuned = yield from tune(result.model, tiles, settings.device)
    if not held_out:
        return replace(result, model=tuned)
    after = yield from score_tiles(tuned, held_out, settings.device)
    return replace(result, model=tuned, after=after)
