"""The log of actions on disk: each is there before the next one begins, and a kill at any moment loses none.

A file is a line that says what it is, and then records: length and CRC-32 of what follows, four bytes each, little
endian; a JSON header's length, the header, and the packed labels before and after. What a kill left of a last record is
cut off when the file is opened again.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError
from napari_unet.store.actions import Action, Log, Runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST_LINE = b"napari-unet journal 1\n"
_HEAD = struct.Struct("<II")  # length, CRC-32
_SIZE = struct.Struct("<I")  # of the JSON header
_sync = getattr(os, "fdatasync", os.fsync)


class Journal:
    """A log of actions that is also a file.

    Parameters
    ----------
    path : Path
        Of the file. If it is there, its actions are read first.

    Attributes
    ----------
    log : Log
        Its actions.
    cut : int
        Bytes of a record that was not finished, which were cut off.

    Raises
    ------
    DataError
        If the file is no journal of this version, or cannot be opened.
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
            self.log, whole = _read(self._file, path.name)
            self.cut = self._file.seek(0, os.SEEK_END) - whole
            if self.cut:
                self._file.truncate(whole)
            if not whole:
                self._file.write(FIRST_LINE)
            _sync(self._file.fileno())
        except BaseException:
            self._file.close()
            raise

    def do(self, action: Action) -> None:
        """Add an action, and return when it is on the disk."""
        self._append({"do": _header(action)}, _packed(action.before) + _packed(action.after))
        self.log.do(action)

    def undo(self) -> Action | None:
        """Take the last action back; see :meth:`Log.undo`."""
        return self._walk("undo", "redo")

    def redo(self) -> Action | None:
        """Do the last action that was taken back again; see :meth:`Log.redo`."""
        return self._walk("redo", "undo")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _walk(self, which: str, back: str) -> Action | None:
        action: Action | None = getattr(self.log, which)()
        if action is not None:
            try:
                self._append({which: None}, b"")
            except OSError:
                getattr(self.log, back)()
                raise
        return action

    def _append(self, header: dict[str, Any], data: bytes) -> None:
        """Write a record whole, or leave the file as it was: records after a part of one would not be found."""
        text = json.dumps(header).encode()
        record = _SIZE.pack(len(text)) + text + data
        whole = _HEAD.pack(len(record), zlib.crc32(record)) + record
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(whole) < len(whole):
                raise OSError(errno.ENOSPC, "the disk is full")
            _sync(self._file.fileno())
        except OSError:
            with suppress(OSError):
                self._file.truncate(end)
            raise


def _read(file: Any, name: str) -> tuple[Log, int]:
    """Return the log of a journal that is open, and how many of its bytes are whole records."""
    log = Log()
    file.seek(0)
    first = file.read(len(FIRST_LINE))
    if first != FIRST_LINE:
        if FIRST_LINE.startswith(first):  # new, or killed as it was made
            return log, 0
        raise DataError(f"{name!r} is no journal of this version: choose another file.")
    whole = len(FIRST_LINE)
    for record in _records(file):
        size = _SIZE.unpack_from(record)[0]
        try:
            header = json.loads(record[_SIZE.size : _SIZE.size + size])
            (what, about), *_ = header.items()
            if what == "do":
                log.do(_action(about, memoryview(record)[_SIZE.size + size :]))
            else:
                {"undo": log.undo, "redo": log.redo}[what]()
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise DataError(
                f"A record of the journal {name!r} cannot be understood ({error!r}): move the file away."
            ) from error
        whole += _HEAD.size + len(record)
    return log, whole


def _records(file: Any) -> Iterator[bytes]:
    """Yield the whole records up to the end, or to the first that is not."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, check = _HEAD.unpack(head)
        record = file.read(length)
        if len(record) != length or length < _SIZE.size or zlib.crc32(record) != check:
            return
        yield record


def _header(action: Action) -> dict[str, Any]:
    """Return an action as plain values, but for the labels before and after."""
    return {
        "kind": action.kind,
        "labels": action.labels,
        "region": [[part.start, part.stop] for part in action.region],
        "when": action.when,
        "about": dict(action.about),
        "runs": [[len(runs.values), runs.values.dtype.str] for runs in (action.before, action.after)],
    }


def _packed(runs: Runs) -> bytes:
    """Return values and lengths, compressed, after the number of their bytes."""
    data = zlib.compress(runs.values.tobytes() + runs.lengths.astype("<u4").tobytes(), level=1)
    return _SIZE.pack(len(data)) + data


def _action(header: dict[str, Any], data: memoryview) -> Action:
    """Return the action of a record."""
    region = tuple(slice(start, stop) for start, stop in header["region"])
    shape = tuple(part.stop - part.start for part in region)
    sides, at = [], 0
    for count, dtype in header["runs"]:
        size = _SIZE.unpack_from(data, at)[0]
        at += _SIZE.size
        plain = zlib.decompress(data[at : at + size])
        at += size
        values = np.frombuffer(plain, dtype, count)
        sides.append(Runs(values, np.frombuffer(plain, "<u4", count, values.nbytes), shape))
    before, after = sides
    return Action(header["kind"], header["labels"], region, before, after, header["when"], header["about"])
