"""The models that a user can choose from: shipped, saved earlier, opened from a file, learned in this session."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from napari_unet.errors import ModelFileError
from napari_unet.model import SUFFIX, Model, find, shipped

if TYPE_CHECKING:
    from pathlib import Path


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

    def get(self) -> Model:
        """Return the model; slow at first, so call it in a worker.

        Raises
        ------
        ModelFileError
            If its file is gone or damaged.
        """
        if self.model is None:
            self.model = untrained() if self.path is None else replace(Model.load(self.path), name=self.name)
        return self.model

    @cached_property
    def ndim(self) -> int:
        """How many axes the model sees at once; read from the head of its file, so that nobody waits for torch."""
        if self.model is not None:
            return self.model.ndim
        if self.path is None:
            return 2
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="numpy") as file:
                return int(json.loads(file.metadata()[HEADER])["config"]["ndim"])
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError):
            return 2  # what is wrong with the file is said when it is used


HEADER = "napari_unet"  # where a model file says what it is
UNTRAINED = "new (knows nothing yet)"
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
    name = re.sub(r"[^\w .·()-]", "_", model.name)
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
