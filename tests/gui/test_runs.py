"""The jobs behind the buttons, without the dock."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet import jobs
from napari_unet.gui import runs
from napari_unet.gui.models import ModelEntry
from napari_unet.infer import diameter
from napari_unet.learn.corrections import State
from napari_unet.model import Model


def squares() -> np.ndarray:
    """Four objects, 30 pixels wide."""
    labels = np.zeros((96, 96), np.uint32)
    for number, (y, x) in enumerate([(5, 5), (5, 55), (55, 5), (55, 55)], start=1):
        labels[y : y + 30, x : x + 30] = number
    return labels


@pytest.mark.parametrize(("known", "by_hand"), [(4, False), (30, True)])
def test_strokes_on_larger_objects_do_not_tell_the_diameter(
    monkeypatch: pytest.MonkeyPatch, tiny, known: int, by_hand: bool
) -> None:
    def asked(*_: object):
        yield jobs.Progress(1, 1)
        return 99.0

    monkeypatch.setattr(diameter, "diameter_job", asked)
    labels, state = squares(), np.zeros((96, 96), np.uint8)
    for y, x in [(5, 5), (5, 55), (55, 5)]:
        state[y : y + known, x : x + known] = State.PAINTED
    source = SimpleNamespace(data=labels, axes="YX")
    found = jobs.run(runs.find_diameter(ModelEntry("tiny", tiny), source, None, "cpu", (labels, state)))
    assert (found != 99.0) is by_hand
    assert not by_hand or 25 < found < 40


def test_a_model_of_stacks_is_told_the_diameter_of_balls(tmp_path) -> None:
    labels = np.zeros((24, 40, 160), np.uint32)
    ball = sum(axis**2 for axis in np.mgrid[-10:11, -10:11, -10:11]) < 81
    for number in (1, 2, 3):
        labels[1:22, 5:26, number * 40 : number * 40 + 21][ball] = number
    state = np.where(labels > 0, np.uint8(State.ACCEPTED), np.uint8(0))
    entry = ModelEntry("stacks", Model.new(ndim=3, width=4, depth=1).save(tmp_path / "stacks.unet"))
    source = SimpleNamespace(data=labels, axes="ZYX")
    found = jobs.run(runs.find_diameter(entry, source, None, "cpu", (labels, state)))
    assert found == pytest.approx(18, abs=0.5)
