"""The jobs that the buttons start: segment a part, find the diameter, learn from corrections. No Qt here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_unet.gui.layers import Region, Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.strokes import Annotation
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.learn.corrections import Corrections
    from napari_unet.learn.settings import TrainSettings
    from napari_unet.learn.train import TrainResult
    from napari_unet.model import Model


@dataclass(frozen=True, eq=False)
class Found:
    """What a run found in a region of an image.

    Attributes
    ----------
    labels : array, the region's shape
        Already joined with what was there, if there was something.
    objects : int
        How many were found; for classes 0.
    """

    source: Source
    entry: ModelEntry
    region: Region
    labels: NDArray[Any]
    objects: int
    notes: tuple[str, ...]
    seconds: float


def load(entry: ModelEntry) -> Job[Model]:
    """Read a model, if that has not been done."""
    if entry.model is None:
        yield Progress(0, 1, f"opening the model {entry.name}")
    return entry.get()


def segment_part(
    entry: ModelEntry,
    source: Source,
    settings: SegmentSettings,
    region: Region,
    there: Annotation | None,
) -> Job[Found]:
    """Segment a region, with as much around it as the network sees, and join it with the labels that are there."""
    model = yield from load(entry)
    from napari_unet.infer.merge import merge_labels
    from napari_unet.infer.segment import scale_factor, segment_job

    flat = [axis for axis, r in enumerate(region[-model.ndim :]) if r.stop - r.start == 1]
    if flat and model.ndim == 3 and source.shape[-3] > 1:
        raise ImageError(
            f"The model {entry.name!r} looks at three axes at once: choose the whole stack instead of a slice."
        )
    margin = round(model.network.halo / scale_factor(model, settings.diameter))
    wide, crop = _widened(region, source.shape, margin, model.ndim)
    result = yield from segment_job(model, source.data, source.axes, settings, region=wide)
    labels: NDArray[Any] = result.labels[crop]
    objects = len(np.unique(labels[labels > 0])) if model.task == "instances" else 0
    if there is not None and there.layer.data.shape == source.shape:
        yield Progress(1, 1, "joining with your corrections")
        old, known = np.asarray(there.layer.data), there.protected(region)
        if model.task == "instances":
            labels = merge_labels(old, labels, region, known)
        else:
            labels = np.where(known, old[region], labels).astype(old.dtype)
    return Found(source, entry, region, labels, objects, _for_people(result.notes), result.seconds)


def _widened(region: Region, shape: tuple[int, ...], margin: int, ndim: int) -> tuple[Region, Region]:
    """Return a region with a margin along the axes that the model sees, and where the region lies in it."""
    wide, crop = [], []
    for axis, (r, n) in enumerate(zip(region, shape, strict=True)):
        extra = margin if axis >= len(shape) - ndim else 0
        start = max(r.start - extra, 0)
        wide.append(slice(start, min(r.stop + extra, n)))
        crop.append(slice(r.start - start, r.stop - start))
    return tuple(wide), tuple(crop)


def _for_people(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out what says nothing about the result."""
    parts = [part for note in notes for part in note.split("; ")]
    return tuple(p.split(": choose")[0] for p in parts if not p.startswith("the grey image was repeated"))


def find_diameter(
    entry: ModelEntry, source: Source, channel: int | None, device: str, known: NDArray[Any] | None
) -> Job[float]:
    """Find the typical diameter: of objects that a hand made, if there are three, else by the model."""
    from napari_unet.infer.diameter import diameter_job
    from napari_unet.infer.image import estimate_diameter

    if known is not None and len(np.unique(known)) > 3:
        seen = estimate_diameter(known, min(2, known.ndim))
        if seen is not None:
            return seen
    model = yield from load(entry)
    return (yield from diameter_job(model, source.data, source.axes, channel, device))


def learn(
    entry: ModelEntry, corrections: list[Corrections], settings: TrainSettings, stop: Callable[[], bool]
) -> Job[TrainResult]:
    """Fine-tune on corrections; a model that knows nothing learns with its own statistics."""
    model = yield from load(entry)
    yield Progress(0, settings.steps, "getting ready")
    from napari_unet.learn.finetune import fine_tune
    from napari_unet.learn.settings import SCRATCH

    if not model.provenance.data:
        settings = replace(
            settings, freeze_norms=False, learning_rate=max(settings.learning_rate, SCRATCH.learning_rate)
        )
    return (yield from fine_tune(model, corrections, settings, stop=stop))
