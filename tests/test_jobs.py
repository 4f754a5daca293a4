"""Jobs report, return and end; the priority is lowered for one thread and those that it starts."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING

import pytest

from napari_unet.jobs import Job, Progress, as_part, lower_priority, run

if TYPE_CHECKING:
    from collections.abc import Callable


def counting(total: int, events: list[str]) -> Job[int]:
    events.append("start")
    try:
        for done in range(1, total + 1):
            yield Progress(done, total, values={"loss": 1 / done})
        return sum(range(total + 1))
    finally:
        events.append("end")


def test_run_returns_the_result_and_reports_each_step() -> None:
    seen: list[Progress] = []
    assert run(counting(3, []), seen.append) == 6
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[1].values == {"loss": 0.5}


def test_run_needs_no_report() -> None:
    assert run(counting(0, [])) == 0


def test_a_job_does_nothing_before_it_is_run() -> None:
    events: list[str] = []
    job = counting(1, events)
    assert events == []
    run(job)
    assert events == ["start", "end"]


@pytest.mark.parametrize("error", [ValueError, StopIteration, KeyboardInterrupt])
def test_a_report_that_raises_ends_the_job_at_once(error: type[BaseException]) -> None:
    events: list[str] = []
    job = counting(3, events)

    def report(_: Progress) -> None:
        raise error("enough")

    with pytest.raises(error, match="enough"):
        run(job, report)
    assert events == ["start", "end"]
    assert list(job) == []


def test_the_error_of_a_job_goes_on() -> None:
    def failing() -> Job[None]:
        yield Progress(0, 1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(failing())


def test_progress_is_a_message_and_stays_as_it_was() -> None:
    with pytest.raises(FrozenInstanceError):
        Progress(0, 1).done = 1  # type: ignore[misc]
    assert Progress(0, 1).values is not Progress(0, 1).values


def test_a_part_reports_in_the_words_of_the_whole_and_ends_with_it() -> None:
    events: list[str] = []

    def whole() -> Job[str]:
        total = yield from as_part(counting(2, events), lambda p: Progress(10 + p.done, 20, "part"))
        return f"the sum is {total}"

    seen: list[Progress] = []
    assert run(whole(), seen.append) == "the sum is 3"
    assert [(p.done, p.total, p.message) for p in seen] == [(11, 20, "part"), (12, 20, "part")]
    job = whole()
    next(job)
    job.close()
    assert events == ["start", "end"] * 2


def in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_lower_priority_never_raises() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            lower_priority()
        except BaseException as error:  # noqa: BLE001  (what it is does not matter: there must be none)
            errors.append(error)

    in_thread(work)
    assert errors == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the priority of one thread")
def test_the_lowest_priority_is_inherited_and_does_not_touch_other_threads() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    mine = priority()
    seen: list[int] = []

    def work() -> None:
        lower_priority()
        seen.append(priority())
        in_thread(lambda: seen.append(priority()))

    in_thread(work)
    assert seen == [19, 19]
    assert priority() == mine


@pytest.mark.skipif(sys.platform != "linux", reason="os.setpriority is asked on Linux only")
def test_a_refused_priority_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    lower_priority()
