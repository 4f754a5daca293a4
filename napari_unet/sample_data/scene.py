"""Place bodies of any shape on a grid, in clumps that touch, and tell which pixel is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Window = tuple[slice, ...]


class Body(Protocol):
    """Anything with a place, a reach and a level that is negative inside and grows outwards."""

    @property
    def centre(self) -> Array:
        """Position, one number per axis, in units of the finest axis."""

    @property
    def reach(self) -> float:
        """No point of the body is farther from its centre than this."""

    def level(self, points: Array) -> Array:
        """Level at ``points (axis, ...)``: below 0 inside, 0 on the edge, above 0 outside."""


B = TypeVar("B", bound=Body)


def waves(rng: np.random.Generator, ndim: int, count: int, frequency: float, amplitude: float) -> Array:
    """Draw cosine waves whose sum is a smooth random function.

    Returns
    -------
    ndarray
        ``(count, ndim + 2)``: direction and frequency, phase, amplitude.
    """
    vectors = rng.normal(size=(count, ndim)) * frequency
    phases = rng.uniform(0, 2 * np.pi, (count, 1))
    return np.hstack([vectors, phases, rng.normal(0, amplitude / np.sqrt(count), (count, 1))])


def wave_sum(drawn: Array, points: Array) -> Array:
    """Sum the drawn waves at ``points (axis, ...)``."""
    ndim = points.shape[0]
    total = np.zeros(points.shape[1:])
    for wave in drawn:
        total += wave[ndim + 1] * np.cos(np.tensordot(wave[:ndim], points, 1) + wave[ndim])
    return total


def window(body: Body, shape: Sequence[int], step: Sequence[float], margin: float = 0.0) -> Window:
    """Slices of the grid that hold the whole body and ``margin`` around it, clipped to the grid."""
    bounds = []
    for centre, size, unit in zip(body.centre, shape, step, strict=True):
        low = int(np.floor((centre - body.reach - margin) / unit))
        high = int(np.ceil((centre + body.reach + margin) / unit)) + 1
        bounds.append(slice(min(max(low, 0), size), min(max(high, 0), size)))
    return tuple(bounds)


def points_of(where: Window, step: Sequence[float]) -> Array:
    """Coordinates ``(axis, ...)`` of the pixels in a window, in units of the finest axis."""
    axes = [np.arange(s.start, s.stop) * unit for s, unit in zip(where, step, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def place(
    rng: np.random.Generator,
    shape: Sequence[int],
    step: Sequence[float],
    clumps: Sequence[tuple[Array, int]],
    draw: Callable[[Array], B],
    *,
    overlap: float,
    spread: float,
    tries: int = 40,
) -> list[B]:
    """Fill clumps with bodies that come as close to the clump's centre as the overlap allows.

    Parameters
    ----------
    clumps
        Centre and number of bodies of each clump.
    draw
        Makes a new body at a given centre.
    overlap
        Largest part of a body that may lie on those placed before.
    spread
        Positions tried are normal around the clump's centre with ``spread * sqrt(number)``.

    Returns
    -------
    list of Body
        Those that found a place.
    """
    taken = np.zeros(tuple(shape), bool)
    placed: list[B] = []
    for middle, number in clumps:
        for _ in range(number):
            offsets = rng.normal(0, spread * np.sqrt(number), (tries, len(shape)))
            offsets[0] = 0
            for offset in offsets[np.argsort((offsets**2).sum(1))]:
                body = draw(middle + offset)
                where = window(body, shape, step)
                inside = body.level(points_of(where, step)) < 0
                if inside.any() and (inside & taken[where]).sum() <= overlap * inside.sum():
                    taken[where] |= inside
                    placed.append(body)
                    break
    return placed


def owners(bodies: Sequence[Body], shape: Sequence[int], step: Sequence[float]) -> NDArray[np.uint16]:
    """Label each pixel with the body (1, 2, ...) that it is deepest inside of; 0 outside all."""
    labels = np.zeros(tuple(shape), np.uint16)
    deepest = np.zeros(tuple(shape))
    for number, body in enumerate(bodies, 1):
        where = window(body, shape, step)
        level = body.level(points_of(where, step))
        mine = level < deepest[where]
        labels[where][mine] = number
        deepest[where][mine] = level[mine]
    return labels


def settle(
    bodies: Sequence[B], shape: Sequence[int], step: Sequence[float], min_size: int
) -> tuple[list[B], NDArray[np.uint16]]:
    """Drop bodies that show less than ``min_size`` pixels or in several pieces, until none does."""
    kept = list(bodies)
    while True:
        labels = owners(kept, shape, step)
        good = [is_whole(labels == n, min_size) for n in range(1, len(kept) + 1)]
        if all(good):
            return kept, labels
        kept = [body for body, fine in zip(kept, good, strict=True) if fine]


def is_whole(mask: NDArray[np.bool_], min_size: int) -> bool:
    """Whether a mask is one face-connected piece of at least ``min_size`` pixels."""
    return int(mask.sum()) >= min_size and ndimage.label(mask)[1] == 1
