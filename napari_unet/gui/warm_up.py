"""Gets ready for the first run while the user looks at the image: torch, the model, the brightness of a large image."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_unet.errors import UnetError
from napari_unet.gui.hand import is_down
from napari_unet.gui.worker import Worker, hurry, rest
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from napari_unet.gui.layers import Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.session import Session

AFTER = 1000  # ms without another model or image
PATIENCE = 5.0  # seconds that closing waits for a library to be imported, or for the disk


class WarmUp(QObject):
    """Gets ready for the first model and each large image that are chosen, in a thread; what is wrong a run will say.

    Parameters
    ----------
    session : Session
        Knows both.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._worker: Worker | None = None
        self._entry: ModelEntry | None = None  # that was read; of others that are chosen nothing is
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
        if session.closed:
            return
        if self._worker is not None or session.busy or is_down(session):
            self.soon()
            return
        entry = self._entry or session.model
        image = None if session.source is None else session.whole_of(session.source.layer)
        if image is not None and not (image.large and is_near(image)):
            image = None
        if entry is None or entry.path is None or (entry is self._entry and image is None):
            return
        self._entry = entry
        channel, device = session.channel, str(session.thresholds().get("device") or "auto")
        self._worker = Worker(lambda: get_ready(entry, image, channel, device))
        self._worker.finished.connect(self._on_finished)
        hurry(self)
        self._worker.start()

    def _on_finished(self) -> None:
        rest(self)
        self._worker = None

    def close(self) -> None:
        """End it."""
        self._later.stop()
        if self._worker is not None:
            self._worker.end(PATIENCE)
        rest(self)


def is_near(image: Source) -> bool:
    """Return whether an image lies on a disk of this machine, as far as its layer tells: nobody waits for another."""
    path = image.layer.source.path
    return path is not None and Path(path).exists()


def get_ready(entry: ModelEntry, image: Source | None, channel: int | None, device: str) -> Job[None]:
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

        engine_for(model.network, device)
        if image is not None and model.task != "clicks":
            yield Progress(4, 4, "getting ready")
            see(model, image.data, image.axes, channel)  # it keeps what was measured
