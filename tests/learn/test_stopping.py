"""What a person changed is counted right, and the advice follows from the last objects that they looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.learn.stopping import LITTLE, OBJECTS, Review, advice, review


def squares(count: int) -> np.ndarray:
    """That many squares of 4 × 4 pixels, apart from each other, in two rows."""
    labels = np.zeros((12, 6 * count), np.uint32)
    for i in range(count):
        labels[1 + 6 * (i % 2) :][:4, 6 * i + 1 : 6 * i + 5] = i + 1
    return labels


def seen(objects: int, share: float) -> Review:
    """A review of objects of 100 pixels each, of which a share was changed."""
    return Review(objects, round(objects * share), 100 * objects, round(100 * objects * share))


def test_nothing_changed() -> None:
    labels = squares(5)
    assert review(labels, labels) == Review(objects=5, changed=0, pixels=80, pixels_changed=0)
    assert review(np.zeros_like(labels), np.zeros_like(labels)) == Review(0, 0, 0, 0)


def test_numbers_do_not_matter() -> None:
    labels = squares(5)
    other = np.where(labels > 0, 100 - labels.astype(np.int64), 0)
    assert review(labels, other) == review(labels, labels)


def test_missed_and_there_in_vain() -> None:
    labels = squares(5)
    less = np.where(labels == 2, 0, labels)
    one = Review(objects=5, changed=1, pixels=80, pixels_changed=16)
    assert review(less, labels) == one, "drawn anew"
    assert review(labels, less) == one, "deleted"
    assert review(np.zeros_like(labels), labels) == Review(5, 5, 80, 80), "all drawn"


def test_drawn_otherwise() -> None:
    labels = squares(5)
    wider = labels.copy()
    wider[1:5, 5] = 1
    assert review(labels, wider) == Review(5, 1, 84, 4)
    assert review(wider, labels) == Review(5, 1, 84, 4)
    recoloured = labels.copy()
    recoloured[1, 1] = 77
    assert review(labels, recoloured) == Review(6, 2, 80, 1), "a pixel became an object, another lost it"


def test_cut_and_joined() -> None:
    labels = squares(3)
    cut = labels.copy()
    cut[1:5, 1] = 9  # a quarter of the first
    assert review(labels, cut) == Review(objects=4, changed=2, pixels=48, pixels_changed=4)
    assert review(cut, labels) == review(labels, cut), "the larger piece is the object"


def test_only_what_was_looked_at_counts() -> None:
    labels, looked_at = squares(5), np.zeros((12, 30), bool)
    looked_at[:6, :6] = True
    all_gone = np.zeros_like(labels)
    assert review(labels, all_gone, looked_at) == Review(1, 1, 16, 16)
    assert review(labels, all_gone, np.ones_like(looked_at)) == review(labels, all_gone)
    assert review(labels, all_gone, np.zeros_like(looked_at)) == Review(0, 0, 0, 0)


def test_any_axes_and_types() -> None:
    labels = squares(5)
    stack = np.stack([labels] * 3).astype(np.uint8)
    assert review(stack, np.zeros(stack.shape, np.int64)) == Review(5, 5, 240, 240)


@pytest.mark.parametrize("seed", range(5))
def test_any_labels(seed: int) -> None:
    """Whatever was done: counts within their bounds, the same in both directions."""
    random = np.random.default_rng(seed)
    old, new = random.integers(0, 6, (2, 30, 40))
    found = review(old, new)
    assert found == review(new, old)
    assert found.pixels == np.count_nonzero(old | new)
    assert 0 <= found.pixels_changed <= found.pixels
    assert found.changed <= found.objects <= 10


def test_nothing_is_said_of_nothing() -> None:
    for nothing in ([], [Review(0, 0, 0, 0)]):
        said = advice(nothing)
        assert (said.enough, said.missing, said.message) == (False, OBJECTS, "")


def test_too_few_objects_tell_nothing_yet() -> None:
    said = advice([seen(OBJECTS - 10, 0.0), seen(1, 0.0)])
    assert not said.enough
    assert said.missing == 9
    assert said.message == f"In {OBJECTS - 9} objects you changed 0 % of the pixels: 9 more tell whether to go on."
    assert advice([seen(1, 1.0)]).message.startswith("In 1 object you changed 100 %")


def test_no_changes_are_enough() -> None:
    said = advice([seen(OBJECTS // 2, 0.0)] * 2)
    assert said.enough
    assert (
        said.message
        == f"In the last {OBJECTS} objects you changed 0 % of the pixels: more corrections will change little."
    )


def test_all_changed_is_not() -> None:
    said = advice([seen(OBJECTS, 1.0)])
    assert not said.enough
    assert said.share == 1
    assert said.message == f"In the last {OBJECTS} objects you changed 100 % of the pixels: more corrections will help."


@pytest.mark.parametrize(("share", "enough"), [(LITTLE - 0.01, True), (LITTLE, False), (LITTLE + 0.01, False)])
def test_the_share_decides(share: float, enough: bool) -> None:
    assert advice([seen(100, share)]).enough is enough


def test_a_share_is_not_rounded_to_nothing() -> None:
    assert "less than 1 % of the pixels" in advice([seen(100, 0.004)]).message


def test_the_last_objects_count_and_those_before_are_told() -> None:
    half = OBJECTS // 2
    bad, good = seen(half, 0.8), seen(half, 0.0)
    assert advice([bad, bad, bad, good, good]).enough, "what was bad once is long learned"
    assert not advice([good, good, bad, bad]).enough
    mixed = advice([bad, bad, good, seen(half, 0.2)])
    assert not mixed.enough
    assert (mixed.objects, mixed.share, mixed.before) == (2 * half, 0.1, 0.8)
    assert "10 % of the pixels (before that 80 %): more corrections" in mixed.message
    assert advice([bad, good, seen(half, 0.2)]).before is None, "too few before them"


def test_objects_are_pooled_by_their_pixels() -> None:
    """Not as the mean of tiles: one with few objects does not count as much as one with many."""
    said = advice([seen(OBJECTS - 1, 0.0), seen(1, 1.0)])
    assert said.share == pytest.approx(1 / OBJECTS)
    empty = replace(seen(1, 0.0), objects=0, changed=0, pixels=0, pixels_changed=0)
    assert advice([seen(OBJECTS - 1, 0.0), seen(1, 1.0), empty]) == said
