"""A look at a model that learns changes nothing of it, and takes no more than its share of the time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from napari_unet.infer.segment import segment_job
from napari_unet.jobs import Job, Progress, run
from napari_unet.learn import preview as module
from napari_unet.learn.preview import PREVIEW, SHARE, Looks
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.targets import TrainingTile, training_tile
from napari_unet.learn.train import train
from napari_unet.model import DecodeSettings, Model

FAST = TrainSettings(steps=6, batch=2, crop=32, learning_rate=2e-2, freeze_norms=False, checks=2, device="cpu")


def squares(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image of bright squares and their labels."""
    labels = np.zeros((48, 48), np.uint16)
    for number, (y, x) in enumerate([(6, 6), (6, 28), (28, 6), (28, 28)], start=1):
        labels[y : y + 12, x : x + 12] = number
    noise = np.random.default_rng(seed).normal(0.1, 0.05, labels.shape)
    return (0.7 * (labels > 0) + noise).astype(np.float32), labels


def tile(seed: int) -> TrainingTile:
    image, labels = squares(seed)
    return training_tile(image[None], labels, "instances")


def fresh() -> Model:
    return Model.new(width=8, depth=1)


def state(model: Model) -> list[torch.Tensor]:
    return list(model.network.state_dict().values())


def equal(one: Model, other: Model) -> bool:
    return all(torch.equal(a, b) for a, b in zip(state(one), state(other), strict=True))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is due after each step."""
    monkeypatch.setattr(module, "PREVIEW", 0.0)
    monkeypatch.setattr(module, "SHARE", 1.0)


def test_the_weights_are_the_same_with_and_without_looks(eager: None) -> None:
    seen: list[Model] = []

    def look(model: Model) -> Job[None]:
        seen.append(model)
        chance = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]  # noqa: NPY002
        found = yield from segment_job(model, squares(3)[0])
        assert torch.equal(chance[0], torch.get_rng_state())
        assert chance[1] == np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]  # noqa: NPY002
        yield Progress(1, 1, payload=found.labels)

    alone = run(train(fresh(), [tile(0)], [tile(2)], FAST))
    watched = run(train(fresh(), [tile(0)], [tile(2)], FAST, preview=lambda: look))
    assert len(seen) == FAST.steps - 1
    assert equal(alone.model, watched.model)
    assert alone.after == watched.after


def test_it_shows_the_averaged_weights_as_they_become_with_the_thresholds_of_the_base(eager: None) -> None:
    given, said = replace(fresh(), decode=DecodeSettings(foreground=0.7)), []
    seen: list[Model] = []

    def look(model: Model) -> Job[None]:
        seen.append(model)
        yield Progress(3, 7, "tiles", payload=len(seen))

    result = run(train(given, [tile(0)], [], replace(FAST, steps=4), preview=lambda: look), said.append)
    assert all(model.decode == given.decode and not model.network.training for model in seen)
    models = [given, *seen, result.model]
    assert not any(equal(one, other) for one, other in pairwise(models))
    told = [each for each in said if each.message == "preview"]
    assert [(each.done, each.total, each.payload) for each in told] == [(1, 4, 1), (2, 4, 2), (3, 4, 3)]
    assert all(each.payload is None for each in said if each not in told), "it is no check"


def test_where_nobody_looks_the_model_is_not_copied(eager: None) -> None:
    looks = Looks(lambda: None, bool)
    run(looks.after(1.0, lambda: pytest.fail("it is copied"), 1, 2))
    run(Looks(None, bool).after(1.0, lambda: pytest.fail("it is copied"), 1, 2))


def test_a_look_ends_where_the_training_is_to_stop(eager: None) -> None:
    stopped, closed = [], []

    def look(model: Model) -> Job[None]:
        try:
            for i in range(9):
                stopped.append(i)
                yield Progress(i, 9)
        finally:
            closed.append(True)

    run(Looks(lambda: look, lambda: len(stopped) > 2).after(1.0, fresh, 1, 2))
    assert len(stopped) == 3
    assert closed == [True]


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("step", "cost"), [(0.05, 0.01), (0.7, 0.3), (0.7, 2.0), (3.0, 7.0)])
def test_looks_are_seldom_and_take_a_tenth_of_the_time_at_most(
    monkeypatch: pytest.MonkeyPatch, step: float, cost: float
) -> None:
    clock, begun, ended, learned = Clock(), [], [], 0.0
    monkeypatch.setattr(module, "time", clock)

    def look(model: Any) -> Job[None]:
        begun.append(learned)
        for _ in range(4):
            clock.now += cost / 4
            yield Progress(1, 4)
        ended.append(learned)

    looks = Looks(lambda: look, bool)
    while learned < 400:
        learned += step
        held = 0
        for _ in looks.after(step, lambda: None, 1, 2):
            held += 1
            clock.now += 60.0  # a pause in the midst of a look
        spent = cost * len(ended) + cost  # the one that goes on counts as a whole
        assert (held - 1) * cost / 4 <= SHARE * (spent + learned), "also the first look waits for its share"
    assert len(ended) >= min(400 / (PREVIEW + step), SHARE * 400 / cost) - 2, "pauses do not count"
    assert all(later - earlier >= PREVIEW - 1e-6 for earlier, later in pairwise([0.0, *begun]))
    spent = cost * len(ended)
    assert spent - cost / 4 <= SHARE * (spent + learned) * 1.001


def test_a_look_that_nobody_wants_any_more_ends_and_so_does_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, closed = Clock(), []
    monkeypatch.setattr(module, "time", clock)

    def look(model: Any) -> Job[None]:
        try:
            while True:
                clock.now += 1.0
                yield Progress(1, 4)
        finally:
            closed.append(True)

    wanted = [look]
    looks = Looks(lambda: wanted[0], bool)
    run(looks.after(6.0, lambda: None, 1, 2))
    assert not closed
    wanted[0] = None
    run(looks.after(0.1, lambda: None, 1, 2))
    assert closed == [True]
    wanted[0] = look
    run(looks.after(20.0, lambda: None, 1, 2))
    looks.close()
    assert closed == [True, True]


def test_it_is_taken_as_soon_as_somebody_wants_one() -> None:
    asked, taken = [], []

    def look(model: Any) -> Job[None]:
        taken.append(len(asked))
        yield Progress(1, 1)

    def ask() -> Any:
        asked.append(True)
        return look if len(asked) > 3 else None

    looks = Looks(ask, bool)
    for _ in range(int(PREVIEW) + 4):
        run(looks.after(1.0, lambda: None, 1, 2))
    assert taken == [4]
