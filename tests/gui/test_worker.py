"""A job in a thread: its signals, in order; pause, cancel, and an end in any case."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from napari_unet.gui.worker import Worker
from napari_unet.jobs import Progress


class Heard:
    def __init__(self, worker: Worker) -> None:
        self.said: list[tuple[str, object]] = []
        self.worker = worker
        worker.progressed.connect(lambda p: self.said.append(("progressed", p.done)))
        worker.returned.connect(lambda r: self.said.append(("returned", r)))
        worker.failed.connect(lambda e: self.said.append(("failed", repr(e))))
        worker.finished.connect(lambda: self.said.append(("finished", None)))

    @property
    def ended(self) -> bool:
        return bool(self.said) and self.said[-1][0] == "finished"


def count(n: int, gate: threading.Event | None = None, closed: list[bool] | None = None):
    try:
        for i in range(n):
            yield Progress(i, n, values={"i": i})
            if gate is not None:
                gate.wait(10)
    finally:
        if closed is not None:
            closed.append(True)
    return "done"


def start(qtbot, make) -> Heard:
    heard = Heard(Worker(make))
    heard.worker.start()
    return heard


def test_all_is_told_in_order(qtbot) -> None:
    heard = start(qtbot, lambda: count(3))
    qtbot.waitUntil(lambda: heard.ended)
    assert heard.said == [
        ("progressed", 0),
        ("progressed", 1),
        ("progressed", 2),
        ("returned", "done"),
        ("finished", None),
    ]


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("x"), MemoryError()])
def test_each_error_is_told(qtbot, error: Exception) -> None:
    def job():
        yield Progress(0, 1)
        raise error

    heard = start(qtbot, job)
    qtbot.waitUntil(lambda: heard.ended)
    assert ("failed", repr(error)) in heard.said


def test_what_makes_the_job_may_fail_too(qtbot) -> None:
    heard = start(qtbot, lambda: 1 / 0)
    qtbot.waitUntil(lambda: heard.ended)
    assert heard.said[0][0] == "failed"


def test_cancel_closes_the_job_and_gives_no_result(qtbot) -> None:
    gate, closed = threading.Event(), []
    heard = start(qtbot, lambda: count(100, gate, closed))
    qtbot.waitUntil(lambda: bool(heard.said))
    heard.worker.cancel()
    gate.set()
    qtbot.waitUntil(lambda: heard.ended)
    assert closed == [True]
    assert "returned" not in dict(heard.said)


def test_pause_waits_and_cancel_ends_a_pause(qtbot) -> None:
    heard = Heard(Worker(lambda: count(50)))
    heard.worker.pause()
    heard.worker.start()
    qtbot.waitUntil(lambda: bool(heard.said))
    qtbot.wait(100)
    assert heard.said == [("progressed", 0)]
    assert heard.worker.paused
    heard.worker.pause(False)
    qtbot.waitUntil(lambda: heard.ended)
    assert ("returned", "done") in heard.said


def test_what_was_cancelled_waits_for_nothing(qtbot) -> None:
    gate = threading.Event()
    heard = start(qtbot, lambda: count(100, gate))
    heard.worker.cancel()
    heard.worker.pause()
    gate.set()
    qtbot.waitUntil(lambda: heard.ended)


def test_join(qtbot) -> None:
    gate = threading.Event()
    heard = start(qtbot, lambda: count(2, gate))
    assert not heard.worker.join(0.05)
    heard.worker.cancel()
    gate.set()
    assert heard.worker.join(10)


def test_a_worker_that_is_deleted_ends_quietly(qtbot) -> None:
    gate = threading.Event()
    heard = start(qtbot, lambda: count(3, gate))
    thread = heard.worker._thread
    heard.worker.deleteLater()
    del heard
    qtbot.wait(20)
    gate.set()
    thread.join(10)
    assert not thread.is_alive()


def test_python_ends_after_the_step_that_runs() -> None:
    """Killed in the middle of a step of torch's, the thread would abort the program."""
    program = """
import sys, time
from napari_unet.gui.worker import Worker
def job():
    try:
        yield
        time.sleep(1)
        yield
        time.sleep(1000)
    finally:
        print("closed", flush=True)
worker = Worker(job)
worker._thread.start()
time.sleep(0.2)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "closed\n"), ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says the priority of a thread")
def test_the_thread_has_the_lowest_priority(qtbot) -> None:
    def job():
        yield Progress(0, 1)
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    heard = start(qtbot, job)
    qtbot.waitUntil(lambda: heard.ended)
    assert ("returned", 19) in heard.said
