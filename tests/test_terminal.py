"""Progress: a bar that says how long it still takes, and in a log few lines."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from napari_unet import terminal
from napari_unet.jobs import Progress
from napari_unet.terminal import run_job

if TYPE_CHECKING:
    from napari_unet.jobs import Job


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that moves on by so many seconds each time a job looks up."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def training(clock: Clock, seconds: float) -> Job[str]:
    """Report as a training does: 100 steps with four scores, then the thresholds."""
    for step in range(101):
        clock.now += seconds
        yield Progress(step, 100, "steps", {"loss": 0.5} | ({"score": 0.9} if step and step % 25 == 0 else {}))
    for i in range(37):
        clock.now += seconds
        yield Progress(i, 37, "choosing thresholds")
    return "done"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(terminal, "time", made)
    return made


def test_a_log_of_quick_work_has_the_scores(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(training(clock, 0.01)) == "done"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "steps 0/100 loss 0.500"
    assert lines[1:] == [f"steps {n}/100 loss 0.500 score 0.900" for n in (25, 50, 75, 100)]


def test_a_log_of_slow_work_has_a_line_for_each_twentieth(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run_job(training(clock, 60))
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("steps") for line in lines) == 21
    assert sum(line.startswith("choosing thresholds") for line in lines) <= 20
    run_job(training(clock, 60), silent=True)
    assert capsys.readouterr().err == ""


def test_what_is_not_counted_is_said_on_a_line_of_its_own(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def telling() -> Job[str]:
        yield Progress(0, 0, "training needs about 1.2 GB of memory")
        return (yield from training(clock, 1))

    run_job(telling())
    assert capsys.readouterr().err.splitlines()[:2] == [
        "Training needs about 1.2 GB of memory.",
        "steps 0/100 loss 0.500",
    ]
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    run_job(telling())
    assert "Training needs about 1.2 GB of memory.\n" in screen.getvalue()


def test_a_bar_says_what_how_far_and_how_long_still(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    run_job(training(clock, 1))
    shown = screen.getvalue()
    assert "steps: 0/100 |" in shown
    assert " left, loss=0.500" in shown
    assert "choosing thresholds: 0/37 |" in shown
