"""Layers are read as the model needs them, and labels lie exactly over their image."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_unet.errors import ImageError
from napari_unet.gui.layers import choices_of_axes, look_at, looks_empty, pixel_size, placement, split_channels
from napari_unet.gui.regions import region_of


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
        ((9, 2, 64, 48), {}, "ZCYX", (9, 1, 64, 48)),
        ((5, 9, 2, 64, 48), {}, "TZCYX", (5, 9, 1, 64, 48)),
        ((9, 7, 64, 48), {"axis_labels": ("t", "c", "y", "x")}, "TCYX", (9, 1, 64, 48)),
        ((1, 1), {}, "YX", (1, 1)),
        ((3, 64, 48), {"axis_labels": ("s", "y", "x")}, "CYX", (64, 48)),
    ],
)
def test_axes(shape: tuple[int, ...], settings: dict, axes: str, labels: tuple[int, ...]) -> None:
    source = look_at(Image(np.zeros(shape, np.uint8), **settings))
    assert source.axes == axes
    assert source.shape == labels
    assert source.is_current()


def test_axes_may_be_chosen() -> None:
    layer = Image(np.zeros((3, 64, 48)))
    assert set(choices_of_axes(layer)) == {"CYX", "ZYX", "TYX", "YXC"}
    assert look_at(layer, "TYX").shape == (3, 64, 48)
    assert {"TZYX", "ZCYX", "TCYX"} < set(choices_of_axes(Image(np.zeros((9, 2, 6, 4)))))
    assert {"TZCYX", "TCZYX"} < set(choices_of_axes(Image(np.zeros((2, 9, 2, 6, 4)))))


def test_channels_after_the_rows_are_refused_with_a_mend() -> None:
    layer = Image(np.zeros((64, 48, 5)), axis_labels=("y", "x", "c"))
    with pytest.raises(ImageError, match="split them into layers"):
        look_at(layer)


def test_channels_are_split_in_their_place() -> None:
    viewer = ViewerModel()
    pixels = np.random.default_rng(0).random((64, 48, 5))
    layer = viewer.add_image(pixels, name="x", scale=(2, 3, 1), translate=(5, 6, 0), units=("um", "um", "pixel"))
    made = split_channels(viewer, layer, "YXC")
    assert [each.name for each in viewer.layers] == [f"x channel {i}" for i in range(5)]
    np.testing.assert_array_equal(made[3].data, pixels[..., 3])
    assert tuple(made[0].translate) == (5, 6)
    assert pixel_size(look_at(made[0])) == 3


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_labels_lie_over_each_channel(shown: int) -> None:
    """Channels in the middle: the same labels are seen, and painted, in each channel, and only in their slice."""
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((9, 3, 64, 48)), scale=(2, 1, 0.5, 0.5), translate=(1, 4, 0, 0))
    source = look_at(layer)
    labels = viewer.add_labels(np.zeros(source.shape, np.uint32), **placement(source))
    for axis, at in ((0, 5), (1, shown)):
        viewer.dims.set_current_step(axis, at)
    point = labels.world_to_data(viewer.dims.point)
    labels.paint(tuple(np.round(point).astype(int)[:2]) + (20, 20), 7)
    assert (labels._slice.image.raw == 7).any()
    assert region_of(viewer, source, "slice") == (slice(5, 6), slice(0, 1), slice(0, 64), slice(0, 48))
    viewer.dims.set_current_step(1, (shown + 1) % 3)
    assert (labels._slice.image.raw == 7).any()
    viewer.dims.set_current_step(0, 4)
    assert not labels._slice.image.raw.any()


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


def test_of_an_image_too_large_for_its_labels_a_window_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [np.arange(64 * 48).reshape(64, 48), np.zeros((32, 24)), np.zeros((16, 12))]
    layer = Image(levels, multiscale=True, scale=(2, 2))
    assert look_at(layer).shape == (64, 48)
    assert not look_at(layer).large
    monkeypatch.setattr("napari_unet.gui.layers.LARGEST", 1000)
    source = look_at(layer)
    assert source.large
    window = source.cut(0, (slice(10, 20), slice(5, 9)))
    assert (window.shape, window.large, window.is_current()) == ((10, 4), False, True)
    np.testing.assert_array_equal(window.data[...], levels[0][10:20, 5:9])
    assert window.within((slice(1, 2), slice(0, 3))) == (slice(11, 12), slice(5, 8))
    assert placement(window)["translate"].tolist() == [20, 10]
    coarse = source.cut(1, (slice(4, 8), slice(0, 24)))
    assert (coarse.shape, coarse.step) == ((4, 24), (2.0, 2.0))
    labels = Labels(np.zeros((4, 24), np.uint32), **placement(coarse))
    np.testing.assert_allclose(
        labels.data_to_world((0, 0)), (17, 1), err_msg="the middle of the four pixels it stands for"
    )


@pytest.mark.parametrize(("unit", "size"), [("um", 0.5), ("nm", 0.0005), ("pixel", None)])
def test_pixel_size(unit: str, size: float | None) -> None:
    layer = Image(np.zeros((4, 4)), scale=(0.5, 0.5), units=(unit, unit))
    assert pixel_size(look_at(layer)) == (size and pytest.approx(size))


def test_a_pixel_of_a_pyramid_is_as_wide_as_those_of_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_unet.gui.layers.LARGEST", 1000)
    levels = [np.zeros((64, 48)), np.zeros((32, 24)), np.zeros((16, 12))]
    layer = Image(levels, multiscale=True, scale=(0.5, 0.5), units=("um", "um"))
    assert pixel_size(look_at(layer)) == 0.5
    assert pixel_size(look_at(layer).cut(1, (slice(0, 8), slice(0, 8)))) == 1.0


def test_an_empty_channel_is_seen(tmp_path) -> None:
    pixels = np.zeros((2, 64, 48), np.uint16)
    pixels[1, 10] = 9
    source = look_at(Image(pixels))
    assert looks_empty(source, 0)
    assert not looks_empty(source, 1)
    in_the_middle = look_at(Image(pixels[None].repeat(9, axis=0)))
    assert in_the_middle.axes == "ZCYX"
    assert [looks_empty(in_the_middle, channel) for channel in (0, 1)] == [True, False]
    on_disk = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", shape=(2, 64, 48))
    assert not looks_empty(look_at(Image(on_disk)), 0), "a file is not read for this"
