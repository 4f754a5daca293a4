"""From corrections to a better model: scored on what it did not learn from, and the old one stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet import DataError, Model
from napari_unet.infer import familiar
from napari_unet.infer.familiar import FEW, signature
from napari_unet.infer.seen import see
from napari_unet.jobs import Progress, run
from napari_unet.learn import corrections as cells
from napari_unet.learn.corrections import Corrections, State
from napari_unet.learn.finetune import fine_tune
from napari_unet.learn.outcome import outcome
from napari_unet.learn.settings import TrainSettings

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = TrainSettings(
    steps=60, batch=2, crop=32, learning_rate=2e-2, ema=0.9, freeze_norms=False, checks=2, device="cpu"
)


@pytest.fixture(autouse=True)
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "CELL", 32)
    monkeypatch.setattr(cells, "CONTEXT", 16)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return an image of disks in a grid and their labels."""
    y, x = np.indices((96, 96))
    disk = ((y % 16 - 8) ** 2 + (x % 16 - 8) ** 2) <= 25
    labels = np.where(disk, y // 16 * 6 + x // 16 + 1, 0).astype(np.uint32)
    image = disk * 500 + np.random.default_rng(0).integers(0, 60, disk.shape)
    return image.astype(np.uint16), labels


IMAGE, LABELS = scene()


def confirmed(where: tuple[slice, ...] = np.s_[:, :], **more: str) -> Corrections:
    state = np.zeros(LABELS.shape, np.uint8)
    state[where] = State.CONFIRMED
    return Corrections(IMAGE, LABELS, state, **{"name": "disks", **more})  # type: ignore[arg-type]


def test_corrections_make_a_better_model() -> None:
    model = Model.new(width=4, depth=1)
    version, steps = model.version, []
    result = run(fine_tune(model, [confirmed()], SETTINGS), steps.append)
    assert result.before is not None
    assert result.after is not None
    assert result.after.ap50 > max(0.9, result.before.ap50)
    came = outcome(result.model.provenance)
    assert (came.before, came.after, came.start) == (result.before.ap50, result.after.ap50, model.name)
    assert [box for box, _ in came.learned or ()] == [((0, 96), (0, 96))]
    assert result.model.provenance.recipe["steps"] == SETTINGS.steps
    assert result.after.objects is not None
    assert result.before.objects is not None
    assert result.after.objects.n_truth == result.before.objects.n_truth > 4
    assert model.version == version != result.model.version
    assert result.model.provenance.parent == version
    assert result.model.decode == model.decode  # too few to choose thresholds on
    again = run(fine_tune(result.model, [confirmed()], replace(SETTINGS, steps=1)))
    assert again.model.provenance.data == result.model.provenance.data == ("corrections of disks",)


def test_few_corrections_are_learned_from_without_scores() -> None:
    result = run(fine_tune(Model.new(width=4, depth=1), [confirmed(np.s_[:20, :20])], replace(SETTINGS, steps=2)))
    assert result.before is None
    assert result.after is None
    assert result.steps == 2


def test_strokes_alone_are_learned_from() -> None:
    state = np.zeros(LABELS.shape, np.uint8)
    state[40:43, 34:90] = State.PAINTED
    model = Model.new(width=4, depth=1)
    result = run(fine_tune(model, [Corrections(IMAGE, LABELS, state)], replace(SETTINGS, steps=2)))
    assert result.model.decode == model.decode
    assert result.model.provenance.data == ("corrections of an image",)


def test_a_fine_tuned_model_carries_the_first_one_and_what_its_own_images_look_like() -> None:
    settings = replace(SETTINGS, steps=1)
    model = Model.new(width=4, depth=1)
    assert run(fine_tune(model, [confirmed()], settings)).model.base is None  # it knows of no images
    model = replace(model, familiar=np.zeros((FEW, 4, 8), np.float32))
    once = run(fine_tune(model, [confirmed()], settings)).model
    assert once.base is model
    assert once.familiar is not None
    assert once.familiar.shape == (1, 4, 8)
    assert once.base.familiar is model.familiar
    other = Corrections(IMAGE[::-1].T, LABELS[::-1].T, confirmed().state, name="others")
    twice = run(fine_tune(once, [confirmed(), other], settings)).model
    assert twice.base is model
    assert twice.familiar is not None
    assert len(twice.familiar) == 2


def test_before_is_scored_with_the_model_that_was_seen() -> None:
    model = Model.new(width=4, depth=1)
    good = run(fine_tune(model, [confirmed()], SETTINGS)).model
    random = np.random.default_rng(0)
    image = see(good, IMAGE).read()[0]
    parts = [image[:, i : i + 48, j : j + 48] for i, j in random.integers(0, 48, (60, 2))]
    near = [run(signature(good, plane)) for plane in familiar.planes_of(parts)]
    strange = random.random((1, 4, good.config.features)).astype(np.float32) * 1e3
    base = replace(good, familiar=np.stack(near))
    tuned = replace(model, diameter=good.diameter, base=base, familiar=strange)
    result = run(fine_tune(tuned, [confirmed()], replace(SETTINGS, steps=1)))
    assert result.before is not None
    assert result.after is not None
    assert result.before.ap50 > 0.8 > result.after.ap50
    assert result.model.base is base


def test_nothing_learned_is_nothing_remembered(tmp_path: Path) -> None:
    model = replace(Model.new(width=4, depth=1), familiar=np.zeros((FEW, 4, 8), np.float32))
    result = run(fine_tune(model, [confirmed()], SETTINGS, stop=lambda: True))
    assert result.steps == 0
    assert result.model.base is None
    result.model.save(tmp_path / "it.unet")


def test_of_a_stack_the_corrected_planes_are_known_and_the_middle_by_which_it_is_judged() -> None:
    stack, labels = np.stack([IMAGE, IMAGE // 2 + 90, IMAGE.T + 30]), np.stack([LABELS] * 3)
    state = np.zeros(labels.shape, np.uint8)
    state[2, :40, :40] = State.CONFIRMED
    model = replace(Model.new(width=4, depth=1), familiar=np.zeros((FEW, 4, 8), np.float32))
    tuned = run(fine_tune(model, [Corrections(stack, labels, state, axes="ZYX")], replace(SETTINGS, steps=1))).model
    assert tuned.familiar is not None
    middle = run(signature(model, familiar.plane_of(see(model, stack, "ZYX"), (1,), 2)))
    assert len(tuned.familiar) == 2
    assert any(np.array_equal(each, middle) for each in tuned.familiar)


def test_labels_that_do_not_fit_are_told_also_to_a_model_that_enlarges() -> None:
    model = replace(Model.new(width=4, depth=1), smallest=30.0)
    state = np.full((90, 96), State.CONFIRMED, np.uint8)
    with pytest.raises(DataError, match="segment it again, so that they fit"):
        run(fine_tune(model, [Corrections(IMAGE, LABELS, state)], SETTINGS))


def test_a_model_works_at_the_scale_it_learned_at() -> None:
    settings = replace(SETTINGS, steps=1)
    for smallest, kept in ((30.0, 30.0), (8.0, None)):  # the disks are 10 pixels wide
        model = replace(Model.new(width=4, depth=1), smallest=smallest)
        assert run(fine_tune(model, [confirmed()], settings)).model.smallest == kept


def test_stop_ends_early() -> None:
    asked = iter([False, False, True])
    steps: list[Progress] = []
    job = fine_tune(Model.new(width=4, depth=1), [confirmed()], SETTINGS, stop=lambda: next(asked))
    result = run(job, steps.append)
    assert result.steps == 2
    assert result.ended == "Stopped at step 2 of 60."
    assert result.after is not None


def test_a_model_of_classes() -> None:
    model = Model.new(width=4, depth=1, task="classes")
    labels = (LABELS > 0).astype(np.uint8)
    given = replace(confirmed(), labels=labels)
    result = run(fine_tune(model, [given], SETTINGS))
    assert result.before is not None
    assert result.after is not None
    assert result.after.dice > max(0.9, result.before.dice)
    assert result.model.decode == model.decode
    with pytest.raises(DataError, match="disks has class 36, but the classes are 0 to 1"):
        run(fine_tune(model, [confirmed()], SETTINGS))
