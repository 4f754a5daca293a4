"""The job of the dock that runs in a thread: one at a time, and all sections see how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_unet.gui.notices import Told, tell
from napari_unet.gui.worker import Worker, hurry, rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.jobs import Job, Progress

PATIENCE = 5.0  # seconds that closing waits for a job to end; a training step takes less


class OneJob:
    """The job that runs, if one does; nothing else is begun meanwhile."""

    busy_changed = Signal()
    progressed = Signal(object)  # Progress

    def __init__(self) -> None:
        self.busy = ""  # name of the job that runs
        self.closed = False
        self._worker: Worker | None = None
        self._done: Callable[[Any], None] | None = None

    def run(self, name: str, make: Callable[[], Job[Any]], done: Callable[[Any], None]) -> None:
        """Run a job in a thread; one at a time.

        Parameters
        ----------
        name : str
            What it is, for the sections.
        make : callable
            Returns the job; called in the thread.
        done : callable
            Gets the result, in the main thread; not called if the job fails or is cancelled.
        """
        if self.busy or self.closed:
            return
        self.busy, self._done = name, done
        hurry(self)
        worker = self._worker = Worker(make)
        worker.progressed.connect(self._on_progress)
        worker.returned.connect(self._on_returned)
        worker.failed.connect(self._on_failed)
        worker.finished.connect(self._on_finished)
        self.busy_changed.emit()
        worker.start()

    def cancel(self) -> None:
        """End the job that runs, without a result."""
        if self._worker is not None:
            self._worker.cancel()

    def pause(self, paused: bool) -> None:
        """Let the job that runs wait at its next step, or go on."""
        if self._worker is not None:
            self._worker.pause(paused)
            self.busy_changed.emit()

    @property
    def paused(self) -> bool:
        """Whether the job that runs waits."""
        return self._worker is not None and self._worker.paused

    def _on_progress(self, progress: Progress) -> None:
        if not self.closed and self.busy:
            self.progressed.emit(progress)

    def _on_returned(self, result: Any) -> None:
        if not self.closed and self._done is not None:
            with self.told():
                self._done(result)

    def _on_failed(self, error: Exception) -> None:
        if not self.closed:
            tell(error)

    def _on_finished(self) -> None:
        rest(self)
        if self._worker is not None:
            self._worker.join(PATIENCE)
        self._worker, self._done, self.busy = None, None, ""
        if not self.closed:
            self.busy_changed.emit()

    def told(self) -> Told:
        """Return a context in which errors become notifications."""
        return Told()

    def close(self) -> None:
        """End the job; nobody hears of it any more. It touches no widget."""
        self.closed = True
        self.busy_changed.disconnect()
        self.progressed.disconnect()
        if self._worker is not None:
            self._worker.cancel()
            self._worker.join(PATIENCE)
            rest(self)
