"""The jobs that the buttons start: segment a part, find the diameter, learn, compare two models. No Qt here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError, ImageError, ModelFileError
from napari_unet.gui.regions import around, shape_of_region
from napari_unet.jobs import Job, Progress, as_part
from napari_unet.store.actions import Action, Runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.gui.layers import Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.regions import Region
    from napari_unet.gui.strokes import Annotation
    from napari_unet.infer.doubt import Doubts
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.learn.compare import Difference
    from napari_unet.learn.corrections import Corrections
    from napari_unet.learn.metrics import Scores
    from napari_unet.learn.preview import Look
    from napari_unet.learn.settings import TrainSettings
    from napari_unet.learn.train import TrainResult
    from napari_unet.model import Model


_EMPTY = Runs.pack(np.empty(0, np.uint32))
_NOTHING = Action("segment", (slice(0, 0),), _EMPTY, _EMPTY)


@dataclass(frozen=True, eq=False)
class Found:
    """What a run found in a region of an image.

    Attributes
    ----------
    found : array, the region's shape
        As the model says.
    labels : array, the region's shape
        `found`, joined with what was there, if there was something.
    action : Action
        What it does to the labels that were there, or to empty ones.
    joined : Annotation, its version; None
        What was there when they were joined.
    was, largest : int
        The largest number that was there then, in all of the labels; the largest of `labels`.
    objects : int
        How many were found; for classes 0.
    inside : bool array, the region's shape; None
        What somebody drew around, if the rest of the region is only context.
    """

    source: Source
    entry: ModelEntry
    region: Region
    found: NDArray[Any]
    labels: NDArray[Any]
    action: Action
    joined: tuple[Annotation, tuple[int, ...]] | None
    was: int
    largest: int
    objects: int
    notes: tuple[str, ...]
    seconds: float
    inside: NDArray[np.bool_] | None = None

    def fits(self, there: Annotation | None) -> bool:
        """Return whether it was joined with these labels, and they are as they were."""
        return self.joined == (None if there is None else (there, there.version))

    def values(self) -> NDArray[Any]:
        """Return what the action writes, a copy."""
        at = zip(self.action.region, self.region, strict=True)
        return self.labels[tuple(slice(a.start - r.start, a.stop - r.start) for a, r in at)].copy()


def load(entry: ModelEntry) -> Job[Model]:
    """Read a model, if that has not been done."""
    if entry.model is None:
        yield Progress(0, 1, f"opening the model {entry.name}")
    return entry.get()


def write(entry: ModelEntry, how: Callable[[Model], Path]) -> Job[Path]:
    """Write a model to a file; where the disk refuses, the user is told."""
    model = yield from load(entry)
    try:
        return how(model)
    except OSError as error:
        raise ModelFileError(
            f"The model could not be written ({error}): it can be used now; export it to another place."
        ) from error


def segment_part(
    entry: ModelEntry,
    source: Source,
    settings: SegmentSettings,
    region: Region,
    there: Annotation | None,
    outline: NDArray[np.float64] | None = None,
    first: Region | None = None,
) -> Job[Found]:
    """Segment a region and join it with the labels that are there.

    With an outline, corners ``(n, (y, x))`` in pixels of the labels, only the objects in it are exchanged. What comes
    of `first` says :func:`~napari_unet.infer.segment.segment_job`.
    """
    model = yield from load(entry)
    inside = None
    if outline is not None:
        from napari_unet.infer.blocks import WIDE

        region, inside = around(outline, region, settings.diameter or model.diameter or WIDE)
    from napari_unet.infer.segment import segment_job

    # the core knows no axis of channels in labels
    shape = tuple(n for n, letter in zip(source.shape, source.letters, strict=True) if letter != "C")
    seen = tuple(r for r, letter in zip(region, source.letters, strict=True) if letter != "C")
    if model.ndim == 3 and len(shape) > 2 and shape[-3] > 1 and seen[-3].stop - seen[-3].start == 1:
        raise ImageError(
            f"The model {entry.name!r} looks at three axes at once: choose the whole stack instead of a slice."
        )
    # of a window the network sees what lies around it, too
    inside_whole = source.within(region)
    seen = tuple(r for r, letter in zip(inside_whole, source.letters, strict=True) if letter != "C")
    result = yield from segment_job(model, source.entire, source.axes, settings, region=seen, first=first)
    labels: NDArray[Any] = result.labels.reshape(shape_of_region(region))
    objects = len(np.unique(labels[labels > 0])) if model.task == "instances" else 0
    notes = for_people(result.notes)
    found = Found(source, entry, region, labels, labels, _NOTHING, None, 0, 0, objects, notes, result.seconds, inside)
    return (yield from join(found, there))


def join(found: Found, there: Annotation | None) -> Job[Found]:
    """Join what was found with the labels that are there, and pack what that changes."""
    if there is None or there.layer.data.shape != found.source.shape:
        labels = found.found if found.inside is None else np.where(found.inside, found.found, 0)
        action, largest = _action(found, np.zeros_like(labels), labels), int(labels.max(initial=0))
        return replace(found, labels=labels, action=action, joined=None, was=0, largest=largest)
    yield Progress(1, 1, "joining with your corrections")
    version = there.version  # before the labels are read: what is painted meanwhile makes another one
    from napari_unet.infer.merge import exchanged, merge_labels

    old, known = np.asarray(there.layer.data), there.protected(found.region)
    if found.entry.get().task == "instances":
        new = found.found
        if found.inside is not None:
            cut = _cut(found.region, old.shape)
            new, kept = exchanged(old[found.region], new, found.inside, cut, known)
            known |= kept
            found = replace(found, objects=len(np.unique(new[new > 0])))
        labels = merge_labels(old, new, found.region, known, there.taken)
    else:
        if found.inside is not None:
            known |= ~found.inside
        labels = np.where(known, old[found.region], found.found).astype(old.dtype)
    was, largest = max(int(old.max(initial=0)), there.taken), int(labels.max(initial=0))
    action = _action(found, old[found.region], labels)
    return replace(found, labels=labels, action=action, joined=(there, version), was=was, largest=largest)


def _cut(region: Region, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels of a region at those edges in the plane beyond which the image goes on."""
    edge = np.zeros(shape_of_region(region), bool)
    for axis in (-2, -1):
        ends = [end for end, on in ((0, region[axis].start > 0), (-1, region[axis].stop < shape[axis])) if on]
        np.moveaxis(edge, axis, 0)[ends] = True
    return edge


def _action(found: Found, old: NDArray[Any], labels: NDArray[Any]) -> Action:
    """Return what a run does to labels; its box is empty where it changes none."""
    entry = found.entry
    about = {"model": entry.name, "task": entry.get().task, "objects": found.objects}
    changed = Action.between("segment", found.region, old, labels, about=about)
    return changed or Action("segment", (slice(0, 0),) * labels.ndim, _EMPTY, _EMPTY, about=about)


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


def find_doubts(entry: ModelEntry, source: Source, settings: SegmentSettings, labels: Any) -> Job[Doubts]:
    """Order the objects of labels, the most doubtful first, with the axes of the labels."""
    model = yield from load(entry)
    from napari_unet.infer.doubt import doubt_job

    found = yield from doubt_job(model, source.data, source.plain(np.asarray(labels)), source.axes, settings)
    order = [replace(each, box=_with_channels(source, each.box, slice(0, 1))) for each in found.order]
    order = [replace(each, point=_with_channels(source, each.point, 0)) for each in order]
    return replace(found, order=order, unsure=found.unsure.reshape(source.shape))


def _with_channels(source: Source, place: tuple[Any, ...], one: Any) -> tuple[Any, ...]:
    """Return a place with its only pixel along the axis of channels, where the labels have that."""
    rest = iter(place)
    return tuple(one if letter == "C" else next(rest) for letter in source.letters)


def learn(
    entry: ModelEntry,
    corrections: list[Corrections],
    settings: TrainSettings,
    stop: Callable[[], bool],
    preview: Callable[[], Look | None] | None = None,
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
    return (yield from fine_tune(model, corrections, settings, stop=stop, preview=preview))


@dataclass(frozen=True, eq=False)
class Tile:
    """A tile that was called right, to score on.

    Attributes
    ----------
    settings : SegmentSettings
        As its image is segmented.
    region : tuple of slice
        In pixels of the labels.
    truth : array, the region's shape
        The labels.
    """

    name: str
    source: Source
    settings: SegmentSettings
    region: Region
    truth: NDArray[Any]


@dataclass(frozen=True, eq=False)
class TileScores:
    """How two models do on one tile, and whether they learned from it."""

    name: str
    scores: tuple[Scores, Scores]
    learned: tuple[bool, bool]


@dataclass(frozen=True, eq=False)
class Compared:
    """Two models held against each other.

    Attributes
    ----------
    models : (ModelEntry, ModelEntry)
        The one that was chosen, and the one in use.
    tiles : tuple of TileScores
        In their order.
    total : (Scores, Scores) or None
        Of all tiles.
    source, region
        Where the difference is; None if nothing was in view.
    difference : Difference or None
        What the chosen one finds otherwise there.
    notes : tuple of str
        What the runs said.
    """

    models: tuple[ModelEntry, ModelEntry]
    tiles: tuple[TileScores, ...]
    total: tuple[Scores, Scores] | None
    source: Source | None
    region: Region | None
    difference: Difference | None
    notes: tuple[str, ...]


def compare(
    chosen: ModelEntry,
    used: ModelEntry,
    tiles: Sequence[Tile],
    source: Source | None,
    settings: SegmentSettings,
    region: Region | None,
) -> Job[Compared]:
    """Segment tiles and a region of an image with two models; score the tiles, and find what differs in the region."""
    one, other = (yield from load(chosen)), (yield from load(used))
    if (one.ndim, one.task, one.classes) != (other.ndim, other.task, other.classes):
        raise DataError(
            f"{chosen.name!r} finds {_kind(one)} and {used.name!r} {_kind(other)}: choose two that find the same."
        )
    from napari_unet.learn.compare import class_difference, object_difference
    from napari_unet.learn.evaluate import score_labels
    from napari_unet.learn.metrics import summarise
    from napari_unet.learn.outcome import learned_from

    total, done = 2 * (len(tiles) + (region is not None)), 0
    scored: list[TileScores] = []
    notes: list[str] = []

    def found(entry: ModelEntry, source: Source, settings: SegmentSettings, region: Region, what: str) -> Job[Any]:
        nonlocal done
        part = segment_part(entry, source, settings, region, None)
        result = yield from as_part(part, lambda _: Progress(done, total, f"{what}, {entry.name}"))
        notes.extend(f"{entry.name}: {note}" for note in result.notes)
        done += 1
        return source.plain(result.found)

    for i, tile in enumerate(tiles):
        truth, scores = tile.source.plain(tile.truth), []
        box = [r for r, letter in zip(tile.region, tile.source.letters, strict=True) if letter != "C"]
        for entry, model in ((chosen, one), (used, other)):
            what = f"tile {i + 1} of {len(tiles)}"
            labels = yield from found(entry, tile.source, tile.settings, tile.region, what)
            scores.append(summarise(score_labels(model, truth, labels, tile.name)))
        learned = [
            learned_from(model.provenance, tile.source.data, tile.source.axes, box, tile.source.layer.name)
            for model in (one, other)
        ]
        scored.append(TileScores(tile.name, (scores[0], scores[1]), (learned[0], learned[1])))
    sums = [summarise(image for each in scored for image in each.scores[i].per_image) for i in (0, 1) if scored]
    difference = None
    if source is not None and region is not None:
        new = yield from found(chosen, source, settings, region, "what is in view")
        old = yield from found(used, source, settings, region, "what is in view")
        difference = (object_difference if one.task == "instances" else class_difference)(old, new)
        difference = replace(difference, picture=difference.picture.reshape(shape_of_region(region)))
    both = (sums[0], sums[1]) if sums else None
    said = tuple(dict.fromkeys(notes))
    return Compared((chosen, used), tuple(scored), both, source, region, difference, said)


def _kind(model: Model) -> str:
    what = "objects" if model.task == "instances" else f"classes ({', '.join(model.classes[1:])})"
    return f"{what} in {'stacks' if model.ndim == 3 else 'slices'}"
