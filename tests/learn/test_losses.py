"""The loss counts what is known and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.learn.losses import boundary, crowded, dice_loss, highest, total_loss, weighted_mean

SIZES = {1: (12,), 2: (8, 9), 3: (5, 6, 7)}


def batch(ndim: int, *, classes: int = 2, heads: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return random logits, target and weight, half of it unknown."""
    random = torch.Generator().manual_seed(seed)
    size = (2, *SIZES[ndim])
    logits = torch.randn((2, classes + heads, *SIZES[ndim]), generator=random) * 3
    numbers = torch.randint(0, 3, size, generator=random).float()
    cls = torch.randint(0, classes, size, generator=random).float() if heads == 0 else (numbers > 0).float()
    distance = torch.rand(size, generator=random) * (numbers > 0)
    weight = torch.rand((2, 3, *SIZES[ndim]), generator=random)
    weight = torch.where(torch.rand(size, generator=random)[:, None] < 0.5, 0, weight)
    return logits, torch.stack((cls, numbers, distance), dim=1), weight


CASES = [(1, 2, 2), (2, 2, 2), (3, 2, 2), (2, 4, 0)]


@pytest.mark.parametrize(("ndim", "classes", "heads"), CASES)
def test_unknown_pixels_change_nothing_and_get_no_gradient(ndim: int, classes: int, heads: int) -> None:
    logits, target, weight = batch(ndim, classes=classes, heads=heads)
    logits.requires_grad_(True)
    loss = total_loss(logits, target, weight, classes)
    loss.backward()
    unknown = (weight == 0).all(dim=1)[:, None].expand_as(logits)
    assert logits.grad is not None
    assert unknown.any()
    assert (logits.grad[unknown] == 0).all()
    assert (logits.grad[~unknown][:10] != 0).any()
    other = torch.where(unknown, torch.randn_like(logits) * 100, logits)
    wrong = torch.where(unknown[:, :3], target.roll(1, dims=-1), target)
    assert total_loss(other, target, weight, classes).item() == pytest.approx(loss.item(), rel=1e-6)
    if heads == 0:  # the boundary between a known and an unknown pixel is known by both
        assert total_loss(logits, wrong, weight, classes).item() == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize(("ndim", "classes", "heads"), CASES)
def test_nothing_known_is_no_loss_and_no_gradient(ndim: int, classes: int, heads: int) -> None:
    logits, target, weight = batch(ndim, classes=classes, heads=heads)
    logits.requires_grad_(True)
    loss = total_loss(logits, target, torch.zeros_like(weight), classes)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("ndim", "classes", "heads"), CASES)
def test_a_perfect_prediction_has_no_loss_and_a_wrong_one_has(ndim: int, classes: int, heads: int) -> None:
    logits, target, weight = batch(ndim, classes=classes, heads=heads)
    sure = torch.nn.functional.one_hot(target[:, 0].long(), classes).movedim(-1, 1) * 40.0
    edges = torch.stack((boundary(target[:, 1]), target[:, 2]), dim=1)[:, :heads]
    perfect = torch.cat((sure, torch.logit(edges, eps=1e-6)), dim=1)
    assert abs(total_loss(perfect, target, weight, classes).item()) < 1e-3
    assert total_loss(-perfect, target, weight, classes) > 5
    assert total_loss(logits, target, weight, classes) > 0.1


def test_boundary_and_distance_count_only_where_the_object_is_known_as_a_whole() -> None:
    logits, target, weight = batch(2)
    weight[:, 0], weight[:, 1:] = 1, 0
    logits.requires_grad_(True)
    total_loss(logits, target, weight, 2).backward()
    assert logits.grad is not None
    assert (logits.grad[:, :2] != 0).any()
    assert (logits.grad[:, 2:] == 0).all()


def test_the_value_does_not_depend_on_how_much_is_known() -> None:
    logits, target, weight = batch(2)
    double = [torch.cat((part, part), dim=-1) for part in (logits, target)]
    alone = total_loss(logits[..., 1:-1], target[..., 1:-1], weight[..., 1:-1], 2)
    blank = torch.cat((weight, torch.zeros_like(weight)), dim=-1)
    blank[..., [0, 8]] = 0
    assert total_loss(*double, blank, 2).item() == pytest.approx(alone.item(), rel=0.05)  # but for one boundary
    assert total_loss(logits, target, weight * 0.5, 2).item() == pytest.approx(
        total_loss(logits, target, weight, 2).item(), rel=1e-5
    )


def test_sixteen_bit_logits_give_a_32_bit_loss() -> None:
    logits, target, weight = batch(2)
    loss = total_loss(logits.bfloat16(), target, weight, 2)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(total_loss(logits, target, weight, 2).item(), rel=0.02)


def test_extreme_logits_stay_finite() -> None:
    logits, target, weight = batch(2)
    logits = (logits * 1e4).requires_grad_(True)
    loss = total_loss(logits, target, weight, 2)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_dice_leaves_out_the_background_and_classes_that_are_not_there() -> None:
    truth = torch.tensor([[0, 1, 1, 0]])
    probabilities = torch.tensor([[[1.0, 0, 0.5, 1], [0, 1, 0.5, 0], [0, 0, 0, 0]]])
    weight = torch.ones(1, 4)
    # class 1: overlap 1.5, truth 2, said 1.5: Dice 3 / 3.5; class 2 has no pixel
    assert dice_loss(probabilities, truth, weight).item() == pytest.approx(1 - 3 / 3.5)
    weight[0, 2] = 0
    assert dice_loss(probabilities, truth, weight).item() == pytest.approx(0)
    assert dice_loss(probabilities, truth, torch.zeros(1, 4)).item() == 0


def test_a_mean_by_weight() -> None:
    values, weight = torch.tensor([1.0, 2, 100]), torch.tensor([1.0, 0.5, 0])
    assert weighted_mean(values, weight).item() == pytest.approx(2 / 1.5)
    assert weighted_mean(values, weight * 0).item() == 0


def test_a_boundary_is_on_the_object_and_not_at_the_border_of_the_image() -> None:
    numbers = torch.tensor([[[5, 5, 5, 5], [5, 5, 5, 7], [5, 5, 0, 0]]]).float()
    assert boundary(numbers)[0].tolist() == [[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 0, 0]]
    assert boundary(torch.full((1, 4), 16_777_215.0)).tolist() == [[0, 0, 0, 0]]
    assert boundary(torch.tensor([[16_777_215.0, 16_777_214.0]])).tolist() == [[1, 1]]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_it_is_crowded_within_two_pixels_of_two_objects(ndim: int) -> None:
    line = torch.tensor([3.0, 0, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 9, 9, 5, 0, 0])
    numbers = line.expand([1, *[3] * (ndim - 1), 17])
    meet = crowded(numbers)
    assert meet.shape == numbers.shape
    assert (meet == torch.tensor([0.0] * 10 + [1] + [0] + [1] * 4 + [0])).all()
    assert crowded(torch.full((1, 5), 7.0)).sum() == 0
    assert crowded(torch.zeros(1, 5)).sum() == 0


@pytest.mark.parametrize("shape", [(50,), (1,), (9, 12), (2, 1), (5, 6, 7)])
@pytest.mark.parametrize("reach", [1, 2])
def test_the_highest_value_around_is_that_of_a_pooling(shape: tuple[int, ...], reach: int) -> None:
    values = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(shape)]
    assert torch.equal(highest(values, reach), pool(values[:, None], 2 * reach + 1, 1, reach)[:, 0])
