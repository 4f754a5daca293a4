"""The first run finds ready what it needs, and nobody waits for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet.gui import layers, warm_up
from napari_unet.infer import seen

if TYPE_CHECKING:
    from tests.gui.conftest import Desk


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "AFTER", 0)


def ready(at: Desk) -> bool:
    return at.dock.warm_up._entry is not None and at.dock.warm_up._worker is None


def test_the_model_that_is_chosen_is_read_and_no_other_one(desk: Any) -> None:
    at = desk()
    at.wait(lambda: ready(at))
    first = at.session.model
    assert first.model is not None
    other = type(first)("other", first.path)
    at.session.set_model(other)
    at.qtbot.wait(50)
    assert other.model is None, "who looks through the list does not fill the memory"


def test_the_brightness_of_a_large_image_is_measured_once(
    desk: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(layers, "PLANE", 64**2)
    measured: list[Any] = []
    real = seen.percentiles
    monkeypatch.setattr(seen, "percentiles", lambda *given: (measured.append(given), real(*given))[1])
    monkeypatch.setattr(warm_up, "is_near", lambda image: True)
    at = desk(np.random.default_rng(0).integers(0, 255, (128, 128)).astype(np.uint8))
    at.wait(lambda: ready(at))
    assert len(measured) == 1
    at.segment()
    assert len(measured) == 1, "a run takes what was measured"


def test_an_image_of_which_no_file_is_known_is_not_read(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PLANE", 64**2)
    at = desk(np.zeros((128, 128), np.uint8))
    assert not warm_up.is_near(at.session.whole_of(at.session.image))
    monkeypatch.setattr(seen, "see", lambda *_: pytest.fail("it was read"))
    at.wait(lambda: ready(at))


def test_it_waits_for_a_job_and_ends_with_the_dock(desk: Any) -> None:
    at = desk()
    at.wait(lambda: ready(at))
    at.dock.warm_up._entry, at.session.busy = None, "learn"
    at.dock.warm_up.soon()
    at.qtbot.wait(50)
    assert at.dock.warm_up._entry is None
    at.session.busy = ""
    at.wait(lambda: at.dock.warm_up._entry is not None)
    at.session.close()
    at.dock.warm_up.close()
    assert at.dock.warm_up._worker is None or at.dock.warm_up._worker.join(0)
