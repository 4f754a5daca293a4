"""A look at a model while it learns: now and then, in pieces between its steps, for at most a tenth of the time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.model import Model

    Look = Callable[[Model], Job[Any]]

PREVIEW = 5.0  # seconds of training between two looks, at least
SHARE = 0.1  # of the time, for looks


class Looks:
    """Says when a look is due, and takes it in the thread that learns: nobody else changes weights meanwhile.

    A look goes on, at a copy of the model as it was, whenever all looks have taken less than their share of the time.
    So the training waits for no more than a piece of one, a tile, however large the model and slow the processor.

    Parameters
    ----------
    ask : callable or None
        Asked when a look is due; returns what makes a job of the model as it is, or None if nobody looks.
    stop : callable
        A look ends early where this says True, or where nobody asks for one any more.
    """

    def __init__(self, ask: Callable[[], Look | None] | None, stop: Callable[[], bool]) -> None:
        self._ask, self._stop = ask, stop
        self._since = self._learned = self._looked = 0.0  # seconds
        self._job: Job[Any] | None = None  # the look that goes on

    def after(self, seconds: float, averaged: Callable[[], Model], done: int, total: int) -> Job[None]:
        """Count a step of so many seconds, and begin a look or go on with it if that is due.

        Parameters
        ----------
        seconds : float
            How long the step took.
        averaged : callable
            Returns a copy of the model as it is.
        done, total : int
            Steps.

        Yields
        ------
        Progress
            ``"preview"``, with the payload of the look's own.
        """
        self._since += seconds
        self._learned += seconds
        if self._ask is None or (self._job is None and (self._since < PREVIEW or self._is_spent())):
            return
        look = self._ask()
        if look is None:
            self.close()
            return
        if self._job is None:
            self._since, self._job = 0.0, look(averaged())
        while self._job is not None and not self._is_spent():
            began = time.monotonic()
            progress = next(self._job, None)
            self._looked += time.monotonic() - began  # a pause is no time of the look
            if progress is None:
                self._job = None
                return
            yield Progress(done, total, "preview", payload=progress.payload)
            if self._stop():
                self.close()

    def close(self) -> None:
        """End the look that goes on."""
        if self._job is not None:
            self._job.close()
            self._job = None

    def _is_spent(self) -> bool:
        """Return whether the looks have had their share."""
        return self._looked > SHARE * (self._looked + self._learned)
