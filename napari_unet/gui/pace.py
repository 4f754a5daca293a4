"""How long a training still takes, from the pace of its last steps; pauses do not count."""

from __future__ import annotations

from collections import deque

LAST = 50  # steps that tell the pace: scores between them, and what else the machine does, are averaged out
FIRST = 5  # steps before anything is said; the very first one warms up


class Pace:
    """Measures the time that steps take."""

    def __init__(self) -> None:
        self._taken: deque[tuple[int, float]] = deque(maxlen=LAST)  # steps, and seconds for them
        self._last: tuple[int, float] | None = None

    def step(self, done: int, now: float) -> None:
        """Take note that so many steps are done at a time in seconds."""
        if self._last is not None:
            if done <= self._last[0]:
                return
            self._taken.append((done - self._last[0], now - self._last[1]))
        self._last = done, now

    def rest(self) -> None:
        """Do not count the time from the last step to the next one."""
        self._last = None

    def left(self, steps: int) -> float | None:
        """Return the seconds that so many steps will take, or None while that is not known."""
        if len(self._taken) < FIRST:
            return None
        return steps * sum(time for _, time in self._taken) / sum(count for count, _ in self._taken)


def in_words(seconds: float | None) -> str:
    """Return a time as a person would say it; empty if there is none."""
    if seconds is None:
        return ""
    if seconds < 10:
        return "a few seconds left"
    if seconds < 55:
        return f"about {round(seconds / 10) * 10} s left"
    if seconds < 55 * 60:
        return f"about {max(1, round(seconds / 60))} min left"
    hours = round(seconds / 1800) / 2
    return f"about {hours:g} h left"
