"""Image to labels: channels, scale, tiles, maps and decoding in one job."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError, ImageError
from napari_unet.infer import blocks, int8
from napari_unet.infer.blocks import at_scale
from napari_unet.infer.familiar import choose, middle, plane_of
from napari_unet.infer.predict import predict_tiles
from napari_unet.infer.scale import as_fraction, find_scale
from napari_unet.infer.seen import must_segment, said, see
from napari_unet.infer.stitch import Stitching
from napari_unet.infer.tiles import within
from napari_unet.jobs import Job, Progress, as_part, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_unet.infer.seen import Seen
    from napari_unet.model import Model


def _setting(low: float, high: float, unit: str, help: str) -> Any:
    return field(default=None, metadata={"min": low, "max": high, "unit": unit, "help": help})


@dataclass(frozen=True)
class SegmentSettings:
    """How to segment an image; what is None comes from the model."""

    channel: int | None = _setting(0, 1000, "", "Channel to segment; empty: all of an RGB image, else the first.")
    diameter: float | None = _setting(1, 10000, "px", "Typical width of an object; empty: as in the model's images.")
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or mps."})
    foreground: float | None = _setting(0, 1, "", "Higher: objects become smaller and fewer.")
    seed: float | None = _setting(0, 1, "", "Higher: touching objects are cut apart less often.")
    boundary: float | None = _setting(
        0, 1, "", "How much the outlines that the model sees count in cutting objects apart."
    )
    min_size: int | None = _setting(0, 1_000_000, "px", "Smaller objects are dropped.")
    flips: bool = field(
        default=False,
        metadata={
            "help": "Look at the image mirrored too and take the mean: steadier where the model is unsure, in 4 times "
            "the time (3-D model: 8)."
        },
    )
    base: bool = field(
        default=True,
        metadata={
            "help": "A fine-tuned model leaves images that only the one it came from knows to that one. Off: it "
            "segments them itself."
        },
    )


@dataclass(frozen=True)
class Segmentation:
    """Labels and how they came about.

    Attributes
    ----------
    labels : uint32 or uint8 array
        The image's shape without channels; objects 1 to n, or class numbers.
    notes : tuple of str
        What was chosen or mended on the way, one sentence each.
    seconds : float
        How long it took.
    model : Model or None
        What made them: the model that was given, or the base it carries, see :mod:`napari_unet.infer.familiar`.
    """

    labels: NDArray[np.uint8] | NDArray[np.uint32]
    notes: tuple[str, ...]
    seconds: float
    model: Model | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """Labels of a part of an image before the others are there; their numbers are not those that they will have.

    Attributes
    ----------
    region : tuple of slice
        One for each axis besides channels.
    labels : uint32 or uint8 array, the region's shape
        Objects or classes.
    """

    region: tuple[slice, ...]
    labels: NDArray[Any]


def segment(
    model: Model, image: ArrayLike, *, axes: str | None = None, **settings: Any
) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Return the labels of one image.

    Parameters
    ----------
    model : Model
        What to segment with, or the base that it carries: see :mod:`napari_unet.infer.familiar`.
    image : array
        Any numeric dtype; numpy, dask or zarr.
    axes : str, optional
        Such as ``"YX"``, ``"CYX"``, ``"YXS"``, ``"ZYX"``, ``"TYX"``; guessed from the shape if not given.
    **settings
        The fields of :class:`SegmentSettings`: ``channel``, ``diameter``, ``device``, ``flips``, thresholds.

    Returns
    -------
    uint32 or uint8 array
        The image's shape without channels; objects 1 to n, or class numbers.

    Raises
    ------
    ImageError
        If the image does not fit the model.
    DataError
        If there is no setting of that name.
    """
    check_names(settings, ("axes", *(each.name for each in fields(SegmentSettings))))
    return run(segment_job(model, image, axes, SegmentSettings(**settings))).labels


def check_names(given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a setting that there is not; raises DataError, which lists those that there are."""
    for name in given:
        if name not in known:
            raise DataError(f"There is no setting {name!r}: choose among {', '.join(known)}.")


def predict(
    model: Model,
    image: ArrayLike,
    *,
    axes: str | None = None,
    channel: int | None = None,
    device: str = "auto",
) -> NDArray[np.float32]:
    """Return the maps ``float32 (channel, *spatial)``, 0 to 1, of an image with the model's number of axes.

    Parameters
    ----------
    model, image, axes, channel, device
        See :func:`segment`.

    Returns
    -------
    float32 array, ``(channel, *spatial)``
        Class probabilities, and for instances boundary and distance; 0 to 1.

    Raises
    ------
    ImageError
        If the image does not fit the model.
    """
    must_segment(model)
    seen = see(model, image, axes, channel)
    array, _ = seen.read()
    if array.ndim != model.ndim + 1:
        raise ImageError(
            f"The image has {array.ndim - 1} axes besides channels and the model {model.ndim}: predict slice by slice."
        )
    model, _ = run(choose(model, plane_of(seen, (), model.ndim), device))
    return run(predict_tiles(model, array, device))


def segment_job(
    model: Model,
    image: ArrayLike,
    axes: str | None = None,
    settings: SegmentSettings | None = None,
    *,
    region: tuple[slice, ...] | None = None,
    first: tuple[slice, ...] | None = None,
) -> Job[Segmentation]:
    """Segment an image; a model of fewer axes goes slice by slice, with object numbers that go on.

    Parameters
    ----------
    model : Model
        What to segment with, or the base that it carries: see :mod:`napari_unet.infer.familiar`.
    image : array
        Any numeric dtype.
    axes : str, optional
        Guessed from the shape if not given.
    settings : SegmentSettings, optional
        How.
    region : tuple of slice, optional
        One slice for each axis besides channels: only this part is segmented, with the brightness of the
        whole image; the labels have its shape.
    first : tuple of slice, optional
        A small part that is looked at before all else, and blocks near it before others: somebody waits for it.

    Yields
    ------
    Progress
        Tiles done, of all slices together. With `first`, the payload of some is a :class:`Part`.

    Raises
    ------
    ImageError
        If the image does not fit the model.
    DeviceError
        If the device is missing or has too little memory.
    """
    settings = settings or SegmentSettings()
    began = time.perf_counter()
    ready = yield from get_ready(model, image, axes, settings, first, region)
    model, seen = ready.model, ready.seen
    wanted = [
        slice(*r.indices(n)[:2]) for r, n in zip(region or [slice(None)] * len(seen.shape), seen.shape, strict=True)
    ]
    each = blocks.plan(ready, wanted)
    if first is not None:
        each = blocks.nearest_first(each, first)
    faces = blocks.faces_of(ready, each)
    stitching = Stitching([block.place for block in each])
    labels: NDArray[Any] = np.zeros(
        [w.stop - w.start for w in wanted], np.uint8 if model.task == "classes" else np.uint32
    )
    broken = 0
    with closing(blocks.look_all(ready, each, faces)) as looks:
        for progress in looks:
            part = None
            if progress.payload is not None:
                block, found, bad = progress.payload
                labels[within(block.write, wanted)] = found.labels
                stitching.add(block.place, found)
                broken += bad
                if first is not None and len(each) > 1:
                    part = Part(block.write, blocks.apart(found.labels, progress.done // 1000))
            yield replace(progress, payload=part)
    if model.task == "instances":
        numbers = stitching.numbers()
        for block in each:
            here = within(block.write, wanted)
            labels[here] = numbers[block.place].lookup()[labels[here]]
    notes = (*seen.notes, *ready.notes, *each_alone(ready, wanted), *said(broken))
    return Segmentation(labels, notes, time.perf_counter() - began, ready.used)


def each_alone(ready: Ready, region: Sequence[slice]) -> list[str]:
    """Say that slices are looked at one by one, where they are."""
    lead = len(ready.seen.shape) - ready.model.ndim
    if not lead or region[lead - 1].stop - region[lead - 1].start < 2 or ready.model.task == "classes":
        return []
    each = {"Z": "slice", "T": "frame"}.get(ready.seen.axes[lead - 1])
    return [f"each {each} by itself: what goes on in the next one has another number there"] if each else []


@dataclass(frozen=True, eq=False)
class Ready:
    """An image, and what will look at it how.

    Attributes
    ----------
    used : Model
        The model that was given, or its base.
    model : Model
        The same with the thresholds of the settings.
    seen : Seen
        The image.
    factor : float
        By how much it is enlarged before the network sees it.
    settings : SegmentSettings
        As they were given.
    notes : tuple of str
        What was chosen.
    """

    used: Model
    model: Model
    seen: Seen
    factor: float
    settings: SegmentSettings
    notes: tuple[str, ...]

    @property
    def grid(self) -> int:
        """Parts that begin at multiples of so many pixels are seen as in the whole image."""
        return self.model.network.stride * as_fraction(self.factor).denominator

    def maps(
        self, part: NDArray[np.float32], keep: Sequence[slice] | None = None, *, many: bool = False
    ) -> Job[NDArray[np.float32]]:
        """Return the maps ``float32 (channel, *spatial)`` of a part that was read, or of a region of it.

        `many` says whether it is one of many parts of a large image; then there are only the maps that are decoded.
        """
        wanted, factor = keep or [slice(0, n) for n in part.shape[1:]], as_fraction(self.factor)
        classes = len(self.model.classes)
        only = [0, classes, classes + 1] if many and self.model.task == "instances" else None
        how = {"flips": self.settings.flips, "many": many, "only": only}
        return at_scale(self.model, part, wanted, factor, self.settings.device, **how)


def get_ready(
    model: Model,
    image: ArrayLike,
    axes: str | None,
    settings: SegmentSettings,
    first: tuple[slice, ...] | None = None,
    region: tuple[slice, ...] | None = None,
) -> Job[Ready]:
    """Measure the brightness of an image, and choose model and scale for it; for the rest see `segment_job`."""
    must_segment(model)
    yield Progress(0, 1, "normalising")
    seen = see(model, image, axes, settings.channel)
    place = plane_of(seen, middle(seen, model.ndim), model.ndim)
    used, chosen = (yield from choose(model, place, settings.device)) if settings.base else (model, [])
    model = with_thresholds(used, settings)
    factor, enlarged = yield from find_scale(model, seen, settings.diameter, settings.device)
    if first is not None:
        ready = Ready(used, model, seen, factor, settings, ())
        for block in blocks.plan(ready, first):
            looking = blocks.look(ready, block, {}, once=True)
            found, _ = yield from as_part(looking, lambda _: Progress(0, 1, "looking at what is in view"))
            yield Progress(0, 1, "looking at what is in view", payload=Part(block.write, found.labels))
    yield from int8.consider(model, seen, factor, settings.device, region)
    return Ready(used, model, seen, factor, settings, (*chosen, *enlarged))


def with_thresholds(model: Model, settings: SegmentSettings) -> Model:
    """Replace the thresholds that the user set."""
    keys = ("foreground", "seed", "boundary", "min_size")
    own = {key: getattr(settings, key) for key in keys if getattr(settings, key) is not None}
    return replace(model, decode=replace(model.decode, **own)) if own else model
