"""The network sees as far as it says, repeats itself on its grid, takes any size, and folds without change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.nets.config import UNetConfig
from napari_unet.nets.unet import UNet, activate, fold

DIMENSIONS = (1, 2, 3)


def build(ndim: int, depth: int, *, seed: int = 0, width: int = 2, **other: int | bool) -> UNet:
    """Return a network in float64 and eval mode that has lived: its norms have seen something."""
    network = UNet(UNetConfig(ndim=ndim, depth=depth, width=width, **other), seed=seed).double().eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for values, low, high in (
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 2.0),
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.2, 0.5),
                ):
                    assert values is not None
                    values.uniform_(low, high, generator=random)
        network.head.weight.normal_(generator=random)
    return network


@torch.no_grad()
def reach(network: UNet, length: int, position: int) -> int:
    """Return how far from `position` on the last axis the output changes when one input pixel does."""
    shape = [1, 1, *[1] * (network.config.ndim - 1), length]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    poked = x.clone()
    poked[..., position] += 100
    changed = (network(x) != network(poked)).any(dim=1).flatten().nonzero()
    return int((changed - position).abs().max())


@pytest.mark.parametrize("ndim", DIMENSIONS)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_pixel_reaches_as_far_as_the_halo_and_no_farther(ndim: int, depth: int) -> None:
    network = build(ndim, depth)
    length = 2 * (network.halo // network.stride + 2) * network.stride
    middle = length // 2
    reaches = [reach(network, length, middle + i) for i in range(network.stride)]
    assert max(reaches) <= network.halo
    with torch.no_grad():  # the bound is met where every tap of every convolution lets through what is bright
        for module in network.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                module.weight.abs_()
    assert max(reach(network, length, middle + i) for i in range(network.stride)) == network.halo


@pytest.mark.parametrize("ndim", DIMENSIONS)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_moving_the_image_by_the_stride_moves_the_output(ndim: int, depth: int) -> None:
    network = build(ndim, depth)
    short = [network.stride] * (ndim - 1)
    length = 2 * network.halo + 4 * network.stride
    x = torch.rand([1, 1, *short, length], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = x.roll(network.stride, dims=-1)
    with torch.no_grad():
        here, there = network(x), network(moved).roll(-network.stride, dims=-1)
    inner = slice(network.halo, length - network.halo - network.stride)
    torch.testing.assert_close(here[..., inner], there[..., inner], atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    "size", [(1,), (2,), (17,), (1, 1), (1, 31), (17, 31), (64, 3), (1, 1, 1), (3, 1, 5), (9, 10, 11)]
)
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("other", [{}, {"halve": False}, {"top": 3}])
def test_any_size_goes_in_and_comes_out(size: tuple[int, ...], depth: int, other: dict[str, int]) -> None:
    network = build(len(size), depth, **other)
    with torch.no_grad():
        logits = network(torch.zeros(2, 1, *size, dtype=torch.float64))
    assert logits.shape == (2, network.config.out_channels, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("ndim", DIMENSIONS)
def test_folding_changes_neither_the_output_nor_the_network(ndim: int) -> None:
    network = build(ndim, depth=2)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.randn([2, 1, *[12] * ndim], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    folded = fold(network)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network(x), atol=1e-10, rtol=0)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_the_seed_alone_makes_the_first_weights_and_no_other_random_numbers_change() -> None:
    config = UNetConfig(width=2, depth=1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = UNet(config, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = UNet(config, seed=3).state_dict(), UNet(config, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_network_built_for_its_shapes_takes_no_memory() -> None:
    with torch.device("meta"):
        network = UNet(UNetConfig(ndim=3, depth=8, width=512, max_width=2048))
    assert all(weight.is_meta for weight in network.parameters())


def test_training_starts_undecided() -> None:
    network = UNet(UNetConfig(classes=3, width=4, depth=2))
    maps = activate(network(torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))), 3)
    assert maps[:, :3].mean(dim=(0, 2, 3)).detach().numpy() == pytest.approx(np.full(3, 1 / 3), abs=0.1)


def test_maps_are_probabilities_in_float32() -> None:
    logits = torch.tensor([[1000.0, -1000.0, 0.0, 5.0, -5.0]], dtype=torch.bfloat16)[..., None]
    maps = activate(logits, 3)
    assert maps.dtype == torch.float32
    assert maps[0, :3, 0].tolist() == [1, 0, 0]
    assert maps[0, 3:, 0].numpy() == pytest.approx(1 / (1 + np.exp([-5.0, 5.0])))
