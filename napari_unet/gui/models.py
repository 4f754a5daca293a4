"""The models that a user can choose from: shipped, saved earlier, opened from a file, learned in this session."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

from napari_unet.errors import ModelFileError
from napari_unet.model import SUFFIX, Model, find, shipped
from napari_unet.model_file import Head, read_head

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Stamp = tuple[int, int]  # time of the last change and size of a file: renaming it changes neither


@dataclass(eq=False)
class ModelEntry:
    """A line in the list of models; the model itself is read when it is first needed.

    Attributes
    ----------
    name : str
        What the list shows.
    path : Path or None
        Its file; None until it is saved.
    model : Model or None
        None until it is read.
    """

    name: str
    path: Path | None = None
    model: Model | None = None
    _head: tuple[Stamp, Head] | None = None
    stamp: Stamp | None = None  # of the file, when the folder was last looked at
    _reading: Lock = field(default_factory=Lock, init=False, repr=False)

    def get(self) -> Model:
        """Return the model; slow at first, so call it in a worker.

        Raises
        ------
        ModelFileError
            If its file is gone or damaged.
        """
        with self._reading:
            return self._get()

    def _get(self) -> Model:
        if self.model is None:
            self.model = untrained() if self.path is None else replace(Model.load(self.path), name=self.name)
        return self.model

    @property
    def ndim(self) -> int:
        """How many axes the model sees at once; read from the head of its file, so that nobody waits for torch."""
        try:
            head = self.head()
        except ModelFileError:
            return 2  # what is wrong with the file is said when it is used
        return 2 if head is None else head.ndim

    def moved(self, path: Path) -> None:
        """Go on with the file under another name."""
        self.path, self.name = path, path.stem
        self.model = self.model and replace(self.model, name=path.stem)

    def head(self) -> Head | None:
        """Return what the model says of itself, from its file, which is read anew when it has changed; or None.

        Raises
        ------
        ModelFileError
            If its file is gone or damaged.
        """
        if self.path is None:
            model = self.model
            return Head(model.ndim, model.task, model.classes, model.provenance) if model is not None else None
        now = _stamp(self.path)
        if self._head is None or self._head[0] != now:
            self._head = now, read_head(self.path)
        return self._head[1]


UNTRAINED = "new (knows nothing yet)"
_FORBIDDEN = re.compile(r"[^\w .·()-]")  # in a name that becomes one of a file
UNJUDGED = " (not judged)"  # at the end of a name: saved when the dock was closed before anybody kept or discarded it


def untrained() -> Model:
    """Return a model to be taught from nothing."""
    return Model.new(name="own", width=16)


def folder() -> Path:
    """Return the folder of the user's own models, for this operating system."""
    import platformdirs  # comes with napari

    return platformdirs.user_data_path("napari-unet", appauthor=False) / "models"


def known_models() -> list[ModelEntry]:
    """Return the shipped models, then the user's own, newest first, then one that knows nothing."""
    own: list[Path] = []
    with suppress(OSError):
        own = sorted(folder().glob(f"*{SUFFIX}"), key=lambda path: -path.stat().st_mtime)
    entries = [ModelEntry(name, find(name)) for name in shipped()]
    entries += [ModelEntry(path.stem, path) for path in own]
    return [*entries, ModelEntry(UNTRAINED)]


def follow(entries: Sequence[ModelEntry], used: ModelEntry | None) -> list[ModelEntry]:
    """Return the models as the folder is now: files that came are first, those that went away are out.

    A file that was renamed stays the same model, also if it is in use. One that is in use stays though its file went
    away.

    Parameters
    ----------
    entries : sequence of ModelEntry
        As they were.
    used : ModelEntry or None
        The one in use.
    """
    where = folder()
    files: dict[Path, Stamp] = {}
    with suppress(OSError, ModelFileError):
        files = {path: _stamp(path) for path in where.glob(f"*{SUFFIX}") if path.stat().st_size}  # else reserved
    gone = [entry for entry in entries if entry.path and entry.path.parent == where and entry.path not in files]
    known = {entry.path for entry in entries}
    came = []
    for path in sorted(files.keys() - known, key=lambda path: files[path], reverse=True):
        same = next((entry for entry in gone if entry.stamp == files[path]), None)
        if same is None:
            came.append(ModelEntry(path.stem, path))
        else:
            gone.remove(same)
            same.moved(path)
    now = [*came, *(entry for entry in entries if entry not in gone or entry is used)]
    for entry in now:
        if entry.path in files:
            entry.stamp = files[entry.path]
    return now


def rename(entry: ModelEntry, name: str) -> Path:
    """Give one of the user's own models another name, in its file too; there is one whole file at any moment.

    Raises
    ------
    ModelFileError, OSError
        If it cannot be read or written, or another one has this name.
    """
    if entry.path is None:
        raise ModelFileError(f"The model {entry.name!r} has no file yet: export it first.")
    if not (name := name.strip(" .")) or _FORBIDDEN.search(name):
        raise ModelFileError(f"A model cannot be called {name!r}: use letters, digits, spaces and any of . · ( ) _ -")
    model, old, new = entry.get(), entry.path, entry.path.with_name(f"{name}{SUFFIX}")
    try:
        new.open("x").close()  # reserved
    except FileExistsError as error:
        raise ModelFileError(f"There is a model {name!r} already: choose another name.") from error
    try:
        was = old.stat()
        replace(model, name=name).save(old)
        os.utime(old, ns=(was.st_atime_ns, was.st_mtime_ns))  # it is as old as it was
        os.replace(old, new)
    except (ModelFileError, OSError):
        new.unlink(missing_ok=True)
        raise
    return new


def _stamp(path: Path) -> Stamp:
    """Return time of the last change and size of a file; ModelFileError if it is gone."""
    try:
        found = path.stat()
    except OSError as error:
        raise ModelFileError(f"The file {str(path)!r} cannot be read ({error}): it was moved or removed.") from error
    return found.st_mtime_ns, found.st_size


def next_name(name: str, taken: set[str]) -> str:
    """Return the name of a model that goes on from another: ``nuclei``, ``nuclei · 1``, ``nuclei · 2``."""
    stem = re.sub(r" · \d+$", "", name.removesuffix(UNJUDGED))
    used = {each.removesuffix(UNJUDGED) for each in taken}
    number = 1
    while f"{stem} · {number}" in used:
        number += 1
    return f"{stem} · {number}"


def keep(model: Model) -> Path:
    """Save a model among the user's own, under the next name if there is a file of its name; the file says that name.

    Raises
    ------
    ModelFileError, OSError
        If the folder cannot be made or written.
    """
    where = folder()
    where.mkdir(parents=True, exist_ok=True)
    name = _FORBIDDEN.sub("_", model.name)
    ending = UNJUDGED if name.endswith(UNJUDGED) else ""
    while True:
        path = where / f"{name}{SUFFIX}"
        try:
            path.open("x").close()  # reserved: another napari may keep a model at the same moment
            break
        except FileExistsError:
            name = next_name(name, {other.stem for other in where.glob(f"*{SUFFIX}")}) + ending
    try:
        return replace(model, name=name).save(path)
    except (ModelFileError, OSError):
        path.unlink(missing_ok=True)
        raise
