"""Many images one after the other, open ones or those of a folder: jobs in which one that fails ends nothing. No Qt."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.errors import DataError, UnetError, in_words
from napari_unet.gui import runs
from napari_unet.gui.regions import whole
from napari_unet.jobs import Job, Progress, as_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari.layers import Image

    from napari_unet.exchange.files import Planned
    from napari_unet.gui.layers import Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.strokes import Annotation
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.model import Model

PARTS = 1000  # steps that the way through one image is counted in
WAIT = 0.02  # seconds between two looks for an answer


@dataclass(frozen=True, eq=False)
class Item:
    """An open image, as it is to be segmented.

    Attributes
    ----------
    layer : napari Image layer
        The image; nothing of it is read in the thread but through `source`.
    source : Source
        What it is to a model.
    file : Path or None
        Where it was opened from.
    scale : mapping from axis letter to float
        Pixel size in µm, where it is known.
    """

    layer: Image
    name: str
    source: Source
    settings: SegmentSettings
    file: Path | None = None
    scale: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one image.

    Attributes
    ----------
    state : {"done", "kept", "failed"}
        Kept: its labels were there and may have been corrected by hand, so that nothing was done.
    words : str
        What was found, or what went wrong.
    objects : int or None
        How many; None for classes.
    layer : napari Image layer or None
        The image, if it was open.
    image, target : Path or None
        The image, if it is a file; the labels, if they are one.
    """

    name: str
    state: Literal["done", "kept", "failed"]
    words: str
    objects: int | None = None
    notes: tuple[str, ...] = ()
    layer: Image | None = None
    image: Path | None = None
    target: Path | None = None


@dataclass(frozen=True, eq=False)
class Join:
    """An answer: join it anew with these labels, or with none."""

    there: Annotation | None


@dataclass(frozen=True, eq=False)
class Offer:
    """A result for a layer; who takes it answers what to join it with first, or with None to go on."""

    found: runs.Found
    outcome: Outcome
    answers: SimpleQueue[Join | None] = field(default_factory=SimpleQueue)

    def answer(self) -> Job[Join | None]:
        """Wait for the answer."""
        while True:
            try:
                return self.answers.get(timeout=WAIT)
            except Empty:
                yield Progress(1, 1, "writing")


def segment_open(
    entry: ModelEntry, items: list[Item], output: Path | Literal["layers", "beside"], overwrite: bool
) -> Job[None]:
    """Segment open images: into layers, or into label files beside the images or in a folder.

    Yields
    ------
    Progress
        `PARTS` for each image; the payload is an Outcome or an Offer, the value ``images`` how many there are.
    """
    model = yield from runs.load(entry)
    from napari_unet.exchange.files import check_folder, look_ahead

    yield Progress(0, 1, values={"images": len(items)})
    usable = []
    for item in items:
        if output == "beside" and item.file is None:
            words = "It was not opened from a file: choose a folder for the results."
            yield _told(Outcome(item.name, "failed", words, layer=item.layer))
        else:
            usable.append(item)
    if output == "layers":
        yield from _each([(item.name, _into_layer(entry, item), item.layer) for item in usable])
        return
    if isinstance(output, Path):
        check_folder(output)
    files = _named(usable, output)
    work = look_ahead(
        zip(files, (_folder(item, output) for item in usable), strict=True), model.name, overwrite=overwrite
    )
    jobs = []
    for item, planned in zip(usable, work, strict=True):
        hindered = _hindered(item.name, planned, layer=item.layer)
        if hindered is None:
            jobs.append((item.name, _into_file(model, item, planned, overwrite), item.layer))
        else:
            yield _told(hindered)
    yield from _each(jobs)


def segment_folder(
    entry: ModelEntry, folder: Path, output: Path, settings: SegmentSettings, overwrite: bool
) -> Job[None]:
    """Segment the images of a folder as the command line does; each is read, segmented, written and let go.

    Yields
    ------
    Progress
        See :func:`segment_open`.

    Raises
    ------
    UnetError
        If the folder holds no images, or nothing can be written to the other one.
    """
    model = yield from runs.load(entry)
    from napari_unet.exchange.files import check_folder, images_of, look_ahead, title

    yield Progress(0, 1, f"looking into {folder.name}")
    check_folder(output)
    work = look_ahead(((image, output) for image in images_of(folder)), model.name, overwrite=overwrite)
    yield Progress(0, 1, values={"images": len(work)})
    jobs: list[_Named] = []
    for planned in work:
        hindered = _hindered(title(planned.image), planned, image=planned.image)
        if hindered is None:
            jobs.append((title(planned.image), _from_file(model, planned, settings, overwrite), planned.image))
        else:
            yield _told(hindered)
    yield from _each(jobs)


_Named = tuple[str, Job["Outcome | None"], "Image | Path"]


def _each(jobs: Iterable[_Named]) -> Job[None]:
    """Run jobs one after the other, each counted as `PARTS`; what one of them raises is its outcome."""
    jobs = list(jobs)
    total = len(jobs) * PARTS
    for i, (name, job, which) in enumerate(jobs):
        try:
            outcome = yield from as_part(job, partial(_within, name, i * PARTS, total))
        except (UnetError, OSError, MemoryError) as error:
            outcome = _failed(name, in_words(error), which)
        except Exception as error:  # noqa: BLE001 hundreds of images may come after this one
            outcome = _failed(name, f"Something unforeseen ({type(error).__name__}: {error}).", which)
        yield Progress((i + 1) * PARTS, total, payload=outcome)


def _within(name: str, before: int, total: int, progress: Progress) -> Progress:
    """Say how far one image is as a part of all."""
    words, part = progress.message.removesuffix(f" {name}"), 0
    if words.startswith("block"):
        words = f"finding objects, {100 * progress.done // progress.total} %"
        part = PARTS * progress.done // progress.total
    return Progress(before + part, total, f"{name}: {words}", payload=progress.payload)


def _into_layer(entry: ModelEntry, item: Item) -> Job[Outcome | None]:
    """Segment an open image and offer the result until it is taken; who takes it tells the outcome."""
    from napari_unet.exchange.files import found

    source = item.source
    run = yield from runs.segment_part(entry, source, item.settings, whole(source.shape), None)
    outcome = _done(item.name, found(entry.get(), run.found), run.notes, layer=item.layer)
    while True:
        offer = Offer(run, outcome)
        yield Progress(1, 1, "writing", payload=offer)
        answer = yield from offer.answer()
        if answer is None:
            return None
        run = yield from runs.join(run, answer.there)


def _into_file(model: Model, item: Item, planned: Planned, overwrite: bool) -> Job[Outcome | None]:
    """Segment an open image into a label file."""
    from napari_unet.exchange.files import found, may_be_corrected, write_labels
    from napari_unet.infer.segment import segment_job

    source, target = item.source, planned.target
    result = yield from segment_job(model, source.data, source.axes, item.settings)
    if not overwrite and may_be_corrected(target):  # since the batch began
        return _hindered(item.name, replace(planned, kept=True), layer=item.layer)
    write_labels(target, result, model, source.axes, item.scale, item.name)
    record = found(model, result.labels)
    return _done(item.name, record, runs.for_people(result.notes), layer=item.layer, target=target)


def _from_file(model: Model, planned: Planned, settings: SegmentSettings, overwrite: bool) -> Job[Outcome | None]:
    """Segment a file into a label file."""
    from napari_unet.exchange.files import may_be_corrected, segment_file, title

    if not overwrite and may_be_corrected(planned.target):  # since the batch began, maybe hours ago
        return _hindered(title(planned.image), replace(planned, kept=True), image=planned.image)
    result = yield from segment_file(model, planned.image, planned.target, settings)
    where = {"image": planned.image, "target": planned.target}
    return _done(title(planned.image), result.found, runs.for_people(result.notes), **where)


def _done(name: str, record: Mapping[str, Any], notes: tuple[str, ...], **where: Any) -> Outcome:
    from napari_unet.exchange.files import found_in_words

    return Outcome(name, "done", found_in_words(record), record.get("objects"), notes, **where)


def _failed(name: str, words: str, which: Image | Path) -> Outcome:
    if isinstance(which, Path):
        return Outcome(name, "failed", words.replace(str(which), which.name), image=which)
    return Outcome(name, "failed", words, layer=which)


def _hindered(name: str, planned: Planned, **where: Any) -> Outcome | None:
    """Return the outcome of an image whose labels may not be written, if it is one."""
    if planned.twin is not None:
        words = f"It would give the same file as {planned.twin.name}: rename one, or choose different folders."
        return Outcome(name, "failed", words, **where)
    if planned.kept:
        words = f"Left as it is: {planned.target.name} is there and may have been corrected by hand."
        return Outcome(name, "kept", words, target=planned.target, **where)
    return None


def _told(outcome: Outcome) -> Progress:
    return Progress(0, 1, payload=outcome)


def _folder(item: Item, output: Path | Literal["beside"]) -> Path:
    if isinstance(output, Path):
        return output
    if item.file is None:
        raise DataError(f"{item.name!r} was not opened from a file: choose a folder for the results.")
    return item.file.parent


def _named(items: list[Item], output: Path | Literal["beside"]) -> list[Path]:
    """Return the files that labels are named after: the images', or where several layers share one, the layers'."""
    shared = Counter(item.file for item in items)
    return [
        item.file
        if item.file is not None and shared[item.file] == 1
        else _folder(item, output) / (re.sub(r"[^\w .()-]", "_", item.name) + ".tif")
        for item in items
    ]
