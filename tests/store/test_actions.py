"""What was done to labels is taken back and done again, pixel by pixel, and the log of it does not grow for ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.store import actions
from napari_unet.store.actions import Action, Log, Parts, Runs, bounds

LABELS = hnp.arrays(np.uint32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9), elements=st.integers(0, 3))


@given(LABELS)
@settings(max_examples=50, deadline=None)
def test_what_is_packed_is_unpacked(labels: np.ndarray) -> None:
    found = Runs.pack(labels).unpack()
    assert found.dtype == labels.dtype
    np.testing.assert_array_equal(found, labels)


@given(LABELS, st.data())
@settings(max_examples=50, deadline=None)
def test_what_is_packed_is_unpacked_part_by_part(labels: np.ndarray, data: Any) -> None:
    parts = Parts(Runs.pack(labels))
    assert parts.largest == labels.max()
    start = data.draw(st.integers(0, labels.size - 1))
    stop = data.draw(st.integers(start + 1, labels.size))
    found = parts.unpack(start, stop)
    assert found.dtype == labels.dtype
    np.testing.assert_array_equal(found, labels.ravel()[start:stop])


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9)))
@settings(max_examples=50, deadline=None)
def test_nothing_true_is_out_of_bounds(mask: np.ndarray) -> None:
    box = bounds(mask)
    if box is None:
        assert not mask.any()
        return
    assert mask[box].sum() == mask.sum()
    for axis in range(mask.ndim):
        assert np.take(mask[box], [0, -1], axis).any(axis=tuple(a for a in range(mask.ndim) if a != axis)).all()


def test_labels_of_few_objects_are_packed_small() -> None:
    labels = np.zeros((1000, 1000), np.uint32)
    labels[100:200, 300:500] = 7
    assert Runs.pack(labels).nbytes < 2000
    assert Runs.pack(labels[:0]).unpack().shape == (0, 1000)


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (0, 3)])
def test_empty_labels_are_background(shape: tuple[int, ...]) -> None:
    found = Runs.empty(shape, np.uint16).unpack()
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.zeros(shape))


@given(LABELS, st.data())
@settings(max_examples=50, deadline=None)
def test_an_action_knows_the_pixels_it_changed_and_no_others(before: np.ndarray, data: Any) -> None:
    after = data.draw(hnp.arrays(before.dtype, before.shape, elements=st.integers(0, 3)))
    large = np.zeros([n + 4 for n in before.shape], before.dtype)
    region = tuple(slice(3, 3 + n) for n in before.shape)
    large[region] = before
    old = large.copy()
    large[region] = after
    new = large.copy()
    vouched = data.draw(st.none() | hnp.arrays(bool, before.shape))
    action = Action.between("stroke", region, before, after, vouched)
    if (before == after).all() and (vouched is None or not vouched.any()):
        assert action is None
        return
    assert action is not None
    concerned = old != new
    if vouched is not None:
        concerned[region] |= vouched
        known = np.zeros(large.shape, bool)
        known[action.region] = action.vouched.unpack()
        np.testing.assert_array_equal(known[region], vouched)
    for axis in range(before.ndim):  # each side of the box has a pixel that changed
        ends = np.moveaxis(concerned[action.region], axis, 0)[[0, -1]]
        assert ends.reshape(2, -1).any(axis=1).all()
    large[action.region] = action.before.unpack()
    np.testing.assert_array_equal(large, old)
    large[action.region] = action.after.unpack()
    np.testing.assert_array_equal(large, new)


def step(number: int, size: int = 1) -> Action:
    before = np.zeros(size, np.uint32)
    after = np.random.default_rng(number).integers(1, 2**32, size, np.uint32)
    found = Action.between("stroke", (slice(0, size),), before, after, about={"number": number})
    assert found is not None
    return found


def test_undo_and_redo_walk_the_log() -> None:
    steps = [step(i) for i in range(3)]
    log: Log[Action] = Log()
    assert log.undo() is log.redo() is log.last is log.next is None
    for each in steps:
        log.do(each)
    assert [log.undo(), log.undo()] == steps[:0:-1]
    assert log.redo() is log.last is steps[1]
    assert log.next is steps[2]
    log.do(steps[0])  # the third is gone
    assert log.redo() is None
    assert log.actions == [steps[0], steps[1], steps[0]]
    assert [log.undo() for _ in range(4)] == [steps[0], steps[1], steps[0], None]


def test_the_oldest_are_let_go_but_never_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MOST", 10_000)
    monkeypatch.setattr(actions, "LEAST", 5)
    log: Log[Action] = Log()
    for i in range(100):
        log.do(step(i, size=100))
    assert 5 < len(log.actions) < 50
    assert sum(each.nbytes for each in log.actions) <= 10_000
    for i in range(8):
        log.do(step(i, size=10_000))
    assert [each.about["number"] for each in log.actions] == [3, 4, 5, 6, 7]
    assert log.standing == 5
