"""Doubt finds what is wrong: objects in one piece that are two, what the model does not see, what nobody drew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet import DecodeSettings, Model
from napari_unet.errors import ImageError
from napari_unet.infer.doubt import Doubt, doubt_job, doubts, in_turn
from napari_unet.infer.segment import SegmentSettings, segment_job
from napari_unet.jobs import run
from napari_unet.learn.targets import inner_edge, normalised_distance


@pytest.fixture(scope="module")
def model() -> Model:
    return replace(Model.new(width=8, depth=2), decode=DecodeSettings(min_size=4))


def discs(*centres: tuple[int, int], radius: int = 8, side: int = 100) -> np.ndarray:
    y, x = np.indices((side, side))
    labels = np.zeros((side, side), np.uint32)
    for i, (cy, cx) in enumerate(centres):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = i + 1
    return labels


def maps_of(labels: np.ndarray) -> np.ndarray:
    """Return the maps of a network that knows the labels."""
    inside = labels > 0
    return np.stack([~inside, inside, inner_edge(labels), normalised_distance(labels)]).astype(np.float32)


CENTRES = (20, 20), (20, 70), (70, 20), (70, 70)


def test_what_the_model_sees_just_so_is_hardly_doubted(model: Model) -> None:
    labels = discs(*CENTRES)
    found = doubts(model, maps_of(labels), labels)
    assert [each.number for each in found] == [1, 2, 3, 4]
    assert max(each.value for each in found) < 0.2
    assert {each.why for each in found} == {"little doubt"}
    for each, centre in zip(found, CENTRES, strict=True):
        assert np.abs(np.subtract(each.point, centre)).max() <= 1
        assert each.box == tuple(slice(c - 8, c + 9) for c in centre)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("joined", "may be two objects"),
        ("invented", "may be no object, or a part of one"),
        ("halved", "unsure where it ends"),
        ("missed", "may be missed"),
    ],
)
def test_what_is_wrong_is_doubted_most(model: Model, wrong: str, why: str) -> None:
    truth = discs(*CENTRES)
    labels = truth.copy()
    if wrong == "joined":
        labels[labels == 2] = 1
    elif wrong == "invented":
        labels[40:50, 40:50] = 9
    elif wrong == "halved":
        labels[:20][labels[:20] == 1] = 0
    else:
        labels[labels == 1] = 0
    first, *others = in_turn(doubts(model, maps_of(truth), labels), labels.shape)
    assert first.number == {"joined": 1, "invented": 9, "halved": 1, "missed": 0}[wrong]
    assert first.why == why
    assert first.value > 2 * max(each.value for each in others if each.number)
    assert labels[first.point] == first.number


def test_numbers_may_be_any_and_the_whole_plane_an_object(model: Model) -> None:
    labels = discs(*CENTRES).astype(np.int64)
    labels[labels == 3] = 2**31 + 5
    assert {each.number for each in doubts(model, maps_of(labels > 0), labels)} == {1, 2, 4, 2**31 + 5}
    full = np.full((30, 30), 7, np.uint8)
    assert [each.number for each in doubts(model, maps_of(full), full)] == [7]
    assert doubts(model, maps_of(np.zeros_like(full)), np.zeros_like(full)) == []


def test_the_order_is_by_doubt_and_does_not_stay_in_one_corner() -> None:
    def at(value: float, y: int, x: int) -> Doubt:
        return Doubt(1, (slice(y, y + 1), slice(x, x + 1)), (y, x), value, "")

    corner = [at(1.0, y, 0) for y in range(20)]
    elsewhere = [at(0.8, 90, 90), at(0.1, 90, 0)]
    order = in_turn([*elsewhere, *corner], (100, 100))
    assert len(order) == 22
    assert all(each in corner for each in order[:4])
    assert elsewhere[0] in order[4:10]
    assert order[-1] is elsewhere[1]


def test_stacks_are_looked_at_slice_by_slice(model: Model) -> None:
    image = np.random.default_rng(0).random((3, 64, 48), np.float32)
    labels = run(segment_job(model, image, "ZYX")).labels
    labels[1, 10:30, 10:30] = labels.max() + 1
    seen: list[tuple[int, int]] = []
    found = run(doubt_job(model, image, labels, "ZYX"), lambda p: seen.append((p.done, p.total)))
    assert found.unsure.shape == labels.shape
    assert found.unsure.dtype == np.uint8
    for each in found.order:
        assert labels[each.point] == each.number
        assert (labels[each.box] == each.number).any()
        assert each.box[0] == slice(each.point[0], each.point[0] + 1)
    numbers = {(each.point[0], each.number) for each in found.order if each.number}
    assert numbers == {(z, int(n)) for z in range(3) for n in np.unique(labels[z]) if n}
    assert [done / total for done, total in seen] == sorted(done / total for done, total in seen)


def test_the_picture_is_bright_where_the_model_is_not_sure(model: Model) -> None:
    image = np.random.default_rng(0).random((64, 64), np.float32)
    found = run(doubt_job(model, image, np.zeros((64, 64), np.uint32)))
    foreground = 1 - model.predict(image)[0]
    np.testing.assert_allclose(found.unsure / 255, 1 - np.abs(2 * foreground - 1), atol=0.01)


def test_what_cannot_be_doubted_is_said(model: Model) -> None:
    image = np.zeros((32, 32), np.float32)
    with pytest.raises(ImageError, match=r"shape \(16, 16\) and the image \(32, 32\)"):
        run(doubt_job(model, image, np.zeros((16, 16), np.uint32), settings=SegmentSettings()))
    with pytest.raises(ImageError, match="finds no objects"):
        run(doubt_job(replace(model, task="classes"), image, np.zeros((32, 32), np.uint8)))
