"""Gets ready for the first run while the user looks at the image: torch, the model, the brightness of a large image."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_unet.errors import UnetError
from napari_unet.gui.worker import Worker
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from napari_unet.gui.layers import Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.session import Session

AFTER = 1000  # ms without another model or image
PATIENCE = 5.0  # seconds that closing waits for the library that is being imported


class WarmUp(QObject):
    """Gets ready for the model and the image that are chosen, in a thread; what is wrong with them a run will say.

    Parameters
    ----------
    session : Session
        Knows both.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._worker: Worker | None = None
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._start)
        session.model_changed.connect(self.soon)
        session.image_changed.connect(self.soon)
        self.soon()

    def soon(self) -> None:
        """Begin in a moment."""
        self._later.start(AFTER)

    def _start(self) -> None:
        session = self._session
        entry, source = session.model, session.source
        if self._worker is not None:
            self.soon()
        elif entry is not None and entry.path is not None and not session.busy and not session.closed:
            image = None if source is None else session.whole_of(source.layer)
            channel = session.channel
            self._worker = Worker(lambda: get_ready(entry, image, channel))
            self._worker.finished.connect(self._on_finished)
            self._worker.start()

    def _on_finished(self) -> None:
        self._worker = None

    def close(self) -> None:
        """End it."""
        self._later.stop()
        if self._worker is not None:
            self._worker.end(PATIENCE)


def get_ready(entry: ModelEntry, image: Source | None, channel: int | None) -> Job[None]:
    """Import what takes long, read a model, make what runs it, and measure the brightness of a large image.

    Yields
    ------
    Progress
        Between two steps.
    """
    import_module("pandas")  # napari's labels layers need it, and would import it while everybody waits
    yield Progress(1, 4, "getting ready")
    import_module("torch")
    yield Progress(2, 4, "getting ready")
    with suppress(UnetError):
        model = entry.get()
        yield Progress(3, 4, "getting ready")
        from napari_unet.infer.engine import engine_for
        from napari_unet.infer.seen import see

        engine_for(model.network)
        if image is not None and image.large and model.task != "clicks":
            yield Progress(4, 4, "getting ready")
            see(model, image.data, image.axes, channel)  # it keeps what was measured
