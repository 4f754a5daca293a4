"""Whatever was done is in the journal, whenever the program was killed."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_unet import DataError
from napari_unet.store.actions import Action, Runs
from napari_unet.store.journal import DAMAGED, FIRST_LINE, Journal

SHAPE = (20, 30)


def step(number: int) -> Action:
    before = np.zeros((4, 30), np.uint16)
    after = before.copy()
    after[1:3, number % 20 : number % 20 + 5] = number + 1
    region = (slice(10, 14), slice(0, 30))
    found = Action.between("stroke", region, before, after, before != after, {"number": number})
    assert found is not None
    return found


def begun(path: Path) -> Journal:
    """A journal of one layer, to which nothing was done yet."""
    journal = Journal(path)
    journal.begin("cells", "image", Runs.empty(SHAPE, np.uint16))
    return journal


def numbers(journal: Journal) -> list[Any]:
    return [each.about["number"] for each in journal.layers["cells"].actions]


def test_what_was_done_and_taken_back_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "it.journal"
    journal, steps = begun(path), [step(i) for i in range(5)]
    for each in steps:
        journal.do("cells", each)
    journal.undo("cells")
    journal.undo("cells")
    journal.redo("cells")
    journal.close()
    again = Journal(path)
    kept = again.layers["cells"]
    assert again.cut == 0
    assert kept.image == "image"
    assert numbers(again) == [0, 1, 2, 3]
    for found, original in zip([*kept.actions, *kept.undone], steps, strict=True):
        assert (found.kind, found.region) == (original.kind, original.region)
        assert (found.when, found.about) == (original.when, original.about)
        for name in ("before", "after", "vouched"):
            one, other = getattr(found, name).unpack(), getattr(original, name).unpack()
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    again.redo("cells")
    again.close()
    more = Journal(path)
    assert numbers(more) == [0, 1, 2, 3, 4]
    more.undo("cells")
    more.do("cells", step(9))
    more.close()
    last = Journal(path)
    assert numbers(last) == [0, 1, 2, 3, 9]
    assert not last.layers["cells"].undone
    last.close()


def test_what_changes_no_pixel_is_there_too(tmp_path: Path) -> None:
    journal, there = begun(tmp_path / "it.journal"), Runs.pack(np.ones((3, 3), np.uint16))
    tile = Action("confirm tile", (slice(1, 4), slice(5, 8)), there, there, Runs.pack(np.ones((3, 3), bool)))
    run = Action("segment", (slice(1, 4), slice(5, 8)), Runs.empty((3, 3), np.uint16), there)
    journal.do("cells", tile)
    journal.do("cells", run)
    journal.close()
    again = Journal(tmp_path / "it.journal")
    first, second = again.layers["cells"].actions
    assert first.after is first.before
    assert first.vouched.unpack().all()
    assert second.vouched is None
    again.close()


def test_layers_are_told_apart_begun_anew_and_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "it.journal"
    journal, other = begun(path), np.full((5, 6), 3, np.uint8)
    journal.do("cells", step(0))
    journal.begin("other", "image 2", Runs.pack(other))
    journal.do("cells", step(1))
    journal.undo("cells")
    journal.close()
    journal = Journal(path)
    expected = np.zeros(SHAPE, np.uint16)
    expected[step(0).region] = step(0).after.unpack()
    np.testing.assert_array_equal(journal.layers["cells"].now(), expected)
    np.testing.assert_array_equal(journal.layers["other"].now(), other)
    journal.begin("cells", "image", Runs.pack(np.ones(SHAPE, np.uint16)), [step(7)])
    journal.forget("other")
    journal.close()
    journal = Journal(path)
    assert list(journal.layers) == ["cells"]
    assert numbers(journal) == [7]
    assert journal.layers["cells"].now()[0, 0] == 1
    journal.close()


def test_wherever_the_file_ends_the_whole_records_stand_and_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "it.journal"
    journal = begun(path)
    start = path.stat().st_size
    ends = [start]
    for i in range(3):
        journal.do("cells", step(i))
        ends.append(path.stat().st_size)
    journal.close()
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        journal = Journal(path)
        assert journal.damaged is None, "a kill leaves that"
        assert journal.cut == length - max([0, *(e for e in (len(FIRST_LINE), *ends) if e <= length)])
        if length < start:
            assert not journal.layers
            journal.close()
            continue
        standing = sum(length >= end for end in ends[1:])
        assert numbers(journal) == list(range(standing))
        journal.do("cells", step(7))
        journal.close()
        again = Journal(path)
        assert numbers(again) == [*range(standing), 7]
        again.close()


@given(st.data())
def test_wherever_bytes_rot_what_comes_before_stands_and_all_of_it_is_kept(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "it.journal"
        journal, ends = begun(path), [path.stat().st_size]
        for i in range(4):
            journal.do("cells", replace(step(i), when=float(i)))  # the same bytes each time
            ends.append(path.stat().st_size)
        journal.close()
        whole = path.read_bytes()
        begin = data.draw(st.integers(len(FIRST_LINE), len(whole) - 1))
        bad = data.draw(st.integers(1, 255).map(lambda bit: bytes([whole[begin] ^ bit])) | st.binary(min_size=1))
        bad = bad[: len(whole) - begin]
        assume(bad[:1] != whole[begin : begin + 1])
        damaged = whole[:begin] + bad + whole[begin + len(bad) :]
        path.write_bytes(damaged)
        standing = sum(end <= begin for end in ends)  # records
        for again in range(2):
            journal = Journal(path)
            assert (numbers(journal) if standing else []) == list(range(standing - 1))
            assert (journal.cut > 0) == (again == 0)
            follow = begin + len(bad) < ends[-2]  # else a kill may look like that: the last record is no more
            if follow or len(bad) == 1:
                assert journal.damaged is not None
                assert journal.damaged.read_bytes() == damaged
            journal.close()
        assert len(list(path.parent.iterdir())) <= 2


def test_each_damage_has_a_copy_of_its_own(tmp_path: Path) -> None:
    path, copies = tmp_path / "it.journal", []
    for number in range(3):
        journal = Journal(path) if number else begun(path)
        for i in range(3):
            journal.do("cells", step(i))
        journal.close()
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        copies.append(bytes(data))
        journal = Journal(path)
        assert journal.damaged is not None
        assert journal.damaged.suffix == DAMAGED
        assert journal.damaged.read_bytes() == bytes(data)
        journal.close()
    assert sorted(copies) == sorted(each.read_bytes() for each in tmp_path.iterdir() if each != path)


def test_where_no_copy_can_be_made_nothing_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "it.journal"
    journal = begun(path)
    journal.do("cells", step(0))
    journal.close()
    data = path.read_bytes()[:-1] + b"!"
    path.write_bytes(data)
    with monkeypatch.context() as broken:
        broken.setattr("napari_unet.store.journal.write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            Journal(path)
    assert path.read_bytes() == data
    Journal(path).close()


@pytest.mark.skipif(sys.platform == "win32", reason="the lock is another one there")
@pytest.mark.parametrize(
    ("error", "says"),
    [("ENOLCK", ""), ("ENOTSUP", ""), ("ENOSYS", ""), ("EAGAIN", "open in another"), ("EACCES", "open in another"),
     ("EIO", "EIO"), ("ESTALE", "ESTALE")],
)  # fmt: skip
def test_only_a_disk_without_locks_does_without(
    error: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, error), error)

    path = tmp_path / "it.journal"
    begun(path).close()
    monkeypatch.setattr("fcntl.flock", refuse)
    if says:
        with pytest.raises((OSError, DataError), match=says):
            Journal(path)
    else:
        Journal(path).close()


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    with pytest.raises(DataError, match=r"'notes.txt' is no journal of this version"):
        Journal(path)
    assert path.read_text() == "my notes"
    with pytest.raises(DataError, match="cannot be opened"):
        Journal(tmp_path / "nowhere" / "it.journal")


def test_a_journal_that_is_being_written_is_opened_by_nobody_else(tmp_path: Path) -> None:
    journal = begun(tmp_path / "it.journal")
    with pytest.raises(DataError, match="open in another program"):
        Journal(tmp_path / "it.journal")
    journal.do("cells", step(0))
    journal.close()
    again = Journal(tmp_path / "it.journal")
    assert numbers(again) == [0]
    again.close()


def test_an_action_that_finds_the_disk_full_is_not_there_and_the_next_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    journal = begun(tmp_path / "it.journal")
    journal.do("cells", step(0))
    for fails in (lambda: journal.do("cells", step(1)), lambda: journal.undo("cells")):
        with monkeypatch.context() as broken:
            broken.setattr("napari_unet.store.journal._sync", full)
            with pytest.raises(OSError, match="No space left"):
                fails()
    journal.do("cells", step(2))
    journal.close()
    again = Journal(tmp_path / "it.journal")
    assert (numbers(again), again.cut) == ([0, 2], 0)
    again.close()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_journal import begun, step
journal = begun(Path({path!r}))
for i in range(100_000):
    journal.do("cells", step(i))
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
