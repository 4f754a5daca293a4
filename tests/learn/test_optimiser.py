"""The optimiser: orthogonal steps of the right size for kernels, and each weight updated once."""

import pytest
import torch

from napari_unet.learn.optimiser import SIZE, Muon, optimisers, orthogonal
from napari_unet.nets.config import UNetConfig
from napari_unet.nets.unet import UNet


@pytest.mark.parametrize("shape", [(4, 36), (36, 4), (16, 16), (1, 9)])
def test_orthogonal_keeps_the_directions_and_evens_their_strength(shape):
    """All singular values come near 1 while left and right singular vectors stay."""
    random = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn((shape[0], min(shape)), generator=random))
    right, _ = torch.linalg.qr(torch.randn((shape[1], min(shape)), generator=random))
    strengths = torch.logspace(0, -1, min(shape))  # one direction is ten times weaker than another
    made = left.T @ orthogonal((left @ torch.diag(strengths) @ right.T)[None])[0] @ right
    assert made.diagonal().min() > 0.6
    assert made.diagonal().max() < 1.3
    assert (made - torch.diag(made.diagonal())).abs().max() < 0.05


def test_orthogonal_of_nothing_is_nothing():
    """A kernel whose gradient is 0 everywhere is not moved, and gets no NaN."""
    assert not orthogonal(torch.zeros(1, 3, 5)).any()


@pytest.mark.parametrize(
    "config", [UNetConfig(width=4, depth=2), UNetConfig(ndim=3, width=4, depth=1), UNetConfig(ndim=1, width=4, depth=0)]
)
def test_each_weight_belongs_to_one_optimiser(config):
    """None is left out and none is updated twice; the first convolution and the head are AdamW's."""
    network = UNet(config)
    parts = optimisers(network, 1e-3, 0.0)
    owners = [id(p) for each in parts for group in each.param_groups for p in group["params"]]
    assert sorted(owners) == sorted(id(p) for p in network.parameters())
    adams = {id(p) for group in parts[-1].param_groups for p in group["params"]}
    assert {id(network.down[0][0].weight), id(network.head.weight)} <= adams


def test_steps_are_as_large_as_those_of_adam():
    """The usual change of a weight is SIZE times the learning rate, whatever the gradient's size."""
    for scale in (1e-6, 1.0, 1e6):
        weight = torch.nn.Parameter(torch.zeros(16, 8, 3, 3))
        weight.grad = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        Muon([weight], 0.01, 0.0).step()
        assert weight.detach().square().mean().sqrt() == pytest.approx(0.01 * SIZE, rel=0.2)


def test_weights_without_a_gradient_stay():
    """What the loss does not reach is left alone, also by the pull towards zero."""
    weight = torch.nn.Parameter(torch.ones(4, 4))
    Muon([weight], 0.1, 0.5).step()
    assert (weight == 1).all()


def test_the_order_in_memory_does_not_matter():
    """Channels last or first, the same kernel is learned."""
    random = torch.Generator().manual_seed(2)
    start, slope = (torch.randn((8, 4, 3, 3), generator=random) for _ in range(2))
    learned = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = torch.nn.Parameter(start.clone(memory_format=layout))
        weight.grad = slope.clone(memory_format=layout)
        Muon([weight], 0.1, 0.0).step()
        learned.append(weight.detach())
    torch.testing.assert_close(*learned)


def test_kernels_of_one_shape_are_updated_as_each_alone():
    """What is multiplied in one go does not depend on what is beside it."""
    random = torch.Generator().manual_seed(3)
    made = [
        (torch.randn(shape, generator=random), torch.randn(shape, generator=random)) for shape in 3 * [(8, 4, 3, 3)]
    ]

    def learned(pairs):
        weights = [torch.nn.Parameter(start.clone()) for start, _ in pairs]
        muon = Muon(weights, 0.1, 0.01)
        for _ in range(3):
            for weight, (_, slope) in zip(weights, pairs, strict=True):
                weight.grad = slope.clone()
            muon.step()
        return [weight.detach() for weight in weights]

    together = learned(made)
    alone = [learned([pair])[0] for pair in made]
    torch.testing.assert_close(together, alone, rtol=1e-2, atol=1e-3)
    rows = [torch.randn((9, 5), generator=random) for _ in range(4)]
    torch.testing.assert_close(orthogonal(torch.stack(rows)), torch.cat([orthogonal(each[None]) for each in rows]))
