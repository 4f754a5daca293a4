"""Whatever was done is in the journal, whenever the program was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet import DataError
from napari_unet.store.actions import Action
from napari_unet.store.journal import FIRST_LINE, Journal


def step(number: int) -> Action:
    before = np.zeros((4, 30), np.uint16)
    after = before.copy()
    after[1:3, number % 20 : number % 20 + 5] = number + 1
    found = Action.between("stroke", "cells", (slice(10, 14), slice(0, 30)), before, after, {"number": number})
    assert found is not None
    return found


def numbers(journal: Journal) -> list[Any]:
    return [each.about["number"] for each in journal.log.actions[: journal.log.standing]]


def test_what_was_done_and_taken_back_is_there_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "it.journal")
    steps = [step(i) for i in range(5)]
    for each in steps:
        journal.do(each)
    assert journal.undo() is steps[4]
    assert journal.undo() is steps[3]
    assert journal.redo() is steps[3]
    journal.close()
    again = Journal(tmp_path / "it.journal")
    assert again.cut == 0
    assert numbers(again) == [0, 1, 2, 3]
    for found, given in zip(again.log.actions, steps, strict=True):
        assert (found.kind, found.labels, found.region) == (given.kind, given.labels, given.region)
        assert (found.when, found.about) == (given.when, given.about)
        for one, other in ((found.before, given.before), (found.after, given.after)):
            assert one.values.dtype == other.values.dtype
            np.testing.assert_array_equal(one.unpack(), other.unpack())
    assert again.redo() is again.log.actions[4]
    assert again.redo() is None
    again.do(step(9))
    again.close()
    last = Journal(tmp_path / "it.journal")
    assert numbers(last) == [0, 1, 2, 3, 4, 9]
    last.close()


def test_wherever_the_file_ends_the_whole_records_stand_and_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "it.journal"
    journal = Journal(path)
    ends = [path.stat().st_size]
    for i in range(3):
        journal.do(step(i))
        ends.append(path.stat().st_size)
    journal.close()
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        journal = Journal(path)
        standing = sum(length >= end for end in ends[1:])
        assert numbers(journal) == list(range(standing))
        assert journal.cut == length - max([0, *(end for end in ends if end <= length)])
        journal.do(step(7))
        journal.close()
        again = Journal(path)
        assert numbers(again) == [*range(standing), 7]
        again.close()


@pytest.mark.parametrize("at", [0, 5, 40, -1])
def test_a_record_that_rotted_ends_the_log(at: int, tmp_path: Path) -> None:
    path = tmp_path / "it.journal"
    journal = Journal(path)
    journal.do(step(0))
    begin = path.stat().st_size
    journal.do(step(1))
    journal.close()
    data = bytearray(path.read_bytes())
    data[begin + at if at >= 0 else at] ^= 0xFF
    path.write_bytes(data)
    journal = Journal(path)
    assert numbers(journal) == [0]
    assert journal.cut > 0
    journal.close()


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    with pytest.raises(DataError, match=r"'notes.txt' is no journal of this version"):
        Journal(path)
    assert path.read_text() == "my notes"
    with pytest.raises(DataError, match="cannot be opened"):
        Journal(tmp_path / "nowhere" / "it.journal")


def test_an_action_that_finds_the_disk_full_is_not_there_and_the_next_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    journal = Journal(tmp_path / "it.journal")
    journal.do(step(0))
    for fails in (lambda: journal.do(step(1)), journal.undo):
        with monkeypatch.context() as broken:
            broken.setattr("napari_unet.store.journal._sync", full)
            with pytest.raises(OSError, match="No space left"):
                fails()
        assert numbers(journal) == [0]
    journal.do(step(2))
    journal.close()
    again = Journal(tmp_path / "it.journal")
    assert (numbers(again), again.cut) == ([0, 2], 0)
    again.close()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_journal import Journal, step
journal = Journal(Path({path!r}))
for i in range(100_000):
    journal.do(step(i))
    print(i, flush=True)
"""


@pytest.mark.parametrize("kill", range(5))
def test_no_action_that_was_confirmed_is_lost_in_a_kill(kill: int, tmp_path: Path) -> None:
    path = tmp_path / "it.journal"
    script = WRITER.format(here=str(Path(__file__).parent), path=str(path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(20 + 7 * kill):
            writer.stdout.readline()
        writer.kill()
        said = writer.stdout.read().split("\n")
        confirmed = max([19 + 7 * kill, *(int(line) for line in said[:-1])])
    journal = Journal(path)
    assert numbers(journal) in (list(range(confirmed + 1)), list(range(confirmed + 2)))
    journal.close()
    assert path.read_bytes().startswith(FIRST_LINE)
