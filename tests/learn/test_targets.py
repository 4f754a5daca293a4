"""Targets say of each object alone how deep inside it a pixel is, however closely others touch it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet import DataError
from napari_unet.infer.image import estimate_diameter
from napari_unet.learn.targets import (
    MAX_ID,
    TrainingTile,
    inner_edge,
    make_target,
    normalised_distance,
    training_tile,
    typical_diameter,
    with_enlarged,
)

labellings = hnp.array_shapes(min_dims=1, max_dims=3, max_side=7).flatmap(
    lambda shape: hnp.arrays(np.int32, shape, elements=st.integers(0, 3))
)


def brute_force(labels: np.ndarray) -> np.ndarray:
    """Return the normalised distance by looking at all pairs of pixels."""
    places = list(np.ndindex(labels.shape))
    result = np.zeros(labels.shape)
    for number in np.unique(labels[labels > 0]):
        own = [p for p in places if labels[p] == number]
        others = [p for p in places if labels[p] != number]
        edge = [p for p in own if any(max(abs(a - b) for a, b in zip(p, q, strict=True)) == 1 for q in others)]
        for p in own:
            result[p] = 1 + min((np.linalg.norm(np.subtract(p, q)) for q in edge), default=0)
        result[labels == number] /= result[labels == number].max()
    return result


@given(labellings)
def test_agrees_with_brute_force(labels: np.ndarray) -> None:
    assert normalised_distance(labels) == pytest.approx(brute_force(labels), abs=1e-6)


@given(labellings)
def test_above_zero_to_one_inside_and_one_in_the_middle_of_each(labels: np.ndarray) -> None:
    distance = normalised_distance(labels)
    assert distance.dtype == np.float32
    assert ((distance > 0) == (labels > 0)).all()
    assert distance.max(initial=0) <= 1
    for number in np.unique(labels[labels > 0]):
        assert distance[labels == number].max() == 1


@given(labellings)
def test_neighbours_change_nothing(labels: np.ndarray) -> None:
    together = normalised_distance(labels)
    for number in np.unique(labels[labels > 0]):
        own = labels == number
        assert (normalised_distance(np.where(own, number, 0))[own] == together[own]).all()


@given(labellings)
def test_an_edge_touches_another_number_and_the_border_of_the_image_is_none(labels: np.ndarray) -> None:
    padded = np.pad(labels, 1, mode="edge")
    expected = np.zeros(labels.shape, bool)
    for place in np.ndindex(labels.shape):
        around = padded[tuple(slice(i, i + 3) for i in place)]
        expected[place] = labels[place] > 0 and (around != labels[place]).any()
    assert (inner_edge(labels) == expected).all()


def test_objects_of_class_and_number() -> None:
    labels = np.array([[0, 3, 3], [7, 7, 0]], np.uint16)
    target = make_target(labels, "instances")
    assert target.dtype == np.float32
    assert target[0].tolist() == [[0, 1, 1], [1, 1, 0]]
    assert (target[1] == labels).all()
    target = make_target(labels, "classes")
    assert (target[0] == labels).all()
    assert not target[1:].any()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64, ">u2", np.int64])
def test_any_whole_numbers(dtype: Any) -> None:
    labels = np.array([[0, 1], [1, 1]]).astype(dtype)
    assert make_target(labels, "instances")[1].tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([0, MAX_ID]), f"from 0 to {MAX_ID}, expected 0 to {MAX_ID - 1}: renumber"),
        (np.array([0, 2**63], np.uint64), "expected 0 to"),
        (np.array([-1, 3]), "from -1 to 3"),
        (np.array([0.0, 1.0]), "of type float64, expected whole numbers"),
        (np.array([np.nan]), "of type float64"),
    ],
)
@pytest.mark.parametrize("task", ["instances", "classes"])
def test_what_cannot_be_numbers_is_refused(labels: np.ndarray, said: str, task: Any) -> None:
    with pytest.raises(DataError, match=said):
        make_target(labels, task)


def test_the_largest_number_travels_exactly() -> None:
    labels = np.array([MAX_ID - 1, MAX_ID - 2, 0])
    assert make_target(labels, "instances")[1].astype(int).tolist() == labels.tolist()


def tile(labels: Any, task: Any = "instances") -> TrainingTile:
    labels = np.asarray(labels)
    return training_tile(np.zeros((1, *labels.shape), np.float32), labels, task)


def test_every_pixel_of_a_mask_is_known() -> None:
    made = tile([[0, 2], [2, 1]])
    assert made.weight.shape == (3, 2, 2)
    assert (made.weight == 1).all()
    assert made.labels.tolist() == [[0, 2], [2, 1]]
    assert tile([[0, 2]], "classes").labels.tolist() == [[0, 2]]
    assert tile([[0, 0]]).labels.tolist() == [[0, 0]]


def test_the_typical_diameter_is_that_of_a_disk_as_large() -> None:
    y, x = np.indices((60, 60))
    disk = ((y - 30) ** 2 + (x - 30) ** 2 <= 100).astype(int)
    z = np.indices((30, 30, 30))
    ball = (((z - 15) ** 2).sum(axis=0) <= 64).astype(int)
    assert typical_diameter([tile(disk)]) == pytest.approx(20, abs=0.5)
    assert typical_diameter([tile(ball)]) == pytest.approx(16, abs=0.5)
    assert typical_diameter([tile([0, 5, 5, 5, 0, 9, 9, 9])]) == pytest.approx(3)
    assert typical_diameter([tile([[0, 0]]), tile([[1, 1]], "classes")]) is None
    assert typical_diameter([]) is None
    random = np.random.default_rng(0).integers(0, 5, (2, 9, 9))
    assert typical_diameter([tile(random[0]), tile(random[1])]) == estimate_diameter(random, ndim=2)


def test_small_objects_are_learned_at_two_scales() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[4:12, 4:12], labels[4:12, 12:20] = 1, 2
    tile = training_tile(labels[None].astype(np.float32), labels, "instances", share=3.0, name="a")
    width = typical_diameter([tile])
    assert width is not None
    own, large = with_enlarged(tile, "instances", 1.5 * width)
    assert own.share + large.share == pytest.approx(3.0)
    assert large.share == pytest.approx(2 * own.share)
    assert large.image.shape == (1, 45, 45)
    assert large.target.shape == large.weight.shape == (3, 45, 45)
    assert typical_diameter([large]) == pytest.approx(1.5 * width, rel=0.1)
    assert typical_diameter([with_enlarged(tile, "instances", 100.0)[1]]) == pytest.approx(2 * width, rel=0.1)
    for alone in (None, width, 0.5 * width):
        assert with_enlarged(tile, "instances", alone) == [tile]
