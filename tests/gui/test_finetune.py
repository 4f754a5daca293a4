"""The model learns from corrections while the user looks on; keep, discard, pause, stop, and a clean end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet.errors import DataError
from napari_unet.gui import finetune_section, models, runs, worker
from napari_unet.gui.finetune_section import is_better, verdict
from napari_unet.jobs import Progress
from napari_unet.learn import evaluate
from napari_unet.learn.metrics import score_instances, summarise
from napari_unet.learn.train import TrainResult


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Disks and their labels, large enough for held-out cells."""
    y, x = np.mgrid[:256, :256] % 32 - 16
    inside = np.hypot(y, x) < 9
    numbers = (np.mgrid[:256, :256] // 32 * np.array([8, 1])[:, None, None]).sum(0) + 1
    return np.where(inside, 200, 20).astype(np.uint8), np.where(inside, numbers, 0).astype(np.uint32)


def scores(share: float):
    """Scores of a set in which this share of ten objects was found."""
    truth = np.repeat(np.arange(1, 11, dtype=np.uint32), 20)
    found = np.where(truth <= round(10 * share), truth, 0)
    return summarise([score_instances(truth, found)])


@pytest.fixture
def corrected(desk, monkeypatch: pytest.MonkeyPatch):
    """A dock with an image of which everything is confirmed."""
    for tried in ("FOREGROUNDS", "SEEDS", "BOUNDARIES"):
        monkeypatch.setattr(evaluate, tried, (0.5,))  # the choice of thresholds is not what is tested here
    image, labels = scene()
    at = desk(image)
    at.click(at.dock.correct.empty)
    at.session.labels.data[:] = labels
    at.session.labels.refresh()
    at.viewer.reset_view()
    at.wait(lambda: at.session.labels.corner_pixels.tolist() == [[0, 0], [255, 255]])
    at.press(Qt.Key.Key_T)
    at.dock.finetune.settings.set("steps", 2)
    at.dock.finetune.settings.set("batch", 1)
    return at


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch):
    """Learning that takes as many steps as it is let go, and ends with the scores that it is given."""

    class Staged:
        gate = threading.Event()
        before, after = scores(0.5), scores(0.8)
        least = 1  # steps
        corrections = None

    def learn(entry, corrections, settings, stop, preview):
        Staged.corrections = corrections
        model = entry.get()
        step = 0
        while not Staged.gate.is_set() and not stop():
            time.sleep(0.01)
            step += 1
            yield Progress(min(step, 99), 100, "steps", {"loss": 1 / step})
        yield Progress(100, 100, "steps", {"loss": 0.1, "score": 0.8})
        ended = "Stopped at step 5 of 100." if stop() else ""
        return TrainResult(replace(model, name="learned"), Staged.before, Staged.after, max(step, Staged.least), ended)

    monkeypatch.setattr(runs, "learn", learn)
    return Staged


def begin(at) -> None:
    at.click(at.dock.finetune.start)
    at.wait(lambda: at.dock.finetune.curve is not None and at.dock.finetune.curve.points("loss") > 0)


def test_it_really_learns_and_is_kept(corrected, own_folder) -> None:
    at = corrected
    parent = at.session.model
    before = parent.get().version
    at.click(at.dock.finetune.start)
    at.wait()
    result = at.session.result
    assert result.steps == 2
    assert parent.get().version == before
    assert at.dock.finetune.curve.points("loss") == 2
    assert "held-out objects" in at.dock.finetune.verdict.text()
    assert at.dock.next_step() == 3
    at.click(at.dock.finetune.keep)
    assert at.session.model.name == "tiny · 1"
    at.wait()
    assert at.session.model.path == own_folder / "tiny · 1.unet"
    assert at.session.model.path.is_file()
    assert at.dock.next_step() == 1
    labels = at.session.labels.data.copy()
    at.click(at.dock.finetune.again)
    at.wait()
    np.testing.assert_array_equal(at.session.labels.data, labels, err_msg="all of it was confirmed")
    assert not at.dock.finetune.again.isVisibleTo(at.dock)
    assert not at.session.unlearned, "a run of the model is no correction"


def test_pause_paint_and_stop(corrected, staged) -> None:
    at, section = corrected, corrected.dock.finetune
    begin(at)
    assert not at.dock.segment.start.isEnabled()
    at.click(section.pause)
    at.qtbot.wait(100)
    points = section.curve.points("loss")
    at.click(at.dock.correct.tools.new)
    at.paint((20, 20), (60, 60))
    assert at.session.annotation.strokes == 1
    assert section.curve.points("loss") == points, "it waits"
    assert staged.corrections[0].labels.max() == 64, "it learns from what was there when it began"
    at.click(section.pause)
    at.wait(lambda: section.curve.points("loss") > points)
    at.click(section.stop)
    at.wait()
    assert at.session.result is not None
    assert "Stopped at step 5" in section.note.text()


def test_the_time_left_is_said_and_a_pause_does_not_count(corrected, staged, monkeypatch) -> None:
    at, section, clock, steps = corrected, corrected.dock.finetune, [0.0], threading.Semaphore(0)

    def learn(entry, corrections, settings, stop, preview):
        for step in range(1, 101):
            while not steps.acquire(timeout=0.01):
                if stop():
                    return TrainResult(entry.get(), None, None, step, "Stopped.")
            yield Progress(step, 100, "steps", {"loss": 1.0})

    def go(step: int) -> None:
        clock[0] += 2
        steps.release()
        at.wait(lambda: section.bar.value() == step)

    monkeypatch.setattr(runs, "learn", learn)
    monkeypatch.setattr(finetune_section.time, "monotonic", lambda: clock[0])
    at.click(section.start)
    go(1)
    assert section.bar.text() == "step 1 of 100"
    for step in range(2, 9):
        go(step)
    assert section.bar.text() == "step 8 of 100 · about 3 min left"
    at.click(section.pause)
    clock[0] += 100_000
    go(9)  # the step that was under way
    clock[0] += 100_000
    at.click(section.pause)
    for step in (10, 11):
        go(step)
    assert section.bar.text() == "step 11 of 100 · about 3 min left"
    at.click(section.stop)
    at.wait()


@pytest.mark.parametrize("what", ["dock", "viewer"])
def test_a_result_that_nobody_judged_is_saved_at_the_end(corrected, staged, own_folder, qtbot, what: str) -> None:
    at = corrected
    staged.gate.set()
    at.click(at.dock.finetune.start)
    at.wait()
    staged.gate.clear()
    assert at.session.result is not None
    if what == "dock":
        at.viewer.window.remove_dock_widget(at.dock)
        at.dock.deleteLater()
    else:
        with qtbot.waitSignal(at.dock.destroyed, timeout=20_000):
            at.viewer.close()
    assert [path.stem for path in own_folder.iterdir()] == ["tiny · 1 (not judged)"]
    entry = models.known_models()[0]
    assert (entry.name, entry.get().name) == ("tiny · 1 (not judged)", "tiny · 1 (not judged)")


def test_an_end_without_room_on_the_disk(corrected, staged, own_folder) -> None:
    own_folder.parent.mkdir(exist_ok=True)
    own_folder.write_text("a file, where the folder should be")
    staged.gate.set()
    corrected.click(corrected.dock.finetune.start)
    corrected.wait()
    staged.gate.clear()
    corrected.viewer.window.remove_dock_widget(corrected.dock)
    assert corrected.session.closed
    corrected.dock.deleteLater()


def test_what_was_discarded_is_not_saved(corrected, staged, own_folder) -> None:
    staged.gate.set()
    corrected.click(corrected.dock.finetune.start)
    corrected.wait()
    staged.gate.clear()
    corrected.click(corrected.dock.finetune.discard)
    corrected.viewer.window.remove_dock_widget(corrected.dock)
    assert not own_folder.exists()
    corrected.dock.deleteLater()


def test_stop_ends_a_pause(corrected, staged) -> None:
    begin(corrected)
    corrected.click(corrected.dock.finetune.pause)
    corrected.click(corrected.dock.finetune.stop)
    corrected.wait()
    assert corrected.session.result is not None


def test_worse_is_discarded(corrected, staged) -> None:
    at, section = corrected, corrected.dock.finetune
    staged.before, staged.after = scores(0.8), scores(0.5)
    staged.gate.set()
    parent = at.session.model
    at.click(section.start)
    at.wait()
    assert "worse" in section.verdict.text()
    assert section.discard.property("primary")
    assert not section.keep.property("primary")
    at.click(section.discard)
    assert at.session.model is parent
    assert at.session.result is None
    assert section.start.isEnabled()
    staged.gate.clear()


def test_what_took_no_step_is_not_offered(corrected, staged) -> None:
    at, section = corrected, corrected.dock.finetune
    staged.least = 0
    staged.gate.set()
    at.click(section.start)
    at.wait()
    assert at.session.result is None
    assert "Nothing was learned" in section.verdict.text()
    assert at.session.unlearned, "the corrections still wait"
    staged.least = 1
    at.click(section.start)
    at.wait()
    assert at.session.result is not None
    assert not at.session.unlearned


def test_the_child_is_named_after_the_model_that_learned(corrected, staged) -> None:
    at, section = corrected, corrected.dock.finetune
    staged.gate.set()
    at.click(section.start)
    at.wait()
    at.session.set_model(models.ModelEntry("other", at.session.model.path))
    at.click(section.keep)
    assert at.session.model.name == "tiny · 1"
    at.wait()


def test_a_folder_that_cannot_be_written(corrected, staged, told, own_folder) -> None:
    at = corrected
    own_folder.parent.mkdir(exist_ok=True)
    own_folder.write_text("a file, where the folder should be")
    staged.gate.set()
    at.click(at.dock.finetune.start)
    at.wait()
    at.click(at.dock.finetune.keep)
    at.wait()
    assert "could not be written" in told[0]
    assert at.session.model.name == "tiny · 1", "it can be used all the same"
    staged.gate.clear()


def test_what_cannot_be_learned_from_is_said(desk, told) -> None:
    """Corrections of an image that became another one do not fit."""
    at = desk(scene()[0], show=False)
    assert not at.dock.finetune.start.isEnabled()
    at.click(at.dock.correct.empty)
    at.session.labels.paint((5, 5), 1)
    at.dock.finetune.settings.set("batch", 1)
    at.dock.finetune.settings.set("steps", 1)
    at.session.labels.paint((5, 5), 0)
    at.viewer.layers["cells"].data = scene()[0][:100]
    assert at.session.labels is None, "labels of another shape are not those of the image"
    assert at.dock.finetune.start.isEnabled(), "they may be those of another image again"
    at.dock.finetune.learn()
    at.wait()
    assert at.session.result is None
    assert "Nothing is corrected" in told[0]


def test_an_untrained_model_is_taught(corrected) -> None:
    at = corrected
    at.session.set_model(next(e for e in at.session.models if e.name == models.UNTRAINED))
    at.click(at.dock.finetune.start)
    at.wait()
    at.click(at.dock.finetune.keep)
    assert at.session.model.name == "own · 1"
    at.wait()


def test_everything_goes_away_while_it_learns(corrected, staged) -> None:
    at = corrected
    begin(at)
    at.viewer.layers.clear()
    staged.gate.set()
    at.wait()
    assert at.session.result is not None
    at.click(at.dock.finetune.keep)
    at.wait()
    staged.gate.clear()


@pytest.mark.parametrize("paused", [False, True])
def test_the_viewer_is_closed_while_it_learns(corrected, staged, qtbot, paused: bool) -> None:
    begin(corrected)
    if paused:
        corrected.click(corrected.dock.finetune.pause)
    with qtbot.waitSignal(corrected.dock.destroyed, timeout=20_000):
        corrected.viewer.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("napari-unet")]


@pytest.fixture
def proposed(desk, monkeypatch: pytest.MonkeyPatch):
    """A dock with all of an image in view, in which a run has found 64 objects of the same size."""
    from napari_unet.infer import segment

    image, labels = scene()

    def job(*_: object, **__: object):
        yield Progress(1, 1, "tiles")
        return segment.Segmentation(labels, (), 0.0)

    monkeypatch.setattr(segment, "segment_job", job)
    at = desk(image)
    at.segment()
    at.viewer.reset_view()
    at.wait(lambda: at.session.labels.corner_pixels.tolist() == [[0, 0], [255, 255]])
    return at


def delete(at, *objects: tuple[int, int]) -> None:
    """Click objects, told by their row and column, with the bucket and number 0."""
    at.session.labels.selected_label = 0
    if str(at.session.labels.mode) != "fill":
        at.more()
        at.click(at.dock.correct.tools.napari["fill"])
    for y, x in objects:
        at.paint((16 + 32 * y, 16 + 32 * x))


def test_what_was_changed_of_a_tile_is_said_when_it_is_called_right(proposed, staged) -> None:
    at, line = proposed, proposed.dock.finetune.worth
    delete(at, (0, 0), (3, 4))
    assert len(np.unique(at.session.labels.data)) == 63
    assert not line.isVisibleTo(at.dock), "a stroke alone tells nothing"
    at.press(Qt.Key.Key_T)
    assert line.isVisibleTo(at.dock)
    assert line.text() == "In the last 64 objects you changed 3 % of the pixels: more corrections will change little."
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not line.isVisibleTo(at.dock), "the mark was taken back"
    delete(at, (5, 5), (7, 7))
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    delete(at, (6, 6))
    at.press(Qt.Key.Key_T)
    delete(at, (1, 1), (1, 2))
    assert line.text() == "In the last 64 objects you changed 6 % of the pixels: more corrections will help."
    begin(at)
    at.click(at.dock.finetune.stop)
    at.wait()
    assert line.text() == "In the last 64 objects you changed 9 % of the pixels: more corrections will help.", (
        "as it was learned"
    )
    at.click(at.dock.finetune.keep)
    at.wait()
    for _ in range(3):
        at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    delete(at, (2, 2))
    at.press(Qt.Key.Key_T)
    assert "64 objects you changed 9 %" in line.text(), "what was learned from is not counted again"


def test_another_model_is_reviewed_anew(proposed, staged) -> None:
    at, line, first = proposed, proposed.dock.finetune.worth, proposed.session.model
    other = models.ModelEntry("other", first.path)
    delete(at, (0, 0), (3, 4))
    at.press(Qt.Key.Key_T)
    said = line.text()
    assert "change little" in said
    at.session.set_model(other)
    assert line.text() == "", "nothing was learned from yet"
    at.session.set_model(first)
    assert line.text() == said
    begin(at)
    at.click(at.dock.finetune.stop)
    at.wait()
    at.click(at.dock.finetune.keep)
    at.wait()
    assert line.text() == said, "the child goes on"
    at.session.set_model(other)
    assert line.text() == "", "of what was learned from neither"
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    at.press(Qt.Key.Key_T)
    assert line.text() == "", "the labels are not of the other model"


@pytest.mark.parametrize("why", ["no step", "error"])
def test_a_training_that_learned_nothing_leaves_the_reviews(proposed, staged, told, monkeypatch, why: str) -> None:
    at, line, learn = proposed, proposed.dock.finetune.worth, runs.learn

    def fail(*_: object):
        yield Progress(0, 1, "getting ready")
        raise DataError("There is too little to learn from.")

    delete(at, (0, 0), (3, 4))
    at.press(Qt.Key.Key_T)
    said, reviews = line.text(), at.session.annotation.reviews()
    staged.least = 0
    staged.gate.set()
    monkeypatch.setattr(runs, "learn", fail if why == "error" else learn)
    at.click(at.dock.finetune.start)
    at.wait()
    assert at.session.result is None
    assert len(told) == (why == "error")
    assert at.session.annotation.reviews() == reviews
    assert line.text() == said
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert line.text() == "", "it counts no tile that is not right any more"
    at.press(Qt.Key.Key_T)
    assert line.text() == said, "and the tile may be called right anew"
    staged.least = 1
    monkeypatch.setattr(runs, "learn", learn)
    at.click(at.dock.finetune.start)
    at.wait()
    staged.gate.clear()
    assert at.session.annotation.reviews() == []
    assert line.text() == said, "counted once"


def test_a_tile_that_is_called_right_while_the_model_learns_waits_for_the_next_round(proposed, staged) -> None:
    at, line = proposed, proposed.dock.finetune.worth
    delete(at, (0, 0), (3, 4))
    begin(at)
    at.press(Qt.Key.Key_T)
    said, reviews = line.text(), at.session.annotation.reviews()
    assert "change little" in said
    at.click(at.dock.finetune.stop)
    at.wait()
    assert at.session.annotation.reviews() == reviews
    at.click(at.dock.finetune.keep)
    at.wait()
    assert at.session.annotation.reviews() == reviews
    assert line.text() == said


def test_labels_from_elsewhere_say_nothing_about_the_model(desk) -> None:
    image, labels = scene()
    at = desk(image)
    at.viewer.add_labels(labels, name="yesterday")
    at.dock.correct.which.setCurrentIndex(0)
    at.dock.correct.which.activated.emit(0)
    assert at.session.labels.name == "yesterday"
    at.press(Qt.Key.Key_T)
    assert at.session.annotation.tiles == 1
    assert not at.dock.finetune.worth.isVisibleTo(at.dock)


def test_the_loop_stays_free_while_it_learns(corrected, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main loop turns between the steps, at the priority that a worker really has."""
    from qtpy.QtCore import QTimer

    from napari_unet import jobs

    monkeypatch.setattr(worker, "lower_priority", jobs.lower_priority)
    at, seen = corrected, set()

    def turn() -> None:
        if at.session.busy == "learn":
            seen.add(at.dock.finetune.curve.points("loss"))

    at.dock.finetune.settings.set("steps", 20)
    timer = QTimer()
    timer.timeout.connect(turn)
    at.click(at.dock.finetune.start)
    at.wait(lambda: at.dock.finetune.curve.points("loss") > 1)
    timer.start(5)
    at.wait()
    timer.stop()
    assert len(seen) > 1, "it turned while one step followed another"


@pytest.mark.parametrize(
    ("before", "after", "words", "better"),
    [
        (scores(0.5), scores(0.8), "before 0.50, after 0.80 on 10 held-out objects", True),
        (scores(0.5), scores(0.5), "before 0.50, after 0.50", True),
        (scores(1.0), scores(1.0), "it had little to learn", True),
        (scores(0.8), scores(0.5), "worse", False),
        (scores(1.0), scores(0.9), "correct where it is wrong", False),
        (None, None, "Too little", True),
    ],
)
def test_verdict(before, after, words: str, better: bool) -> None:
    assert words in verdict(before, after)
    assert is_better(before, after) is better


def test_few_objects_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_section, "FEW", 11)
    assert "chance" in verdict(scores(0.5), scores(0.8))
