"""Training learns, repeats itself, ends well when it must, and leaves what it was given alone."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_unet import DataError, DeviceError, Model
from napari_unet.infer.familiar import FEW
from napari_unet.jobs import Progress, run
from napari_unet.learn import train as module
from napari_unet.learn import trainer as steps_of
from napari_unet.learn.settings import SCRATCH, TrainSettings
from napari_unet.learn.targets import TrainingTile, training_tile
from napari_unet.learn.train import TrainResult, train
from napari_unet.learn.trainer import enough_steps, schedule

if TYPE_CHECKING:
    from collections.abc import Callable

FAST = TrainSettings(
    steps=40, batch=2, crop=32, learning_rate=2e-2, ema=0.9, freeze_norms=False, checks=4, device="cpu"
)


def disks(seed: int, *, ndim: int = 2, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image of bright disks and their labels."""
    random = np.random.default_rng(seed)
    labels = np.zeros((side,) * ndim, np.uint16)
    for number in range(1, 6):
        centre = random.integers(6, side - 6, (ndim, *[1] * ndim))
        labels[((np.indices(labels.shape) - centre) ** 2).sum(axis=0) <= 30] = number
    image = 0.7 * (labels > 0) + random.normal(0.1, 0.05, labels.shape)
    return image.astype(np.float32), labels


def tile(seed: int, task: Any = "instances", **how: Any) -> TrainingTile:
    image, labels = disks(seed, **how)
    return training_tile(image[None], labels if task == "instances" else (labels > 0).astype(int), task, name=f"{seed}")


def fresh(**how: Any) -> Model:
    return Model.new(**{"width": 8, "depth": 1, **how})


def state(model: Model) -> dict[str, torch.Tensor]:
    return state_of(model.network)


def state_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def learned() -> tuple[TrainResult, list[Progress]]:
    steps: list[Progress] = []
    return run(train(fresh(), [tile(0), tile(1)], [tile(2)], FAST), steps.append), steps


def test_the_loss_falls_and_the_score_rises(learned: tuple[TrainResult, list[Progress]]) -> None:
    result, steps = learned
    losses = [step.values["loss"] for step in steps if "loss" in step.values]
    assert len(losses) == FAST.steps == result.steps
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert result.before is not None
    assert result.after is not None
    assert result.after.dice > max(0.8, result.before.dice)
    assert result.ended == ""


def test_progress_counts_steps_and_brings_the_best_model_at_each_check(
    learned: tuple[TrainResult, list[Progress]],
) -> None:
    result, steps = learned
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {step.total for step in steps[1:]} == {FAST.steps}
    checks = [step for step in steps if "score" in step.values and step.done]
    assert [step.done for step in checks] == [10, 20, 30, 40]
    assert all(isinstance(step.payload, Model) and 0 <= step.values["score"] <= 1 for step in checks)
    assert checks[-1].payload is result.model
    assert all(step.payload is None for step in steps if step not in checks)


def test_the_new_model_is_ready_for_use_and_says_where_it_comes_from(
    learned: tuple[TrainResult, list[Progress]], tmp_path: Any
) -> None:
    model = learned[0].model
    assert not model.network.training
    assert all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in model.network.parameters())
    assert model.provenance.parent == fresh().version
    assert model.provenance.recipe["steps"] == FAST.steps
    assert Model.load(model.save(tmp_path / "it.unet")).provenance == model.provenance


@pytest.mark.parametrize("held_out", [[], [tile(2)]])
def test_the_same_seed_gives_the_same_weights_and_the_given_model_stays(held_out: list[TrainingTile]) -> None:
    settings = replace(FAST, steps=4, checks=2)
    given, before = fresh(), state(fresh())
    torch.manual_seed(1)
    one = run(train(given, [tile(0)], held_out, settings))
    torch.manual_seed(2)
    same = run(train(given, [tile(0)], held_out, settings))
    other = run(train(given, [tile(0)], held_out, replace(settings, seed=1)))
    assert equal(state(one.model), state(same.model))
    assert not equal(state(one.model), state(other.model))
    assert equal(state(given), before)
    assert not given.network.training


@pytest.mark.parametrize("ndim", [1, 3])
def test_one_and_three_dimensions(ndim: int) -> None:
    model = fresh(ndim=ndim)
    result = run(train(model, [tile(0, ndim=ndim, side=32)], [tile(1, ndim=ndim, side=32)], replace(FAST, steps=3)))
    assert result.after is not None
    assert not equal(state(model), state(result.model))


def test_classes() -> None:
    model = fresh(task="classes", classes=("background", "cell"))
    result = run(train(model, [tile(0, "classes")], [tile(1, "classes")], replace(FAST, steps=30)))
    assert result.before is not None
    assert result.after is not None
    assert result.after.objects is None
    assert result.after.dice > max(0.8, result.before.dice)


def norms(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in values.items() if "running" in key}


def test_frozen_norms_keep_their_statistics_exactly(learned: tuple[TrainResult, list[Progress]]) -> None:
    base = learned[0].model
    frozen = run(train(base, [tile(5)], [], replace(FAST, steps=5, freeze_norms=True))).model
    thawed = run(train(base, [tile(5)], [], replace(FAST, steps=5, freeze_norms=False))).model
    assert equal(norms(state(frozen)), norms(state(base)))
    assert not equal(norms(state(thawed)), norms(state(base)))
    assert not equal(state(frozen), state(base))


def broken_at(step: int, monkeypatch: pytest.MonkeyPatch, value: float = float("nan")) -> list[int]:
    """Let the loss be `value` from a step on; return the list that counts the steps."""
    calls: list[int] = []
    real = steps_of.total_loss

    def loss(*args: Any) -> torch.Tensor:
        calls.append(1)
        return real(*args) * (value if len(calls) >= step else 1)

    monkeypatch.setattr(steps_of, "total_loss", loss)
    return calls


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("held_out", [[], [tile(2)]])
def test_a_loss_that_is_no_number_ends_at_that_step_with_the_weights_before_it(
    held_out: list[TrainingTile], value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(FAST, steps=30, checks=1)
    calls = broken_at(6, monkeypatch, value)
    result = run(train(fresh(), [tile(0)], held_out, settings))
    assert len(calls) == 6
    assert result.steps == 5
    assert "not a number at step 6" in result.ended
    assert (result.after is None) == (not held_out)
    assert all(value.isfinite().all() for value in state(result.model).values())
    assert not equal(state(result.model), state(fresh()))
    monkeypatch.undo()
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps > 5

    assert equal(state(run(train(fresh(), [tile(0)], held_out, settings, stop=stop)).model), state(result.model))


def test_a_loss_that_never_was_a_number_gives_the_given_model_back(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_at(1, monkeypatch)
    given = fresh()
    result = run(train(given, [tile(0)], [tile(2)], FAST))
    assert result.model is given
    assert (result.steps, result.after) == (0, result.before)


def test_gradients_that_are_no_numbers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    given = fresh()
    assert run(train(given, [tile(0)], [], FAST)).model is given


def test_stop_ends_early_and_keeps_what_there_is() -> None:
    asked = iter([False] * 7 + [True])
    steps: list[Progress] = []
    result = run(train(fresh(), [tile(0)], [tile(2)], FAST, stop=lambda: next(asked)), steps.append)
    assert result.steps == 7
    assert result.ended == "Stopped at step 7 of 40."
    assert result.after is not None
    assert not equal(state(result.model), state(fresh()))
    assert run(train(fresh(), [tile(0)], [], FAST, stop=lambda: True)).steps == 0


def test_the_last_weights_are_kept_so_that_their_score_is_no_choice_of_the_luckiest() -> None:
    steps: list[Progress] = []
    result = run(train(fresh(), [tile(0)], [tile(2)], replace(FAST, steps=11, checks=2)), steps.append)
    models = [step.payload for step in steps if step.payload is not None]
    assert len(set(map(id, models))) == 2
    assert result.model is models[-1]
    stopped = run(train(fresh(), [tile(0)], [tile(2)], FAST, stop=iter([False] * 12 + [True]).__next__))
    assert stopped.steps == 12
    assert not equal(state(stopped.model), state(models[-1]))


def test_the_best_weights_are_kept_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    qualities = iter([0.9, 0.3, 0.5, 0.2])  # asked for from the second check on: of the new one, then of the best
    seen: dict[int, float] = {}

    def quality(scores: Any) -> float:
        if id(scores) not in seen:
            seen[id(scores)] = next(qualities)
        return seen[id(scores)]

    monkeypatch.setattr(module, "quality", quality)
    steps: list[Progress] = []
    result = run(train(fresh(), [tile(0)], [tile(2)], replace(FAST, keep_best=True)), steps.append)
    first, second, third, fourth = (step.payload for step in steps if step.payload is not None)
    assert first is not second
    assert second is third is fourth is result.model


def test_without_checks_the_last_weights_are_scored() -> None:
    result = run(train(fresh(), [tile(0)], [tile(2)], replace(FAST, steps=3, checks=0)))
    assert result.after is not None
    assert result.after is not result.before
    assert not equal(state(result.model), state(fresh()))


@pytest.mark.parametrize("after", [1, 5, 12])
def test_a_training_that_is_closed_leaves_nothing(after: int) -> None:
    given, before = fresh(), state(fresh())
    job = train(given, [tile(0)], [tile(2)], FAST)
    for _ in range(after):
        next(job)
    job.close()
    watched = weakref.ref(job)
    del job
    gc.collect()
    assert watched() is None
    assert equal(state(given), before)
    assert not given.network.training
    assert torch.is_grad_enabled()


def test_what_is_unknown_is_not_learned_from() -> None:
    made = training_tile(disks(0)[0][None], disks(0)[1], "classes", name="half")
    made = replace(
        made, target=np.minimum(made.target, 1), weight=made.weight * (np.arange(48) < 24).astype(np.float32)
    )
    lies = made.target.copy()
    lies[:, :, 24:] = 1 - lies[:, :, 24:]
    model = fresh(task="classes")
    truth, lie = (run(train(model, [replace(made, target=t)], [], replace(FAST, steps=3))) for t in (made.target, lies))
    assert equal(state(truth.model), state(lie.model))
    assert not equal(state(truth.model), state(model))


@pytest.mark.parametrize(
    ("tiles", "said"),
    [
        ([], "no labelled pixels"),
        ([replace(tile(0), weight=np.zeros((3, 48, 48), np.float32))], "no labelled pixels"),
        ([tile(0, ndim=3, side=16)], "0 has 3 axes and the model 2"),
        ([replace(tile(0), target=tile(0).target * 7)], "0 has class 7, but the classes are 0 to 1"),
    ],
)
def test_tiles_that_cannot_be_learned_from_are_refused(tiles: list[TrainingTile], said: str) -> None:
    with pytest.raises(DataError, match=said):
        run(train(fresh(), tiles, [], FAST))


def test_a_crop_without_statistics_is_refused_unless_they_are_frozen() -> None:
    small = training_tile(np.zeros((1, 2, 2), np.float32), np.ones((2, 2), int), "instances")
    settings = replace(FAST, steps=1, batch=1)
    with pytest.raises(DataError, match="One crop of 2 × 2 pixels is too little"):
        run(train(fresh(), [small], [], settings))
    assert run(train(fresh(), [small], [], replace(settings, freeze_norms=True))).steps == 1
    assert run(train(fresh(), [small], [], replace(settings, batch=2))).steps == 1


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), DeviceError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), DeviceError),
        (RuntimeError("sizes do not match"), RuntimeError),
    ],
)
def test_memory_that_runs_out_is_told(
    error: Exception, becomes: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def poor(*_: Any) -> None:
        raise error

    monkeypatch.setattr(steps_of, "total_loss", poor)
    with pytest.raises(becomes, match=r"batch \(2\)" if becomes is DeviceError else "sizes"):
        run(train(fresh(), [tile(0)], [], FAST))


def test_the_memory_is_told_first_and_what_does_not_fit_is_refused(
    learned: tuple[TrainResult, list[Progress]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learned[1][0]
    assert (first.total, first.message) == (0, "training needs about 0.1 GB of memory")
    monkeypatch.setattr(steps_of, "free_memory", lambda _: 10**7)
    with pytest.raises(DeviceError, match=r"needs about 0\.1 GB .* 0\.0 GB are free .* batch \(2\) or .*32 × 32"):
        run(train(fresh(), [tile(0)], [], FAST))


def test_the_average_is_between_what_was_and_what_is() -> None:
    trainer = steps_of.Trainer(fresh(), [tile(0)], FAST)
    for step in range(3):
        before, keep = state_of(trainer.average), min(FAST.ema, (1 + step) / (10 + step))
        trainer.step(step)
        for key, new in state_of(trainer.network).items():
            if new.is_floating_point():
                expected = keep * before[key] + (1 - keep) * new
                torch.testing.assert_close(trainer.average.state_dict()[key], expected)


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [schedule(step, 100) for step in range(100)]
    assert rates[:5] == sorted(rates[:5])
    assert max(rates) == 1
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.02
    assert [schedule(0, 1), schedule(0, 2)] == [1, 1]


# fit


def test_fit_learns_and_leaves_the_model_alone() -> None:
    images, masks = zip(*(disks(seed) for seed in range(3)), strict=True)
    model, seen = fresh(), []
    better = model.fit(images, masks, epochs=8, batch=2, crop=32, held_out=0.34, report=seen.append, device="cpu")
    assert model.version == fresh().version != better.version
    assert better.diameter == pytest.approx(11, abs=1)
    assert better.provenance.data == ("2 images given as arrays",)
    assert better.provenance.parent is None
    assert seen[-1].total == round(8 * 2 * 48 * 48 / (2 * 32 * 32))
    again = better.fit(images[:1], masks[:1], steps=1, crop=32)
    assert again.provenance.parent == better.version
    assert (better.provenance.recipe["ema"], again.provenance.recipe["ema"]) == (SCRATCH.ema, TrainSettings().ema)


def test_what_fit_made_of_a_model_carries_it() -> None:
    image, mask = disks(0)
    known = replace(fresh(), familiar=np.zeros((FEW, 4, fresh().config.features), np.float32))
    better = known.fit([image], [mask], steps=1, crop=32, device="cpu")
    assert better.base is not None
    assert better.base.version == known.version
    assert better.familiar is not None
    assert len(better.familiar) == 1
    assert fresh().fit([image], [mask], steps=1, crop=32, device="cpu").base is None


def test_fit_refuses_no_epochs() -> None:
    image, mask = disks(0)
    with pytest.raises(DataError, match="The epochs are 0, expected"):
        fresh().fit([image], [mask], epochs=0)


def test_fit_takes_stacks_slice_by_slice() -> None:
    images, masks = zip(*(disks(seed) for seed in range(6)), strict=True)
    seen: list[Progress] = []
    better = fresh().fit([np.stack(images)], [np.stack(masks)], steps=2, crop=32, batch=2, report=seen.append)
    assert better.segment(images[0]).shape == (48, 48)
    assert better.diameter == pytest.approx(11, abs=1)


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_fit_holds_out_at_most_half(share: float) -> None:
    image, mask = disks(0)
    with pytest.raises(DataError, match="share to hold out"):
        fresh().fit([image], [mask], held_out=share)


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    image, mask = disks(0)
    with pytest.raises(DataError, match="image 0 has class 5, but the classes are 0 to 1"):
        fresh(task="classes").fit([image], [mask], steps=1)


def test_bool_masks_are_masks() -> None:
    image, mask = disks(0)
    model = fresh(task="classes").fit([image], [mask > 0], steps=1, crop=32)
    assert model.task == "classes"


def test_no_warning_is_given_for_read_only_arrays(thresholding: Callable[..., Model]) -> None:
    made = tile(0)
    for part in (made.image, made.target, made.weight):
        part.flags.writeable = False
    assert run(train(thresholding(), [made], [made], replace(FAST, steps=1))).steps == 1


def test_more_corrections_are_worth_more_steps() -> None:
    few, many = [tile(0)], [tile(0, side=128)] * 40
    for tiles, steps in ((few, 150), (many, 400), (many * 2, 600)):
        assert enough_steps(tiles) == steps
    assert run(train(Model.new(width=1, depth=0), few, [], TrainSettings(steps=None, device="cpu"))).steps == 150
