"""Whatever is done to an image is done to its target, and what comes from outside never counts."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.learn.augment import augment
from napari_unet.learn.losses import boundary
from napari_unet.learn.settings import Augmentation

NONE = Augmentation(**{field.name: 1.0 if field.name == "scale" else 0 for field in fields(Augmentation)})  # type: ignore[arg-type]
WARP = replace(NONE, scale=1.5, rotation=True, elastic=4.0)
SIZES = {1: (300,), 2: (90, 80), 3: (40, 36, 44)}
OFFSET = 0.1  # brightness always varies by up to this


def scene(ndim: int, channels: int = 2, count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return an image that is its target: numbers 0 to 4 in blobs, and a smooth distance, as two channels."""
    size = SIZES[ndim]
    coarse = torch.rand((count, 1, *[max(2, n // 20) for n in size]), generator=torch.Generator().manual_seed(0))
    mode = {1: "linear", 2: "bicubic", 3: "trilinear"}[ndim]
    field = F.interpolate(coarse, size=size, mode=mode).clamp(0, 0.999)
    numbers = (field * 5).floor()
    target = torch.cat(((numbers > 0).float(), numbers, field), dim=1)
    image = torch.cat((numbers, field), dim=1)[:, :channels]
    weight = torch.ones(count, 3, *size)
    return image, target, weight


def varied(parts: tuple[Tensor, Tensor, Tensor], how: Augmentation, seed: int = 0, size: Any = None) -> Any:
    size = size or tuple(n // 2 for n in parts[0].shape[2:])
    return augment(*parts, size, how, torch.Generator().manual_seed(seed))


def interior(numbers: Tensor) -> Tensor:
    """Return where all pixels around have the same number."""
    pool = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[numbers.ndim]
    return pool(numbers, 5, 1, 2) == -pool(-numbers, 5, 1, 2)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_image_and_target_stay_together(ndim: int, seed: int) -> None:
    image, target, weight = varied(scene(ndim), WARP, seed)
    assert image.shape[2:] == target.shape[2:] == weight.shape[2:] == tuple(n // 2 for n in SIZES[ndim])
    numbers = target[:, 1:2]
    inside = interior(numbers) & (weight[:, :1] > 0)
    assert inside.float().mean() > 0.2
    assert len(numbers.unique()) > 2
    apart = (image[:, :1] - numbers)[inside].abs() > OFFSET + 1e-4
    assert apart.float().mean() < 0.01, "but for what is thinner than a pixel"
    assert ((target[:, :1] > 0) == (numbers > 0)).all()
    seen = inside & (numbers > 0) & (image[:, 1:] > OFFSET)
    assert (image[:, 1:] - target[:, 2:])[seen].abs().max() <= OFFSET + 1e-4
    assert (target[:, 2:][numbers == 0] == 0).all()


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_weight_stays_with_its_pixel_and_outside_is_zero(ndim: int) -> None:
    image, target, weight = scene(ndim)
    weights = torch.tensor([0.0, 1.0, 0.5, 0.25, 0.75])
    weight = weights[target[:, 1].long()][:, None].repeat(1, 2, 1, *[1] * (ndim - 1)) * torch.tensor([1, 0.5]).view(
        1, 2, *[1] * ndim
    )
    size = tuple(2 * n for n in SIZES[ndim])  # twice as large as the image: there must be an outside
    _, numbers, varied_weight = varied((image, target, weight), WARP, 1, size)
    expected = weights[numbers[:, 1].long()]
    known = varied_weight[:, 0] > 0
    assert (varied_weight[:, 0][known] == expected[known]).all()
    assert (varied_weight[:, 1] == varied_weight[:, 0] / 2).all()
    corner = (slice(None), *[0] * ndim)
    assert (varied_weight[:, 0][corner] == 0).all()
    share = known.float().mean() / (expected > 0).float().mean()
    assert 0.05 < share < 0.9


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_an_object_cut_by_the_border_of_the_image_has_no_edge_there(ndim: int) -> None:
    image, target, weight = scene(ndim)
    target[:, :2], target[:, 2] = 1, 0.5
    _, target, weight = varied((image, target, weight), WARP, 2, SIZES[ndim])
    assert (weight == 0).any()
    assert (boundary(target[:, 1]) * weight[:, 1]).sum() == 0
    assert (target[:, 2] - 0.5)[weight[:, 1] > 0].abs().max() < 1e-5


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_without_variation_the_middle_comes_out(ndim: int) -> None:
    parts = scene(ndim)
    middle = (..., *(slice(10, n - 10) for n in SIZES[ndim]))
    image, target, weight = varied(parts, NONE, 0, tuple(n - 20 for n in SIZES[ndim]))
    assert (target[:, :2] == parts[1][:, :2][middle]).all()
    assert (weight == 1).all()
    assert (image - parts[0][middle]).abs().max() <= OFFSET + 1e-4


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    one, same, other = (varied(scene(2), Augmentation(), seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])
    before = torch.get_rng_state()
    varied(scene(2), Augmentation())
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_given_stays_as_it_was() -> None:
    parts = scene(2)
    copies = [part.clone() for part in parts]
    varied(parts, Augmentation())
    assert all(torch.equal(a, b) for a, b in zip(parts, copies, strict=True))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_grey_stays_grey_and_colours_change(ndim: int) -> None:
    image, target, weight = scene(ndim, channels=1)
    grey = varied((image.repeat(1, 3, *[1] * ndim), target, weight), Augmentation())[0]
    assert grey.std(dim=1).max() < 1e-5
    colour = torch.cat((image, image * 0.5, image * 0), dim=1)
    changed = varied((colour, target, weight), replace(NONE, colour=0.4))[0]
    ratio = (changed[:, 1] - changed[:, 2]).abs().mean() / (changed[:, 0] - changed[:, 2]).abs().mean()
    assert ratio != pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("kind", [{"noise": 0.1}, {"blur": 2.0}, {"contrast": 0.5}, {"noise": 0.1, "blur": 50.0}])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_light_changes_only_the_image(ndim: int, kind: dict[str, float]) -> None:
    parts = scene(ndim, count=8)
    plain, varied_light = varied(parts, NONE), varied(parts, replace(NONE, **kind))
    assert not torch.equal(plain[0], varied_light[0])
    assert all(torch.equal(a, b) for a, b in zip(plain[1:], varied_light[1:], strict=True))
    assert varied_light[0].isfinite().all()


@pytest.mark.parametrize("size", [(1,), (1, 1), (1, 30), (2, 1, 3)])
def test_the_smallest_images(size: tuple[int, ...]) -> None:
    parts = torch.rand(2, 1, *size), torch.ones(2, 3, *size), torch.ones(2, 3, *size)
    for seed in range(5):
        result = varied(parts, Augmentation(), seed, size)
        assert all(part.shape[2:] == size and part.isfinite().all() for part in result)


def test_rounding_never_lifts_the_distance_above_one() -> None:
    flat = torch.ones(4, 3, 145, 145)  # where reading between pixels gave 1.0000001
    parts = flat[:, :1], flat, torch.ones(4, 2, 145, 145)
    for seed in range(3):
        _, target, _ = varied(parts, Augmentation(), seed, size=(145, 145))
        assert 0 <= target[:, 2].min() <= target[:, 2].max() <= 1


def test_blank_parts_are_dark_background_that_counts() -> None:
    image, target, weight = scene(2)
    weight[:, :, 30:60] = 0  # unknown, until it shows nothing
    given = (image + 1, target, weight)
    _, plain, _ = varied(given, NONE)
    dark, blank, counts = varied(given, replace(NONE, blank=1.0))
    hidden = (
        dark[:, :1] - dark.amin(dim=(1, 2, 3), keepdim=True)
    ) < 1e-6  # a constant; elsewhere it is at least 1 brighter
    for each in range(len(image)):
        assert 0.05 < hidden[each].float().mean() < 0.6
        assert not blank[each][:, hidden[each, 0]].any()
        assert (counts[each][:, hidden[each, 0]] == 1).all()
        assert (blank[each] == plain[each])[:, ~hidden[each, 0]].all()
