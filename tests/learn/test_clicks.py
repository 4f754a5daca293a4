"""What the network for clicks learns from: crops around objects, and what a person would say of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_unet import Model
from napari_unet.errors import DataError, ModelFileError
from napari_unet.infer.clicks import SIDE, Prompt, outline
from napari_unet.infer.familiar import planes_of
from napari_unet.jobs import run
from napari_unet.learn.clicks import ClickTrainer, ObjectCrops, begin, largest, middle, worst
from napari_unet.learn.settings import SCRATCH, Augmentation
from napari_unet.learn.targets import training_tile
from napari_unet.learn.train import train

if TYPE_CHECKING:
    from napari_unet.learn.targets import TrainingTile

HOW = replace(SCRATCH, steps=60, batch=4, augmentation=Augmentation(1.2, elastic=1, contrast=0.1, noise=0, blur=0))


@pytest.fixture(scope="module")
def tile() -> TrainingTile:
    """Bright disks of all sizes, each with a number, some of them touching."""
    random, labels = np.random.default_rng(0), np.zeros((300, 400), np.uint32)
    rows, columns = np.indices(labels.shape)
    for number in range(1, 30):
        row, column, radius = random.integers(300), random.integers(400), random.integers(4, 25)
        labels[(np.hypot(rows - row, columns - column) < radius) & (labels == 0)] = number
    image = ((labels > 0) * (0.5 + labels % 3 / 4))[None].astype(np.float32)
    return training_tile(image, labels, "clicks")


def test_a_crop_shows_the_object_that_its_target_means(tile: TrainingTile) -> None:
    crops = ObjectCrops([tile], 3, HOW)
    for _ in range(10):
        image, target, weight = crops.draw()
        assert image.shape[:2] == (HOW.batch, 3)
        assert target.shape == weight.shape == (HOW.batch, 3, *image.shape[2:])
        truth = target[:, 0] == 1
        assert truth.flatten(1).any(dim=1).all()
        assert torch.equal(truth, target[:, 1] == 1)
        # nearest pixels of the mask, smooth ones of the image: they differ at the edge only
        bright, known = image[:, 0] > 0.25, weight[:, 0] > 0
        agree = (bright == (target[:, 1] > 0))[known].float().mean()
        assert agree > 0.9
        assert not target[:, 1][~known].any()


def test_objects_are_framed_as_the_product_frames_them(tile: TrainingTile) -> None:
    crops = ObjectCrops([tile], 1, replace(HOW, batch=64))
    _, target, _ = crops.draw()
    longest = []
    for truth in (target[:, 0, 32:160, 32:160] == 1).numpy():
        rows, columns = (np.flatnonzero(truth.any(axis=i)) for i in (1, 0))
        longest.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    # drawn evenly by its logarithm, from a quarter of the frame to nearly all of it
    assert SIDE / 6 < np.quantile(longest, 0.1) < SIDE / 3.5 < np.median(longest) < SIDE / 1.4 < SIDE


def test_the_worst_error_is_clicked_in_its_middle() -> None:
    truth, said = np.zeros((2, 40, 40), bool)
    truth[5:25, 5:25] = said[5:25, 5:15] = True
    (row, column), inside = worst(truth, said)  # the right half is missing: 20 rows, 10 columns
    assert 9 <= row <= 20
    assert column in (19, 20)
    assert inside
    said[:] = truth
    said[30:37, 30:37] = True
    at, inside = worst(truth, said)
    assert at == (33, 33)
    assert not inside


def test_the_middle_lies_in_a_mask_of_any_shape() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        mask = random.random((12, 17)) > 0.6
        assert mask[middle(mask)]
        piece = largest(mask)
        assert (piece <= mask).all()
        assert piece.any()
    assert not largest(np.zeros((3, 3), bool)).any()
    assert middle(np.ones((5, 5), bool)) == (2, 2)


def test_a_person_begins_with_something_that_fits_the_object(tile: TrainingTile) -> None:
    random, kinds = np.random.default_rng(0), set()
    _, target, _ = ObjectCrops([tile], 1, replace(HOW, batch=200)).draw()
    for numbers in target[:, 1, 32:160, 32:160].numpy():
        known = np.ones(numbers.shape, bool)
        known[:, 100:] = False
        said = begin(numbers, known, random)
        truth = (numbers == 1) & known
        assert not said.maps[0][~known].any()
        if not truth.any():
            assert not said.maps.any()
            continue
        so_far, inside, outside = said.maps > 0
        assert (so_far | inside).any()
        for click, where in ((inside, truth), (outside, ~truth)):
            assert not click.any() or (click & where).any()
        kinds.add((so_far.any(), inside.sum() > 40, outside.any()))
    assert len(kinds) >= 4  # a click, a stroke, a box, wrong masks


def test_it_learns_to_outline_what_is_clicked(tile: TrainingTile) -> None:
    start = Model.new(width=8, depth=3).with_clicks()
    settings = replace(HOW, steps=80, ema=0.95)
    losses: list[float] = []
    result = run(
        train(start, [tile], [], settings, trainer=ClickTrainer), lambda p: losses.append(p.values.get("loss", np.nan))
    )
    assert np.nanmean(losses[-10:]) < 0.7 * np.nanmean(losses[:10])
    numbers, overlaps = tile.labels, []
    plane = planes_of([tile.image])[0]
    for number in np.unique(numbers)[1:]:
        truth = numbers == number
        if truth.sum() > 60:
            found = outline(result.model, plane, Prompt((middle(truth),)))
            said = np.zeros_like(truth)
            if found is not None:
                said[found.box] = found.mask
            overlaps.append((truth & said).sum() / (truth | said).sum())
    assert np.median(overlaps) > 0.6


def test_the_same_seed_gives_the_same_model(tile: TrainingTile) -> None:
    start, few = Model.new(width=2, depth=2).with_clicks(), replace(HOW, steps=2)
    versions = {run(train(start, [tile], [], few, trainer=ClickTrainer)).model.version for _ in range(2)}
    assert len(versions) == 1


def test_a_model_for_clicks_begins_with_what_its_base_sees() -> None:
    base = Model.new(width=4, depth=2, channels="rgb", seed=3)
    model = base.with_clicks()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        for said in (torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)):
            levels = model.network.encode(torch.cat((image, said), dim=1))
            for mine, its in zip(levels, base.network.encode(image), strict=True):
                assert torch.equal(mine, its)


def test_a_model_for_clicks_is_kept_in_a_file(tmp_path: Any) -> None:
    model = replace(Model.new(width=2, depth=1).with_clicks(), name="mine")
    again = Model.load(model.save(tmp_path / "mine.unet"))
    assert (again.task, again.version, again.config) == ("clicks", model.version, model.config)


def test_it_learns_from_models_that_segment_planes_only() -> None:
    with pytest.raises(ModelFileError, match="2-D"):
        Model.new(width=2, depth=1).with_clicks().with_clicks()
    with pytest.raises(ModelFileError, match="2-D"):
        Model.new(ndim=3, width=2, depth=1).with_clicks()
    with pytest.raises(ModelFileError, match="outlines"):
        Model.new(width=2, depth=1).with_clicks().with_classes(("background", "a"))


def test_debris_is_nothing_to_learn_from() -> None:
    labels = np.zeros((50, 50), np.uint32)
    labels[3:6, 3:6] = 1
    with pytest.raises(DataError, match="30 pixels"):
        ObjectCrops([training_tile(labels[None].astype(np.float32), labels, "clicks")], 1, HOW)


def test_other_training_refuses_it(tile: TrainingTile) -> None:
    with pytest.raises(DataError, match="outlines what is clicked"):
        run(train(Model.new(width=2, depth=1).with_clicks(), [tile], [], HOW))
