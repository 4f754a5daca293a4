"""Parts of an image are found as the screen shows them."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_unet.errors import ImageError
from napari_unet.gui.layers import look_at
from napari_unet.gui.regions import clamp, region_of, whole


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


def test_a_plane_that_is_not_shown_is_refused() -> None:
    viewer = ViewerModel()
    source = look_at(viewer.add_image(np.zeros((9, 64, 48))))
    viewer.dims.order = (1, 0, 2)
    for part in ("slice", "view"):
        with pytest.raises(ImageError, match="does not show the rows and columns"):
            region_of(viewer, source, part)
    assert region_of(viewer, source, "whole") == whole((9, 64, 48))
    viewer.dims.order = (0, 2, 1)
    assert region_of(viewer, source, "slice")[0] == slice(4, 5), "the same plane, turned"
    viewer.dims.ndisplay, viewer.dims.order = 3, (1, 0, 2)
    assert region_of(viewer, source, "slice") == whole((9, 64, 48))


def test_clamp_takes_the_middle() -> None:
    assert clamp((slice(3, 4), slice(0, 3000), slice(100, 200)), 1000) == (
        slice(3, 4),
        slice(1000, 2000),
        slice(100, 200),
    )
