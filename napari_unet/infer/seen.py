"""An image as a model sees it: channels chosen, brightness measured once for all, pixels read part by part."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.infer.image import guess_axes, normalise, percentiles, select_channels
from napari_unet.infer.lazy import Cut
from napari_unet.model_file import IN_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_unet.model import Model


@dataclass(frozen=True, eq=False)
class Seen:
    """An image as a model sees it: channels chosen, brightness measured; its pixels are read part by part.

    Attributes
    ----------
    pixels : array, ``(channels, *rest)``
        As they are stored, maybe still on disk; red, green and blue, or one.
    axes : str
        What the axes besides channels are.
    copies : int
        How many times the network is shown the one channel that there is.
    low, high : float
        Percentiles of the whole image, which become 0 and 1.
    notes : tuple of str
        What was chosen.
    """

    pixels: Any
    axes: str
    low: float
    high: float
    notes: tuple[str, ...]
    copies: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis besides channels."""
        return tuple(self.pixels.shape[1:])

    def read(self, region: Sequence[int | slice] | None = None) -> tuple[NDArray[np.float32], int]:
        """Return a region ``float32 (in_channels, *rest)``, normalised, and how many of its pixels were not numbers.

        The region has one item for each axis besides channels; an axis with an integer is dropped.
        """
        data = np.asarray(self.pixels if region is None else self.pixels[(slice(None), *region)])
        broken = np.count_nonzero(~np.isfinite(data).all(axis=0)) if data.dtype.kind == "f" else 0
        seen = normalise(data, self.low, self.high)
        return np.broadcast_to(seen, (self.copies * len(seen), *seen.shape[1:])), int(broken)


def see(
    model: Model,
    image: ArrayLike,
    axes: str | None = None,
    channel: int | None = None,
    limits: tuple[float, float] | None = None,
) -> Seen:
    """Choose channels and measure the brightness of the whole image, or take `limits` for its percentiles.

    Raises ImageError if it does not fit the model.
    """
    if isinstance(image, str | os.PathLike):
        raise ImageError(
            f"The image is the path {os.fspath(image)!r}, expected an array: read it first, with "
            "napari_unet.infer.read.read_image(path).data."
        )
    array: Any = image if hasattr(image, "shape") and hasattr(image, "dtype") else np.asarray(image)
    axes = axes or guess_axes(array.shape, array.dtype)
    want = model.channels if "S" in axes.upper() and channel is None else "grey"
    chosen, rest, note = select_channels(array, axes, channel, want)
    if len(rest) < model.ndim:
        raise ImageError(
            f"The image has {len(rest)} axes ({rest}) besides channels, but the model {model.name!r} needs "
            f"{model.ndim}: choose a {len(rest)}-D model, or a stack."
        )
    leading, seen = rest[: -model.ndim], rest[-model.ndim :]
    if "T" in seen or set(leading) & set("ZYX"[-model.ndim :]):
        raise ImageError(
            f"The image has axes {rest}, so the model {model.name!r} would look at {seen} at once: put time "
            "and slices first, and take a model of as many dimensions as the image has in space."
        )
    low, high = limits or _brightness(model, array, axes, channel, chosen)
    notes = [note] if note else []
    if low == high:
        several = note.startswith("channel")
        notes.append("all its pixels are the same" + ": choose another with --channel / Channel" * several)
    return Seen(chosen, rest, low, high, tuple(notes), IN_CHANNELS[model.channels] // len(chosen))


def _brightness(model: Model, array: Any, axes: str, channel: int | None, chosen: Any) -> tuple[float, float]:
    """Return the percentiles of the channels that were chosen; of a cut those of all that it is a part of, once."""
    if not isinstance(array, Cut):
        return percentiles(chosen, model.normalisation)
    key = axes, channel, model.channels, model.normalisation
    with array.measuring:  # another thread may do it already
        if key not in array.measured:
            everything, _, _ = select_channels(array.whole, axes, channel, model.channels)
            array.measured[key] = percentiles(everything, model.normalisation)
    low, high = array.measured[key]
    return low, high


def prepare(
    model: Model,
    image: ArrayLike,
    axes: str | None = None,
    channel: int | None = None,
    region: tuple[slice, ...] | None = None,
) -> tuple[NDArray[np.float32], list[str]]:
    """Choose channels and normalise by the percentiles of the whole image, also if only a region is wanted.

    Returns
    -------
    array : float32 array, ``(in_channels, *rest)``
        As the network wants it.
    notes : list of str
        What was chosen or mended.
    """
    seen = see(model, image, axes, channel)
    array, broken = seen.read(region)
    return array, [*seen.notes, *said(broken)]


def said(broken: int) -> list[str]:
    """Say how many pixels were not numbers."""
    return [f"{broken} pixels were not numbers and were taken as dark"] if broken else []


def must_segment(model: Model) -> None:
    """Refuse a model that only outlines what is clicked; raises ImageError."""
    if model.task == "clicks":
        raise ImageError(
            f"The model {model.name!r} outlines what is clicked and segments no image: choose another one."
        )
