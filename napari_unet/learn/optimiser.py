"""Muon for the convolutions' kernels, AdamW for the few other weights."""

from __future__ import annotations

from collections import defaultdict
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
        """Update the parameters that have a gradient; those of equal shape in one go."""
        for group in self.param_groups:
            alike = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for same in alike.values():
                self._update(same, group["lr"], group["weight_decay"])

    def _update(self, same: list[Tensor], learning_rate: float, weight_decay: float) -> None:
        """Update parameters of one shape."""
        slopes: list[Tensor] = [p.grad for p in same]  # type: ignore[misc]
        for p in same:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in same]
        torch._foreach_lerp_(momenta, slopes, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(slopes, momenta, MOMENTUM)
        # the order of a matrix's columns does not matter: with the channels last, as a kernel lies in memory
        lines = [x.movedim(1, -1) for x in ahead]
        updates = orthogonal(torch.stack([x.flatten(1) for x in lines])).unflatten(2, lines[0].shape[1:])
        size = SIZE * max(len(same[0]), same[0][0].numel()) ** 0.5
        torch._foreach_mul_(same, 1 - learning_rate * weight_decay)
        torch._foreach_add_(same, list(updates.movedim(-1, 2)), alpha=-learning_rate * size)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices ``(N, rows, columns)`` of the same directions with singular values of about 1 (0.7 to 1.2)."""
    dtype = torch.bfloat16 if half_precision(matrices.device) == torch.bfloat16 else torch.float32
    a, b, c = POLYNOMIAL
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-7)).to(dtype)
    for _ in range(ROUNDS):
        square = torch.baddbmm(x.new_zeros(1), x, x.mT, beta=0)  # x @ x.mT, which takes twice as long for one matrix
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
