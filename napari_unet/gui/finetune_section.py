"""Step 4 of the dock: the model learns from the corrections, and the user keeps or discards what came out."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_unet.errors import ModelFileError
from napari_unet.gui import models, runs
from napari_unet.gui.forms import Form
from napari_unet.gui.look import Fold, Step, Theme, button, in_digits, label, reveal, row, say, set_property
from napari_unet.gui.pace import Pace, in_words
from napari_unet.gui.preview import Preview
from napari_unet.gui.versions import Versions
from napari_unet.learn.corrections import Corrections
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.stopping import Review, advice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet.gui.curve import Curve
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.session import Session
    from napari_unet.gui.steps import Lesson
    from napari_unet.gui.strokes import Annotation
    from napari_unet.jobs import Progress
    from napari_unet.learn.metrics import Scores
    from napari_unet.learn.train import TrainResult
    from napari_unet.model import Model

SETTINGS = ("steps", "batch", "learning_rate", "device")
AGREED = 0.98  # score from which the held-out corrections are hardly corrections
PATIENCE = 2.0  # seconds that the end waits for a model to be saved; it takes a tenth of one
FEW = 10  # held-out objects: with fewer a difference may be chance


class FinetuneSection(Step):
    """Starts, shows and ends the learning.

    Parameters
    ----------
    session : Session
        What the sections share.
    segment_again : callable
        What the button after Keep does.
    """

    def __init__(self, session: Session, segment_again: Callable[[], object]) -> None:
        super().__init__(4, "Fine-tune")
        self.session = session
        self._stop = Event()
        self._stepped = False
        self._pace = Pace()
        self._parent: ModelEntry | None = None  # the model that learns, or has learned
        self._theme: Theme | None = None
        self._reviews: dict[ModelEntry, list[Review]] = {}  # of tiles that were learned from; a child has its parent's
        self.curve: Curve | None = None
        self.worth = label("", "quiet")
        self.worth.setToolTip(
            "Counted in all tiles that you called right, before the model learns from them: how much of their objects\n"
            "you changed. It tells how good the model is on what it has not seen, and so whether to go on."
        )
        self.start = button(
            "Fine-tune",
            "The model learns in the background from all that you painted or confirmed, in all images.\n"
            "Go on painting meanwhile: new strokes count in the next round.",
            self.learn,
            primary=True,
        )
        self.pause = button("Pause", "Let the processor rest; go on later.", self._pause)
        self.stop = button("Stop", "End now and keep the best so far.", self._end)
        self.bar = QProgressBar()
        self.note = label("", "quiet")
        self.verdict = label()
        self.verdict.setToolTip(
            "AP at IoU .50: of all objects, true or found, the share that agree. 1.00 is all of them."
        )
        self.keep = button("Keep", "Go on with the new model; it is saved among your models.", self.keep_result)
        self.discard = button("Discard", "Go on with the model as it was.", self.discard_result)
        self.again = button("Segment again", "See what the new model makes of the image.", segment_again, primary=True)
        self.settings = Form(TrainSettings, SETTINGS, unset="by the corrections")
        self.preview = Preview(session)
        self.versions = Versions(session)
        self._lay_out()
        session.busy_changed.connect(self.show_state)
        session.corrections_changed.connect(self.show_state)
        session.model_changed.connect(self.show_state)
        session.result_changed.connect(self.show_state)
        session.progressed.connect(self._on_progress)
        self.show_state()

    def _lay_out(self) -> None:
        self.running, self.choice = QWidget(), QWidget()
        column = QVBoxLayout(self.running)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.bar)
        column.addLayout(row(self.pause, self.stop))
        self.choice.setLayout(row(self.keep, self.discard))
        self.plot = QVBoxLayout()
        self.column.addWidget(self.worth)
        self.column.addWidget(self.start)
        self.column.addWidget(self.running)
        self.column.addWidget(self.verdict)
        self.column.addWidget(self.choice)
        self.column.addWidget(self.again)
        self.column.addWidget(self.note)
        self.column.addWidget(self.preview)
        self.column.addLayout(self.plot)
        self.column.addWidget(Fold("Versions", self.versions))
        self.column.addWidget(Fold("More", self.settings.native))

    def set_theme(self, theme: Theme) -> None:
        """Colour the curve and the versions."""
        self._theme = theme
        self.versions.set_theme(theme)
        if self.curve is not None:
            self.curve.set_theme(theme)

    # ---- shows

    def show_state(self) -> None:
        """Show what can be done now."""
        session = self.session
        running, result = session.busy == "learn", session.result
        ready = bool(session.annotated()) and session.model is not None
        self.start.setVisible(not running and result is None)
        self.start.setEnabled(ready and not session.busy)
        set_property(self.start, "primary", ready and session.unlearned)
        self.running.setVisible(running)
        self.pause.setText("Go on" if session.paused else "Pause")
        self.pause.setEnabled(not self._stop.is_set())
        self.stop.setEnabled(not self._stop.is_set())
        self.preview.setVisible(result is None)
        self.choice.setVisible(result is not None)
        self.keep.setEnabled(not session.busy)
        self.again.setVisible(session.learned and not session.busy and result is None)
        self._show_worth()
        if running and session.paused:
            say(self.note, "Paused.")
        elif not running and result is None and not session.learned and self.curve is None:
            say(
                self.note,
                "" if ready else "Correct something first: strokes and confirmed tiles are what it learns from.",
            )

    def _show_worth(self) -> None:
        """Say whether more corrections will change much; the reviews are counted when a tile is called right."""
        entry = self.session.model
        if entry is None or (entry.model is not None and entry.model.task != "instances"):
            say(self.worth, "")  # classes have no objects to count
            return
        new = [review for _, annotation in self.session.annotated() for review in annotation.reviews()]
        say(self.worth, advice([*self._reviews.get(entry, ()), *new]).message)

    def _on_progress(self, progress: Progress) -> None:
        if self.session.busy != "learn":
            return
        steps = progress.message == "steps"
        self._stepped |= steps and progress.done > 0
        if progress.message in ("scoring", "preview") and self._stepped:
            return  # between two steps: the bar stays with the steps
        if steps:
            self.bar.setRange(0, progress.total)
            self.bar.setValue(progress.done)
            if not self.session.paused:
                self._pace.step(progress.done, time.monotonic())
            left = in_words(self._pace.left(progress.total - progress.done))
            self.bar.setFormat(f"step {progress.done} of {progress.total}{' · ' * bool(left)}{left}")
            if self.curve is not None:
                self.curve.add(progress.done, progress.total, dict(progress.values))
        else:
            self.bar.setRange(0, progress.total if progress.total > 1 else 0)
            self.bar.setValue(progress.done)
            self.bar.setFormat("")
        if not self.session.paused and progress.message:
            words = (
                "Learning; go on painting if you like."
                if steps
                else f"{progress.message[:1].upper()}{progress.message[1:]} …"
            )
            say(self.note, "Stopping …" if self._stop.is_set() and steps else words)

    def _new_curve(self) -> None:
        if self.curve is None and self._theme is not None:
            from napari_unet.gui.curve import Curve

            self.curve = Curve(self._theme)
            self.plot.addWidget(self.curve)
        if self.curve is not None:
            self.curve.clear()
            self.curve.setVisible(True)

    # ---- does

    def learn(self) -> None:
        """Start to learn from a copy of all corrections as they are now."""
        session, entry = self.session, self.session.model
        if entry is None or session.busy or session.result is not None:
            return
        with session.told():
            settings = TrainSettings(**self.settings.values())
            corrections = self._corrections()
            lessons = [(annotation, annotation.lesson()) for _, annotation in session.annotated()]
            self._stop = stop = Event()
            self._stepped, self._pace, corrected = False, Pace(), session.corrected
            self._parent = entry
            say(self.verdict, "")
            self.bar.reset()
            self._new_curve()
            self.preview.begin(entry, settings.device)
            session.run(
                "learn",
                lambda: runs.learn(entry, corrections, settings, stop.is_set, self.preview.look),
                lambda result: self._on_learned(result, entry, corrected, lessons),
            )
            say(self.note, "Getting ready …")
            if self.curve is not None:
                reveal(self.curve)

    def _corrections(self) -> list[Corrections]:
        session, found = self.session, []
        for source, annotation in session.annotated():
            annotation.settle()
            if source.shape != tuple(annotation.layer.data.shape):
                continue
            channel, diameter = session.how(source.layer)
            found.append(
                Corrections(
                    image=source.data,
                    labels=source.plain(np.array(annotation.layer.data)),
                    state=source.plain(annotation.state()),
                    axes=source.axes,
                    channel=channel,
                    diameter=diameter,
                    name=source.layer.name,
                    tiles=annotation.tiles,
                    objects=annotation.objects,
                    strokes=annotation.strokes,
                )
            )
        return found

    def _pause(self) -> None:
        self.session.pause(not self.session.paused)
        self._pace.rest()
        if not self.session.paused:
            say(self.note, "Going on …")

    def save_unjudged(self) -> None:
        """Save a result that nobody kept or discarded before the end; touches no widget."""
        session, result = self.session, self.session.result
        if result is None:
            return
        session.result = None
        name = self._next_name() + models.UNJUDGED
        # a slow disk must not hold the end up; Python waits for the thread before it ends
        saving = Thread(target=_save_quietly, args=(replace(result.model, name=name),), name="napari-unet saving")
        saving.start()
        saving.join(PATIENCE)

    def _next_name(self) -> str:
        """Return what the model that has learned is called."""
        taken = {entry.name for entry in (*self.session.models, *models.known_models())}
        parent = self._parent
        return models.next_name("own" if parent is None or parent.name == models.UNTRAINED else parent.name, taken)

    def _end(self) -> None:
        self._stop.set()
        self.preview.end()
        self.session.pause(False)
        say(self.note, "Stopping …")

    def _on_learned(
        self, result: TrainResult, parent: ModelEntry, corrected: int, lessons: list[tuple[Annotation, Lesson]]
    ) -> None:
        self.bar.reset()
        say(self.note, result.ended)
        if not result.steps:
            say(self.verdict, "Nothing was learned; the model is as it was.")
            return
        self.session.learned_from = corrected
        for annotation, lesson in lessons:
            annotation.learned(lesson)
            self._reviews.setdefault(parent, []).extend(lesson.reviews)
        better = is_better(result.before, result.after)
        say(self.verdict, verdict(result.before, result.after))
        set_property(self.keep, "primary", better)
        set_property(self.discard, "primary", not better)
        self.session.set_result(result)
        reveal(self.choice)

    def keep_result(self) -> None:
        """Make the new model the current one, and save it among the user's."""
        session, result = self.session, self.session.result
        if result is None or session.busy:
            return
        model = replace(result.model, name=self._next_name())
        entry, parent = models.ModelEntry(model.name, None, model), self._parent
        if parent is not None:
            self._reviews[entry] = list(self._reviews.get(parent, ()))
        session.learned = True
        session.set_model(entry, parent)
        session.set_result(None)
        say(self.verdict, f"“{model.name}” is the model now.")
        say(self.note, "")

        def saved(path: Path) -> None:
            entry.path, entry.name = path, path.stem
            say(self.verdict, f"“{entry.name}” is the model now.")
            session.models_changed.emit()

        session.run("save", lambda: runs.write(entry, models.keep), saved)

    def discard_result(self) -> None:
        """Go on with the model as it was."""
        say(self.verdict, "Discarded; the model is as it was.")
        say(self.note, "")
        self.session.set_result(None)


def _save_quietly(model: Model) -> None:
    """Save a model among the user's; where that is not possible there is nobody left to tell."""
    with suppress(ModelFileError, OSError):
        models.keep(model)


def is_better(before: Scores | None, after: Scores | None) -> bool:
    """Return whether keeping is the better advice; without scores it is, for the user asked for it."""
    old, new = _number(before), _number(after)
    return math.isnan(old) or math.isnan(new) or new >= old


def verdict(before: Scores | None, after: Scores | None) -> str:
    """Return in plain words what learning brought, on corrections that it was not shown."""
    old, new = _number(before), _number(after)
    if before is None or after is None or math.isnan(new):
        return "Too little was corrected to hold some of it back and score, so look at the result before you trust it."
    count = before.objects.n_truth if before.objects is not None else 0
    on = (
        f" on {count} held-out object{'s' * (count != 1)}" if before.objects is not None else " (Dice, held-out pixels)"
    )
    text = f"before {in_digits(old)}, after {in_digits(new)}{on}"
    if new <= old and old >= AGREED:
        text += "\nThe model agreed with nearly all of it before, so it had little to learn: correct where it is wrong."
    elif new == old:
        text += "\nIt is as good as it was: keep it if what you see is better, or correct more."
    elif new < old:
        text += "\nIt became worse on corrections that it was not shown: better discard it and correct more."
    elif before.objects is not None and count < FEW:
        text += "\nThese are few objects, so the difference may be chance: correct more to be sure."
    return text


def _number(scores: Scores | None) -> float:
    from napari_unet.learn.evaluate import headline

    return math.nan if scores is None else headline(scores)
