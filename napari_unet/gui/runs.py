"""The jobs that the buttons start: segment a part, find the diameter, learn from corrections. No Qt here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, lcm
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.gui.layers import shape_of_region
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
    found : array, the region's shape
        As the model says.
    labels : array, the region's shape
        `found`, joined with what was there, if there was something.
    joined : Annotation, its version; None
        What was there when they were joined.
    was, largest : int
        The largest number that was there then, in all of the labels; the largest of `labels`.
    objects : int
        How many were found; for classes 0.
    """

    source: Source
    entry: ModelEntry
    region: Region
    found: NDArray[Any]
    labels: NDArray[Any]
    joined: tuple[Annotation, tuple[int, ...]] | None
    was: int
    largest: int
    objects: int
    notes: tuple[str, ...]
    seconds: float

    def fits(self, there: Annotation) -> bool:
        """Return whether it was joined with these labels, and they are as they were."""
        return self.joined == (there, there.version)

    def alone(self) -> Found:
        """Return what was found, joined with nothing."""
        if self.joined is None:
            return self
        return replace(self, labels=self.found, joined=None, was=0, largest=int(self.found.max(initial=0)))


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
    from napari_unet.infer.scale import scale_factor
    from napari_unet.infer.segment import segment_job

    # the core knows no axis of channels in labels
    shape = tuple(n for n, letter in zip(source.shape, source.letters, strict=True) if letter != "C")
    seen = tuple(r for r, letter in zip(region, source.letters, strict=True) if letter != "C")
    if model.ndim == 3 and len(shape) > 2 and shape[-3] > 1 and seen[-3].stop - seen[-3].start == 1:
        raise ImageError(
            f"The model {entry.name!r} looks at three axes at once: choose the whole stack instead of a slice."
        )
    margin, grid = 0, 1
    for each in (model, model.base or model):  # the base may segment it
        factor = scale_factor(each, settings.diameter)
        margin = max(margin, ceil(each.network.halo / factor))
        # enlarged 1.5 times, twice the grid comes to lie on the grid
        grid = lcm(grid, ceil(each.network.stride / factor) * (1 if each.smallest is None else 2))
    wide, crop = _widened(seen, shape, margin, grid, model.ndim)
    result = yield from segment_job(model, source.data, source.axes, settings, region=wide)
    labels: NDArray[Any] = result.labels[crop].reshape(shape_of_region(region))
    objects = len(np.unique(labels[labels > 0])) if model.task == "instances" else 0
    notes, largest = for_people(result.notes), int(labels.max(initial=0))
    found = Found(source, entry, region, labels, labels, None, 0, largest, objects, notes, result.seconds)
    return (yield from join(found, there))


def join(found: Found, there: Annotation | None) -> Job[Found]:
    """Join what was found with the labels that are there."""
    if there is None or there.layer.data.shape != found.source.shape:
        return found.alone()
    yield Progress(1, 1, "joining with your corrections")
    version = there.version  # before the labels are read: what is painted meanwhile makes another one
    from napari_unet.infer.merge import merge_labels

    old, known = np.asarray(there.layer.data), there.protected(found.region)
    if found.entry.get().task == "instances":
        labels = merge_labels(old, found.found, found.region, known)
    else:
        labels = np.where(known, old[found.region], found.found).astype(old.dtype)
    was, largest = int(old.max(initial=0)), int(labels.max(initial=0))
    return replace(found, labels=labels, joined=(there, version), was=was, largest=largest)


def _widened(region: Region, shape: tuple[int, ...], margin: int, grid: int, ndim: int) -> tuple[Region, Region]:
    """Return a region with a margin along the axes that the model sees, and where the region lies in it.

    It starts on the grid that the network pools on, so that each pixel is seen as in the whole image.
    """
    wide, crop = [], []
    for axis, (r, n) in enumerate(zip(region, shape, strict=True)):
        extra, step = (margin, grid) if axis >= len(shape) - ndim else (0, 1)
        start = max(r.start - extra, 0) // step * step
        wide.append(slice(start, min(r.stop + extra, n)))
        crop.append(slice(r.start - start, r.stop - start))
    return tuple(wide), tuple(crop)


def for_people(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out how to choose another channel on the command line."""
    return tuple(part.split(": choose")[0] for note in notes for part in note.split("; "))


def sentence(note: str) -> str:
    """Return a note of a run as a sentence."""
    return f"{note[:1].upper()}{note[1:]}{'' if note.endswith('.') else '.'}"


def find_diameter(
    entry: ModelEntry,
    source: Source,
    channel: int | None,
    device: str,
    corrected: tuple[NDArray[Any], NDArray[np.uint8]] | None,
) -> Job[float]:
    """Find the typical diameter: of objects that are known as a whole, if there are three, else by the model.

    `corrected` are labels and their states.
    """
    from napari_unet.infer.diameter import diameter_job
    from napari_unet.infer.image import estimate_diameter

    if corrected is not None:
        known = _known_objects(*corrected)
        seen = estimate_diameter(known, min(entry.ndim, known.ndim)) if len(np.unique(known[known > 0])) >= 3 else None
        if seen is not None:
            return seen
    model = yield from load(entry)
    return (yield from diameter_job(model, source.data, source.axes, channel, device))


def _known_objects(labels: NDArray[Any], state: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the labels without those that are known only in part: a stroke does not tell how wide its object is."""
    from napari_unet.learn.corrections import WHOLE

    numbers, known = np.unique(labels[(state > 0) & (labels > 0)], return_counts=True)
    _, size = np.unique(labels[np.isin(labels, numbers)], return_counts=True)
    return np.where(np.isin(labels, numbers[known >= WHOLE * size]), labels, 0)


def learn(
    entry: ModelEntry, corrections: list[Corrections], settings: TrainSettings, stop: Callable[[], bool]
) -> Job[TrainResult]:
    """Fine-tune on corrections; a model that knows nothing learns with its own statistics."""
    model = yield from load(entry)
    yield Progress(0, 1, "getting ready")
    from napari_unet.learn.finetune import fine_tune
    from napari_unet.learn.settings import SCRATCH

    if not model.provenance.data:
        settings = replace(
            settings, freeze_norms=False, learning_rate=max(settings.learning_rate, SCRATCH.learning_rate)
        )
    return (yield from fine_tune(model, corrections, settings, stop=stop))
