"""The journal of this session, in the user's data folder: what is done is written as it happens."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_unet.errors import DataError
from napari_unet.gui import models
from napari_unet.gui.notices import tell
from napari_unet.gui.regions import whole
from napari_unet.gui.worker import Worker
from napari_unet.gui.writing import is_large
from napari_unet.jobs import Progress
from napari_unet.store.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_unet.gui.strokes import Annotation
    from napari_unet.jobs import Job
    from napari_unet.store.actions import Action, Runs

    Packed = tuple[Runs, Sequence[Action]]  # labels, and what is known of them or was done to them since

SUFFIX = ".journal"
ENDED = ".ended"  # the suffix of one whose session ended well; nobody is asked about it
REST = 1000  # ms that labels must stay as they are before a history begins with them, if nothing is done to them
PATIENCE = 5.0  # seconds that closing waits for labels to be packed, or for a journal to be read


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
        self.over = False  # whether nothing is written any more
        self.by_hand = False  # whether there is anything that a hand did
        self._pages: dict[str, Page] = {}

    def page(self, annotation: Annotation, image: str, first: Runs | None = None, done: Sequence[Action] = ()) -> Page:
        """Return where what is done to one labels layer of an image is written; for the rest see :class:`Page`."""
        name, number = annotation.layer.name, 2
        while name in self._pages:
            name, number = f"{annotation.layer.name} ({number})", number + 1
        self._pages[name] = Page(self, annotation, name, image, first, done)
        return self._pages[name]

    def write(self, what: Callable[[Journal], Any]) -> None:
        """Write, or say once that it cannot be done."""
        if self.over:
            return
        try:
            if self._file is None:
                self._file = _new(self._began)
            what(self._file)
        except (OSError, DataError) as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Write no more, and say so."""
        if not self.over:
            tell(
                DataError(
                    f"The journal of your corrections in {str(folder())!r} cannot be written ({error}): the work goes "
                    "on, but if napari crashes it cannot be restored, so save the labels now and then."
                )
            )
        self.over = True

    @property
    def path(self) -> Path | None:
        """The file, if there is one."""
        return None if self._file is None else self._file.path

    def end(self) -> None:
        """End the session; what a hand did is offered at the next start, for nobody knows whether it was saved."""
        self.over = True
        for page in self._pages.values():
            page.close()
        if self._file is not None and self.by_hand:
            self._file.close()
        elif self._file is not None:
            end(self._file)


@dataclass(eq=False)
class _Beginning:
    """Labels that a history begins with, and what is written after them.

    `data` are those of the layer if they are read from there, and not from a copy.
    """

    pack: Callable[[], Packed]
    data: Any = None
    packed: Packed | None = None
    after: list[Callable[[Journal], Any]] = field(default_factory=list)


class Page:
    """What is done to one labels layer, in the journal of the session.

    The labels that it begins with are packed in a thread where that would be felt. If something is done meanwhile, a
    copy of them as they were before it is packed, and what is done waits behind it, in order. They are written with the
    first action, or at once where something is known of them already.

    Parameters
    ----------
    journal : SessionJournal
        It is written in that.
    annotation : Annotation
        Of the layer.
    name, image : str
        What the labels are called in the journal; the name of their image.
    first : Runs or None
        What the labels were first; None: as they are.
    done : sequence of Action
        What was done to them since.
    """

    def __init__(
        self,
        journal: SessionJournal,
        annotation: Annotation,
        name: str,
        image: str,
        first: Runs | None,
        done: Sequence[Action],
    ) -> None:
        self._journal, self._name, self._image = journal, name, image
        self._annotation: Annotation | None = annotation
        self._beginnings: list[_Beginning] = []  # the last one holds now; the one before it is being packed
        self._packing: _Beginning | None = None  # in the thread
        self._written = False  # whether there is something of it in the journal
        self._stale = False  # whether no history begins with the labels as they are yet
        self._worker: Worker | None = None
        self._rest = QTimer()
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self._on_rest)
        if first is None:
            self._begin()
        else:
            packed = first, done
            self._beginnings = [_Beginning(lambda: packed, packed=packed)]
            self._flush()

    def again(self) -> None:
        """Begin anew: the layer got other data. Not with each of those that come one upon the other."""
        self._stale = True
        self._rest.start(REST)

    def do(self, action: Action) -> None:
        """Add an action that the annotation does not know yet."""
        if self._stale:
            self._begin(action)
        self._journal.by_hand |= action.vouched is not None
        self._write(lambda file: file.do(self._name, action))

    def undo(self) -> None:
        """Take the last action back."""
        self._write(lambda file: file.undo(self._name))

    def redo(self) -> None:
        """Do the last one that was taken back again."""
        self._write(lambda file: file.redo(self._name))

    def leave(self) -> None:
        """Let go of the layer; what waits is still written."""
        self._rest.stop()
        self._annotation = None

    def close(self) -> None:
        """Write nothing any more."""
        self.leave()
        self._beginnings = []
        if self._worker is not None:
            self._worker.end(PATIENCE)

    def _write(self, what: Callable[[Journal], Any]) -> None:
        if not self._beginnings:
            self._journal.write(what)
            return
        self._beginnings[-1].after.append(what)
        self._flush()

    def _on_rest(self) -> None:
        if self._annotation is not None and self._annotation.layer._block_history:
            self._rest.start(REST)  # a stroke that is half painted is in the data already
        else:
            self._begin()

    def _begin(self, action: Action | None = None) -> None:
        """Begin with the labels as they are, or as they were before an action."""
        self._rest.stop()
        self._stale = False
        if self._annotation is None or self._journal.over:
            return
        layer = self._annotation.layer
        new = _Beginning(self._annotation.beginning(action), layer.data if action is None else None)
        # a copy that is being packed is still written: if others came all the time, nothing ever would be
        self._beginnings = [each for each in self._beginnings if each is self._packing and each.data is None]
        self._beginnings.append(new)
        if not is_large(layer, whole(layer.data.shape)):
            new.packed = new.pack()
            self._flush()
            return
        self._stale = action is None  # until they are read
        if self._worker is None:
            self._pack()

    def _pack(self) -> None:
        first = self._packing = self._beginnings[0]
        self._worker = Worker(lambda: _packing(first.pack), background=False)
        self._worker.returned.connect(self._on_packed)
        self._worker.failed.connect(self._journal.fail)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def _on_packed(self, packed: Packed) -> None:
        first = self._packing
        if first is None or first not in self._beginnings:
            return  # something was done while they were read
        if first.data is not None:
            layer = None if self._annotation is None else self._annotation.layer
            if layer is None or layer.data is not first.data or layer._block_history:  # half a stroke may be in them
                self._beginnings.remove(first)
                return
            self._stale = False
        first.packed = packed
        self._flush()

    def _on_finished(self) -> None:
        self._worker = self._packing = None
        if self._beginnings and self._beginnings[0].packed is None:
            self._pack()

    def _flush(self) -> None:
        """Write what is packed, and what was done since."""
        while self._beginnings and (packed := self._beginnings[0].packed) is not None:
            (runs, known), after = packed, self._beginnings[0].after
            if known or after:
                self._journal.by_hand |= any(action.vouched is not None for action in known)
                self._journal.write(
                    partial(Journal.begin, name=self._name, image=self._image, labels=runs, known=known)
                )
                for what in after:
                    self._journal.write(what)
                self._written = True
            elif len(self._beginnings) == 1:  # it waits for the first action
                if self._written:
                    self._journal.write(lambda file: file.forget(self._name))
                self._written = False
                return
            self._beginnings.pop(0)


def _packing(pack: Callable[[], Packed]) -> Job[Packed]:
    """Pack labels, as a job."""
    yield Progress(0, 1, "packing")
    return pack()


def end(file: Journal) -> None:
    """Close a journal, so that nobody is asked about it at the next start; it stays until it is old."""
    file.close()
    with suppress(OSError):
        file.path.replace(file.path.with_suffix(ENDED))


def _new(began: datetime) -> Journal:
    folder().mkdir(parents=True, exist_ok=True)
    return Journal(folder() / f"{began:%Y-%m-%d_%H-%M-%S-%f}{SUFFIX}")
