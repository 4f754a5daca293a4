"""The jobs behind the buttons, without the dock."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet import jobs
from napari_unet.gui import runs
from napari_unet.gui.models import ModelEntry
from napari_unet.infer import diameter, segment
from napari_unet.infer.predict import predict_tiles
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


@pytest.mark.parametrize("start", [37, 50, 63])
def test_a_part_is_seen_as_in_the_whole_image(start: int) -> None:
    model = Model.new(width=8, depth=2)
    image = np.random.default_rng(0).random((1, 160, 160), np.float32)
    region = (slice(start, start + 20), slice(start + 1, start + 30))
    wide, crop = runs._widened(region, (160, 160), model.network.halo, model.network.stride, 2)
    assert all(w.start % model.network.stride == 0 for w in wide)
    everything = jobs.run(predict_tiles(model, image, "cpu"))[:, *region]
    part = jobs.run(predict_tiles(model, image[:, *wide], "cpu"))[:, *crop]
    np.testing.assert_allclose(part, everything, atol=1e-4)


def test_a_part_is_seen_as_in_the_whole_image_also_by_the_base(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    base = replace(Model.new(width=2, depth=2), diameter=20.0, smallest=30.0)
    model = replace(Model.new(width=2, depth=2, seed=1), diameter=80.0, base=base)
    read = []

    def asked(*_: object, region: tuple[slice, ...]):
        read.append(region)
        yield jobs.Progress(1, 1)
        shape = [r.stop - r.start for r in region]
        return segment.Segmentation(np.zeros(shape, np.uint32), (), 0.0)

    monkeypatch.setattr(segment, "segment_job", asked)
    source = SimpleNamespace(data=np.zeros((900, 900), np.uint8), axes="YX", shape=(900, 900), letters="YX")
    entry = ModelEntry("tuned", model.save(tmp_path / "tuned.unet"))
    part = (slice(401, 450), slice(401, 450))
    jobs.run(runs.segment_part(entry, source, segment.SegmentSettings(diameter=40), part, None))
    halo, stride = 2 * base.network.halo, 2 * 2 * base.network.stride  # it sees the image at half its size
    for side in read[0]:
        assert side.start % stride == 0
        assert side.start <= 401 - halo
        assert side.stop >= 450 + halo
