"""The journals of sessions in the user's data folder: one is written now, those that were not ended are offered."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from napari_unet.errors import DataError
from napari_unet.gui import models
from napari_unet.gui.notices import tell
from napari_unet.store.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_unet.store.actions import Action, Runs
    from napari_unet.store.journal import Kept

SUFFIX = ".journal"
ENDED = ".ended"  # the suffix of one whose session ended well; nobody is asked about it
DAYS = 30  # that a journal is kept
NEWEST = 20  # journals that are kept


def folder() -> Path:
    """Return the folder of the journals, beside that of the user's models."""
    return models.folder().parent / "journals"


class SessionJournal:
    """What is done in one session, on disk as it happens; the file is made when there is something to write.

    If it cannot be written, the user is told once, and the work goes on without it.
    """

    def __init__(self) -> None:
        self._began = datetime.now()
        self._file: Journal | None = None
        self._over = False  # whether nothing is written any more
        self._names: set[str] = set()

    def page(self, labels: str, image: str, runs: Runs, known: Sequence[Action] = ()) -> Page:
        """Return where what is done to one labels layer is written.

        Parameters
        ----------
        labels, image : str
            Names of the layer and of its image.
        runs : Runs
            The labels as they are.
        known : sequence of Action
            What is known of them, or was done to them since: if there is something, all is written at once.
        """
        name, number = labels, 2
        while name in self._names:
            name, number = f"{labels} ({number})", number + 1
        self._names.add(name)
        return Page(self, name, image, runs, known)

    def write(self, what: Callable[[Journal], Any]) -> None:
        """Write, or say once that it cannot be done."""
        if self._over:
            return
        try:
            if self._file is None:
                self._file = _new(self._began)
            what(self._file)
        except (OSError, DataError) as error:
            self._over = True
            tell(
                DataError(
                    f"The journal of your corrections in {str(folder())!r} cannot be written ({error}): the work goes "
                    "on, but if napari crashes it cannot be restored, so save the labels now and then."
                )
            )

    def end(self) -> None:
        """End the session well."""
        self._over = True
        if self._file is not None:
            end(self._file)


class Page:
    """What is done to one labels layer, in the journal of the session."""

    def __init__(
        self, journal: SessionJournal, name: str, image: str, runs: Runs, known: Sequence[Action] = ()
    ) -> None:
        self._journal, self._name, self._image = journal, name, image
        self._runs: Runs | None = runs  # until they are written
        if known:
            self._begin(known)

    def again(self, runs: Runs, known: Sequence[Action]) -> None:
        """Begin anew: the layer got other data."""
        self._runs = runs
        self._begin(known)

    def do(self, action: Action) -> None:
        """Add an action."""
        self._begin()
        self._journal.write(lambda file: file.do(self._name, action))

    def undo(self) -> None:
        """Take the last action back."""
        self._journal.write(lambda file: file.undo(self._name))

    def redo(self) -> None:
        """Do the last one that was taken back again."""
        self._journal.write(lambda file: file.redo(self._name))

    def _begin(self, known: Sequence[Action] = ()) -> None:
        runs, self._runs = self._runs, None
        if runs is not None:
            self._journal.write(lambda file: file.begin(self._name, self._image, runs, known))


class Leftovers:
    """The journals that were not ended: what they hold can be restored. They are locked until `close`."""

    def __init__(self) -> None:
        self._files: list[Journal] = []
        sweep()
        for path in _journals(SUFFIX):
            try:
                file = Journal(path)
            except (OSError, DataError):  # of a session that goes on, or of another version
                continue
            if any(kept.actions for kept in file.layers.values()):
                self._files.append(file)
            else:
                end(file)

    def of(self, image: str, shape: tuple[int, ...]) -> list[Kept]:
        """Return what there is of labels of an image's name and this shape, all of one journal: the newest."""
        for file in self._files:
            found = [kept for kept in file.layers.values() if _is_of(kept, image, shape)]
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
        for file in self._files:
            file.close()
        self._files = []


def sweep() -> None:
    """Remove journals that are old, or too many."""
    oldest = time.time() - DAYS * 24 * 3600
    for rank, path in enumerate(_journals(SUFFIX, ENDED)):
        with suppress(OSError, DataError):
            if rank < NEWEST and path.stat().st_mtime >= oldest:
                continue
            if path.suffix == SUFFIX:
                Journal(path).close()  # not if it is open in another program
            path.unlink()


def end(file: Journal) -> None:
    """Close a journal, so that nobody is asked about it at the next start; it stays until it is old."""
    file.close()
    with suppress(OSError):
        file.path.replace(file.path.with_suffix(ENDED))


def _new(began: datetime) -> Journal:
    folder().mkdir(parents=True, exist_ok=True)
    return Journal(folder() / f"{began:%Y-%m-%d_%H-%M-%S-%f}{SUFFIX}")


def _journals(*suffixes: str) -> list[Path]:
    """Return the journals with these suffixes, the newest first."""
    with suppress(OSError):
        return sorted((path for path in folder().iterdir() if path.suffix in suffixes), reverse=True)
    return []


def _is_of(kept: Kept, image: str, shape: tuple[int, ...]) -> bool:
    return bool(kept.actions) and kept.image == image and kept.labels.shape == shape
