"""The actions of a session on disk: each is there before the next one begins, and a kill at any moment loses none.

A file is a line that says what it is, and then records: length and CRC-32 of what follows, four bytes each, little
endian; a JSON header's length, the header, and the packed labels that belong to it. What a kill left of a last record
is cut off when the file is opened again. While it is open no other program opens it: the lock ends with the program.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError
from napari_unet.store.actions import Action, Runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FIRST_LINE = b"napari-unet journal 1\n"
_HEAD = struct.Struct("<II")  # length, CRC-32
_SIZE = struct.Struct("<I")  # of the JSON header
_sync = getattr(os, "fdatasync", os.fsync)


@dataclass(eq=False)
class Kept:
    """What a journal holds of one labels layer.

    Attributes
    ----------
    image : str
        Name of the image that the labels are of.
    labels : Runs
        As they were at the beginning.
    actions : list of Action
        What was done to them since and not taken back.
    undone : list of Action
        What was taken back, the last to be done again first.
    """

    image: str
    labels: Runs
    actions: list[Action] = field(default_factory=list)
    undone: list[Action] = field(default_factory=list)

    def now(self) -> NDArray[Any]:
        """Return the labels as they became."""
        labels = self.labels.unpack()
        for action in self.actions:
            labels[action.region] = action.after.unpack()
        return labels


class Journal:
    """A file of what was done to one or more labels layers, each under a name of its own.

    Parameters
    ----------
    path : Path
        Of the file. If it is there, what it holds is read first.

    Attributes
    ----------
    layers : dict of Kept
        What it held when it was opened, by name; what is added is on the disk only.
    cut : int
        Bytes of a record that was not finished, which were cut off.

    Raises
    ------
    DataError
        If the file is no journal of this version, cannot be opened, or is open in another program.
    OSError
        If it cannot be read or written, now or with an action: the disk may be full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab+", buffering=0)  # what a failed write left in a buffer would come later
        except OSError as error:
            raise DataError(f"The journal {str(path)!r} cannot be opened ({error}): choose another place.") from error
        try:
            if not _lock(self._file.fileno()):
                raise DataError(f"The journal {str(path)!r} is open in another program: close that first.")
            self.layers, whole = _read(self._file, path.name)
            self.cut = self._file.seek(0, os.SEEK_END) - whole
            if self.cut:
                self._file.truncate(whole)
            if not whole:
                self._file.write(FIRST_LINE)
            _sync(self._file.fileno())
        except BaseException:
            self._file.close()
            raise

    def begin(self, name: str, image: str, labels: Runs, known: Sequence[Action] = ()) -> None:
        """Begin with a labels layer, or anew with one of that name, as they are; and with what was done before."""
        self._append({"begin": name, "image": image, "shape": labels.shape}, [labels])
        for action in known:
            self.do(name, action, sync=False)
        _sync(self._file.fileno())

    def do(self, name: str, action: Action, *, sync: bool = True) -> None:
        """Add an action, and return when it is on the disk."""
        runs = [action.before, *([action.after] if action.after is not action.before else [])]
        header = {
            "do": name,
            "kind": action.kind,
            "region": [[part.start, part.stop] for part in action.region],
            "when": action.when,
            "about": dict(action.about),
            "same": action.after is action.before,
            "by_hand": action.vouched is not None,
        }
        self._append(header, [*runs, *([action.vouched] if action.vouched else [])], sync=sync)

    def undo(self, name: str) -> None:
        """Take the last action of a layer back."""
        self._append({"undo": name}, [])

    def redo(self, name: str) -> None:
        """Do the last action of a layer that was taken back again."""
        self._append({"redo": name}, [])

    def forget(self, name: str) -> None:
        """Let go of a layer."""
        self.layers.pop(name, None)
        self._append({"forget": name}, [])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, header: dict[str, Any], runs: list[Runs], *, sync: bool = True) -> None:
        """Write a record whole, or leave the file as it was: records after a part of one would not be found."""
        sizes = [[each.count, each.dtype.str, len(each.data)] for each in runs]
        text = json.dumps({**header, "runs": sizes}).encode()
        record = b"".join([_SIZE.pack(len(text)), text, *(each.data for each in runs)])
        whole = _HEAD.pack(len(record), zlib.crc32(record)) + record
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(whole) < len(whole):
                raise OSError(errno.ENOSPC, "the disk is full")
            if sync:
                _sync(self._file.fileno())
        except OSError:
            with suppress(OSError):
                self._file.truncate(end)
            raise


def _read(file: Any, name: str) -> tuple[dict[str, Kept], int]:
    """Return what a journal that is open holds, and how many of its bytes are whole records."""
    layers: dict[str, Kept] = {}
    file.seek(0)
    first = file.read(len(FIRST_LINE))
    if first != FIRST_LINE:
        if FIRST_LINE.startswith(first):  # new, or killed as it was made
            return layers, 0
        raise DataError(f"{name!r} is no journal of this version: choose another file.")
    whole = len(FIRST_LINE)
    for record in _records(file):
        size = _SIZE.unpack_from(record)[0]
        try:
            header = json.loads(record[_SIZE.size : _SIZE.size + size])
            _follow(layers, header, memoryview(record)[_SIZE.size + size :])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"A record of the journal {name!r} cannot be understood ({error!r}): move the file away."
            ) from error
        whole += _HEAD.size + len(record)
    return layers, whole


def _follow(layers: dict[str, Kept], header: dict[str, Any], data: memoryview) -> None:
    """Do to the layers what a record says."""
    what = next(iter(header))
    name = header[what]
    if what == "begin":
        (labels,) = _runs(header, data, tuple(header["shape"]))
        layers[name] = Kept(header["image"], labels)
    elif what == "do":
        layers[name].actions.append(_action(header, data))
        layers[name].undone.clear()
    elif what == "undo":
        layers[name].undone.append(layers[name].actions.pop())
    elif what == "redo":
        layers[name].actions.append(layers[name].undone.pop())
    elif what == "forget":
        layers.pop(name, None)
    else:
        raise ValueError(what)


def _action(header: dict[str, Any], data: memoryview) -> Action:
    """Return the action of a record."""
    region = tuple(slice(start, stop) for start, stop in header["region"])
    before, *rest = _runs(header, data, tuple(part.stop - part.start for part in region))
    after = before if header["same"] else rest.pop(0)
    vouched = rest.pop(0) if header["by_hand"] else None
    return Action(header["kind"], region, before, after, vouched, header["when"], header["about"])


def _runs(header: dict[str, Any], data: memoryview, shape: tuple[int, ...]) -> list[Runs]:
    """Return the packed labels of a record."""
    found, at = [], 0
    for count, dtype, size in header["runs"]:
        found.append(Runs(bytes(data[at : at + size]), count, np.dtype(dtype), shape))
        at += size
    return found


def _records(file: Any) -> Iterator[bytes]:
    """Yield the whole records up to the end, or to the first that is not."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, check = _HEAD.unpack(head)
        record = file.read(length)
        if len(record) != length or length < _SIZE.size or zlib.crc32(record) != check:
            return
        yield record


def _lock(file: int) -> bool:
    """Lock a file until it is closed; False if another program holds it. Where disks know no locks, all is free."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 2**40, os.SEEK_SET)  # one byte far behind the end: the file itself stays readable
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
