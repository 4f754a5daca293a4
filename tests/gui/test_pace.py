"""How long it still takes: from the pace of the last steps, whatever happened before and in pauses."""

from __future__ import annotations

import pytest

from napari_unet.gui.pace import FIRST, LAST, Pace, in_words


def test_nothing_is_said_before_the_pace_is_known() -> None:
    pace = Pace()
    for i in range(FIRST):
        pace.step(i, 2.0 * i)
        assert pace.left(10) is None
    pace.step(FIRST, 2.0 * FIRST)
    assert pace.left(10) == pytest.approx(20)


def test_the_last_steps_count() -> None:
    pace, now = Pace(), 0.0
    for i in range(3 * LAST):
        now += 9.0 if i < LAST else 0.5
        pace.step(i, now)
    assert pace.left(10) == pytest.approx(5)


def test_steps_that_were_told_together_count_as_many() -> None:
    pace = Pace()
    for i in range(FIRST + 1):
        pace.step(4 * i, 2.0 * i)
    assert pace.left(10) == pytest.approx(5)


def test_a_pause_does_not_count() -> None:
    pace = Pace()
    for i in range(20):
        pace.step(i, 2.0 * i + (1000 if i > 10 else 0))
        if i == 10:
            pace.rest()
    assert pace.left(10) == pytest.approx(20)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (3, "a few seconds left"),
        (33, "about 30 s left"),
        (54.9, "about 50 s left"),
        (56, "about 1 min left"),
        (100, "about 2 min left"),
        (54 * 60, "about 54 min left"),
        (56 * 60, "about 1 h left"),
        (5000, "about 1.5 h left"),
    ],
)
def test_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words
