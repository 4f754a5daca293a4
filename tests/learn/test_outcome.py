"""What came of a fine-tuning is in the model's file, and known again from there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet.learn.corrections import Corrections, State
from napari_unet.learn.metrics import score_classes, score_instances, summarise
from napari_unet.learn.outcome import Outcome, learned_from, outcome, recorded
from napari_unet.learn.train import TrainResult
from napari_unet.model import Model, Provenance
from napari_unet.model_file import read_head

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = np.random.default_rng(0).integers(0, 255, (80, 100), dtype=np.uint8)
MODEL = Model.new(width=4, depth=0, name="start")


def corrections(*known: tuple[slice, ...], image: np.ndarray = IMAGE, axes: str = "YX") -> Corrections:
    shape = tuple(n for n, letter in zip(image.shape, axes, strict=True) if letter not in "CS")
    state = np.zeros(shape, np.uint8)
    for each in known:
        state[each] = State.CONFIRMED
    return Corrections(image, state.astype(np.uint32), state, axes, name="cells", tiles=len(known), strokes=2)


def result(share: float | None = None) -> TrainResult:
    if share is None:
        return TrainResult(MODEL, None, None, 1)
    truth = np.repeat(np.arange(1, 11), 20)
    scores = [summarise([score_instances(truth, np.where(truth <= n, truth, 0))]) for n in (5, 10 * share)]
    return TrainResult(MODEL, *scores, 1)


def taught(*given: Corrections, start: Model = MODEL, share: float | None = None) -> Model:
    recipe = {"steps": 3} | recorded(start, given, result(share))
    return replace(start, provenance=Provenance.now(recipe=recipe, parent=start.version))


def test_it_stands_in_the_file(tmp_path: Path) -> None:
    model = taught(corrections(np.s_[:30, :30], np.s_[50:, 60:]), share=0.8)
    path = model.save(tmp_path / "it.unet")
    for provenance in (read_head(path).provenance, Model.load(path).provenance):
        found = outcome(provenance)
        assert (found.measure, found.before, found.after) == ("AP.50", 0.5, 0.8)
        assert (found.held_out, found.held_out_objects, found.start) == (1, 10, "start")
        assert (found.images, found.tiles, found.objects, found.strokes) == (1, 2, 0, 2)
        assert {box for box, _ in found.learned or ()} == {((0, 30), (0, 30)), ((50, 80), (60, 100))}
    assert read_head(path).version == Model.load(path).version


def test_classes_have_dice_and_nothing_held_out_has_no_score() -> None:
    truth = np.array([0, 1, 1, 0])
    scores = summarise([score_classes(truth, truth, ("background", "a"))])
    given = [corrections(np.s_[:9, :9])]
    assert outcome(Provenance(recipe=recorded(MODEL, given, TrainResult(MODEL, scores, scores, 1)))).measure == "Dice"
    found = outcome(Provenance(recipe=recorded(MODEL, given, result())))
    assert (found.measure, found.after, found.tiles) == ("", None, 1)


def test_pixels_that_were_learned_from_are_known_again_under_any_name() -> None:
    origin = taught(corrections(np.s_[:30, :30])).provenance
    assert learned_from(origin, IMAGE, "YX", np.s_[20:50, 20:50], "renamed")
    assert not learned_from(origin, IMAGE, "YX", np.s_[30:50, 0:30], "cells"), "beside it"
    assert not learned_from(origin, IMAGE + 1, "YX", np.s_[0:30, 0:30], "cells"), "another image of the same name"
    assert not learned_from(origin, IMAGE[:20], "YX", np.s_[0:20, 0:20], "cells"), "a smaller one"


def test_what_a_model_before_it_learned_from_counts_too() -> None:
    first = taught(corrections(np.s_[:30, :30]))
    second = taught(corrections(np.s_[:30, :30], np.s_[50:, :30]), start=first)
    other = taught(corrections(np.s_[:9, :9], image=IMAGE[::-1].copy()), start=second)
    assert len(outcome(second.provenance).learned or ()) == 2
    for region in (np.s_[0:9, 0:9], np.s_[60:70, 0:9]):
        assert learned_from(other.provenance, IMAGE, "YX", region, "x")


def test_channels_stacks_and_large_boxes() -> None:
    image = np.random.default_rng(1).integers(0, 9, (2, 3, 600, 700), dtype=np.uint16)
    given = corrections(np.s_[1:2, :, :], image=image, axes="CZYX")
    origin = taught(given).provenance
    assert learned_from(origin, image, "CZYX", np.s_[1:2, 5:9, 5:9], "x")
    assert not learned_from(origin, image, "CZYX", np.s_[2:3, 5:9, 5:9], "x")
    rgb = np.moveaxis(image[:, 0], 0, -1)
    assert learned_from(
        taught(corrections(np.s_[:9, :9], image=rgb, axes="YXS")).provenance, rgb, "YXS", np.s_[0:9, 0:9], "x"
    )


def test_of_earlier_files_the_name_of_the_image_tells() -> None:
    old = Provenance(data=("nuclei", "corrections of cells"), recipe={"steps": 300})
    assert outcome(old) == Outcome()
    assert learned_from(old, IMAGE, "YX", np.s_[0:9, 0:9], "cells")
    assert not learned_from(old, IMAGE, "YX", np.s_[0:9, 0:9], "others")


@pytest.mark.parametrize(
    "recipe",
    [
        [],
        "steps",
        {"scores": [1], "corrections": 3, "learned": "all", "start": 7},
        {"scores": {"measure": "AP.50", "before": float("nan"), "after": 2}, "corrections": {"tiles": -1}},
        {"scores": {"measure": {}, "before": "0.5", "after": None, "tiles": 1.5}, "learned": [[[["a", 2]], "x"]]},
        {"learned": [1, 2], "corrections": {"strokes": True}},
    ],
)
def test_what_makes_no_sense_in_a_file_is_left_out(recipe: Any) -> None:
    assert outcome(Provenance(recipe=recipe)) == Outcome()
