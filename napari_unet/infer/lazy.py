"""Arrays that stay in their file until they are indexed."""

from __future__ import annotations

import itertools
import math
import operator
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

# An array above this many pixels is sampled in patches: a grid of pixels would read all of a file, and the same image
# shall give the same labels whatever file it comes from.
PATCHES_ABOVE = 2**26
PATCH = 128
# ITU-R BT.601, as in Pillow, OpenCV and ImageJ's weighted conversion.
LUMINANCE = (0.299, 0.587, 0.114)


class Pixels(Protocol):
    """What we ask of an array: NumPy, dask, zarr and :class:`LazyArray` all have it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return the part that a tuple of integers and slices names."""


class LazyArray:
    """A read-only array whose pixels are read when they are indexed, and only those.

    Parameters
    ----------
    shape : sequence of int
        Length of each axis.
    dtype : numpy.dtype
        Type of a pixel; handed out in the byte order of this machine.
    read : callable
        Takes one slice for each axis (start, stop and positive step are given) and returns that part.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        read: Callable[[tuple[slice, ...]], NDArray[Any]],
    ) -> None:
        self.shape = tuple(int(length) for length in shape)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self._read = read

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Return shape and dtype, without reading anything."""
        return f"LazyArray(shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        return np.asarray(self[...], dtype=dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read one part.

        Parameters
        ----------
        key : int, slice, ellipsis or a tuple of them
            As for NumPy; steps are positive.

        Returns
        -------
        array
            A new array of this dtype.

        Raises
        ------
        IndexError
            For an integer outside the array, more keys than axes, or a key of another kind.
        """
        slices, dropped = [], []
        for axis, (item, length) in enumerate(zip(self._full(key), self.shape, strict=True)):
            if isinstance(item, slice):
                start, stop, step = item.indices(length)
                if step < 1:
                    raise IndexError(f"step {step} on axis {axis}: steps have to be positive")
                slices.append(slice(start, max(start, stop), step))
                continue
            index = operator.index(item)
            if not -length <= index < length:
                raise IndexError(f"index {index} is outside axis {axis} of length {length}")
            slices.append(slice(index % length, index % length + 1, 1))
            dropped.append(axis)
        part = np.asarray(self._read(tuple(slices)), dtype=self.dtype)
        return part.squeeze(axis=tuple(dropped)) if dropped else part

    def _full(self, key: Any) -> tuple[Any, ...]:
        """Write a key out: one item for each axis."""
        items = key if isinstance(key, tuple) else (key,)
        gap = next((place for place, item in enumerate(items) if item is Ellipsis), len(items))
        after = items[gap + 1 :]
        missing = self.ndim - gap - len(after)
        if missing < 0:
            raise IndexError(f"{len(items)} indices for an array with {self.ndim} axes")
        return (*items[:gap], *[slice(None)] * missing, *after)


class Cut(LazyArray):
    """A part of an array, which is seen with the brightness of all of it.

    Parameters
    ----------
    whole : Pixels
        What it is a part of.
    region : sequence of slice, optional
        One for each axis, start and stop given; default: all of it.
    measured : dict, optional
        What was measured of `whole`, to be shared among its parts: brightness is measured once.

    Attributes
    ----------
    measuring : Lock
        Held by the thread that measures it.
    """

    measuring = threading.Lock()

    def __init__(
        self, whole: Pixels, region: Sequence[slice] | None = None, measured: dict[Any, Any] | None = None
    ) -> None:
        at = [slice(0, n) for n in whole.shape] if region is None else list(region)

        def read(slices: tuple[slice, ...]) -> NDArray[Any]:
            pairs = zip(at, slices, strict=True)
            return np.asarray(whole[tuple(slice(a.start + s.start, a.start + s.stop, s.step) for a, s in pairs)])

        super().__init__([a.stop - a.start for a in at], whole.dtype, read)
        self.whole = whole
        self.measured: dict[Any, Any] = {} if measured is None else measured


def as_pixels(array: Any) -> Pixels:
    """Return NumPy arrays, and what behaves like a lazy array, as they are; make an array of anything else.

    Parameters
    ----------
    array : NumPy, dask or zarr array, :class:`LazyArray`, nested lists
        Any axes, any dtype.

    Returns
    -------
    Pixels
        The same object, or a new NumPy array.
    """
    lazy = isinstance(getattr(array, "dtype", None), np.dtype) and hasattr(array, "shape")
    return array if lazy and hasattr(array, "__getitem__") else np.asarray(array)


def view(array: Pixels, index: tuple[int | slice, ...]) -> NDArray[Any] | LazyArray:
    """Return a part of an array in this machine's byte order, without reading a lazy one.

    Parameters
    ----------
    array : Pixels
        Any axes, any dtype.
    index : tuple
        One item for each axis: an integer (the axis is dropped) or a slice that starts at 0 with step 1.

    Returns
    -------
    NumPy array or LazyArray
        A NumPy array, a view if possible, for a NumPy array; a :class:`LazyArray` for all others, and for a
        memory-mapped file in the other byte order.
    """
    native = array.dtype.newbyteorder("=")
    if isinstance(array, np.ndarray) and (array.dtype == native or not isinstance(array, np.memmap)):
        return array[index].astype(native, copy=False)
    kept = [axis for axis, item in enumerate(index) if isinstance(item, slice)]
    lengths = [len(range(*index[axis].indices(array.shape[axis]))) for axis in kept]  # type: ignore[union-attr]

    def read(slices: tuple[slice, ...]) -> NDArray[Any]:
        of_kept = iter(slices)
        return np.asarray(array[tuple(next(of_kept) if isinstance(item, slice) else item for item in index)])

    return LazyArray(lengths, native, read)


def channels_first(
    pixels: Pixels, axis: int | None, channels: slice, grey: bool, copies: int
) -> NDArray[Any] | LazyArray:
    """Bring some channels to the front; a lazy array stays lazy.

    Parameters
    ----------
    pixels : Pixels
        Any axes.
    axis : int or None
        Where the channels are; None: there is one, and no axis for it.
    channels : slice
        Which of them, start and stop given, step 1.
    grey : bool
        Whether these are red, green and blue and their luminance is wanted, as float32.
    copies : int
        How many times the one channel is repeated.

    Returns
    -------
    NumPy array or LazyArray, ``(C, *rest)``
        A view where possible.
    """
    if isinstance(pixels, np.ndarray):
        if axis is None:
            front = pixels[np.newaxis]
        else:
            front = np.moveaxis(pixels[(*[slice(None)] * axis, channels)], axis, 0)
        if grey:
            weighted = [np.float32(w) * c.astype(np.float32) for w, c in zip(LUMINANCE, front, strict=True)]
            front = (weighted[0] + weighted[1] + weighted[2])[np.newaxis]
        return np.broadcast_to(front, (copies, *front.shape[1:])) if copies > 1 else front
    rest = [length for place, length in enumerate(pixels.shape) if place != axis]
    count = copies if copies > 1 or grey else channels.stop - channels.start

    def read(slices: tuple[slice, ...]) -> NDArray[Any]:
        key = list(slices[1:])
        if axis is not None:
            key.insert(axis, channels)
        part = np.asarray(pixels[tuple(key)])
        everything = slice(0, channels.stop - channels.start)
        return np.asarray(channels_first(part, axis, everything, grey, copies))[slices[0]]

    return LazyArray([count, *rest], np.dtype(np.float32) if grey else pixels.dtype, read)


def _steps(counts: Sequence[int], limit: int) -> list[int]:
    """Return a step for each axis that leaves at most ``limit`` points of a grid.

    The longest axis is thinned first, so that short ones (channels, a few slices) stay whole. Steps are odd:
    detectors repeat themselves in pairs of rows.
    """
    steps = [1] * len(counts)
    left = list(counts)
    while math.prod(left) > max(limit, 1):
        longest = left.index(max(left))
        steps[longest] += 2
        left[longest] = -(-counts[longest] // steps[longest])
    return steps


def sampled(pixels: Pixels, limit: int) -> NDArray[Any]:
    """Return pixels that are spread evenly over an image, the same ones each time.

    Parameters
    ----------
    pixels : Pixels
        Any axes.
    limit : int
        At most so many.

    Returns
    -------
    array
        Flat: all pixels of a small image, a regular grid of a larger one, a regular grid of patches of one of more
        than 2**26 pixels.
    """
    shape = pixels.shape
    if math.prod(shape) <= PATCHES_ABOVE:
        return np.asarray(pixels[tuple(slice(None, None, step) for step in _steps(shape, limit))]).ravel()
    sides = [PATCH if axis >= len(shape) - 2 else 1 for axis in range(len(shape))]
    counts = [-(-length // side) for length, side in zip(shape, sides, strict=True)]
    steps = _steps(counts, limit // math.prod(sides))
    places = itertools.product(*(range(0, count, step) for count, step in zip(counts, steps, strict=True)))
    patches = (
        tuple(slice(at * side, (at + 1) * side) for at, side in zip(place, sides, strict=True)) for place in places
    )
    return np.concatenate([np.asarray(pixels[patch]).ravel() for patch in patches])
