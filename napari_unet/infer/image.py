"""An image as the network wants it: axes named, channels chosen, brightness normalised."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

from napari_unet.errors import ImageError
from napari_unet.infer.lazy import LazyArray, Pixels, as_pixels, channels_first, sampled, view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

AXES = "TCZYXS"
# An axis up to this length may be channels, a longer one is a stack or a movie: four dyes are common, four
# slices are not.
MOST_CHANNELS = 4
# Percentiles of four million pixels vary by less than the noise of one; 2048 x 2048 are looked at whole.
SAMPLE = 2**22
# Normalised values end here. A cosmic ray or a dead pixel lies hundreds of ranges away and would be all that
# the network sees around it; objects that fill less than 0.2 % of the image are as clear at 10 as at 100.
LIMIT = 10.0


@dataclass(frozen=True, eq=False)
class Image:
    """An image and what its file says about it.

    Parameters
    ----------
    data : NumPy array or LazyArray
        Axes as named by ``axes``; bool, integer or float.
    axes : str
        One letter of ``TCZYXS`` for each axis of ``data``; ``S`` is red, green, blue.
    scale : mapping from axis letter to float
        Pixel size in µm, for those of Z, Y and X where it is known.
    name : str
        File name without its suffix.
    channel_names : tuple of str
        One for each channel, or empty.
    source : str
        Where it was read from.
    """

    data: NDArray[Any] | LazyArray
    axes: str
    scale: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    channel_names: tuple[str, ...] = ()
    source: str = ""


def check_pixels(array: Pixels, name: str = "The image") -> None:
    """Refuse what no network can look at.

    Parameters
    ----------
    array : Pixels
        Any axes, any dtype.
    name : str
        What to call it in the message.

    Raises
    ------
    ImageError
        If it has no pixels, or they are complex numbers, text or Python objects.
    """
    if array.dtype.kind not in "buif":
        raise ImageError(
            f"{name} has pixels of type {array.dtype}, expected bool, integers or real numbers: "
            "convert it, for example to its magnitude or to uint16."
        )
    if not math.prod(array.shape):
        raise ImageError(f"{name} has shape {tuple(array.shape)}, so no pixels: check how it was made or cropped.")


def check_axes(axes: str, shape: Sequence[int], name: str = "The image") -> str:
    """Return the axes in capitals if they fit the shape.

    Parameters
    ----------
    axes : str
        One letter for each axis.
    shape : sequence of int
        Length of each axis.
    name : str
        What to call the image in the message.

    Returns
    -------
    str
        The letters in capitals.

    Raises
    ------
    ImageError
        If a letter is unknown or there twice, X is missing, or their number is not that of the axes.
    """
    letters = axes.upper()
    if len(letters) != len(shape):
        raise ImageError(
            f"{name} has {len(shape)} axes (shape {tuple(shape)}), but {axes!r} names {len(letters)}: "
            "give one letter for each."
        )
    if set(letters) - set(AXES) or len(set(letters)) < len(letters) or "X" not in letters:
        raise ImageError(
            f"{name} cannot have the axes {axes!r}, expected letters of {AXES}, each once and with X: "
            "give for example YX, CYX, ZYX, TYX or YXS (S: red, green, blue)."
        )
    return letters


def guess_axes(shape: Sequence[int], dtype: DTypeLike | None = None, rgb: bool | None = None) -> str:
    """Name the axes of an array that says nothing about them.

    Parameters
    ----------
    shape : sequence of int
        Length of each of one to six axes.
    dtype : numpy.dtype, optional
        Type of a pixel; wide integers and bool are never red, green, blue.
    rgb : bool, optional
        Whether the last axis is red, green, blue; None: if it has length 3 or 4 and the two before it are
        longer.

    Returns
    -------
    str
        Letters of ``TCZYXS``. A first or second axis of up to four is taken for channels.

    Raises
    ------
    ImageError
        If there are no or too many axes.
    """
    if rgb is None:
        colours = dtype is None or np.dtype(dtype).kind == "f" or np.dtype(dtype) in (np.uint8, np.uint16)
        rgb = colours and len(shape) > 2 and shape[-1] in (3, 4) and min(shape[-3:-1]) > MOST_CHANNELS
    planes = tuple(shape[:-1]) if rgb else tuple(shape)
    stack = planes[:-2]
    few = [length <= MOST_CHANNELS < min(planes[-2:]) for length in stack]
    match len(stack), few.index(True) if any(few) else None:
        case 0, _:
            axes = "YX"[-len(planes) :] if planes else ""
        case 1, channel:
            axes = "CYX" if channel == 0 and not rgb else "ZYX"
        case 2, channel:
            axes = "TZYX" if channel is None or rgb else ("CZYX", "ZCYX")[channel]
        case 3, _:
            axes = "TZCYX" if few[2] and not few[1] else "TCZYX"
        case _:
            axes = ""
    if not axes:
        raise ImageError(
            f"An array with shape {tuple(shape)} has {len(shape)} axes, expected one to five (and colours): "
            "save each image by itself, or name the axes."
        )
    return axes + "S" * rgb


def select_channels(
    array: Any, axes: str, channel: int | None, want: Literal["grey", "rgb"], names: Sequence[str] = ()
) -> tuple[Any, str, str]:
    """Return the channels that a model looks at.

    Parameters
    ----------
    array : NumPy, dask or zarr array, or LazyArray
        Axes as named; bool, integer or float. It is not changed.
    axes : str
        One letter of ``TCZYXS`` for each axis.
    channel : int or None
        The channel to look at; None: all colours of an RGB image, the first channel of any other.
    want : {"grey", "rgb"}
        One channel, or three.
    names : sequence of str
        Names of the channels, for the note.

    Returns
    -------
    array : ``(C, *rest)``
        C is 1 or 3. NumPy array (maybe a view) for a NumPy array, otherwise LazyArray. Same dtype, or float32
        for luminance.
    rest_axes : str
        The letters of the other axes, in their order.
    note : str
        What was done that the user should know, or empty.

    Raises
    ------
    ImageError
        If the axes do not fit or there is no such channel.
    """
    pixels = as_pixels(array)
    axes = check_axes(axes, pixels.shape)
    check_pixels(pixels)
    notes = []
    if "S" in axes and "C" in axes:  # several channels, each in colours: the channel is chosen first
        count = pixels.shape[axes.index("C")]
        chosen, note = _choose(channel, count, names)
        pixels = view(pixels, tuple(chosen if letter == "C" else slice(None) for letter in axes))
        axes, channel, names = axes.replace("C", ""), None, ()
        notes.append(note)
    axis = next((place for place, letter in enumerate(axes) if letter in "CS"), None)
    count = 1 if axis is None else pixels.shape[axis]
    if "S" in axes and count <= MOST_CHANNELS:  # the fourth, or second, is transparency
        count, names = 3 if count > 2 else 1, ("red", "green", "blue")
    coloured = "S" in axes and count == 3 and channel is None
    grey = coloured and want == "grey"
    if grey:
        notes.append("RGB converted to luminance")
    if not coloured:
        channel, note = _choose(channel, count, names)
        notes.append(note)
    copies = 3 if want == "rgb" and not coloured else 1
    chosen_slice = slice(0, 3) if channel is None else slice(channel, channel + 1)
    rest = axes.replace("C", "").replace("S", "")
    return channels_first(pixels, axis, chosen_slice, grey, copies), rest, "; ".join(filter(None, notes))


def _choose(channel: int | None, count: int, names: Sequence[str]) -> tuple[int, str]:
    """Return the number of the channel to take, and the note about it."""
    if channel is not None and not 0 <= channel < count:
        known = f"0-{count - 1}" if count > 1 else "0"
        raise ImageError(f"Channel {channel} asked for, but the image has {count} ({known}): choose one of these.")
    number = channel or 0
    name = f" ({names[number]})" if number < len(names) and names[number] else ""
    if count == 1:
        return number, ""
    if channel is None:
        return number, f"channel 0{name} of {count} was used: choose another with --channel / Channel"
    return number, f"channel {number}{name} of {count}"


def percentiles(array: Any, low_high: tuple[float, float] = (1.0, 99.8), sample: int = SAMPLE) -> tuple[float, float]:
    """Return two percentiles of the finite pixels of a whole image.

    Parameters
    ----------
    array : NumPy, dask or zarr array, or LazyArray
        Any axes; all of them together, so that the channels of an RGB image keep their colours.
    low_high : tuple of float
        Percentiles, 0 to 100.
    sample : int
        A larger image is looked at on a regular grid of at most this many pixels, the same ones each time.

    Returns
    -------
    lo, hi : float
        Percentiles; minimum and maximum where both percentiles are the same; equal if the image is constant
        or has no finite pixel; 0 and 1 for bool.

    Raises
    ------
    ImageError
        If the percentiles are not two rising numbers from 0 to 100.
    """
    low, high = low_high
    if not 0 <= low < high <= 100:
        raise ImageError(f"Percentiles {low:g} and {high:g} given, but they have to rise from 0 to 100: choose others.")
    pixels = as_pixels(array)
    if pixels.dtype.kind == "b":
        return 0.0, 1.0
    values = sampled(pixels, sample).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0
    lo, hi = np.percentile(values, (low, high))
    if hi <= lo:  # objects fill less than the upper percentile leaves: the whole range is all there is
        lo, hi = values.min(), values.max()
    return float(lo), float(hi)


def normalise(array: Any, lo: float, hi: float) -> NDArray[np.float32]:
    """Scale an image so that ``lo`` becomes 0 and ``hi`` becomes 1.

    Parameters
    ----------
    array : NumPy, dask or zarr array, or LazyArray
        Any axes; bool, integer or float. It is not changed.
    lo, hi : float
        From :func:`percentiles` of the whole image, also where this is only a part of it.

    Returns
    -------
    float32 array
        Same shape; mostly 0 to 1, at most -10 to 10. Zero where a pixel is not finite, and everywhere if
        ``lo`` is not below ``hi``.
    """
    pixels = np.asarray(array)
    if not hi > lo:
        return np.zeros(pixels.shape, dtype=np.float32)
    exact = pixels.dtype.itemsize <= (4 if pixels.dtype.kind == "f" else 2) and 1e-30 < hi - lo < 1e30
    work: type[np.floating[Any]] = np.float32 if exact else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.subtract(pixels, work(lo), dtype=work)
        scaled /= work(hi - lo)
        np.clip(scaled, -LIMIT, LIMIT, out=scaled)
    if pixels.dtype.kind == "f":
        scaled[~np.isfinite(pixels)] = 0
    return scaled.astype(np.float32, copy=False)


def estimate_diameter(labels: ArrayLike, ndim: int | None = None) -> float | None:
    """Return the typical diameter of labelled objects.

    Parameters
    ----------
    labels : integer array, ``(*spatial)``
        0 = background.
    ndim : int, optional
        2 for a stack of images to be measured slice by slice; the default is the number of axes.

    Returns
    -------
    float or None
        In pixels, see :func:`median_diameter`; None without objects.
    """
    objects = np.asarray(labels)
    ndim = ndim or objects.ndim
    slices = objects.reshape(-1, *objects.shape[-ndim:]) if objects.ndim > ndim else objects[np.newaxis]
    sizes = []
    for one in slices:
        ids, counts = np.unique(one, return_counts=True)
        sizes.append(counts[ids > 0])
    return median_diameter(np.concatenate(sizes) if sizes else (), ndim)


def median_diameter(sizes: ArrayLike, ndim: int) -> float | None:
    """Return the median diameter of objects of so many pixels each; None without objects.

    An object's diameter is that of the disk of the same area: in 3-D of the ball of the same volume, in 1-D its
    length.
    """
    pixels = np.asarray(sizes, float)
    if not pixels.size:
        return None
    unit_ball = math.pi ** (ndim / 2) / math.gamma(ndim / 2 + 1)
    return float(2 * np.median((pixels / unit_ball) ** (1 / ndim)))


def rescale(array: NDArray[np.float32], factor: float | Sequence[float]) -> NDArray[np.float32]:
    """Change the size of an image, so that its objects get the size that a model knows.

    Parameters
    ----------
    array : float32 array, ``(C, *spatial)``
        It is not changed.
    factor : float or one for each spatial axis
        Above 1 enlarges.

    Returns
    -------
    float32 array, ``(C, *spatial)``
        Each spatial axis at least one pixel long; the array itself if nothing changes.
    """
    factors = [float(factor)] * (array.ndim - 1) if isinstance(factor, int | float) else list(factor)
    return resize(array, [max(1, round(n * by)) for n, by in zip(array.shape[1:], factors, strict=True)])


def resize(array: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Bring an image, or maps, to a given size: linear interpolation, smoothed before it shrinks.

    Parameters
    ----------
    array : float32 array, ``(C, *spatial)``
        It is not changed.
    shape : sequence of int
        Length of each spatial axis of the result.

    Returns
    -------
    float32 array, ``(C, *shape)``
        The corners of the image stay where they are; the array itself if it has this shape.
    """
    if array.shape[1:] == tuple(shape):
        return array
    factors = [new / old for new, old in zip(shape, array.shape[1:], strict=True)]
    sigma = [max(0.0, (1 / by - 1) / 2) for by in factors]  # as scikit-image: half a new pixel, less half an old
    result = np.empty((array.shape[0], *shape), dtype=np.float32)
    for plane, out in zip(array, result, strict=True):
        smooth = ndimage.gaussian_filter(plane, sigma, mode="nearest") if any(sigma) else plane
        ndimage.zoom(smooth, factors, output=out, order=1, mode="nearest", grid_mode=True)
    return result


def nearest(old: Sequence[int], new: Sequence[int]) -> list[NDArray[np.intp]]:
    """Return for each axis which old pixel each new one shows: with :func:`numpy.ix_` labels get another size."""
    return [((np.arange(n) + 0.5) * o / n).astype(np.intp) for o, n in zip(old, new, strict=True)]
