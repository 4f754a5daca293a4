"""Scores against hand-computed cases, a brute-force reference and the symmetries they must have."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from napari_unet.errors import DataError
from napari_unet.learn.matching import match_objects
from napari_unet.learn.metrics import (
    THRESHOLDS,
    ImageScore,
    ObjectScore,
    Scores,
    score_classes,
    score_instances,
    summarise,
)


def row(length: int, **spans: tuple[int, int]) -> np.ndarray:
    """Return a 1-D labelling; ``o7=(2, 5)`` gives the pixels 2, 3, 4 the id 7."""
    labels = np.zeros(length, np.int32)
    for name, (start, stop) in spans.items():
        labels[start:stop] = int(name[1:])
    return labels


def objects(truth: np.ndarray, prediction: np.ndarray, valid: np.ndarray | None = None) -> ObjectScore:
    counts = score_instances(truth, prediction, valid=valid).objects
    assert counts is not None
    return counts


def iou_matrix(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return the IoU of all objects of `truth` with all of `prediction`, in plain loops."""
    ids = [[i for i in np.unique(labels) if i != 0] for labels in (truth, prediction)]
    result = np.zeros((len(ids[0]), len(ids[1])))
    for i, a in enumerate(ids[0]):
        for j, b in enumerate(ids[1]):
            both = np.count_nonzero((truth == a) & (prediction == b))
            result[i, j] = both / np.count_nonzero((truth == a) | (prediction == b))
    return result


def best_pairs(iou: np.ndarray, threshold: float) -> tuple[int, float]:
    """Return how many pairs an optimal dense assignment finds, and the sum of their IoU."""
    good = iou >= threshold
    rows, columns = linear_sum_assignment(np.where(good, 10 + iou / 100, 0), maximize=True)
    kept = good[rows, columns]
    return int(kept.sum()), float(iou[rows, columns][kept].sum())


two_labellings = hnp.array_shapes(min_dims=1, max_dims=3, max_side=7).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.uint8, shape, elements=st.integers(0, 6))] * 2)
)


# Hand-computed


def test_hand_computed_row() -> None:
    truth = row(40, o1=(0, 10), o2=(10, 20), o3=(25, 30), o9=(35, 40))
    prediction = row(40, o5=(0, 8), o6=(9, 20), o7=(28, 33), o8=(33, 34))
    # 1-5: 8 / 10 = .80.  2-6: 10 / 11 = .909.  1-6: 1 / 20.  3-7: 2 / (5 + 5 - 2) = .25.  9, 8: alone.
    counts = objects(truth, prediction)
    assert (counts.n_truth, counts.n_prediction) == (4, 4)
    # .50 … .80: two pairs; .85, .90: one; .95: none
    assert counts.tp == (2, 2, 2, 2, 2, 2, 2, 1, 1, 0)
    assert counts.fp == counts.fn == (2, 2, 2, 2, 2, 2, 2, 3, 3, 4)
    # 2 / (2 + 2 + 2), 1 / (1 + 3 + 3), 0 / 8
    assert counts.ap == pytest.approx([1 / 3] * 7 + [1 / 7] * 2 + [0])
    assert counts.iou_sum == pytest.approx([0.8 + 10 / 11] * 7 + [10 / 11] * 2 + [0])
    # SQ = (.8 + .909) / 2; RQ = 2 / (2 + 2/2 + 2/2) = .5
    assert counts.sq == pytest.approx((0.8 + 10 / 11) / 2)
    assert counts.rq == 0.5
    assert counts.pq == pytest.approx((0.8 + 10 / 11) / 4)


def test_hand_computed_foreground() -> None:
    # truth 6 pixels, prediction 4, both 3: Dice 2 * 3 / 10, IoU 3 / 7; that ids differ is of no matter
    score = score_instances(row(10, o1=(0, 3), o2=(3, 6)), row(10, o4=(3, 7)))
    assert score.dice == 0.6
    assert score.iou == pytest.approx(3 / 7)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_an_iou_of_exactly_the_threshold_counts(threshold: float) -> None:
    hundredths = round(threshold * 100)
    counts = objects(row(200, o1=(0, 100)), row(200, o1=(0, hundredths)))  # IoU = hundredths / 100
    assert sum(counts.tp) == THRESHOLDS.index(threshold) + 1


def test_iou_of_exactly_half_counts_for_ap_but_not_for_pq() -> None:
    counts = objects(row(30, o1=(0, 10), o2=(10, 20)), row(30, o1=(0, 5), o2=(10, 20)))
    # 1-1: 5 / 10 = .5; 2-2: 1.  AP.50 = 2 / 2; PQ: 1 pair of IoU 1, so SQ = 1, RQ = 1 / (1 + 1/2 + 1/2)
    assert counts.tp[:2] == (2, 1)
    assert (counts.halves, counts.sq, counts.rq, counts.pq) == (1, 1.0, 0.5, 0.5)


def test_two_exact_halves_cannot_both_match() -> None:
    whole, halves = row(10, o1=(0, 10)), row(10, o1=(0, 5), o2=(5, 10))
    # both halves have IoU 5 / 10 with the whole: one pair, one half left alone
    assert objects(whole, halves).tp[0] == objects(halves, whole).tp[0] == 1
    assert (objects(whole, halves).fp[0], objects(whole, halves).fn[0]) == (1, 0)


def test_optimal_matching_where_greedy_is_wrong() -> None:
    truth = row(14, o1=(0, 10), o2=(10, 14))
    prediction = row(14, o1=(0, 4), o2=(4, 14))
    # 1-2: 6 / (10 + 10 - 6) = .43, the largest; 1-1: 4 / 10 = .40; 2-2: 4 / 10 = .40.
    # Greedy takes 1-2 and is left with nothing for 2; optimal takes 1-1 and 2-2.
    matching = match_objects(truth, prediction, 0.3)
    assert sorted(zip(matching.truth, matching.prediction, strict=True)) == [(1, 1), (2, 2)]
    assert matching.iou == pytest.approx([0.4, 0.4])
    assert matching.missed.size == matching.spurious.size == 0
    # at .41 only 1-2 is left
    matching = match_objects(truth, prediction, 0.41)
    assert (matching.truth.tolist(), matching.prediction.tolist()) == ([1], [2])
    assert (matching.missed.tolist(), matching.spurious.tolist()) == ([2], [1])


def test_of_equally_many_pairs_the_larger_iou_wins() -> None:
    # 1-1: 4 / 10, 1-2: 6 / 10
    matching = match_objects(row(10, o1=(0, 10)), row(10, o1=(0, 4), o2=(4, 10)), 0.1)
    assert (matching.prediction.tolist(), matching.iou.tolist()) == ([2], [0.6])


def test_hand_computed_classes() -> None:
    truth = np.array([[0, 0, 1, 1], [0, 2, 2, 2]])
    prediction = np.array([[0, 1, 1, 1], [0, 0, 2, 2]])
    score = score_classes(truth, prediction, ("background", "cell", "debris", "never there"))
    cell, debris, absent = score.classes
    # cell: truth 2, prediction 3, both 2: Dice 4 / 5, IoU 2 / 3.  debris: 3, 2, both 2: the same
    assert (cell.name, cell.both, cell.truth, cell.prediction) == ("cell", 2, 2, 3)
    assert (cell.dice, cell.iou) == (debris.dice, debris.iou) == (0.8, 2 / 3)
    # what does not occur is right, but does not lift the mean
    assert (absent.dice, score.dice) == (1.0, 0.8)
    assert score.ap == ()
    assert math.isnan(score.pq)


def test_classes_take_a_mask_and_bool() -> None:
    truth, prediction = np.array([True, True, False, False]), np.array([True, False, True, False])
    valid = np.array([True, True, True, False])
    # of the first three pixels: truth 2, prediction 2, both 1: Dice 2 / 4
    score = score_classes(truth, prediction, ("background", "cell"), valid=valid)
    assert score.dice == 0.5


# Brute force and symmetries


@settings(max_examples=150, deadline=None)
@given(two_labellings, st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 0.6, 0.9]))
def test_agrees_with_brute_force(pair: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    truth, prediction = pair
    iou = iou_matrix(truth, prediction)
    matching = match_objects(truth, prediction, threshold)
    n_pairs, iou_sum = best_pairs(iou, threshold)
    assert len(matching.iou) == n_pairs
    assert matching.iou.sum() == pytest.approx(iou_sum)
    for ids, matched, alone in (
        (truth, matching.truth, matching.missed),
        (prediction, matching.prediction, matching.spurious),
    ):
        assert sorted([*matched, *alone]) == [i for i in np.unique(ids) if i]  # each object once

    counts = objects(truth, prediction)
    expected = [best_pairs(iou, t) for t in THRESHOLDS]
    assert counts.tp == tuple(n for n, _ in expected)
    assert counts.iou_sum == pytest.approx([total for _, total in expected])
    assert counts.pq == pytest.approx(2 * iou[iou > 0.5].sum() / sum(iou.shape) if sum(iou.shape) else 1.0)


@settings(max_examples=60, deadline=None)
@given(two_labellings)
def test_swapping_truth_and_prediction_swaps_fp_and_fn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    there, back = objects(*pair), objects(*pair[::-1])
    assert (there.tp, there.fp, there.fn) == (back.tp, back.fn, back.fp)
    assert there.ap == back.ap
    assert there.pq == pytest.approx(back.pq)


@settings(max_examples=60, deadline=None)
@given(two_labellings, st.permutations(range(6)), st.sampled_from([np.int64, np.uint64, np.uint32]))
def test_ids_do_not_matter(pair: tuple[np.ndarray, np.ndarray], order: list[int], dtype: type) -> None:
    truth, prediction = pair
    ids = np.array([1, 7, 300, 65_536, 2**31 - 1, np.iinfo(dtype).max], dtype)[order]
    ids = np.concatenate([np.zeros(1, dtype), ids])
    before, after = objects(truth, prediction), objects(ids[truth], prediction)
    assert (before.tp, before.fp, before.fn) == (after.tp, after.fp, after.fn)
    assert before.iou_sum == pytest.approx(after.iou_sum)


@settings(max_examples=60, deadline=None)
@given(two_labellings)
def test_a_labelling_is_perfect_against_itself(pair: tuple[np.ndarray, np.ndarray]) -> None:
    score = score_instances(pair[0], pair[0])
    assert score.ap == (1.0,) * len(THRESHOLDS)
    assert score.pq == score.dice == score.iou == 1.0


@settings(max_examples=60, deadline=None)
@given(two_labellings, st.data())
def test_mask_crops_as_by_hand(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    valid = data.draw(hnp.arrays(bool, pair[0].shape))
    cropped = []
    for labels in pair:
        kept = [i for i in np.unique(labels) if 2 * np.sum(valid[labels == i]) >= np.sum(labels == i)]
        cropped.append(np.where(valid & np.isin(labels, kept), labels, 0))
    assert objects(*pair, valid) == objects(*cropped)


def test_memory_layout_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 5, (2, 6, 7, 8))
    assert objects(np.asfortranarray(truth), prediction[::-1][::-1]) == objects(truth, prediction)


# The mask of valid pixels


def test_mask_ignores_objects_that_are_mostly_outside_and_crops_the_others() -> None:
    truth = row(40, o1=(0, 10), o2=(15, 25), o3=(30, 40))
    prediction = row(40, o1=(0, 10), o2=(16, 26), o3=(28, 38))
    valid = np.zeros(40, bool)
    valid[:20] = True
    # 1: inside, IoU 1.  Truth 2: half of it outside (not more), cropped to 15-20.  Prediction 2: 4 of 10
    # inside, ignored.  3: ignored.  So 1 pair, 0 spurious, 1 missed
    counts = objects(truth, prediction, valid)
    assert (counts.tp[0], counts.fp[0], counts.fn[0]) == (1, 0, 1)
    # Dice of all valid pixels: truth 15, prediction 14, both 14
    assert score_instances(truth, prediction, valid=valid).dice == pytest.approx(28 / 29)


def test_mask_crops_before_the_iou() -> None:
    truth, prediction = row(30, o1=(0, 10)), row(30, o1=(0, 14))
    valid = np.arange(30) < 10
    # without: 10 / 14 = .71; with: the prediction has 10 of 14 inside and is cropped to them, IoU 1
    assert objects(truth, prediction).tp[9] == 0
    assert objects(truth, prediction, valid).tp[9] == 1


def test_nothing_valid_is_an_image_without_objects() -> None:
    truth = row(10, o1=(0, 10))
    score = score_instances(truth, truth, valid=np.zeros(10, bool))
    assert score.objects is not None
    assert score.objects.n_truth == score.objects.n_prediction == 0
    assert score.ap50 == score.dice == 1.0


# Sets of images


def test_pooled_and_mean() -> None:
    whole = row(10, o1=(0, 10))
    many = np.repeat(np.arange(1, 10), 10)
    nothing = np.zeros(10, np.uint8)
    images = [
        score_instances(many, many, name="nine right"),  # TP 9
        score_instances(whole, nothing, name="one missed"),  # FN 1: AP 0
        score_instances(nothing, nothing, name="empty"),  # AP 1 in the mean, nothing in the pool
    ]
    scores = summarise(images)
    assert scores.ap50 == 9 / 10
    assert scores.mean_ap[0] == pytest.approx((1 + 0 + 1) / 3)
    # RQ = 9 / (9 + 1/2); SQ = 1
    assert scores.pq == pytest.approx(9 / 9.5)
    # pooled: truth 100 pixels, prediction 90, both 90; mean of 1, 0, 1
    assert scores.dice == pytest.approx(180 / 190)
    assert scores.mean_dice == pytest.approx(2 / 3)
    assert [image.name for image in scores.per_image] == ["nine right", "one missed", "empty"]


def test_empty_images_alone_score_one() -> None:
    nothing = np.zeros((4, 4), int)
    scores = summarise([score_instances(nothing, nothing)] * 3)
    assert scores.ap50 == scores.mean_ap[0] == scores.pq == scores.dice == scores.mean_dice == 1.0
    assert scores.ap50_interval == (1.0, 1.0)


def test_objects_against_nothing_score_zero() -> None:
    some, nothing = row(10, o1=(0, 5)), row(10)
    for score in (score_instances(some, nothing), score_instances(nothing, some)):
        assert score.ap50 == score.pq == score.dice == score.iou == 0.0


def random_images(n: int) -> list[ImageScore]:
    rng = np.random.default_rng(3)
    grid = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((4, 4), int))
    images = []
    for i in range(n):
        wrong = np.isin(grid, rng.choice(np.arange(1, 17), rng.integers(0, 10)))
        images.append(score_instances(grid, np.where(wrong, 0, grid), name=f"image {i}"))
    return images


def test_bootstrap_is_reproducible_and_holds_the_estimate() -> None:
    images = random_images(12)
    scores = summarise(images)
    assert scores == summarise(images)
    assert len({summarise(images, seed=seed).ap50_interval for seed in range(5)}) > 1
    assert scores.ap50_interval is not None
    low, high = scores.ap50_interval
    assert 0 < low < scores.ap50 < high < 1
    # the plain way: draw images, pool, 2.5th and 97.5th percentile
    rng = np.random.default_rng(5)
    draws = [summarise(list(rng.choice(np.array(images), 12)), resamples=1).ap50 for _ in range(1000)]
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([low, high], abs=0.02)


def test_bootstrap_of_one_image_has_no_width() -> None:
    scores = summarise(random_images(1))
    assert scores.ap50_interval == (scores.ap50, scores.ap50)


def test_pooled_classes() -> None:
    classes = ("background", "cell", "debris")
    images = [
        score_classes(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]), classes, name="a"),
        score_classes(np.array([1, 1, 2, 0]), np.array([1, 1, 2, 2]), classes, name="b"),
    ]
    scores = summarise(images)
    # cell: truth 4, prediction 3, both 3: 6 / 7.  debris: truth 1, prediction 2, both 1: 2 / 3
    assert [score.dice for score in scores.classes] == pytest.approx([6 / 7, 2 / 3])
    assert scores.dice == pytest.approx((6 / 7 + 2 / 3) / 2)
    # image a has no debris: its Dice is that of its cells, 2 / 3; image b: (1 + 2 / 3) / 2
    assert scores.mean_dice == pytest.approx((2 / 3 + 5 / 6) / 2)
    assert "debris" in scores.table(per_image=True)
    json.dumps(scores.to_dict(), allow_nan=False)


def test_to_dict_goes_through_json() -> None:
    scores = summarise(random_images(3))
    result = scores.to_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["ap"]["0.50"] == scores.ap50
    assert result["mean_ap"]["0.95"] == scores.mean_ap[-1]
    assert [image["name"] for image in result["per_image"]] == ["image 0", "image 1", "image 2"]


def test_table_is_short_and_tells_the_scores() -> None:
    scores = summarise(random_images(3))
    lines = scores.table().splitlines()
    assert len(lines) == 7
    assert max(map(len, lines)) < 80
    assert f"{scores.ap50:.3f}" in lines[2]
    assert len(scores.table(per_image=True).splitlines()) == 10


def test_scores_are_frozen() -> None:
    scores = summarise(random_images(1))
    with pytest.raises(FrozenInstanceError):
        scores.name = "other"  # type: ignore[misc]
    assert isinstance(scores, Scores)


# Errors


@pytest.mark.parametrize(
    ("truth", "prediction", "said"),
    [
        (np.zeros((4, 5), int), np.zeros((5, 4), int), r"\(5, 4\).*\(4, 5\)"),
        (np.zeros(4), np.zeros(4, int), "float64"),
        (np.zeros(4, bool), np.zeros(4, int), "bool"),
        (np.array([1, -1]), np.array([1, 1]), "-1"),
    ],
)
def test_labels_that_do_not_fit(truth: np.ndarray, prediction: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        score_instances(truth, prediction)


def test_other_misuse() -> None:
    labels = np.array([0, 1, 2])
    with pytest.raises(DataError, match=r"mask of valid pixels.*\(2,\)"):
        score_instances(labels, labels, valid=np.ones(2, bool))
    with pytest.raises(DataError, match=r"class 2, .* 0 to 1"):
        score_classes(labels, labels, ("background", "cell"))
    with pytest.raises(DataError, match="0 images"):
        summarise([])
    with pytest.raises(ValueError, match="above 0"):
        match_objects(labels, labels, 0)
    cells, debris = (score_classes(labels > 0, labels > 0, ("background", one)) for one in ("cell", "debris"))
    for unlike in (score_instances(labels, labels), debris):
        with pytest.raises(ValueError, match="cannot be pooled"):
            summarise([cells, unlike])


def test_an_invalid_pixel_may_have_any_class() -> None:
    truth, prediction = np.array([1, 255]), np.array([1, 0])
    assert score_classes(truth, prediction, ("background", "cell"), valid=truth != 255).dice == 1.0


# Size


def test_more_objects_than_16_bits_hold() -> None:
    truth = np.arange(1, 70_001, dtype=np.uint32).reshape(7, 100, 100)
    assert objects(truth, truth[::-1].copy()).tp[9] == 70_000
    # wrapped to 16 bits, 65,536 is lost and each of 1 to 4,464 becomes two pixels: IoU 1 / 2 with either
    counts = objects(truth, truth.astype(np.uint16))
    assert (counts.n_truth, counts.n_prediction) == (70_000, 65_535)
    assert counts.tp[:2] == (65_535, 65_535 - 4_464)


def large_pair() -> tuple[np.ndarray, np.ndarray]:
    """Return 2048² labels: 2,000 discs of radius 14, and these moved by (2, 3) with every tenth left out."""
    y, x = np.divmod(np.arange(2000), 50)
    centre_y, centre_x = 20 + y * 51, 20 + x * 40
    dy, dx = np.mgrid[-14:15, -14:15]
    disc = dy**2 + dx**2 <= 14**2
    rows, columns = (dy[disc][:, None] + centre_y), (dx[disc][:, None] + centre_x)
    truth, prediction = np.zeros((2, 2048, 2048), np.uint32)
    ids = np.broadcast_to(np.arange(1, 2001), rows.shape)
    truth[rows, columns] = ids
    prediction[rows + 2, columns + 3] = np.where(ids % 10, ids, 0)
    return truth, prediction


def test_large_image() -> None:
    truth, prediction = large_pair()
    counts = objects(truth, prediction)
    assert (counts.n_truth, counts.n_prediction) == (2000, 1800)
    # a disc of radius 14 moved by sqrt(13): about 1 - 2 * 3.6 / (14 pi) = .84 shared, IoU .84 / 1.16 = .72
    assert counts.tp == (1800,) * 5 + (0,) * 5
    assert counts.ap[0] == 1800 / 2000
