"""Long work as a generator: it says how far it is, may be ended between two steps, and returns its result."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    done, total : int
        Steps done, and steps there are.
    message : str
        What is being done, for a person.
    values : mapping of str to float
        Figures of this step, such as ``{"loss": 0.12}``, for a curve.
    payload : Any
        A first part of the result, such as the labels of one tile. Whoever gets it must not change it.
    """

    done: int
    total: int
    message: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    payload: Any = None


Job = Generator[Progress, None, T]
"""All long work: yields :class:`Progress`, returns a ``T``. To end it early, close it."""


def run(job: Job[T], report: Callable[[Progress], object] | None = None) -> T:
    """Run a job to its end.

    Parameters
    ----------
    job : Job[T]
        What to run. It is closed in any case, so what it holds is let go here and not when it is collected.
    report : callable, optional
        Gets each :class:`Progress`. If it raises, the job ends and the exception goes on.

    Returns
    -------
    T
        What the job returned.
    """
    with closing(job):
        while True:
            try:
                progress = next(job)
            except StopIteration as end:
                result: T = end.value
                return result
            if report is not None:
                report(progress)


def as_part(job: Job[T], say: Callable[[Progress], Progress]) -> Job[T]:
    """Run a job as a part of another one, which says in its own words how far it is.

    Parameters
    ----------
    job : Job[T]
        The part. It is closed in any case.
    say : callable
        Turns each Progress of the part into one of the whole.

    Yields
    ------
    Progress
        What `say` made of them.

    Returns
    -------
    T
        What the job returned.
    """
    with closing(job):
        while True:
            try:
                progress = next(job)
            except StopIteration as end:
                result: T = end.value
                return result
            yield say(progress)


def lower_priority() -> None:
    """Give the calling thread a low priority, so that a viewer stays fluid beside it.

    Call it first in a worker thread. On Linux the threads that it starts later (torch's pool) inherit the
    priority; elsewhere they do not. Where the system refuses, nothing changes.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # what Linux calls a process here is a thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    elif sys.platform == "darwin":
        # "Utility" is the lowest class that may use the fast cores; "background" is kept to the slow ones.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).pthread_set_qos_class_self_np(ctypes.c_uint(0x11), ctypes.c_int(0))
    elif sys.platform == "win32":  # a refusal is a return value; -2 is THREAD_PRIORITY_LOWEST
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentThread.restype = ctypes.c_void_p
        kernel.SetThreadPriority.argtypes = [ctypes.c_void_p, ctypes.c_int]
        kernel.SetThreadPriority(kernel.GetCurrentThread(), -2)
