"""What was done to labels: each action knows the pixels it changed, so it can be taken back and done again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LEAST = 200  # actions that can be taken back, however large they are
# Bytes of the actions beyond those: strokes are small, a run of a model on a large plane is millions.
MOST = 2**29


@dataclass(frozen=True)
class Runs:
    """Labels, packed: one value for each run of equal pixels, in C order.

    Attributes
    ----------
    values : integer array, ``(runs,)``
        With the labels' dtype.
    lengths : uint32 array, ``(runs,)``
        Pixels of each run.
    shape : tuple of int
        Of the labels.
    """

    values: NDArray[Any]
    lengths: NDArray[np.uint32]
    shape: tuple[int, ...]

    @classmethod
    def pack(cls, labels: NDArray[Any]) -> Runs:
        """Pack labels of fewer than 2³² pixels."""
        flat = np.ascontiguousarray(labels).ravel()
        begins = np.flatnonzero(np.r_[flat.size > 0, flat[1:] != flat[:-1]][: flat.size])
        return cls(flat[begins], np.diff(begins, append=flat.size).astype(np.uint32), labels.shape)

    def unpack(self) -> NDArray[Any]:
        """Return the labels."""
        return np.repeat(self.values, self.lengths).reshape(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.values.nbytes + self.lengths.nbytes


@dataclass(frozen=True, eq=False)
class Action:
    """One thing that was done to labels: a stroke, a merge, a run of a model.

    Attributes
    ----------
    kind : str
        What it was, in a word: ``"stroke"``, ``"merge"``, ``"segment"``.
    labels : str
        The labels it was done to: the name of their layer.
    region : tuple of slice
        The box of what changed, a slice for each axis of the labels.
    before, after : Runs
        The labels in the box.
    when : float
        Seconds since 1970, UTC.
    about : mapping
        What else is to be known of it, as plain values: numbers of objects, the version of a model.
    """

    kind: str
    labels: str
    region: tuple[slice, ...]
    before: Runs
    after: Runs
    when: float = field(default_factory=time.time)
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def between(
        cls,
        kind: str,
        labels: str,
        region: tuple[slice, ...],
        before: NDArray[Any],
        after: NDArray[Any],
        about: Mapping[str, Any] | None = None,
    ) -> Action | None:
        """Return the action that turned `before` into `after` in a region; None if nothing changed.

        Parameters
        ----------
        kind, labels, about
            See :class:`Action`.
        region : tuple of slice
            Where the two lie in the labels; it may be larger than what changed.
        before, after : integer array
            The labels there.
        """
        changed = before != after
        if not changed.any():
            return None
        box = []
        for axis in range(changed.ndim):
            at = np.flatnonzero(changed.any(axis=tuple(other for other in range(changed.ndim) if other != axis)))
            box.append(slice(int(at[0]), int(at[-1]) + 1))
        where = tuple(slice(r.start + b.start, r.start + b.stop) for r, b in zip(region, box, strict=True))
        old, new = (Runs.pack(part[tuple(box)]) for part in (before, after))
        return cls(kind, labels, where, old, new, about=about or {})

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.before.nbytes + self.after.nbytes


class Log:
    """The actions of a session in order, and how many of them stand; undo and redo walk over them.

    It writes nothing itself: whoever takes an action back writes its `before`, and its `after` to do it again.
    """

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.standing = 0  # the first so many of them
        self._nbytes = 0  # of all of them: a stroke should not count them again

    def do(self, action: Action) -> None:
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

    def undo(self) -> Action | None:
        """Return the last action that stands, which is taken back; None if there is none."""
        if not self.standing:
            return None
        self.standing -= 1
        return self.actions[self.standing]

    def redo(self) -> Action | None:
        """Return the last action that was taken back, which is done again; None if there is none."""
        if self.standing == len(self.actions):
            return None
        self.standing += 1
        return self.actions[self.standing - 1]
