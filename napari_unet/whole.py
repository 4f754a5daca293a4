"""Files and folders that stand whole or not at all, also if the program is killed while it writes them."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place whole or not at all: a temporary file beside it, fsync, replace."""
    path = path.resolve()  # where a link points to
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644  # mkstemp makes files that only their owner may read
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def replace_folder(new: Path, path: Path) -> None:
    """Rename a finished folder to its name; what was there goes only when the new one stands.

    No system replaces a folder at once. Between the two renames the old one lies beside its place, where
    :func:`put_back` finds it.
    """
    put_back(path)
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)  # of a program that was killed after the new one stood
    try:
        with suppress(FileNotFoundError):
            os.rename(path, aside)
        os.rename(new, path)
    except BaseException:
        put_back(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def put_back(path: Path) -> None:
    """Put a folder back that a program was replacing when it was killed; nothing happens if there is none."""
    aside = _aside(path)
    with suppress(OSError):  # a disk that may only be read: whoever looks for the folder says that it is not there
        if aside.exists() and not path.exists():
            os.rename(aside, path)


def _aside(path: Path) -> Path:
    return path.parent / f".{path.name}.old"
