"""Files are opened so that napari shows them well and the dock takes them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.layers import Image

from napari_unet.gui.launch import arranged
from napari_unet.gui.layers import look_at
from napari_unet.infer import tiff
from napari_unet.infer.read import read_image


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("shape", "settings", "axes"),
    [
        ((4, 9, 2, 40, 50), {"imagej": True, "metadata": {"axes": "TZCYX"}}, "CTZYX"),
        ((40, 50, 5), {"photometric": "minisblack", "planarconfig": "contig"}, "CYX"),
        ((3, 40, 50), {"photometric": "rgb", "planarconfig": "separate"}, "YXS"),
        ((40, 50, 3), {"photometric": "rgb"}, "YXS"),
    ],
)
def test_channels_come_first_and_colours_last(
    tmp_path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], settings: dict, axes: str, lazy: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", pixels, **settings)
    if lazy:
        monkeypatch.setattr(tiff, "LAZY_ABOVE", 0)
    read = read_image(tmp_path / "x.tif")
    data, found = arranged(read.data, read.axes)
    assert found == axes
    at = next((i for i, letter in enumerate(read.axes) if letter in "CS"), 0)
    np.testing.assert_array_equal(np.asarray(data), np.moveaxis(pixels, at, axes.find("C")))
    labels = tuple(found.removesuffix("S").lower())
    source = look_at(Image(data, rgb="S" in found, axis_labels=labels, contrast_limits=(0, 255)))
    assert source.axes == axes
    assert source.shape == tuple(n for n, letter in zip(data.shape, axes, strict=True) if letter not in "CS")
