"""The samples of napari's menu are layers that napari takes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Layer

from napari_unet import sample_data
from napari_unet.errors import ImageError
from napari_unet.gui import samples

OWN = [samples.nuclei, samples.cells, samples.nuclei_3d, samples.movie]


@pytest.mark.parametrize("sample", [*OWN, samples.cell, samples.immunohistochemistry])
def test_offline_samples_are_images(sample) -> None:
    for data in sample():
        layer = Layer.create(*data)
        assert isinstance(layer, Image)
        assert layer.axis_labels[-2:] == ("y", "x")


@pytest.mark.parametrize("sample", OWN)
def test_own_samples_have_their_pixel_size(sample) -> None:
    ((pixels, settings, kind),) = sample()
    stored = sample_data.load(sample.__name__)
    layer = Layer.create(pixels, settings, kind)
    np.testing.assert_array_equal(layer.data, stored.image)
    for axis, step, unit in zip(stored.axes, layer.scale, layer.units, strict=True):
        assert step == stored.scale.get(axis, 1)
        assert str(unit) == ("micrometer" if axis in stored.scale else "pixel")


def test_colour() -> None:
    ((pixels, settings, kind),) = samples.immunohistochemistry()
    assert Layer.create(pixels, settings, kind).rgb


def test_downloaded_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skimage.data.cells3d", lambda: np.zeros((4, 2, 8, 8), np.uint16))
    monkeypatch.setattr("skimage.data.human_mitosis", lambda: np.zeros((8, 8), np.uint8))
    membranes, nuclei = (Layer.create(*data) for data in samples.cells3d())
    assert membranes.data.shape == nuclei.data.shape == (4, 8, 8)
    assert tuple(nuclei.scale) == (0.29, 0.26, 0.26)
    assert len(samples.human_mitosis()) == 1


@pytest.mark.parametrize("error", [ModuleNotFoundError, ConnectionError, ValueError])
@pytest.mark.parametrize("name", ["cells3d", "human_mitosis"])
def test_no_internet(monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception]) -> None:
    def refuse():
        raise error("Failed to\nresolve 'gitlab.com'")

    monkeypatch.setattr(f"skimage.data.{name}", refuse)
    with pytest.raises(ImageError, match=f"{name}.*needs pooch/internet: .*{error.__name__}"):
        getattr(samples, name)()
