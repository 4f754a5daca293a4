"""Augmentation of a batch on its device: one warp of image and target together, then light and noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.learn.settings import Augmentation


def augment(
    image: Tensor,
    target: Tensor,
    weight: Tensor,
    size: Sequence[int],
    how: Augmentation,
    random: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Vary a batch and cut it to size.

    Parameters
    ----------
    image : Tensor
        ``(N, C, *spatial)``; larger than `size`, so that what turns or shrinks into view is real.
    target : Tensor
        ``(N, 3, *spatial)``: class, object number, distance.
    weight : Tensor
        ``(N, 3, *spatial)``; what comes from outside the image gets 0.
    size : sequence of int
        Spatial size of the result.
    how : Augmentation
        How much.
    random : torch.Generator
        On the CPU, so that the same seed gives the same pictures on any device.

    Returns
    -------
    image, target, weight : Tensor
        Of spatial size `size`.
    """
    look = _grid(image, size, how, random)
    smooth = _sample(torch.cat((image, target[:, 2:]), dim=1), look, "bilinear", "reflection")
    # an object goes on beyond the image: its border there is no edge of it
    exact = _sample(torch.cat((target[:, :2], weight), dim=1), look, "nearest", "border")
    last = torch.tensor(image.shape[2:], device=image.device) - 0.5
    inside = ((look >= -0.5) & (look <= last)).all(dim=-1)[:, None]
    image = smooth[:, :-1]
    target = torch.cat((exact[:, :2], smooth[:, -1:].clamp(0, 1) * (exact[:, 1:2] > 0)), dim=1)
    weight = exact[:, 2:] * inside
    if how.blank > 0:
        seen = ~_blank(image, how.blank, random)
        image, target, weight = image * seen, target * seen, torch.where(seen, weight, 1.0)
    return _light(image, how, random), target, weight


def _uniform(count: int, low: float, high: float, random: torch.Generator, like: Tensor) -> Tensor:
    return (torch.rand(count, generator=random) * (high - low) + low).to(like)


def _grid(image: Tensor, size: Sequence[int], how: Augmentation, random: torch.Generator) -> Tensor:
    """Return where each pixel looks, ``(N, *size, ndim)`` in pixels of the source, axes as in the array."""
    count, ndim = len(image), len(size)
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in size]
    look = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).to(image.device)
    matrix = torch.eye(ndim).repeat(count, 1, 1)
    zoom = torch.exp(_uniform(count, -math.log(how.scale), math.log(how.scale), random, matrix))
    if how.rotation:
        matrix = matrix * (torch.randint(0, 2, (count, 1, ndim), generator=random) * 2 - 1)
        # one image in four turns by right angles at its own scale only, so that sharp pixels are seen too
        plain = torch.rand(count, generator=random) < 0.25
        zoom = torch.where(plain, 1.0, zoom)
        if ndim > 1:
            angle = _uniform(count, 0, 2 * math.pi, random, matrix)
            quarter = (torch.randint(0, 4, (count,), generator=random) * (math.pi / 2)).float()
            angle = torch.where(plain, quarter, angle)
            turn = torch.eye(ndim).repeat(count, 1, 1)
            turn[:, -2, -2] = turn[:, -1, -1] = angle.cos()
            turn[:, -2, -1], turn[:, -1, -2] = -angle.sin(), angle.sin()
            matrix = matrix @ turn
    matrix = (matrix / zoom[:, None, None]).to(image.device)
    look = (look.reshape(1, -1, ndim) @ matrix.transpose(1, 2)).reshape(count, *size, ndim)
    if how.elastic > 0:
        coarse = [max(n // 32, 2) for n in size]  # bumps about as large as objects
        amount = _uniform(count, 0, how.elastic, random, look)
        bumps = torch.randn((count, ndim, *coarse), generator=random).to(look)
        mode = {1: "linear", 2: "bicubic", 3: "trilinear"}[ndim]
        bumps = F.interpolate(bumps, size=tuple(size), mode=mode, align_corners=True)
        look = look + bumps.movedim(1, -1) * amount.reshape(-1, *[1] * (ndim + 1))
    middle = torch.tensor([(n - 1) / 2 for n in image.shape[2:]], device=image.device)
    return look + middle


def _sample(x: Tensor, look: Tensor, mode: str, outside: str) -> Tensor:
    """Read `x` at pixel positions; ``grid_sample`` wants -1 to 1 and x before y, and knows no 1-D."""
    spatial = torch.tensor(x.shape[2:], device=x.device, dtype=torch.float32)
    grid = ((look + 0.5) * 2 / spatial - 1).flip(-1)
    if grid.shape[-1] == 1:
        grid = torch.cat((grid, torch.zeros_like(grid)), dim=-1)[:, None]
        flat = F.grid_sample(x[:, :, None], grid, mode=mode, padding_mode=outside, align_corners=False)
        return flat[:, :, 0]
    return F.grid_sample(x, grid, mode=mode, padding_mode=outside, align_corners=False)


def _blank(image: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Return where some images show nothing: ``(N, 1, *spatial)``, all that lies beyond a straight line."""
    count, size = len(image), image.shape[2:]
    axes = [torch.linspace(-1, 1, n) for n in size]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    direction = torch.nn.functional.normalize(torch.randn((count, len(size)), generator=random), dim=1)
    beyond = torch.tensordot(direction, place, dims=1) > _uniform(count, 0, 0.9, random, place).reshape(
        -1, *[1] * len(size)
    )
    chosen = torch.rand(count, generator=random) < share
    return (beyond & chosen.reshape(-1, *[1] * len(size)))[:, None].to(image.device)


def _light(image: Tensor, how: Augmentation, random: torch.Generator) -> Tensor:
    """Vary gain, gamma, colour, sharpness and noise."""
    count, ndim = len(image), image.ndim - 2

    def each(low: float, high: float) -> Tensor:
        return _uniform(count, low, high, random, image).reshape(-1, *[1] * (ndim + 1))

    grey = image.mean(dim=1, keepdim=True)
    gains = torch.stack([each(-how.colour, how.colour).exp() for _ in range(image.shape[1])], dim=1).squeeze(2)
    image = grey + (image - grey) * gains
    image = image.clamp(0, 10) ** each(-how.contrast, how.contrast).exp()
    image = image * each(-how.contrast, how.contrast).exp() + each(-0.1, 0.1)
    sigma = how.blur * float(torch.rand((), generator=random)) if how.blur > 0 else 0.0
    chosen = (torch.rand(count, generator=random) < 0.3).nonzero()[:, 0].to(image.device)
    image = image.index_copy(0, chosen, _blur(image[chosen], sigma))
    noise = torch.randn((count, 1, *image.shape[2:]), generator=random).to(image)
    return image + noise * each(0, how.noise) * (each(0, 1) < 0.5)


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, one axis after the other: shifted copies are added, which is faster than a convolution."""
    radius = math.ceil(3 * sigma)
    if radius == 0:
        return image
    kernel = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    for axis in range(2, image.ndim):
        length = image.shape[axis]
        places = torch.arange(-radius, length + radius).clamp(0, length - 1).to(image.device)
        wide, image = image.index_select(axis, places), torch.zeros_like(image)
        for start, share in enumerate(kernel):
            image.add_(wide.narrow(axis, start, length), alpha=share / sum(kernel))
    return image
