"""Scores of a model that is known, thresholds that fit, and folders that pair up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_unet import DataError, DecodeSettings, Model, UnetError
from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import Progress, run
from napari_unet.learn.evaluate import evaluate_job, headline, quality, read_pairs, score_tiles, tune
from napari_unet.learn.targets import training_tile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def squares(*corners: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with bright squares of five pixels and their labels."""
    labels = np.zeros((30, 40), np.uint16)
    for number, (row, column) in enumerate(corners, 1):
        labels[row : row + 5, column : column + 5] = number
    return (labels > 0) * 100 + 7, labels


ONE, TWO = squares((3, 3)), squares((3, 3), (20, 30))


def test_what_is_right_scores_one(thresholding: Callable[..., Model]) -> None:
    scores = thresholding().evaluate([ONE[0], TWO[0]], [ONE[1], TWO[1]])
    assert scores.ap == (1.0,) * 10
    assert [image.name for image in scores.per_image] == ["image 0", "image 1"]
    assert thresholding(task="classes").evaluate([ONE[0]], [(ONE[1] > 0).astype(int)]).dice == 1


def test_what_is_missed_costs(thresholding: Callable[..., Model]) -> None:
    scores = thresholding().evaluate([ONE[0]], [TWO[1]], names=["x"])
    assert scores.ap50 == 0.5
    assert scores.per_image[0].name == "x"
    assert thresholding().evaluate([ONE[0]], [ONE[1]], settings=SegmentSettings(min_size=26)).ap50 == 0


def test_a_stack_is_scored_slice_by_slice_by_a_model_of_slices(thresholding: Callable[..., Model]) -> None:
    image, mask = np.stack([ONE[0], ONE[0], TWO[0]]), np.stack([ONE[1], ONE[1], TWO[1]])  # a number goes on in time
    scores = thresholding().evaluate([image], [mask], axes="TYX")
    assert scores.ap50 == 1
    assert [part.name for part in scores.per_image] == ["image 0 [0]", "image 0 [1]", "image 0 [2]"]
    assert len(thresholding(ndim=3).evaluate([image], [mask], axes="ZYX").per_image) == 1


def test_progress_counts_images(thresholding: Callable[..., Model]) -> None:
    steps: list[Progress] = []
    run(evaluate_job(thresholding(), [ONE[0], TWO[0]], [ONE[1], TWO[1]], names=("a", "b")), steps.append)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {step.total for step in steps} == {2}
    assert steps[-1].done == 2


def test_tiles_are_scored_where_they_are_known(thresholding: Callable[..., Model]) -> None:
    image, labels = TWO
    tile = training_tile((image > 50)[None].astype(np.float32), labels, "instances")
    lies = replace(tile, target=tile.target * (np.arange(40) < 20))  # the second square is called background
    weight = tile.weight * (np.arange(40) < 20).astype(np.float32)
    model = thresholding()
    assert run(score_tiles(model, [tile])).ap50 == 1
    assert run(score_tiles(model, [lies])).ap50 == 0.5
    assert run(score_tiles(model, [replace(lies, weight=weight)])).ap50 == 1
    colours = thresholding(channels="rgb")
    assert run(score_tiles(colours, [tile])).ap50 == 1
    classes = thresholding(task="classes")
    both = training_tile(tile.image, (labels > 0).astype(int), "classes")
    assert run(score_tiles(classes, [both])).dice == 1


def test_thresholds_are_chosen_that_score_best() -> None:
    model = Model.new(width=1, depth=0)
    model = replace(model, decode=DecodeSettings(foreground=0.9))
    random = np.random.default_rng(0)
    tile = training_tile(
        random.random((1, 40, 40), np.float32), np.kron(np.eye(2), np.ones((20, 20))).astype(int), "instances"
    )
    scores = run(score_tiles(model, [tile]))
    tuned = run(tune(model, [tile]))
    assert quality(run(score_tiles(tuned, [tile]))) >= quality(scores)
    assert tuned.version == model.version


def test_thresholds_that_are_no_better_are_not_taken(thresholding: Callable[..., Model]) -> None:
    image, labels = TWO
    tile = training_tile((image > 50)[None].astype(np.float32), labels, "instances")
    for decode in (DecodeSettings(), DecodeSettings(foreground=0.55, seed=0.11, boundary=0.9, min_size=3)):
        model = replace(thresholding(), decode=decode)
        assert run(tune(model, [tile])).decode == decode
    spoilt = replace(thresholding(), decode=DecodeSettings(foreground=1.0))
    assert run(tune(spoilt, [tile])).decode.foreground < 1
    classes = thresholding(task="classes")
    assert run(tune(classes, [])) is classes


def test_the_headline_is_ap50_or_dice(thresholding: Callable[..., Model]) -> None:
    objects = thresholding().evaluate([ONE[0]], [TWO[1]])
    assert (headline(objects), quality(objects)) == (0.5, 0.5)
    classes = thresholding(task="classes").evaluate([ONE[0]], [(TWO[1] > 0).astype(int)])
    assert headline(classes) == quality(classes) == classes.dice == pytest.approx(2 / 3)


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for name in "ab":
            tifffile.imwrite(tmp_path / part / f"{name}.tif", ONE[0].astype(np.uint8))
    return tmp_path


def test_images_and_masks_pair_by_name(folder: Path) -> None:
    (folder / "masks" / "a.tif").rename(folder / "masks" / "a.tiff")
    (folder / "masks" / "more.tif").write_bytes((folder / "masks" / "b.tif").read_bytes())
    pairs = [(image.name, mask.name) for image, mask in read_pairs(str(folder))]
    assert pairs == [("a.tif", "a.tiff"), ("b.tif", "b.tif")]


def break_images(folder: Path) -> Any:
    (folder / "images").rename(folder / "pictures")


def break_masks(folder: Path) -> Any:
    (folder / "masks").rename(folder / "labels")


def empty(folder: Path) -> Any:
    for path in (folder / "images").iterdir():
        path.unlink()


def lonely(folder: Path) -> Any:
    (folder / "masks" / "b.tif").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_images, "no folder 'images'"),
        (break_masks, "no folder 'masks'"),
        (empty, "holds no images"),
        (lonely, "1 of 2 images .* no mask of the same name, 'b.tif'"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(damage: Callable[[Path], Any], said: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(UnetError, match=said):
        read_pairs(folder)


def test_a_folder_that_is_not_there_is_told_itself(folder: Path) -> None:
    with pytest.raises(DataError, match="nowhere' does not exist, expected one with images/"):
        read_pairs(folder / "nowhere")
    with pytest.raises(DataError, match=r"a\.tif' is a file, expected one with images/"):
        read_pairs(folder / "images" / "a.tif")
