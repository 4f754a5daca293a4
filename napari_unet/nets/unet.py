"""The U-Net in one, two or three dimensions."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_unet.nets.config import UNetConfig

Window = tuple[tuple[int, int], ...]  # start and stop on each spatial axis

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


class UNet(nn.Module):
    """Encoder, decoder and skip connections (Ronneberger et al. 2015, arXiv:1505.04597).

    Differences from the paper, and why: convolutions are padded, so that the output is as large as the
    input; batch normalisation follows each of them, because in eval mode it looks at one pixel only and folds
    into the convolution, which keeps tiles equal to the whole image; upsampling is nearest, which has no
    checkerboard and no parameters.

    Parameters
    ----------
    config : UNetConfig
        The architecture.
    seed : int
        Seed of the initial weights; the global random state is neither read nor changed.
    """

    def __init__(self, config: UNetConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        widths, handed = config.widths, config.handed
        with torch.random.fork_rng(devices=[]):  # torch's layers draw first weights of their own
            self.down = nn.ModuleList(
                _double_conv(config.ndim, before, width, after)
                for before, width, after in zip(
                    (config.in_channels, *widths[:-1]), widths, (*widths[:-1], handed[-1]), strict=True
                )
            )
            self.up = nn.ModuleList(
                _double_conv(config.ndim, below + width, width, up)
                for below, width, up in zip(handed[:0:-1], widths[-2::-1], handed[-2::-1], strict=True)
            )
            self.head = _CONV[config.ndim](widths[0], config.out_channels, kernel_size=1)
        self.pool = _POOL[config.ndim](2)
        self._initialise(seed)

    @property
    def stride(self) -> int:
        """Size in pixels of the pooling grid: tiles that start on its multiples see the same poolings."""
        return int(2**self.config.depth)

    @property
    def halo(self) -> int:
        """Radius in pixels of the receptive field: how far an input pixel can reach in the output.

        Level ``i`` has convolutions of radius ``2**i``, two on the way down and two on the way up, and the
        bottom has two; each pooling adds ``2**i``: in all ``7 * 2**depth - 5``.
        """
        return int(7 * 2**self.config.depth - 5)

    def forward(self, x: Tensor, keep: Window | None = None) -> Tensor:
        """Map images to logits.

        Parameters
        ----------
        x : Tensor
            ``(N, in_channels, *spatial)``, any spatial size from 1 up.
        keep : tuple of (start, stop), optional
            The part of each spatial axis that is wanted; the way up leaves out what does not reach it.

        Returns
        -------
        Tensor
            ``(N, out_channels, *spatial)``, of the same spatial size as `x`, or as `keep`.
        """
        steps = self.steps(x, keep)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                logits: Tensor = end.value
                return logits

    def steps(self, x: Tensor, keep: Window | None = None) -> Generator[None, None, Tensor]:
        """Do as :meth:`forward`, with a pause after each level, so that it can be ended there."""
        keep = keep or tuple((0, length) for length in x.shape[2:])
        x = pad_to(x, self.stride)
        skips: list[Tensor] = []
        for block in self.down:
            skips.append(block(self.pool(skips[-1]) if skips else x))
            yield
        x = skips.pop()
        held = tuple((0, length) for length in x.shape[2:])
        windows = way_up(keep, [skip.shape[2:] for skip in skips])
        for block in self.up:
            x, window = F.interpolate(x, scale_factor=2, mode="nearest"), windows.pop()
            below = tuple((start - 2 * at, stop - 2 * at) for (start, stop), (at, _) in zip(window, held, strict=True))
            x = block(torch.cat((_part(skips.pop(), window), _part(x, below)), dim=1))
            held = window
            yield
        wanted = tuple((start - at, stop - at) for (start, stop), (at, _) in zip(keep, held, strict=True))
        return self.head(_part(x, wanted))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the output of each level on the way down, the image's size first; sizes are multiples of `stride`."""
        levels: list[Tensor] = []
        for block in self.down:
            levels.append(block(self.pool(levels[-1]) if levels else x))
        return levels

    def _initialise(self, seed: int) -> None:
        """He et al. 2015 for convolutions before a ReLU; a small head, so that training starts undecided."""
        if self.head.weight.is_meta:  # built for its shapes alone
            return
        random = torch.Generator().manual_seed(seed)
        for weight in self.parameters():
            if weight.ndim > 1 and weight is not self.head.weight:
                nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=random)
        nn.init.normal_(self.head.weight, std=0.01, generator=random)
        nn.init.zeros_(self.head.bias)


def way_up(keep: Window, sizes: Sequence[Sequence[int]]) -> list[Window]:
    """Return which part of each level the way up must compute for a part of the output.

    Parameters
    ----------
    keep : tuple of (start, stop)
        The part of the output, in pixels.
    sizes : sequence of shape
        Spatial size of each level but the bottom, the image's first.

    Returns
    -------
    list of tuple of (start, stop)
        For each of those levels, in its own pixels: the part, and as much around it as two convolutions see.
    """
    windows: list[Window] = []
    for size in sizes:
        keep = tuple((max(a - 2, 0), min(b + 2, n)) for (a, b), n in zip(keep, size, strict=True))
        windows.append(keep)
        keep = tuple((a // 2, -(-b // 2)) for a, b in keep)
    return windows


def _part(x: Tensor, window: Window) -> Tensor:
    """Return a part of the spatial axes, a view; all of an axis is not cut, for the gradient of a cut is a copy."""
    for axis, (start, stop) in enumerate(window, start=2):
        x = x.narrow(axis, start, stop - start) if stop - start < x.shape[axis] else x
    return x


def activate(logits: Tensor, classes: int) -> Tensor:
    """Turn logits into maps from 0 to 1: softmax over the classes, sigmoid for boundary and distance.

    Parameters
    ----------
    logits : Tensor
        ``(N, out_channels, *spatial)``.
    classes : int
        How many of the channels are classes.

    Returns
    -------
    Tensor
        The same shape, float32.
    """
    logits = logits.float()
    return torch.cat((logits[:, :classes].softmax(dim=1), logits[:, classes:].sigmoid()), dim=1)


def fold(network: UNet) -> UNet:
    """Return a copy for inference, in eval mode, with each norm folded into the convolution before it."""
    folded = copy.deepcopy(network).eval()
    for block in (*folded.down, *folded.up):
        for i in range(0, len(block), 3):
            block[i] = fuse_conv_bn_eval(block[i], block[i + 1])
            block[i + 1] = nn.Identity()
    return folded.requires_grad_(False)


def _double_conv(ndim: int, *channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [
            _CONV[ndim](before, after, kernel_size=3, padding=1, bias=False),
            _NORM[ndim](after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last pixel of each spatial axis up to a multiple; repeating works from one pixel up."""
    pad = [p for n in reversed(x.shape[2:]) for p in (0, -n % multiple)]
    return F.pad(x, pad, mode="replicate") if any(pad) else x
