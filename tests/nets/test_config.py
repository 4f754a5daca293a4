"""The record of an architecture refuses what no network can be built from."""

from __future__ import annotations

from typing import Any

import pytest

from napari_unet.errors import ModelFileError
from napari_unet.nets.config import UNetConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"ndim": 0},
        {"ndim": 4},
        {"ndim": 2.0},
        {"ndim": "2"},
        {"in_channels": 0},
        {"classes": 1},
        {"classes": 256},
        {"depth": -1},
        {"depth": 9},
        {"width": 10**9},
        {"width": True},
        {"max_width": 0},
        {"max_width": None},
        {"top": 0},
    ],
)
def test_what_cannot_be_built_is_refused_by_name_and_value(wrong: dict[str, Any]) -> None:
    ((key, value),) = wrong.items()
    with pytest.raises(ModelFileError, match=f"{key} is {value!r}, expected a whole number from"):
        UNetConfig(**wrong)


def test_widths_double_up_to_the_widest() -> None:
    assert UNetConfig(width=16, depth=4, max_width=100).widths == (16, 32, 64, 100, 100)
    assert UNetConfig(width=5, depth=0).widths == (5,)
    assert UNetConfig(width=32, depth=3, top=16).widths == (16, 64, 128, 256)


def test_boundary_and_distance_follow_the_classes() -> None:
    assert UNetConfig(classes=3).out_channels == 5
    assert UNetConfig(classes=3, instance_maps=False).out_channels == 3


def test_a_record_survives_a_file() -> None:
    config = UNetConfig(ndim=3, in_channels=3, classes=4, instance_maps=False, depth=2, width=8, max_width=16)
    assert UNetConfig(**config.to_dict()) == config
