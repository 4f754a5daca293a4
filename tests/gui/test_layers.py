"""Layers are read as the model needs them, and labels lie exactly over their image."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_unet.errors import ImageError
from napari_unet.gui.layers import choices_of_axes, clamp, look_at, pixel_size, placement, region_of, whole


@pytest.mark.parametrize(
    ("shape", "settings", "axes", "labels"),
    [
        ((64, 48), {}, "YX", (64, 48)),
        ((64, 48, 3), {"rgb": True}, "YXS", (64, 48)),
        ((3, 64, 48), {}, "CYX", (64, 48)),
        ((9, 64, 48), {}, "ZYX", (9, 64, 48)),
        ((9, 64, 48), {"axis_labels": ("t", "y", "x")}, "TYX", (9, 64, 48)),
        ((3, 64, 48), {"axis_labels": ("z", "y", "x")}, "ZYX", (3, 64, 48)),
        ((5, 9, 64, 48), {}, "TZYX", (5, 9, 64, 48)),
        ((2, 9, 64, 48), {}, "CZYX", (9, 64, 48)),
        ((1, 1), {}, "YX", (1, 1)),
    ],
)
def test_axes(shape: tuple[int, ...], settings: dict, axes: str, labels: tuple[int, ...]) -> None:
    source = look_at(Image(np.zeros(shape, np.uint8), **settings))
    assert source.axes == axes
    assert source.shape == labels
    assert source.is_current()


def test_axes_may_be_chosen() -> None:
    layer = Image(np.zeros((3, 64, 48)))
    assert set(choices_of_axes(layer)) == {"CYX", "ZYX", "TYX"}
    assert look_at(layer, "TYX").shape == (3, 64, 48)


def test_channels_in_the_middle_are_refused_with_a_mend() -> None:
    layer = Image(np.zeros((9, 2, 64, 48)), axis_labels=("z", "c", "y", "x"))
    with pytest.raises(ImageError, match="Split Stack"):
        look_at(layer)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
def test_labels_lie_over_their_image() -> None:
    layer = Image(
        np.zeros((9, 64, 48)),
        scale=(3, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=(5, 10, 20),
        shear=(0.1, 0.2, 0.3),
        affine=np.diag([1, 2, 3, 1.0]),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
    )
    labels = Labels(np.zeros((9, 64, 48), np.uint32), **placement(look_at(layer)))
    for point in ((0, 0, 0), (8, 63, 47), (3, 10, 20)):
        np.testing.assert_allclose(labels.data_to_world(point), layer.data_to_world(point))
    assert labels.units == layer.units
    assert labels.axis_labels == layer.axis_labels


def test_labels_of_channels_lie_over_the_plane() -> None:
    layer = Image(
        np.zeros((3, 64, 48)), scale=(1, 0.5, 0.25), translate=(0, 2, 3), rotate=30, affine=np.diag([1, 2, 3, 1.0])
    )
    labels = Labels(np.zeros((64, 48), np.uint32), **placement(look_at(layer)))
    np.testing.assert_allclose(labels.data_to_world((10, 20)), layer.data_to_world((0, 10, 20))[1:])


def test_a_pyramid_is_read_at_full_size_if_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [np.zeros((64, 48)), np.zeros((32, 24)), np.zeros((16, 12))]
    layer = Image(levels, multiscale=True, scale=(2, 2))
    assert look_at(layer).shape == (64, 48)
    monkeypatch.setattr("napari_unet.gui.layers.LARGEST", 1000)
    source = look_at(layer)
    assert (source.level, source.shape, source.step) == (1, (32, 24), (2.0, 2.0))
    labels = Labels(np.zeros((32, 24), np.uint32), **placement(source))
    np.testing.assert_allclose(
        labels.data_to_world((0, 0)), (1, 1), err_msg="the middle of the four pixels it stands for"
    )


def test_regions() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((9, 64, 48)), scale=(2, 1, 1))
    source = look_at(layer)
    viewer.dims.set_point(0, 8)
    assert region_of(viewer, source, "whole") == whole((9, 64, 48))
    assert region_of(viewer, source, "slice") == (slice(4, 5), slice(0, 64), slice(0, 48))
    layer.corner_pixels = np.array([[0, 10, 20], [0, 29, 39]])
    assert region_of(viewer, source, "view") == (slice(4, 5), slice(10, 30), slice(20, 40))
    labels = Labels(np.zeros((9, 64, 48), np.uint32))
    labels.corner_pixels = np.array([[0, 0, 0], [0, 5, 6]])
    assert region_of(viewer, source, "view", labels) == (slice(4, 5), slice(0, 6), slice(0, 7))


def test_clamp_takes_the_middle() -> None:
    assert clamp((slice(3, 4), slice(0, 3000), slice(100, 200)), 1000) == (
        slice(3, 4),
        slice(1000, 2000),
        slice(100, 200),
    )


@pytest.mark.parametrize(("unit", "size"), [("um", 0.5), ("nm", 0.0005), ("pixel", None)])
def test_pixel_size(unit: str, size: float | None) -> None:
    assert pixel_size(Image(np.zeros((4, 4)), scale=(0.5, 0.5), units=(unit, unit))) == (size and pytest.approx(size))
