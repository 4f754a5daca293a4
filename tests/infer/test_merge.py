"""New labels stand beside what a hand made, and a region replaces only itself."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.errors import ImageError
from napari_unet.infer import merge
from napari_unet.infer.merge import exchanged, graft, merge_labels, pairs

ALL = (slice(0, 40), slice(0, 40))


def disk(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def image(*objects: tuple[tuple[int, int], float, int]) -> np.ndarray:
    labels = np.zeros((40, 40), np.uint32)
    for centre, radius, number in objects:
        labels[disk(labels.shape, centre, radius)] = number
    return labels


NOTHING = np.zeros((40, 40), bool)


def test_without_corrections_a_run_replaces_everything() -> None:
    old, found = image(((10, 10), 6, 7)), image(((30, 30), 6, 1))
    np.testing.assert_array_equal(merge_labels(old, found, ALL, NOTHING), found)


def test_what_is_given_is_not_changed() -> None:
    old, found = image(((10, 10), 6, 7)), image(((11, 11), 6, 1))
    before = old.copy(), found.copy()
    merge_labels(old, found, ALL, disk((40, 40), (10, 10), 3))
    np.testing.assert_array_equal(old, before[0])
    np.testing.assert_array_equal(found, before[1])


def test_an_object_made_by_hand_gets_no_rim() -> None:
    old, found = image(((20, 20), 8, 7)), image(((20, 20), 10, 1))
    result = merge_labels(old, found, ALL, old > 0)
    np.testing.assert_array_equal(result, old)


def test_a_found_object_goes_on_as_the_corrected_one() -> None:
    """A stroke of number 7 within an object: the whole object is 7."""
    old, found = image(((20, 20), 8, 7)), image(((20, 20), 8, 1), ((5, 5), 3, 2))
    protected = disk((40, 40), (20, 14), 2)
    result = merge_labels(old, found, ALL, protected)
    assert set(np.unique(result[found == 1])) == {7}
    assert result[5, 5] not in (0, 7)


def test_background_that_was_rubbed_stays_background() -> None:
    old, found = image(((20, 20), 8, 7)), image(((20, 20), 8, 1))
    old[:, 19:22] = 0
    protected = NOTHING.copy()
    protected[:, 19:22] = True
    result = merge_labels(old, found, ALL, protected)
    assert not result[:, 19:22].any()
    left, right = result[20, 15], result[20, 25]
    assert left
    assert right
    assert left != right, "a cut by the eraser makes two objects"


def test_an_object_across_the_edge_of_a_confirmed_tile_stays_whole() -> None:
    old, found = image(((20, 20), 8, 7)), image(((20, 20), 8, 1))
    protected = NOTHING.copy()
    protected[:, :20] = True
    np.testing.assert_array_equal(merge_labels(old, found, ALL, protected), old)


def test_a_thin_object_is_not_taken_for_a_rim() -> None:
    old, found = image(), image()
    old[18:20, 5:35], found[18:20, 5:35] = 7, 1
    protected = NOTHING.copy()
    protected[:, :20] = True
    np.testing.assert_array_equal(merge_labels(old, found, ALL, protected), old)


def test_numbers_stay_unique() -> None:
    old = image(((8, 8), 5, 3), ((30, 8), 5, 9))
    found = image(((8, 30), 5, 3), ((30, 30), 5, 9), ((20, 20), 4, 10))
    result = merge_labels(old, found, ALL, old > 0)
    assert len(np.unique(result)) == 6
    np.testing.assert_array_equal(result[old > 0], old[old > 0])


def test_a_region_joins_what_its_edge_cuts() -> None:
    old = image(((20, 20), 8, 7), ((5, 35), 3, 12))
    region = (slice(0, 40), slice(0, 20))
    found = (image(((20, 20), 8, 1), ((35, 5), 4, 2)))[region]
    result = merge_labels(old, found, region, np.zeros((40, 20), bool))
    assert set(np.unique(result[found == 1])) == {7}
    assert result[35, 5] not in (0, 7, 12), "a new object has a number that is used nowhere, outside included"


def test_two_that_were_found_apart_stay_apart() -> None:
    old = np.zeros((20, 20), np.uint32)
    old[8:12, 2:18] = 5  # two that an older model had taken for one
    found = np.zeros((20, 10), np.uint32)
    found[8:9, :8], found[10:12, :8] = 1, 2
    after = merge_labels(old, found, (slice(0, 20), slice(10, 20)), np.zeros((20, 10), bool))
    assert after[8, 0] != after[11, 0]
    assert after[11, 0] == 5  # it meets more of what goes on outside


def test_a_region_in_a_stack() -> None:
    old = np.stack([image(((20, 20), 8, 7)), image(((20, 20), 8, 8))])
    region = (slice(1, 2), slice(0, 40), slice(0, 40))
    found = image(((10, 10), 6, 1))[None]
    result = merge_labels(old, found, region, np.zeros((1, 40, 40), bool))
    assert result.shape == (1, 40, 40)
    assert result.max() == 8, "the largest number outside the region is 7"


@pytest.mark.parametrize("protected", [NOTHING, disk((40, 40), (3, 3), 1)])
def test_numbers_that_do_not_fit_are_refused(protected: np.ndarray) -> None:
    old = np.zeros((40, 40), np.uint8)
    found = np.zeros((40, 40), np.uint32)
    found[20:30, 20:30] = 300
    with pytest.raises(ImageError, match=r"uint8.*convert it to uint32"):
        merge_labels(old, found, ALL, protected)


def test_labels_may_change_under_the_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is painted while the labels are merged makes no difference."""
    old, found = image(((20, 20), 8, 7), ((8, 30), 4, 5)), image(((20, 20), 8, 1))
    region, protected = (slice(0, 40), slice(0, 26)), disk((40, 40), (20, 14), 2)[:, :26]
    expected = merge_labels(old, found[region], region, protected)
    looked_at = merge._largest_outside

    def painted(*given: object) -> int:
        answer = looked_at(*given)
        old[10:30] = 99
        return answer

    monkeypatch.setattr(merge, "_largest_outside", painted)
    result = merge_labels(old, found[region], region, protected)
    np.testing.assert_array_equal(result[:, :20], expected[:, :20])
    assert 7 in result


@pytest.mark.parametrize("seed", range(20))
def test_corrected_pixels_never_change(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = (40, 40)
    places = random.uniform(2, 38, (12, 3)) * [1, 1, 0.2]
    blobs = [((int(y), int(x)), float(r), i + 1) for i, (y, x, r) in enumerate(places)]
    old, found = image(*blobs[:6]), image(*((c, r, n - 6) for c, r, n in blobs[6:]))
    protected = random.random(shape) < random.choice([0.01, 0.3, 0.9])
    (y0, y1), (x0, x1) = (np.sort(random.choice(41, 2, replace=False)) for _ in range(2))
    region = (slice(int(y0), int(y1)), slice(int(x0), int(x1)))
    result = merge_labels(old, found[region], region, protected[region])
    np.testing.assert_array_equal(result[protected[region]], old[region][protected[region]])
    assert not result[(found[region] == 0) & ~protected[region]].any()


@pytest.mark.parametrize("seed", range(8))
def test_what_a_hand_made_is_put_into_labels_that_keep_their_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    draw = lambda: image(*(((rng.integers(40), rng.integers(40)), rng.integers(2, 9), n) for n in range(1, 6)))  # noqa: E731
    made, found = draw(), draw() * np.uint32(100)
    known = disk((40, 40), tuple(rng.integers(40, size=2)), 9)
    merged = graft(made, found, known, taken := 1000)
    there = {number: np.unique(merged[known & (made == number)]) for number in np.unique(made[known])}
    assert all(len(each) == 1 for each in there.values()), "what was one object is one"
    assert len({int(each[0]) for each in there.values()}) == len(there), "what were two are two"
    for number, (new,) in there.items():
        assert not number or new > taken or new in found[known & (made == number)], "free, or that of what it corrects"
    kept = (merged <= taken) & ~known & ~np.isin(merged, list(there.values()))
    assert set(np.unique(merged[kept])) <= set(np.unique(found))
    assert (merged[kept] == found[kept])[merged[kept] > 0].all()
    beyond = merged > taken
    assert (found[beyond & ~known] > 0).all(), "nothing is where neither was anything"


def test_an_object_that_a_hand_corrected_goes_on_beyond_the_part_with_its_number() -> None:
    made, found = image(((20, 20), 8, 1)), image(((20, 20), 10, 70))
    merged = graft(made, found, disk((40, 40), (20, 20), 5), 100)
    assert set(np.unique(merged)) == {0, 70}


def test_without_corrections_what_was_found_is_put_in_as_it_is() -> None:
    found = image(((20, 20), 8, 70))
    np.testing.assert_array_equal(graft(image(((20, 20), 9, 1)), found, NOTHING, 100), found)


@pytest.mark.parametrize("kind", [np.uint8, np.uint32, np.uint64, np.int64])
def test_pairs_are_those_that_occur_the_most_frequent_first(kind: type) -> None:
    a, b = np.array([[3, 3, 0], [200, 3, 0]], kind), np.array([[7, 7, 0], [0, 9, 0]], kind)
    assert pairs(a, b)[0] in ((3, 7, 2), (0, 0, 2))
    assert sorted(pairs(a, b)) == [(0, 0, 2), (3, 7, 2), (3, 9, 1), (200, 0, 1)]
    assert pairs(a[:0], b[:0]) == []


def numbers(labels: np.ndarray) -> set[int]:
    return set(np.unique(labels[labels > 0]).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_no_object_is_cut_by_what_was_drawn_around_it(seed: int) -> None:
    """Each object that was found comes whole or not at all, and each that was there goes or stays."""
    random = np.random.default_rng(seed)
    blobs = lambda: image(*((tuple(random.integers(3, 37, 2)), random.uniform(3, 7), n) for n in range(1, 9)))  # noqa: E731
    old, found, inside = blobs() * 10, blobs(), disk((40, 40), (20, 20), 12)
    new, kept = exchanged(old, found, inside, NOTHING, NOTHING)
    for n in numbers(found):
        assert len(np.unique(new[found == n])) == 1
        if 2 * inside[found == n].sum() > (found == n).sum():
            assert n in new
    for n in numbers(old):
        assert len(np.unique(kept[old == n])) == 1
        if 2 * inside[old == n].sum() > (old == n).sum():
            assert not kept[old == n].any()
        for m in numbers(new):  # of two in one place, one goes
            shared, smaller = ((old == n) & (new == m)).sum(), min((old == n).sum(), (new == m).sum())
            assert 2 * shared <= smaller or not kept[old == n].any()


def test_both_halves_take_the_place_of_what_was_merged() -> None:
    old, found = np.zeros((2, 40, 40), np.uint32)
    old[10:20, 5:35] = 1
    found[10:20, 5:20], found[10:20, 20:35] = 1, 2
    inside = np.zeros((40, 40), bool)
    inside[8:22, 2:21] = True  # the left half only
    new, kept = exchanged(old, found, inside, NOTHING, NOTHING)
    np.testing.assert_array_equal(new, found)
    assert not kept.any()


def test_what_reaches_beyond_the_region_or_is_known_is_not_exchanged() -> None:
    old, found = image(((20, 20), 6, 1)), image(((20, 20), 8, 1))
    everywhere, cut = ~NOTHING, disk((40, 40), (20, 20), 1)
    for new, kept in (
        exchanged(old, found, everywhere, cut, NOTHING),
        exchanged(old, image(), everywhere, NOTHING, old > 0),
    ):
        assert not new.any()
        np.testing.assert_array_equal(kept, old > 0)
