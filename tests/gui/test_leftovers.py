"""Journals of earlier sessions do not stay for ever."""

from __future__ import annotations

import os

from napari_unet.gui.journals import ENDED, SUFFIX, folder
from napari_unet.gui.leftovers import NEWEST, sweep
from napari_unet.store.journal import Journal


def test_old_journals_and_too_many_are_removed() -> None:
    folder().mkdir(parents=True)
    for i in range(NEWEST + 5):
        Journal(folder() / f"2026-01-{i + 1:02}{ENDED if i % 2 else SUFFIX}").close()
    newest = sorted(folder().iterdir())[-NEWEST:]
    os.utime(newest[7], (0, 0))
    running = Journal(folder() / f"2025-01-01{SUFFIX}")
    notes = folder() / "notes.txt"
    notes.write_text("mine")
    sweep()
    assert sorted(folder().iterdir()) == [running.path, *newest[:7], *newest[8:], notes]
    running.close()
