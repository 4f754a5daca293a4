"""Made images keep a model what it is: they come by seed, look as they should, and carry the model's own labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet import Provenance
from napari_unet.jobs import run
from napari_unet.learn import replay
from napari_unet.learn.replay import KINDS, SIDE, draw, replay_tiles
from napari_unet.learn.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet import Model


SETTINGS = TrainSettings(device="cpu")


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_images_are_finite_and_come_by_seed(kind: str) -> None:
    first, again, other = (draw(np.random.default_rng(seed), kind) for seed in (3, 3, 4))
    assert first.shape == ((SIDE, SIDE, 3) if kind == "stained" else (SIDE, SIDE))
    assert first.dtype == (np.uint8 if kind == "stained" else np.float32)
    assert np.isfinite(first).all()
    assert (first == again).all()
    assert (first != other).any()


def test_nuclei_are_brighter_than_the_rest_in_fluorescence_and_darker_in_stain() -> None:
    for kind in set(KINDS):
        rises = []
        for seed in range(4):
            image = draw(np.random.default_rng(seed), kind).astype(float)
            grey = image if image.ndim == 2 else image.mean(axis=-1)
            rises.append(np.percentile(grey, 98) + np.percentile(grey, 2) - 2 * np.median(grey))
        assert (np.mean(rises) > 0) == (kind == "fluorescence")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "COUNT", 3)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("channels", ["grey", "rgb"])
def test_the_labels_are_what_the_model_says(thresholding: Callable[..., Model], channels: str) -> None:
    model = replace(thresholding(channels=channels), provenance=Provenance(recipe={"steps": 1}))
    tiles = run(replay_tiles(model, 0.6, 0.5, SETTINGS))
    assert len(tiles) == 3
    assert sum(tile.share for tile in tiles) == pytest.approx(0.6)
    image = draw(np.random.default_rng(0), KINDS[0])
    assert (tiles[0].labels == model.segment(image)).all()
    assert tiles[0].labels.max() > 1
    assert all((tile.weight == 0.5).all() for tile in tiles)
    assert [len(tile.image) for tile in tiles] == [1, 3 if channels == "rgb" else 1, 1]
    assert not run(replay_tiles(model, 0.6, 0.5, SETTINGS, stop=lambda: True))


@pytest.mark.usefixtures("few")
def test_there_is_nothing_to_replay_of_a_model_without_a_past(thresholding: Callable[..., Model]) -> None:
    trained = Provenance(recipe={"steps": 1})
    assert run(replay_tiles(thresholding(), 0.5, 1.0, SETTINGS)) == []
    assert run(replay_tiles(replace(thresholding(task="classes"), provenance=trained), 0.5, 1.0, SETTINGS)) == []
    assert run(replay_tiles(replace(thresholding(ndim=3), provenance=trained), 0.5, 1.0, SETTINGS)) == []
    assert run(replay_tiles(replace(thresholding(), provenance=trained), 0.0, 1.0, SETTINGS)) == []
