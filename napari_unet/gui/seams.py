"""Asks the model, in a thread, where an object is to be parted that was clicked twice; one object after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui.runs import load
from napari_unet.gui.worker import Worker, hurry, rest
from napari_unet.infer.familiar import choose, middle, plane_of
from napari_unet.infer.seam import seam_job
from napari_unet.learn import objects

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_unet.gui.layers import Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.regions import Region
    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Annotation
    from napari_unet.infer.seen import Seen
    from napari_unet.jobs import Job
    from napari_unet.model import Model


class Seams:
    """Looks at the image of a session, when two places in one object were clicked.

    Parameters
    ----------
    session : Session
        Its image and its model.
    cut : callable
        Gets the clicked pixels, the window that `objects.window_around` found around them, and a relief of its shape,
        or None where the model has nothing to say; it parts the object. Called in the main thread.
    """

    def __init__(self, session: Session, cut: Callable[[NDArray[Any], Region, NDArray[Any] | None], None]) -> None:
        self._session, self._cut = session, cut
        self._waiting: list[tuple[Annotation, NDArray[Any]]] = []
        self._worker: Worker | None = None
        self._ready: tuple[Any, int | None, ModelEntry, Model, Seen] | None = None

    @property
    def busy(self) -> bool:
        """Whether an object is still to be parted."""
        return self._worker is not None

    def find(self, annotation: Annotation, points: NDArray[Any]) -> None:
        """Look for the boundary between pixels ``(n, axes)`` of one object."""
        self._waiting.append((annotation, points))
        self._next()

    def close(self) -> None:
        """End what runs; the dock is closed."""
        self._waiting = []
        if self._worker is not None:
            self._worker.cancel()
            self._worker.join(5.0)
            rest(self)

    def _next(self) -> None:
        session = self._session
        while self._waiting and self._worker is None and not session.closed:
            annotation, points = self._waiting.pop(0)
            source, entry, labels = session.source, session.model, annotation.layer
            if annotation is not session.annotation or source is None:
                continue
            window = objects.window_around(labels.data, points[0])
            if entry is None:
                self._cut(points, window, None)
                continue
            here = np.asarray(labels.data[window])
            mask = here.reshape(here.shape[-2:]) == labels.data[tuple(points[0])]
            self._look(annotation, points, window, self._looking(source, entry, mask, window))

    def _look(self, annotation: Annotation, points: NDArray[Any], window: Region, job: Job[Any]) -> None:
        version = annotation.version

        def done(relief: NDArray[Any] | None) -> None:
            if self._session.closed or annotation is not self._session.annotation:
                return
            with self._session.told():
                if annotation.version == version:
                    self._cut(points, window, relief)
                else:  # what was seen is of labels that are no longer there
                    self._cut(points, objects.window_around(annotation.layer.data, points[0]), None)

        worker = self._worker = Worker(lambda: job, background=False)
        worker.returned.connect(done)
        worker.failed.connect(lambda _: done(None))
        worker.finished.connect(self._on_finished)
        hurry(self)
        worker.start()

    def _on_finished(self) -> None:
        self._worker = None
        rest(self)
        with self._session.told():
            self._next()

    def _looking(self, source: Source, entry: ModelEntry, mask: NDArray[np.bool_], window: Region) -> Job[Any]:
        """Return the relief of a window."""
        channel, diameter = self._session.channel, self._session.diameter
        given = yield from load(entry)
        if given.task != "instances" or given.ndim != 2:
            return None
        ready = self._ready
        if ready is None or ready[0] is not source.data or ready[1:3] != (channel, entry):
            from napari_unet.infer.seen import see

            seen = see(given, source.data, source.axes, channel)
            model, _ = yield from choose(given, plane_of(seen, middle(seen, 2), 2))
            ready = self._ready = source.data, channel, entry, model, seen
        *_, model, seen = ready
        kept = [r.start for r, letter in zip(window, source.letters, strict=True) if letter != "C"]
        plane = plane_of(seen, kept[:-2], 2)
        return (yield from seam_job(model, plane, mask, kept[-2:], diameter))
