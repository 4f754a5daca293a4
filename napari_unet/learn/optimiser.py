"""Muon for the convolutions' kernels, AdamW for the few other weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_unet.infer.device import half_precision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from napari_unet.nets.unet import UNet

MOMENTUM = 0.95  # of Jordan et al. 2024
# The usual size of an AdamW update as a share of the learning rate, so that both take the same one (Liu et al. 2025)
SIZE = 0.2
# Newton-Schulz: how often, and the polynomial that brings singular values near 1 fastest (Jordan et al. 2024)
ROUNDS = 5
POLYNOMIAL = (3.4445, -4.7750, 2.0315)


def optimisers(network: UNet, learning_rate: float, weight_decay: float) -> tuple[torch.optim.Optimizer, ...]:
    """Return what updates a network's weights.

    The first convolution and the head, which see the image and the classes, are left to AdamW (Loshchilov & Hutter
    2019), as are the norms.
    """
    kernels = [p for block in (*network.down, *network.up) for p in block.parameters() if p.ndim > 2][1:]
    known = {id(p) for p in kernels}
    rest = [p for p in network.parameters() if id(p) not in known]
    adam = torch.optim.AdamW(
        rest, lr=learning_rate, weight_decay=weight_decay, fused=rest[0].device.type in ("cpu", "cuda")
    )
    return (Muon(kernels, learning_rate, weight_decay), adam) if kernels else (adam,)


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, so that no direction of a kernel learns slower than the others.

    Jordan et al. 2024 (kellerjordan.github.io/posts/muon), for kernels read as matrices ``(out, in * size)``; the
    size of the steps as in Liu et al. 2025 (arXiv:2502.16982). :class:`torch.optim.Muon` takes matrices only, and
    multiplies in bfloat16 also where a processor has to emulate that.

    Parameters
    ----------
    parameters : iterable of Tensor
        Of two axes or more.
    learning_rate : float
        As for AdamW.
    weight_decay : float
        As for AdamW.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float) -> None:
        super().__init__(list(parameters), {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
                update = orthogonal(p.grad.lerp(momentum, MOMENTUM).flatten(1))
                size = SIZE * max(update.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix of the same directions whose singular values are all about 1 (0.7 to 1.2)."""
    dtype = torch.bfloat16 if half_precision(matrix.device) == torch.bfloat16 else torch.float32
    a, b, c = POLYNOMIAL
    x = matrix.to(dtype)
    wide = x if x.shape[0] <= x.shape[1] else x.T
    wide = wide / wide.norm().clamp_min(1e-7)
    for _ in range(ROUNDS):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    return (wide if x.shape[0] <= x.shape[1] else wide.T).to(matrix.dtype)
