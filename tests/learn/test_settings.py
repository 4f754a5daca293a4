"""The settings of training refuse what cannot be trained with, and say what they are."""

from __future__ import annotations

from typing import Any

import pytest

from napari_unet import DataError
from napari_unet.learn.settings import SCRATCH, Augmentation, TrainSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 2.5},
        {"batch": 0},
        {"crop": 8},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"ema": 1.0},
        {"weight_decay": -1e-4},
        {"checks": -1},
        {"seed": 2**31},
    ],
)
def test_numbers_out_of_bounds_are_refused_by_name(wrong: dict[str, Any]) -> None:
    ((key, value),) = wrong.items()
    with pytest.raises(DataError, match=f"{key} is {value}, expected a (whole )?number from"):
        TrainSettings(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"scale": 0.5}, {"scale": 0}, {"elastic": -1}, {"noise": float("nan")}, {"blur": 1e9}]
)
def test_an_augmentation_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="The augmentation"):
        Augmentation(**wrong)


def test_each_setting_has_help_and_its_default_is_within_bounds() -> None:
    for name, field in TrainSettings.__dataclass_fields__.items():
        assert name == "augmentation" or field.metadata["help"].endswith("."), name
    assert TrainSettings(steps=5000, learning_rate=5e-3, ema=0.999, checks=20, keep_best=True) == SCRATCH
