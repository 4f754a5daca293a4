"""The memory of a training is told from what it is of, and grows with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet import DeviceError
from napari_unet.learn.memory import check_memory, needed, tiles_size
from napari_unet.learn.targets import training_tile
from napari_unet.nets.config import UNetConfig

SMALL = UNetConfig(width=8, depth=2)


def test_more_batch_crop_weights_and_precision_need_more() -> None:
    least = needed(SMALL, 1, (128, 128), torch.bfloat16)
    assert needed(SMALL, 4, (128, 128), torch.bfloat16) > least
    assert needed(SMALL, 1, (256, 256), torch.bfloat16) > least
    assert needed(SMALL, 1, (128, 128), torch.float32) > least
    assert needed(UNetConfig(width=16, depth=2), 1, (128, 128), torch.bfloat16) > least


def test_crops_count_as_they_do_in_memory() -> None:
    one, two, three = (needed(SMALL, n, (256, 256), torch.float32) for n in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=0.01)
    assert needed(SMALL, 4, (128, 128), torch.float32) == pytest.approx(one, rel=0.01)


@pytest.mark.parametrize("ndim", [1, 3])
def test_other_dimensions(ndim: int) -> None:
    config = UNetConfig(ndim=ndim, width=8, depth=1, instance_maps=False, classes=3)
    assert needed(config, 2, (32,) * ndim, torch.float32) > needed(config, 1, (32,) * ndim, torch.float32)


def test_what_does_not_fit_is_refused_in_one_sentence() -> None:
    cpu = torch.device("cpu")
    check_memory(10**9, 10**9, cpu, 4, (256, 256))
    check_memory(10**12, None, cpu, 4, (256, 256))
    with pytest.raises(DeviceError) as caught:
        check_memory(12_300_000_000, 8 * 10**9, cpu, 4, (256, 256))
    assert str(caught.value) == (
        "Training needs about 12.3 GB of memory and 8.0 GB are free on the device 'cpu': make the batch (4) or the "
        "crop (256 × 256 pixels) smaller."
    )


def test_tiles_are_as_large_as_their_arrays() -> None:
    tile = training_tile(np.zeros((1, 10, 20), np.float32), np.zeros((10, 20), int), "instances")
    assert tiles_size([tile, tile]) == 2 * 4 * 7 * 200
