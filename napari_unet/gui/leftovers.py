"""The journals of earlier sessions: those that were not ended are offered, old ones removed."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_unet.errors import DataError
from napari_unet.gui.journals import ENDED, PATIENCE, SUFFIX, end, folder
from napari_unet.gui.notices import tell
from napari_unet.gui.worker import Worker
from napari_unet.jobs import Progress
from napari_unet.store.journal import DAMAGED, Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_unet.jobs import Job
    from napari_unet.store.journal import Kept

DAYS = 30  # that a journal is kept
NEWEST = 20  # journals that are kept


class Leftovers:
    """The journals of earlier sessions that hold what a hand did, and nobody settled. They are locked until `close`."""

    found = Signal()  # they are read

    def __init__(self) -> None:
        self._paths = _journals(SUFFIX)  # now: that of this session is not among them
        self._files: list[Journal] = []
        self._lost: list[Path] = []  # copies of those that are damaged from the beginning
        self._closed = False
        self._worker: Worker | None = None

    def pass_over(self, path: Path | None) -> None:
        """End the journal of a dock that was closed: what it holds is in the viewer."""
        if path in self._paths:
            self._paths.remove(path)
            with suppress(OSError, DataError):
                end(Journal(path))

    def start(self) -> None:
        """Read them in a thread: there may be much in them."""
        self._worker = Worker(self.read, background=False)
        self._worker.finished.connect(self._on_read)
        self._worker.start()

    def read(self) -> Job[None]:
        """Read them, the newest first; those with nothing to restore are ended."""
        sweep()
        for number, path in enumerate(self._paths):
            yield Progress(number, len(self._paths), "reading what earlier sessions left")
            if not path.exists():  # it was old
                continue
            try:
                file = Journal(path)
            except (OSError, DataError):  # of a session that goes on, or of another version
                continue
            if self._closed:
                file.close()
            elif any(kept.actions for kept in file.layers.values()):
                self._files.append(file)
            else:
                end(file)
                self._lost += [file.damaged] if file.damaged is not None else []

    def _on_read(self) -> None:
        if self._closed:
            return
        for copy in self._lost:
            tell(
                DataError(
                    f"The journal of an earlier session was damaged on the disk before its first correction, so "
                    f"nothing of it can be restored: a copy is kept at {str(copy)!r}."
                )
            )
        self.found.emit()

    def copy_of(self, kept: Kept) -> Path | None:
        """Return the copy of the journal that holds this, if what followed was damaged."""
        return next((file.damaged for file in self._files if kept in file.layers.values()), None)

    def of(self, image: str, shape: tuple[int, ...]) -> list[Kept]:
        """Return what there is of labels of an image's name and this shape, all of one journal: the newest."""
        return self.those(lambda kept: kept.image == image and kept.labels.shape == shape)

    def those(self, fit: Callable[[Kept], bool]) -> list[Kept]:
        """Return what there is of labels that fit, all of one journal: the newest."""
        for file in list(self._files):
            found = [kept for kept in file.layers.values() if kept.actions and fit(kept)]
            if found:
                return found
        return []

    def settle(self, settled: Sequence[Kept]) -> None:
        """Offer these no more."""
        for file in list(self._files):
            with suppress(OSError):  # a full disk: it is offered again at the next start
                for name in [name for name, kept in file.layers.items() if kept in settled]:
                    file.forget(name)
            if not any(kept.actions for kept in file.layers.values()):
                self._files.remove(file)
                end(file)

    def close(self) -> None:
        """Leave the rest to the next session."""
        self._closed = True
        self.found.disconnect()
        if self._worker is not None:
            self._worker.end(PATIENCE)
        for file in self._files:
            file.close()
        self._files = []


def sweep() -> None:
    """Remove journals that are old, or too many."""
    oldest = time.time() - DAYS * 24 * 3600
    for rank, path in enumerate(_journals(SUFFIX, ENDED, DAMAGED)):
        with suppress(OSError, DataError):
            if rank < NEWEST and path.stat().st_mtime >= oldest:
                continue
            if path.suffix == SUFFIX:
                Journal(path).close()  # not if it is open in another program
            path.unlink()


def _journals(*suffixes: str) -> list[Path]:
    """Return the journals with these suffixes, the newest first."""
    with suppress(OSError):
        return sorted((path for path in folder().iterdir() if path.suffix in suffixes), reverse=True)
    return []
