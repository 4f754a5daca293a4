"""Maps made from known labels give these labels again; what has no middle is no object."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage as ndi

from napari_unet import DecodeSettings
from napari_unet.infer.instances import decode, decode_classes, decode_instances
from napari_unet.learn.matching import match_objects
from napari_unet.learn.targets import inner_edge, normalised_distance

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet import Model

ALL = DecodeSettings(min_size=0)


def maps_of(labels: np.ndarray) -> np.ndarray:
    """Return the maps of a network that knows the labels: background, object, boundary, distance."""
    inside = labels > 0
    return np.stack([~inside, inside, inner_edge(labels), normalised_distance(labels)]).astype(np.float32)


def balls(shape: tuple[int, ...], radius: float, *centres: tuple[float, ...]) -> np.ndarray:
    """Return balls numbered from 1; where they overlap, a pixel belongs to the nearest centre."""
    places = np.moveaxis(np.indices(shape), 0, -1)
    distances = np.stack([np.linalg.norm(places - np.array(centre), axis=-1) for centre in centres])
    return np.where(distances.min(axis=0) <= radius, distances.argmin(axis=0) + 1, 0)


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = {(int(a), int(b)) for a, b in zip(one.ravel(), other.ravel(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


APART = [
    balls((90,), 8, (10,), (40,), (70,)),
    balls((70, 80), 9, (12, 12), (12, 40), (50, 30), (64, 75)),
    balls((30, 30, 40), 6, (8, 8, 8), (20, 20, 30), (29, 0, 10)),
]
TOUCHING = [
    balls((60,), 8, (15,), (31,), (46,)),
    balls((60, 60), 10, (20, 20), (20, 38), (36, 29)),
    balls((26, 26, 40), 8, (12, 12, 11), (12, 12, 25)),
]


@pytest.mark.parametrize("labels", APART)
def test_objects_apart_come_back_exactly(labels: np.ndarray) -> None:
    found = decode_instances(maps_of(labels), 2, DecodeSettings())
    assert found.dtype == np.uint32
    assert same_partition(found, labels)


@pytest.mark.parametrize("labels", TOUCHING)
def test_touching_objects_are_cut_where_they_touch(labels: np.ndarray) -> None:
    found = decode_instances(maps_of(labels), 2, DecodeSettings())
    assert ((found > 0) == (labels > 0)).all()
    matching = match_objects(labels, found, 0.9)
    assert len(matching.missed) == len(matching.spurious) == 0


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (4, 9, 12), elements=st.floats(0, 1, width=32)), st.floats(0, 1))
def test_objects_are_connected_foreground_with_a_middle(maps: np.ndarray, foreground: float) -> None:
    found = decode_instances(maps, 2, DecodeSettings(foreground=foreground, min_size=0))
    inside = maps[0] < 1 - foreground
    assert not found[~inside].any()
    assert (maps[3][inside & (found == 0)] < ALL.middle).all()
    assert all(maps[3][found == number].max() >= ALL.middle for number in np.unique(found[found > 0]))
    assert np.unique(found[found > 0]).tolist() == list(range(1, int(found.max()) + 1))
    for number, box in enumerate(ndi.find_objects(found), 1):
        assert ndi.label(found[box] == number, structure=np.ones((3, 3)))[1] == 1


def test_a_piece_without_a_middle_is_dropped_and_a_thin_object_is_not() -> None:
    labels = balls((40, 40), 9, (12, 12))
    labels[30, 5:35] = 2  # one pixel wide: all of it is edge and middle at once
    maps = maps_of(labels)
    assert same_partition(decode_instances(maps, 2, ALL), labels)
    maps[3, labels == 2] = 0.3  # a smear that the network saw as foreground only
    assert same_partition(decode_instances(maps, 2, ALL), np.where(labels == 2, 0, labels))
    assert same_partition(decode_instances(maps, 2, replace(ALL, middle=0.25)), labels)


def test_low_hills_are_told_apart_by_their_saddle() -> None:
    labels = TOUCHING[1]
    maps = maps_of(labels)
    maps[2], maps[3] = 0, 0.5 * maps[3]  # blurred: no boundary is seen, and no distance comes near 1
    assert decode_instances(maps, 2, DecodeSettings()).max() == 3


def test_a_seed_reaches_along_a_diagonal() -> None:
    line = np.eye(20, dtype=int)
    maps = maps_of(line)
    maps[2], maps[3] = 0, 0.5
    assert same_partition(decode_instances(maps, 2, ALL), line)


def test_more_objects_than_sixteen_bits_count() -> None:
    labels = np.zeros((540, 540), np.uint32)
    labels[::2, ::2] = np.arange(1, 270 * 270 + 1).reshape(270, 270)
    found = decode_instances(maps_of(labels), 2, DecodeSettings(boundary=1.0, min_size=0))
    assert found.max() == 72_900
    assert same_partition(found, labels)


def test_objects_below_the_smallest_size_are_dropped() -> None:
    labels = np.zeros((30, 30), int)
    labels[2:5, 2:5], labels[10:20, 10:20] = 1, 2
    kept = {size: decode_instances(maps_of(labels), 2, DecodeSettings(min_size=size)) for size in (9, 10, 101)}
    assert [int(found.max()) for found in kept.values()] == [2, 1, 0]
    assert ((kept[10] == 1) == (labels == 2)).all()


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 7), (5, 6), (2, 1, 3)])
@pytest.mark.parametrize("inside", [0, 1])
def test_nothing_and_everything(shape: tuple[int, ...], inside: int) -> None:
    found = decode_instances(maps_of(np.full(shape, inside)), 2, ALL)
    assert found.shape == shape
    assert (found == inside).all()


def test_thresholds_move_the_edge_and_the_cuts() -> None:
    labels = TOUCHING[1]
    maps = maps_of(labels)
    maps[0] = 1 - maps[3]  # as if the foreground faded towards the edges
    sizes = [(decode_instances(maps, 2, DecodeSettings(foreground=f)) > 0).sum() for f in (0.2, 0.5, 0.8)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3
    smooth = maps_of(labels)
    smooth[2], smooth[3] = 0, ndi.gaussian_filter(smooth[3], 3)
    counts = [decode_instances(smooth, 2, DecodeSettings(seed=seed)).max() for seed in (0.05, 0.9)]
    assert counts == [3, 1]


def test_the_largest_probability_is_the_class() -> None:
    maps = np.zeros((3 + 2, 2, 2), np.float32)
    maps[[0, 1, 2, 2], [0, 0, 1, 1], [0, 1, 0, 1]] = 0.4
    maps[3:] = 9  # what follows the classes does not count
    found = decode_classes(maps, 3)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1], [2, 2]]


def test_255_classes_fit() -> None:
    maps = np.eye(255, dtype=np.float32)
    assert decode_classes(maps, 255).tolist() == list(range(255))


def test_the_model_says_what_its_labels_mean(thresholding: Callable[..., Model]) -> None:
    maps = maps_of(APART[1])
    objects, classes = thresholding(), thresholding(task="classes")
    assert decode(objects, maps).max() == 4
    assert decode(classes, maps[:2]).max() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"foreground": 1.1},
        {"seed": -0.1},
        {"boundary": float("nan")},
        {"middle": 1.5},
        {"seed": "0.5"},
        {"min_size": -1},
        {"min_size": 2.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    from napari_unet import ModelFileError

    with pytest.raises(ModelFileError, match="expected a"):
        DecodeSettings(**wrong)
