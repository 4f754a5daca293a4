"""What a machine does at best, measured beside what we make of it: products of matrices, and 3×3 convolutions."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.nets.unet import UNet

TIMES = 9


def median(does: Callable[[], object], times: int = TIMES) -> float:
    """Return the seconds that something takes, warm; what a GPU still has to do counts."""
    does()
    took = []
    for _ in range(times):
        finish()
        began = time.perf_counter()
        does()
        finish()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def finish() -> None:
    """Wait until the GPU, if there is one, has done all that it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def product(dtype: torch.dtype, device: str = "cpu", side: int = 4096) -> float:
    """Return the operations a second of a product of two square matrices."""
    if dtype == torch.int8:
        whole = torch.randint(-9, 9, (side, side), dtype=dtype, device=device)
        return 2 * side**3 / median(lambda: torch._int_mm(whole, whole), 3)
    a = torch.rand(side, side, device=device).to(dtype)
    return 2 * side**3 / median(lambda: a @ a, 3)


def convolution(dtype: torch.dtype, device: str = "cpu", side: int = 256, channels: int = 256, batch: int = 1) -> float:
    """Return the operations a second of a 3×3 convolution, channels last."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(batch, channels, side, side, device=device).to(dtype, memory_format=torch.channels_last)
    with torch.inference_mode(), torch.backends.cudnn.flags(benchmark=True):
        return 2 * 9 * channels**2 * batch * side**2 / median(lambda: layer(x), 3)


def operations(network: UNet) -> float:
    """Return the operations of a 2-D network for one pixel, a multiplication and an addition being two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(torch.zeros(1, network.config.in_channels, 256, 256))
    return counter.get_total_flops() / 256**2
