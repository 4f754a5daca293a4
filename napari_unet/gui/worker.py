"""One job in one thread: signals in the main thread, pause, cancel, and "finished" always comes.

Own thread rather than napari's `create_worker`: that one takes any RuntimeError for "the widget was deleted" and then
tells nobody, closes its generator only when it is collected, and runs in Qt's shared pool, whose threads would keep
the low priority for whoever comes next. The thread knows nothing of Qt: it fills a queue, and a timer of the main
thread empties it. A signal sent from the thread crashes the program if its sender is deleted at that moment.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_unet.jobs import Job, Progress, lower_priority

if TYPE_CHECKING:
    from collections.abc import Callable

SWITCH = 0.0005  # seconds a thread may hold Python while another waits; a worker's loops made 150 ms of 5 ms
EVERY, SOON = 20, 5  # ms between two looks into the queue: of a background job, and of one that somebody waits for
LAST = 60.0  # seconds that the end of Python waits for the steps that run; a step is a tile, or one of training


class Worker(QObject):
    """Runs a job once.

    Parameters
    ----------
    make : callable
        Returns the job; called in the thread, so that its imports do not hold the viewer up.
    background : bool
        Whether it may wait for everything else on the machine; not so if somebody waits for it.
    """

    progressed = Signal(object)  # Progress; of several without figures only the latest
    returned = Signal(object)  # what the job returned; not after `cancel`
    failed = Signal(object)  # the exception; not after `cancel`
    finished = Signal()  # always, and last

    def __init__(self, make: Callable[[], Job[Any]], *, background: bool = True) -> None:
        super().__init__()
        self._thread = _Thread(make, background)
        self._every = EVERY if background else SOON
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._take)

    @property
    def paused(self) -> bool:
        """Whether it waits, or will at its next step."""
        return not self._thread.going.is_set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._timer.start(self._every)

    def pause(self, paused: bool = True) -> None:
        """Wait at the next step, or go on."""
        if paused and not self._thread.cancelled.is_set():
            self._thread.going.clear()
        else:
            self._thread.going.set()

    def cancel(self) -> None:
        """End at the next step, without a result."""
        self._thread.cancel()

    def join(self, seconds: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Wait for the thread, and tell at once how it went; return whether it has ended."""
        ended = self.join(seconds)
        if ended and self._timer.isActive():
            self._take()
        return ended

    def end(self, seconds: float) -> bool:
        """Cancel, wait for the thread, and finish at once rather than at the next look; return whether it has ended."""
        self.cancel()
        ended = self.join(seconds)
        if self._timer.isActive():
            self._take()
        return ended

    def _take(self) -> None:
        """Tell what the thread has said since the last look."""
        ended = not self._thread.is_alive()  # asked first: what it said is in the queue then
        latest: Progress | None = None
        while True:
            try:
                kind, content = self._thread.said.get_nowait()
            except Empty:
                break
            if kind == "progressed":
                latest = content
                if not content.values and content.payload is None:
                    continue
            if latest is not None:
                self.progressed.emit(latest)
                latest = None
            if kind != "progressed" and not self._thread.cancelled.is_set():
                getattr(self, kind).emit(content)
        if latest is not None:
            self.progressed.emit(latest)
        if ended:
            self._timer.stop()
            self.finished.emit()


_threads: WeakSet[_Thread] = WeakSet()


@atexit.register
def _end() -> None:
    """End the jobs that are left: Python would kill their threads in the middle of a step of torch's, and abort."""
    running, end = [each for each in _threads if each.is_alive()], time.monotonic() + LAST
    for thread in running:
        thread.cancel()
    for thread in running:
        thread.join(max(end - time.monotonic(), 0))


_hurried: dict[int, float] = {}  # by id of each dock with a job: the switch interval before the first of them


def hurry(owner: object) -> None:
    """Let Python change threads more often while a dock's job runs; the interval is that of all docks."""
    _hurried[id(owner)] = next(iter(_hurried.values()), sys.getswitchinterval())
    sys.setswitchinterval(SWITCH)


def rest(owner: object) -> None:
    """Give the interval back after the last job; to rest twice changes nothing."""
    before = _hurried.pop(id(owner), None)
    if before is not None and not _hurried:
        sys.setswitchinterval(before)


class _Thread(threading.Thread):
    """The thread: puts ("progressed" | "returned" | "failed", content) into `said`."""

    def __init__(self, make: Callable[[], Job[Any]], background: bool) -> None:
        super().__init__(name="napari-unet job", daemon=True)
        self.said: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.cancelled, self.going = threading.Event(), threading.Event()
        self.going.set()
        self._make, self._background = make, background
        _threads.add(self)

    def run(self) -> None:
        """Run the job."""
        if self._background:
            lower_priority()  # before the job imports torch: its pool inherits the priority
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 a thread has nobody above it
            self.said.put(("failed", error))

    def cancel(self) -> None:
        """End at the next step."""
        self.cancelled.set()
        self.going.set()

    def _work(self) -> None:
        with closing(self._make()) as job:
            while not self.cancelled.is_set():
                try:
                    progress = next(job)
                except StopIteration as end:
                    self.said.put(("returned", end.value))
                    return
                self.said.put(("progressed", progress))
                self.going.wait()
