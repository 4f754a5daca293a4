"""Batches are drawn by share, from every place of a tile, and where little is known from there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.learn.batches import MARGIN, Batches, cut
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.targets import TrainingTile, training_tile

SETTINGS = TrainSettings(batch=3, crop=16, seed=1)


def tile(*shape: int, value: float = 0, channels: int = 1) -> TrainingTile:
    labels = np.ones(shape, int)
    return training_tile(np.full((channels, *shape), value, np.float32), labels, "instances")


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(-5, 9), st.integers(1, 14)), min_size=1, max_size=3),
    st.sampled_from(["constant", "edge", "reflect"]),
)
def test_a_window_is_a_window_of_the_padded_array(axes: list[tuple[int, int, int]], mode: str) -> None:
    shape = [length for length, _, _ in axes]
    axes = [(length, min(start, length - 1), max(size, 1 - start)) for length, start, size in axes]
    array = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    wide = np.pad(array, [(0, 0), *[(20, 30)] * len(shape)], mode=mode)  # type: ignore[call-overload]
    expected = wide[(..., *(slice(start + 20, start + 20 + size) for _, start, size in axes))]
    found = cut(torch.from_numpy(array), [start for _, start, _ in axes], [size for _, _, size in axes], mode).numpy()
    assert found.shape == expected.shape
    if mode != "reflect" or min(shape) > 1:  # reflections of what is cut off are not those of the whole
        inside = [slice(max(-start, 0), max(length - start, 0)) for length, start, _ in axes]
        assert (found[(..., *inside)] == expected[(..., *inside)]).all()
    if mode != "reflect":
        assert (found == expected).all()


@pytest.mark.parametrize("shape", [(100,), (1,), (40, 50), (5, 50), (1, 50), (1, 1), (20, 30, 40), (1, 30, 2)])
@pytest.mark.parametrize("known", [1.0, 0.01])
def test_any_shape_gives_batches(shape: tuple[int, ...], known: float) -> None:
    made = tile(*shape)
    some = np.random.default_rng(0).random(shape) < known
    some.flat[-1] = True
    batches = Batches([replace(made, weight=made.weight * some)], 1, SETTINGS)
    assert batches.size == tuple(min(16, n) for n in shape)
    for _ in range(20):
        image, target, weight = batches.draw()
        read = tuple(int(np.ceil(n * MARGIN)) for n in batches.size)
        assert image.shape == (3, 1, *read)
        assert target.shape == (3, 3, *read)
        assert weight.shape == (3, 3, *read)
        assert (weight[:, 0].flatten(1) > 0).any(dim=1).all(), "a crop that teaches nothing"


def test_every_place_is_read_and_what_lies_outside_never_counts() -> None:
    made = tile(40, 30)
    places = np.arange(1, 1201, dtype=np.float32).reshape(1, 40, 30)
    batches = Batches([replace(made, image=places)], 1, replace(SETTINGS, batch=100))
    middle = (slice(None), slice(None), slice(4, 20), slice(4, 20))
    seen = set()
    for _ in range(40):
        image, target, weight = (part[middle] for part in batches.draw())
        assert (weight == 1).all(), "the part that is used lies inside"
        assert (target[:, 1] == 1).all()
        seen.update(image.unique().int().tolist())
    assert seen == set(range(1, 1201))
    image, target, weight = Batches([tile(10, 10)], 1, SETTINGS).draw()
    assert weight.sum(dim=(2, 3)).tolist() == [[100] * 3] * 3
    assert (target[:, 1] == 1).all(), "an object cut by the border goes on outside: no edge of it"


def test_tiles_are_drawn_by_their_share() -> None:
    tiles = [replace(tile(16, 16, value=value), share=share) for value, share in ((1, 3.0), (2, 1.0))]
    batches = Batches(tiles, 1, replace(SETTINGS, batch=200))
    values = batches.draw()[0][:, 0, 5, 5]
    assert 0.65 < (values == 1).float().mean() < 0.85


def test_a_grey_tile_is_repeated_beside_coloured_ones() -> None:
    batches = Batches([tile(20, 20, value=1), tile(20, 20, value=2, channels=3)], 3, SETTINGS)
    image = batches.draw()[0]
    assert image.shape[1] == 3
    assert torch.equal(image[:, 0], image[:, 2])


def test_the_same_seed_draws_the_same() -> None:
    made = replace(tile(50, 50), image=np.random.default_rng(0).random((1, 50, 50)).astype(np.float32))
    one, same = (Batches([made], 1, SETTINGS).draw()[0] for _ in range(2))
    other = Batches([made], 1, replace(SETTINGS, seed=2)).draw()[0]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_crop_has_a_default_for_each_number_of_axes() -> None:
    settings = replace(SETTINGS, crop=None)
    assert Batches([tile(5000)], 1, settings).size == (1024,)
    assert Batches([tile(300, 100)], 1, settings).size == (256, 100)
    assert Batches([tile(10, 100, 70)], 1, settings).size == (10, 64, 64)
