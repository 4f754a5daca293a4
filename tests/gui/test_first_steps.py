"""The first steps: shown when the dock is opened for the first time, and to nobody twice."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.gui.dock import UNetDock
from napari_unet.gui.first_steps import seen


@pytest.fixture
def new_here() -> None:
    """Nobody has opened the dock yet."""
    seen().unlink()


def image() -> np.ndarray:
    return np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def test_it_is_shown_once(desk, new_here) -> None:
    at = desk()
    assert at.dock.first.isVisible()
    assert at.dock.first.geometry().bottom() < at.dock.image.geometry().top()
    at.viewer.window.remove_dock_widget(at.dock)
    at.dock.deleteLater()
    again = UNetDock(at.viewer)
    at.viewer.window.add_dock_widget(again, name="U-Net", area="right")
    at.wait(again.image.isVisible)
    assert not again.first.isVisible()


def test_who_was_here_does_not_see_it(desk) -> None:
    assert not desk().dock.first.isVisible()


def test_it_can_be_closed(desk, new_here) -> None:
    at = desk(image())
    at.click(at.dock.first.shut)
    assert not at.dock.first.isVisible()
    at.segment()
    assert not at.dock.first.isVisible()


def test_it_goes_after_the_first_run_and_not_when_that_is_cancelled(desk, new_here) -> None:
    at = desk(image())
    at.click(at.dock.segment.start)
    at.click(at.dock.segment.cancel)
    at.wait()
    assert at.session.labels is None
    assert at.dock.first.isVisible()
    at.segment()
    assert not at.dock.first.isVisible()


def test_where_nothing_can_be_written_it_is_shown(desk, new_here, own_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_unet.gui import models

    blocked = own_folder.parent / "a file"
    blocked.touch()
    monkeypatch.setattr(models, "folder", lambda: blocked / "napari-unet" / "models")
    at = desk()
    assert at.dock.first.isVisible()


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [320, 420])
def test_nothing_of_it_is_cut_off(desk, new_here, theme: str, width: int) -> None:
    at = desk()
    at.viewer.theme = theme
    first = at.dock.first
    first.setFixedWidth(width)
    at.qtbot.wait(50)
    for line in first.lines:
        assert line.width() >= line.sizeHint().width() or line.height() >= line.heightForWidth(line.width())
        assert first.rect().contains(line.geometry())
    assert first.rect().contains(first.shut.geometry())
