"""Strokes on objects grow to the whole of them, stop at other objects, and what was known stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.learn.completion import COMPLETED, GUESSED, complete, incomplete
from napari_unet.learn.losses import boundary
from napari_unet.learn.targets import TrainingTile, inner_edge, normalised_distance, training_tile

SIDE = 40


def scene() -> tuple[TrainingTile, np.ndarray, np.ndarray]:
    """Return a tile of three objects, the first two of which touch, what a perfect model sees, and the labels."""
    labels = np.zeros((SIDE, SIDE), np.int64)
    labels[4:20, 4:18], labels[4:20, 18:34], labels[26:36, 8:30] = 1, 2, 3
    tile = training_tile(labels[None].astype(np.float32), labels, "instances")
    maps = np.stack([labels == 0, labels > 0, inner_edge(labels), normalised_distance(labels)]).astype(np.float32)
    return tile, maps, labels


def stroked(tile: TrainingTile, *strokes: tuple[slice, slice]) -> TrainingTile:
    """Return the tile as it is when only strokes are known, which tell no distance."""
    weight = np.zeros_like(tile.weight)
    for stroke in strokes:
        weight[:2, *stroke] = 1
    return replace(tile, weight=weight)


FIRST, SECOND = (slice(10, 13), slice(8, 14)), (slice(8, 10), slice(22, 30))
NOTHING = (slice(0, 2), slice(0, SIDE))


def test_a_stroke_grows_to_the_whole_object_and_to_no_other() -> None:
    tile, maps, labels = scene()
    given = stroked(tile, FIRST, NOTHING)
    assert incomplete(given)
    done = complete(given, maps, 2)
    assert not incomplete(done)
    inside = (done.weight[2] > 0) & (labels > 0)
    assert (done.target[1][inside] == 1).all()
    assert (done.target[0][inside] == 1).all()
    assert (inside & (labels == 1)).sum() >= 0.95 * (labels == 1).sum()
    assert not (inside & (labels > 1)).any()  # the second touches the first and has no stroke
    assert done.target[2][inside] == pytest.approx(tile.target[2][inside], abs=0.15)
    assert set(np.unique(done.weight[2][inside])) == {np.float32(COMPLETED)}


def test_two_strokes_part_objects_that_the_model_sees_as_one() -> None:
    tile, maps, labels = scene()
    maps[2, :, 16:20] = 0  # no boundary between the first two
    done = complete(stroked(tile, FIRST, SECOND), maps, 2)
    assert (done.weight[2] > 0)[labels == 1].mean() > 0.9
    assert (done.weight[2] > 0)[labels == 2].mean() > 0.9
    middle = done.target[2][12]  # a row through both: a hill for each
    assert middle[17:20].min() < 0.5 * min(middle[4:17].max(), middle[20:34].max())


def test_what_is_known_stays_and_what_is_added_counts_less() -> None:
    tile, maps, labels = scene()
    given = stroked(tile, FIRST, NOTHING)
    done = complete(given, maps, 2)
    for known in (FIRST, NOTHING):
        assert (done.weight[:2, *known] == 1).all()
        assert (done.target[:2, *known] == given.target[:2, *known]).all()
    added = (done.weight[:2] > 0) & (given.weight[:2] == 0)
    assert set(np.unique(done.weight[:2][added])) == {np.float32(GUESSED)}
    assert (done.weight[2][NOTHING] == 1).all()  # background counts against the objects
    assert not done.target[2][NOTHING].any()
    assert not done.weight[:, labels > 1].any()  # objects without a stroke stay unknown


def test_background_is_added_where_the_model_is_sure() -> None:
    tile, maps, labels = scene()
    maps[0][labels == 0] = 0.8
    maps[0, 22:24] = 0.95
    done = complete(stroked(tile, FIRST), maps, 2)
    added = (done.weight[0] > 0) & (labels == 0)
    assert (added == (np.arange(SIDE) // 2 == 11)[:, None]).all()
    assert not done.target[:, added].any()


def test_what_the_user_called_background_is_not_grown_over() -> None:
    tile, maps, labels = scene()
    erased = (slice(14, 20), slice(4, 18))
    labels[erased] = 0
    given = stroked(training_tile(tile.image, labels, "instances"), FIRST, erased)
    done = complete(given, maps, 2)
    assert not done.target[2][erased].any()


def test_pixels_that_were_vouched_for_get_no_new_boundary() -> None:
    """The third object is known as a whole but for a corner, which is held out; the first only in part."""
    tile, maps, _ = scene()
    weight = np.zeros_like(tile.weight)
    weight[:, 22:] = 1
    weight[:, 26:32, 8:14] = 0
    weight[:2, *FIRST] = 1
    given = replace(tile, weight=weight)
    done = complete(given, maps, 2)
    before, after = (boundary(torch.from_numpy(t.target[1])[None])[0].numpy() for t in (given, done))
    sure = given.weight[1] > 0
    sure[FIRST] = False  # what lies around a stroke was not known
    assert (before == after)[sure].all()


def test_classes_of_objects_go_with_them() -> None:
    tile, maps, labels = scene()
    tile.target[0][labels == 2] = 2
    maps = np.concatenate((maps[:2], maps[1:2], maps[2:]))
    done = complete(stroked(tile, FIRST, SECOND), maps, 3)
    for number in (1, 2):
        assert (done.target[0][(labels == number) & (done.weight[0] > 0)] == number).all()


def test_a_tile_that_is_known_is_complete() -> None:
    tile, _, _ = scene()
    assert not incomplete(tile)
