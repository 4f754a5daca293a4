"""The journal of a session holds what was done, however the session ended."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Labels

from napari_unet.gui import journals
from napari_unet.gui.journals import SessionJournal
from napari_unet.gui.leftovers import Leftovers
from napari_unet.gui.marks import Mark
from napari_unet.gui.strokes import Annotation
from napari_unet.jobs import run
from napari_unet.learn.corrections import State
from napari_unet.store.actions import Action
from napari_unet.store.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE = (64, 64)


def annotated(journal: SessionJournal, name: str = "cells_unet_labels", image: str = "cells") -> Annotation:
    annotation = Annotation(Labels(np.zeros(SHAPE, np.uint32), name=name))
    annotation.page = journal.page(annotation, image)
    return annotation


def leftovers() -> Leftovers:
    left = Leftovers()
    run(left.read())
    return left


def files() -> list[Path]:
    return sorted(journals.folder().iterdir()) if journals.folder().exists() else []


def crash(journal: SessionJournal) -> None:
    """As if the program were killed: the file is closed, and nothing else is done."""
    assert journal._file is not None
    journal._file.close()


def test_nothing_is_written_before_something_is_done() -> None:
    journal = SessionJournal()
    annotation = annotated(journal)
    assert not files()
    annotation.layer.paint((5, 5), 3)
    assert [path.suffix for path in files()] == [journals.SUFFIX]
    journal.end()
    annotation.layer.paint((9, 9), 3)  # after the end
    left = leftovers()
    (kept,) = left.of("cells", SHAPE)
    assert len(kept.actions) == 1, "nobody knows whether it was saved"
    left.settle([kept])
    left.close()
    assert [path.suffix for path in files()] == [journals.ENDED]


def test_a_session_in_which_no_hand_did_anything_is_not_offered() -> None:
    journal = SessionJournal()
    annotation = annotated(journal)
    old = annotation.layer.data
    action = Action.between("segment", (slice(0, 64),) * 2, old, np.ones_like(old))
    assert action is not None
    annotation.run(action, np.ones_like(old))
    assert [path.suffix for path in files()] == [journals.SUFFIX]
    journal.end()
    assert [path.suffix for path in files()] == [journals.ENDED]


def test_what_was_done_is_left_over_after_a_crash() -> None:
    journal = SessionJournal()
    annotation, other = annotated(journal), annotated(journal, image="others")
    other.layer.paint((1, 1), 1)
    annotation.layer.paint((5, 5), 3)
    annotation.layer.paint((30, 30), 4)
    annotation.layer.undo()
    annotation.mark(Mark(State.CONFIRMED, (slice(0, 9), slice(0, 9))))
    running = leftovers()
    assert not running.of("cells", SHAPE), "the session goes on"
    running.close()
    crash(journal)
    left = leftovers()
    assert not left.of("cells", (9, 9))
    assert not left.of("something else", SHAPE)
    (kept,) = left.of("cells", SHAPE)
    assert [action.kind for action in kept.actions] == ["stroke", "confirm tile"]
    np.testing.assert_array_equal(kept.now(), annotation.layer.data)
    assert not leftovers().of("cells", SHAPE), "only one program offers it"
    again = Annotation(Labels(kept.now()), done=kept.actions)
    np.testing.assert_array_equal(again.state(), annotation.state())
    assert (again.strokes, again.tiles) == (1, 1)
    left.settle([kept])
    left.close()
    left = leftovers()
    assert not left.of("cells", SHAPE)
    (kept,) = left.of("others", SHAPE)
    left.settle([kept])
    assert [path.suffix for path in files()] == [journals.ENDED]
    left.close()


def test_labels_that_got_other_data_are_left_over_as_they_are_then() -> None:
    journal = SessionJournal()
    annotation = annotated(journal)
    layer = annotation.layer
    layer.paint((5, 5), 3)
    layer.paint((30, 30), 4)
    annotation.mark(Mark(State.CONFIRMED, (slice(0, 9), slice(0, 9))))
    other = layer.data.copy()
    other[28:] = 0
    layer.data = other
    layer.paint((50, 50), 7)
    crash(journal)
    left = leftovers()
    (kept,) = left.of("cells", SHAPE)
    np.testing.assert_array_equal(kept.now(), layer.data)
    again = Annotation(Labels(kept.now()), done=kept.actions)
    np.testing.assert_array_equal(again.state(), annotation.state())
    assert (again.strokes, again.tiles) == (annotation.strokes, annotation.tiles) == (3, 1)
    again.undo()
    assert not again.undoes, "what was before the other data cannot be taken back"
    left.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Labels are packed in a thread, and not before this is set."""
    go, pack = threading.Event(), journals._packing

    def waiting(what):
        go.wait(60)
        return (yield from pack(what))

    monkeypatch.setattr(journals, "is_large", lambda layer, region: True)
    monkeypatch.setattr(journals, "_packing", waiting)
    yield go
    go.set()


def records(journal: SessionJournal, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written into the file from now on."""
    said: list[str] = []
    append = Journal._append

    def appended(file, header, runs, **how):
        said.append(next(iter(header)))
        return append(file, header, runs, **how)

    monkeypatch.setattr(Journal, "_append", appended)
    return said


def test_what_is_done_while_labels_are_packed_follows_them_in_order(slow, qtbot, monkeypatch) -> None:
    journal = SessionJournal()
    said = records(journal, monkeypatch)
    layer = Labels(np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.uint32), name="labels")
    first, annotation = layer.data.copy(), Annotation(layer)
    annotation.page = journal.page(annotation, "cells")
    layer.paint((5, 5), 13)
    layer.paint((6, 6), 14)
    layer.undo()
    layer.paint((7, 9), 15)
    layer.paint((30, 30), 16)
    layer.undo()
    assert not said
    slow.set()
    qtbot.waitUntil(lambda: len(said) > 0)
    assert said == ["begin", "do", "do", "undo", "do", "do", "undo"]
    layer.redo()
    crash(journal)
    left = leftovers()
    (kept,) = left.of("cells", SHAPE)
    np.testing.assert_array_equal(kept.labels.unpack(), first)
    np.testing.assert_array_equal(kept.now(), layer.data)
    assert len(kept.actions) == 3
    left.close()


def test_labels_that_are_replaced_again_and_again_are_written_once(qtbot, monkeypatch) -> None:
    journal = SessionJournal()
    annotation = annotated(journal)
    layer = annotation.layer
    layer.paint((5, 5), 3)
    said, known = records(journal, monkeypatch), annotation.state()
    for i in range(50):
        other = layer.data.copy()
        other[40, i] = i + 1
        layer.data = other
        qtbot.wait(2)
    assert not said
    layer.paint((50, 50), 7)
    assert said == ["begin", "do", "do"], "what was known is a stroke, then comes the new one"
    qtbot.waitUntil(lambda: not annotation.page._rest.isActive())
    layer.data = layer.data + (layer.data == 0).astype(np.uint32)
    said.clear()
    qtbot.waitUntil(lambda: len(said) > 0)
    assert said == ["begin", "do"], "they rest"
    crash(journal)
    left = leftovers()
    (kept,) = left.of("cells", SHAPE)
    np.testing.assert_array_equal(kept.now(), layer.data)
    assert (Annotation(Labels(kept.now()), done=kept.actions).state()[known > 0] == State.PAINTED).all()
    left.close()


def test_labels_come_to_the_journal_also_where_they_are_replaced_all_the_time(slow, qtbot, monkeypatch) -> None:
    slow.set()
    journal = SessionJournal()
    annotation = annotated(journal)
    qtbot.waitUntil(lambda: annotation.page._worker is None)
    slow.clear()
    layer = annotation.layer
    layer.paint((5, 5), 3)
    said = records(journal, monkeypatch)
    for i in range(5):
        layer.data = layer.data.copy()
        layer.paint((50, 9 * i), 7 + i)
    slow.set()
    qtbot.waitUntil(lambda: said.count("begin") == 2)
    assert said == ["begin", "do", "do"] * 2, "the first that was packed, and the last"
    crash(journal)
    left = leftovers()
    (kept,) = left.of("cells", SHAPE)
    np.testing.assert_array_equal(kept.now(), layer.data)
    again = Annotation(Labels(kept.now()), done=kept.actions)
    np.testing.assert_array_equal(again.state(), annotation.state())
    assert again.strokes == annotation.strokes == 6
    left.close()


def test_labels_that_are_read_while_the_hand_paints_are_read_again(slow, qtbot, monkeypatch) -> None:
    journal = SessionJournal()
    annotation = annotated(journal)
    layer, said = annotation.layer, records(journal, monkeypatch)
    layer._begin_stroke()
    layer.paint((5, 5), 3)
    slow.set()
    qtbot.waitUntil(lambda: annotation.page._worker is None)
    layer.paint((15, 5), 3)
    layer._commit_stroke()
    qtbot.waitUntil(lambda: len(said) > 0)
    layer.undo()
    assert said == ["begin", "do", "undo"]
    layer.paint((25, 25), 3)
    crash(journal)
    left = leftovers()
    (kept,) = left.of("cells", SHAPE)
    assert not kept.labels.unpack().any()
    np.testing.assert_array_equal(kept.now(), layer.data)
    left.close()


def test_a_session_ends_while_labels_are_packed(slow, qtbot) -> None:
    journal = SessionJournal()
    annotation = annotated(journal)
    annotation.layer.paint((5, 5), 3)
    slow.set()
    journal.end()
    assert annotation.page._worker is None


@pytest.mark.parametrize("fails", ["folder", "disk"])
def test_without_a_journal_the_work_goes_on(fails: str, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    if fails == "folder":
        journals.folder().parent.mkdir(parents=True, exist_ok=True)
        journals.folder().write_text("no folder")
    journal = SessionJournal()
    annotation = annotated(journal)
    with monkeypatch.context() as broken:
        if fails == "disk":
            broken.setattr("napari_unet.store.journal._sync", full)
        for i in range(3):
            annotation.layer.paint((5, 5 + 9 * i), 3)
    annotation.undo()
    assert annotation.strokes == 2
    assert len(told) == 1
    assert "cannot be written" in told[0]
    journal.end()


def test_a_session_ends_while_what_is_left_over_is_read(qtbot) -> None:
    journal = SessionJournal()
    annotated(journal).layer.paint((5, 5), 3)
    crash(journal)
    left = Leftovers()
    left.start()
    left.close()
    assert left._worker.join(0)
    assert not left._worker._timer.isActive()
    left = leftovers()
    assert left.of("cells", SHAPE), "nobody holds it"
    left.close()


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from napari.components import ViewerModel
from napari_unet.gui import models
from napari_unet.gui.session import Session

folder = Path(sys.argv[1])
models.shipped = list
models.Path = Path
for kill in range(10):
    models.folder = lambda: folder / str(kill) / "models"
    said, say = os.pipe()
    child = os.fork()
    if not child:
        viewer = ViewerModel()
        viewer.add_image(np.zeros((64, 64)), name="cells")
        session = Session(viewer)
        labels = viewer.add_labels(np.zeros((64, 64), np.uint32))
        session.set_labels(labels)
        for i in range(10**6):
            with labels.block_history():
                for j in range(3):
                    labels.paint((7 * i % 64, (i + j) % 64), i + 1)
            os.write(say, b".")
        os._exit(0)
    os.close(say)
    done = 0
    while done < 5 + 7 * kill:
        done += len(os.read(said, 1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(said, 1000):
        done += len(more)
    print(done)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the sessions are made by fork")
def test_no_stroke_that_was_painted_is_lost_in_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = [sys.executable, "-c", KILLED, str(tmp_path)]
    said = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()
    assert len(said) == 10
    for kill, count in enumerate(map(int, said)):
        monkeypatch.setattr(journals.models, "folder", lambda kill=kill: tmp_path / str(kill) / "models")
        left = leftovers()
        (kept,) = left.of("cells", SHAPE)
        assert len(kept.actions) in (count, count + 1)
        labels = Labels(np.zeros(SHAPE, np.uint32))
        for i in range(len(kept.actions)):
            for j in range(3):
                labels.paint((7 * i % 64, (i + j) % 64), i + 1)
        np.testing.assert_array_equal(kept.now(), labels.data)
        left.close()
