"""A look at a model while it learns: now and then, between two steps, for at most a tenth of the time."""

from __future__ import annotations

import time
from contextlib import closing
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

    Parameters
    ----------
    ask : callable or None
        Asked when a look is due; returns what makes a job of the model as it is, or None if nobody looks.
    stop : callable
        A look ends early where this says True.
    """

    def __init__(self, ask: Callable[[], Look | None] | None, stop: Callable[[], bool]) -> None:
        self._ask, self._stop = ask, stop
        self._since = self._learned = self._looked = self._last = 0.0  # seconds; the last look's

    def after(self, seconds: float, averaged: Callable[[], Model], done: int, total: int) -> Job[None]:
        """Count a step of so many seconds, and take a look if one is due.

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
        spent = self._looked + self._last  # as if the next one took as long as the last
        if self._ask is None or self._since < PREVIEW or spent > SHARE * (spent + self._learned):
            return
        look = self._ask()
        if look is None:
            return
        self._since = self._last = 0.0
        began = time.monotonic()
        with closing(look(averaged())) as job:
            for progress in job:
                self._spend(time.monotonic() - began)
                yield Progress(done, total, "preview", payload=progress.payload)
                if self._stop():
                    return
                began = time.monotonic()  # a pause is no time of the look
        self._spend(time.monotonic() - began)

    def _spend(self, seconds: float) -> None:
        self._last += seconds
        self._looked += seconds
