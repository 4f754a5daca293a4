"""What was done to labels: each action knows the pixels it changed, so it can be taken back and done again."""

from __future__ import annotations

import math
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LEAST = 200  # actions that can be taken back, however large they are
# Bytes of the actions beyond those: strokes are small, a run of a model on a large plane is millions.
MOST = 2**29


@dataclass(frozen=True, eq=False)
class Runs:
    """Labels, packed: one value for each run of equal pixels, in C order, compressed.

    Attributes
    ----------
    data : bytes
        The values with the labels' dtype, then how many pixels each run has, uint32, little-endian; by zlib.
    count : int
        How many runs.
    dtype : numpy.dtype
        Of the labels.
    shape : tuple of int
        Of the labels.
    """

    data: bytes
    count: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @classmethod
    def pack(cls, labels: NDArray[Any]) -> Runs:
        """Pack labels of fewer than 2³² pixels; 4096² take 0.15 s, so a thread should do it."""
        flat = np.ascontiguousarray(labels).ravel()
        begins = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        begins = np.concatenate([np.zeros(min(flat.size, 1), begins.dtype), begins])
        lengths = np.diff(begins, append=flat.size).astype("<u4")
        data = zlib.compress(flat[begins].tobytes() + lengths.tobytes(), level=1)
        return cls(data, len(begins), flat.dtype, labels.shape)

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: Any) -> Runs:
        """Return labels that are background everywhere."""
        one = cls.pack(np.zeros(1, dtype))
        size = math.prod(shape)
        data = zlib.compress(np.zeros(1, one.dtype).tobytes() + np.array([size], "<u4").tobytes(), level=1)
        return cls(data, 1, one.dtype, shape) if size else cls.pack(np.zeros(shape, dtype))

    def unpack(self) -> NDArray[Any]:
        """Return the labels, a new array."""
        return np.repeat(*self.runs()).reshape(self.shape)

    def runs(self) -> tuple[NDArray[Any], NDArray[np.uint32]]:
        """Return the value of each run, and how many pixels it has."""
        plain = zlib.decompress(self.data)
        values = np.frombuffer(plain, self.dtype, self.count)
        return values, np.frombuffer(plain, "<u4", self.count, values.nbytes)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return len(self.data)


class Parts:
    """Packed labels, to be unpacked part by part.

    Parameters
    ----------
    packed : Runs
        At least one pixel.

    Attributes
    ----------
    largest : int
        The largest number in them.
    """

    def __init__(self, packed: Runs) -> None:
        self._values, lengths = packed.runs()
        self._ends = np.cumsum(lengths, dtype=np.int64)  # of the runs
        self.largest = int(self._values.max())

    def unpack(self, start: int, stop: int) -> NDArray[Any]:
        """Return the pixels from one up to another, at least one, counted in C order; a new flat array."""
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        ends = np.minimum(self._ends[first : last + 1], stop)
        return np.repeat(self._values[first : last + 1], np.diff(ends, prepend=start))


def bounds(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Return the smallest box around what is true; None if nothing is."""
    box = []
    for axis in range(mask.ndim):
        at = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not at.size:
            return None
        box.append(slice(int(at[0]), int(at[-1]) + 1))
    return tuple(box)


@dataclass(frozen=True, eq=False)
class Action:
    """One thing that was done to labels: a stroke, a merge, a run of a model, a tile that was called right.

    Attributes
    ----------
    kind : str
        What it was, in a word or two: ``"stroke"``, ``"merge"``, ``"segment"``.
    region : tuple of slice
        The box that it is about, a slice for each axis of the labels.
    before, after : Runs
        The labels in the box; the same where it changed none.
    vouched : Runs or None
        Which pixels of the box a person vouches for by it, bool; None for what a model did.
    when : float
        Seconds since 1970, UTC.
    about : mapping
        What else is to be known of it, as plain values: numbers of objects, the name of a model.
    """

    kind: str
    region: tuple[slice, ...]
    before: Runs
    after: Runs
    vouched: Runs | None = None
    when: float = field(default_factory=time.time)
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def between(
        cls,
        kind: str,
        region: tuple[slice, ...],
        before: NDArray[Any],
        after: NDArray[Any],
        vouched: NDArray[np.bool_] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Action | None:
        """Return the action that turned `before` into `after` in a region; None if it did nothing.

        Parameters
        ----------
        kind, about
            See :class:`Action`.
        region : tuple of slice
            Where they lie in the labels; it may be larger than what changed.
        before, after : integer array
            The labels there.
        vouched : bool array, optional
            Which pixels a person vouches for by it.
        """
        concerned = before != after
        if vouched is not None:
            concerned |= vouched
        if (box := bounds(concerned)) is None:
            return None
        where = tuple(slice(r.start + b.start, r.start + b.stop) for r, b in zip(region, box, strict=True))
        old, new = (Runs.pack(part[box]) for part in (before, after))
        by_hand = None if vouched is None else Runs.pack(vouched[box])
        return cls(kind, where, old, new, by_hand, about=about or {})

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.before.nbytes + self.after.nbytes + (self.vouched.nbytes if self.vouched else 0)


class Sized(Protocol):
    """What a log holds: actions, or what belongs to one each."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""


A = TypeVar("A", bound=Sized)


class Log(Generic[A]):
    """The actions of a session in order, and how many of them stand; undo and redo walk over them.

    It writes nothing itself: whoever takes an action back writes its `before`, and its `after` to do it again.
    """

    def __init__(self) -> None:
        self.actions: list[A] = []
        self.standing = 0  # the first so many of them
        self._nbytes = 0  # of all of them: a stroke should not count them again

    def do(self, action: A) -> None:
        """Add an action; what was taken back before it is gone. The oldest are let go where they fill the memory."""
        self._nbytes += action.nbytes - sum(each.nbytes for each in self.actions[self.standing :])
        del self.actions[self.standing :]
        self.actions.append(action)
        gone = 0
        while self._nbytes > MOST and len(self.actions) - gone > LEAST:
            self._nbytes -= self.actions[gone].nbytes
            gone += 1
        del self.actions[:gone]
        self.standing = len(self.actions)

    @property
    def last(self) -> A | None:
        """The last action that stands; None if there is none."""
        return self.actions[self.standing - 1] if self.standing else None

    @property
    def next(self) -> A | None:
        """The last action that was taken back; None if there is none."""
        return self.actions[self.standing] if self.standing < len(self.actions) else None

    def undo(self) -> A | None:
        """Take the last action that stands back, and return it; None if there is none."""
        action = self.last
        self.standing -= action is not None
        return action

    def redo(self) -> A | None:
        """Do the last action that was taken back again, and return it; None if there is none."""
        action = self.next
        self.standing += action is not None
        return action
