"""The diameter is found at the scale at which the network is surest; the network here only knows bright disks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.errors import ImageError
from napari_unet.infer import diameter as subject
from napari_unet.infer import seen
from napari_unet.infer.diameter import diameter_job
from napari_unet.infer.lazy import LazyArray
from napari_unet.jobs import run
from napari_unet.model import Model


def disks(diameter: float, side: int = 256) -> np.ndarray:
    y, x = np.mgrid[:side, :side] % round(2 * diameter) - diameter
    return (np.hypot(y, x) <= diameter / 2).astype(np.float32)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that takes what is bright for an object."""

    def predict(model: Model, image: np.ndarray, device: str):
        yield from ()
        sure = np.clip(image[0], 0, 1)
        return np.stack([1 - sure, sure, np.zeros_like(sure), sure])

    monkeypatch.setattr(subject, "predict_tiles", predict)
    return replace(Model.new(width=8, depth=2), diameter=20.0)


@pytest.mark.parametrize("true", [8.0, 20.0, 40.0])
def test_the_diameter_is_found(bright: Model, true: float) -> None:
    assert run(diameter_job(bright, disks(true))) == pytest.approx(true, rel=0.12)


def test_a_model_without_a_diameter_looks_once(bright: Model) -> None:
    assert run(diameter_job(replace(bright, diameter=None), disks(30.0))) == pytest.approx(30, rel=0.12)


def test_a_movie_is_looked_at_in_its_middle(bright: Model) -> None:
    movie = np.stack([np.zeros((256, 256), np.float32), disks(20.0), np.zeros((256, 256), np.float32)])
    assert run(diameter_job(bright, movie, "TYX")) == pytest.approx(20, rel=0.12)


def test_of_a_large_movie_only_the_middle_is_read(bright: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []

    def on_disk(slices: tuple[slice, ...]) -> np.ndarray:
        read.append(tuple(s.stop - s.start for s in slices))
        assert slices[0] == slice(250, 251, 1)
        y, x = (np.arange(s.start, s.stop) % 40 - 20 for s in slices[1:])
        return (np.hypot(*np.meshgrid(y, x, indexing="ij")) <= 10).astype(np.float32)[None]

    monkeypatch.setattr(seen, "percentiles", lambda *_: (0.0, 1.0))
    movie = LazyArray((500, 20_000, 20_000), np.dtype(np.float32), on_disk)
    assert run(diameter_job(bright, movie, "TYX")) == pytest.approx(20, rel=0.12)
    assert max(read) == (1, 2560, 2560)


def test_nothing_to_see_is_said(bright: Model) -> None:
    with pytest.raises(ImageError, match="finds no objects"):
        run(diameter_job(bright, np.zeros((64, 64), np.float32)))


def test_classes_have_no_diameter() -> None:
    model = Model.new(width=8, depth=2, task="classes", name="tissue")
    with pytest.raises(ImageError, match=r"tissue.*classes"):
        run(diameter_job(model, disks(20.0)))
