"""The actions of a session on disk: each is there before the next one begins, and a kill at any moment loses none.

A file is a line that says what it is, and then records: length and CRC-32 of what follows, four bytes each, little
endian; a JSON header's length, the header, and the packed labels that belong to it. What a kill left of a last record
is cut off when the file is opened again; where a disk has damaged the file, a copy of it is kept first. While it is
open no other program opens it: the lock ends with the program.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import struct
import sys
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError
from napari_unet.store.actions import Action, Runs
from napari_unet.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FIRST_LINE = b"napari-unet journal 1\n"
_HEAD = struct.Struct("<II")  # length, CRC-32
_SIZE = struct.Struct("<I")  # of the JSON header
_HEADER = re.compile(rb'\{"(?:begin|do|undo|redo|forget)": ')  # how one begins
DAMAGED = ".damaged"  # the suffix of a copy that was made before damaged records were cut off
_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}  # another program has the lock
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # the disk knows none
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
        Bytes that were cut off: of a record that was not finished, or from the first damaged one on.
    damaged : Path or None
        The copy that was made before damaged records were cut off, now or when it was opened earlier.

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
            self._file.seek(0)
            data = self._file.readall()
            self.layers, whole = _read(data, path.name)
            self.cut = len(data) - whole
            self.damaged, free = _copies(path)
            if not _is_torn(data[whole:]):
                write_whole(free, data)
                self.damaged = free
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


def _read(data: bytes, name: str) -> tuple[dict[str, Kept], int]:
    """Return what the bytes of a journal hold, and how many of them are whole records, up to the first that is not."""
    layers: dict[str, Kept] = {}
    if not data.startswith(FIRST_LINE):
        if FIRST_LINE.startswith(data):  # new, or killed as it was made
            return layers, 0
        raise DataError(f"{name!r} is no journal of this version: choose another file.")
    whole, view = len(FIRST_LINE), memoryview(data)
    while (length := _record(view, whole)) is not None:
        record = view[whole + _HEAD.size : whole + _HEAD.size + length]
        size = _SIZE.unpack_from(record)[0]
        try:
            header = json.loads(bytes(record[_SIZE.size : _SIZE.size + size]))
            _follow(layers, header, record[_SIZE.size + size :])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"A record of the journal {name!r} cannot be understood ({error!r}): move the file away."
            ) from error
        whole += _HEAD.size + length
    return layers, whole


def _record(data: memoryview, at: int) -> int | None:
    """Return the length of the record that begins at a byte; None if there is none that is whole."""
    if len(data) - at < _HEAD.size:
        return None
    length, check = _HEAD.unpack_from(data, at)
    record = data[at + _HEAD.size : at + _HEAD.size + length]
    return length if len(record) == length >= _SIZE.size and zlib.crc32(record) == check else None


def _is_torn(rest: bytes) -> bool:
    """Return whether what follows the whole records can be the beginning of one more: that is what a kill leaves."""
    if len(rest) < _HEAD.size + _SIZE.size or FIRST_LINE.startswith(rest):
        return True
    length, start = _HEAD.unpack_from(rest)[0], _HEAD.size + _SIZE.size
    end = start + _SIZE.unpack_from(rest, _HEAD.size)[0]
    if len(rest) >= _HEAD.size + length or end > _HEAD.size + length:
        return False
    if any(_record(memoryview(rest), max(found.start() - start, 0)) for found in _HEADER.finditer(rest)):
        return False  # whole ones follow
    if len(rest) < end:
        return True
    try:  # a length that was damaged is not the one that the header tells
        return end + sum(size for *_, size in json.loads(rest[start:end])["runs"]) == _HEAD.size + length
    except (ValueError, LookupError, TypeError):
        return False


def _copies(path: Path) -> tuple[Path | None, Path]:
    """Return the last copy of a damaged journal, if there is one, and the name of the next."""
    last = None
    for number in itertools.count(1):
        copy = path.with_name(f"{path.name}{f'.{number}' if number > 1 else ''}{DAMAGED}")
        if not copy.exists():
            break
        last = copy
    return last, copy


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


def _lock(file: int) -> bool:
    """Lock a file until it is closed; False if another program holds it. Where disks know no locks, all is free.

    Raises
    ------
    OSError
        If it cannot be told whether the file is free: the disk fails.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 2**40, os.SEEK_SET)  # one byte far behind the end: the file itself stays readable
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD | _NO_LOCKS:
            raise
        return error.errno in _NO_LOCKS
    return True
