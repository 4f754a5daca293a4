"""What a user said is right is learned from, held out cell by cell for good, and nothing else ever counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet import DataError, Model
from napari_unet.infer import seen
from napari_unet.infer.image import percentiles
from napari_unet.infer.lazy import LazyArray
from napari_unet.infer.seen import prepare
from napari_unet.jobs import run
from napari_unet.learn import corrections as module
from napari_unet.learn.corrections import Corrections, State, correction_tiles, known_weight

if TYPE_CHECKING:
    from napari_unet.learn.targets import TrainingTile

SIDE = 40  # of a slice, in pixels
UNKNOWN, CONFIRMED, ACCEPTED, PAINTED = State


@pytest.fixture(autouse=True)
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELL", 8)
    monkeypatch.setattr(module, "CONTEXT", 4)


@pytest.fixture(scope="module")
def model() -> Model:
    return replace(Model.new(width=1, depth=0), diameter=10.0)


def places(*shape: int) -> np.ndarray:
    """Return an image in which each pixel tells where it is, once it is normalised from 0 to 1."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.float64).reshape(shape)


def corrections(state: np.ndarray, labels: np.ndarray | None = None, **more: Any) -> Corrections:
    labels = np.ones(state.shape, np.uint32) if labels is None else labels
    return Corrections(places(*state.shape), labels, state.astype(np.uint8), name="a", **more)


def parted(model: Model, *given: Corrections) -> tuple[list[TrainingTile], list[TrainingTile]]:
    model = replace(model, normalisation=(0.0, 100.0))
    return run(correction_tiles(model, list(given)))


def where(tiles: list[TrainingTile], count: int) -> np.ndarray:
    """Return for each pixel of the image how many tiles it counts in."""
    found = np.zeros(count, int)
    for tile in tiles:
        number = np.rint(tile.image[0] * (count - 1)).astype(int)
        np.add.at(found, number[tile.weight[0] > 0], 1)
    return found


def full(*shape: int) -> np.ndarray:
    return np.full(shape, CONFIRMED)


@pytest.mark.parametrize("shape", [(200,), (SIDE, SIDE), (37, 51), (16, 24, 20)])
def test_each_known_pixel_is_learned_from_or_held_out_and_never_both(shape: tuple[int, ...]) -> None:
    model = Model.new(ndim=len(shape), width=1, depth=0)
    axes = "ZYX"[-len(shape) :]
    tiles, held_out = parted(model, corrections(full(*shape), axes=axes))
    count = int(np.prod(shape))
    learned, scored = where(tiles, count), where(held_out, count)
    assert (learned + scored == 1).all()
    assert 0.1 < scored.mean() < 0.45


def test_of_any_two_by_two_cells_one_is_held_out(model: Model) -> None:
    _, held_out = parted(model, corrections(full(SIDE, SIDE)))
    scored = where(held_out, SIDE * SIDE).reshape(SIDE, SIDE)
    cells = scored[::8, ::8]
    assert (scored == np.kron(cells, np.ones((8, 8)))).all()
    assert all(cells[i : i + 2, j : j + 2].sum() == 1 for i, j in product(range(4), range(4)))
    assert len(held_out) == cells.sum()


@pytest.mark.parametrize("shape", [(32, 80), (8, 80), (20, 32, 32), (20, 8, 80), (6, 16, 64)])
def test_about_a_quarter_is_held_out_in_stacks_and_strips_too(shape: tuple[int, ...]) -> None:
    model = replace(Model.new(width=1, depth=0, ndim=len(shape)), diameter=10.0)
    tiles, held_out = parted(model, corrections(full(*shape)))
    learned, scored = (sum((tile.weight[0] > 0).sum() for tile in part) for part in (tiles, held_out))
    assert 0.2 <= scored / (learned + scored) <= 0.3 + 0.1 * (shape[-2] == 8)


def two_rounds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the state after some corrections, and after some more nearer to the corner."""
    random = np.random.default_rng(seed)
    first = np.zeros((90, 100))
    y, x = random.integers(40, 70, 2)
    first[y : y + 20, x : x + 25] = PAINTED
    more = first.copy()
    y, x = random.integers(0, 30, 2)
    more[y : y + 15, x : x + 9] = CONFIRMED
    return first, more


@pytest.mark.parametrize("seed", range(5))
def test_a_held_out_pixel_stays_held_out_whatever_else_is_corrected(seed: int, model: Model) -> None:
    rounds = [parted(model, corrections(state)) for state in two_rounds(seed)]
    (learned, scored), (learned_later, scored_later) = ([where(part, 9000) > 0 for part in parts] for parts in rounds)
    assert not (learned & scored_later).any()
    assert not (scored & learned_later).any()
    assert (scored <= scored_later).all()


@pytest.mark.parametrize("diameter", [7.0, 17.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_so_it_does_at_another_scale(diameter: float, seed: int, model: Model) -> None:
    factor = 10.0 / diameter
    for state in two_rounds(seed):
        rows, columns = np.indices(state.shape).astype(float)
        given = replace(corrections(state), diameter=diameter)
        down, across = (parted(model, replace(given, image=image)) for image in (rows, columns))
        assert len(down[0]) == 1
        for held_out, (one, other) in [
            *((False, pair) for pair in zip(down[0], across[0], strict=True)),
            *((True, pair) for pair in zip(down[1], across[1], strict=True)),
        ]:
            known = one.weight[0] > 0
            row, column = ((part.image[0][known] * (n - 1) + 0.5) * factor for part, n in ((one, 90), (other, 100)))
            sure = (np.abs(row % 8 - 4) < 3) & (np.abs(column % 8 - 4) < 3)  # not at the border of a cell
            assert (((column // 8 + 2 * (row // 8)) % 4 == 0)[sure] == held_out).all()


def test_neighbouring_slices_hold_the_same_cells_out(model: Model) -> None:
    _, held_out = parted(model, corrections(full(3, SIDE, SIDE), axes="ZYX"))
    scored = where(held_out, 3 * SIDE * SIDE).reshape(3, SIDE, SIDE)
    assert (scored[0] == scored[1]).all()
    assert (scored[0] == scored[2]).all()


def test_what_nobody_looked_at_never_counts(model: Model) -> None:
    random = np.random.default_rng(0)
    state = random.integers(0, 4, (SIDE, SIDE))
    labels = random.integers(0, 5, (SIDE, SIDE))
    tiles, held_out = parted(model, corrections(state, labels))
    count = SIDE * SIDE
    known = where(tiles, count) + where(held_out, count)
    assert (known.reshape(SIDE, SIDE) == (state > 0)).all()


def test_sure_pixels_count_more() -> None:
    labels = np.zeros((1, 4), int)
    weight = known_weight(labels, np.array([[UNKNOWN, CONFIRMED, ACCEPTED, PAINTED]], np.uint8))
    assert weight.tolist() == [[[0, 0.5, 1, 1]]] * 3


def test_the_distance_is_known_only_of_whole_objects() -> None:
    labels = np.zeros((20, 40), int)
    labels[2:12, 2:12], labels[2:12, 12:22], labels[2:12, 25:35] = 1, 2, 3
    state = np.full(labels.shape, PAINTED)
    state[labels == 2] = np.where(np.arange(100) < 50, PAINTED, UNKNOWN)  # half of it is known
    state[labels == 3] = np.where(np.arange(100) < 97, PAINTED, UNKNOWN)  # as good as whole
    weight = known_weight(labels, state.astype(np.uint8))
    assert (weight[0] == (state > 0)).all()
    assert (weight[2][labels == 1] == 1).all()
    assert (weight[2][labels == 2] == 0).all()
    assert weight[2][labels == 3].sum() == 97
    assert (weight[1:, labels == 0] == 1).all()
    assert not known_weight(labels, state.astype(np.uint8), "classes")[1:].any()


def test_single_strokes_teach_the_boundary_where_it_is_certain() -> None:
    labels = np.zeros((20, 20), int)
    labels[:, :10], labels[:, 10:] = 1, 2
    state = np.zeros(labels.shape, np.uint8)
    state[8:13, 3:12] = PAINTED  # across the edge between the two
    state[2, 2:8] = PAINTED  # too thin to know what is beside it
    weight = known_weight(labels, state)
    assert (weight[1, 8:13, 9:11] == 1).all()  # another number beside it: an edge, whatever else is there
    assert (weight[1, 9:12, 4:9] == 1).all()  # all around it is the same object: no edge
    assert not weight[1, 2].any()
    assert not weight[1, 8, 3:8].any()
    assert not weight[2].any()


def test_only_what_is_known_and_its_surroundings_are_kept(model: Model) -> None:
    state = np.zeros((400, 300))
    state[200:210, 100:130] = PAINTED
    tiles, held_out = parted(model, corrections(state))
    assert all(tile.image.shape[1] <= 10 + 16 and tile.image.shape[2] <= 30 + 16 for tile in tiles)
    assert all(max(tile.image.shape[1:]) <= 8 + 2 * 4 for tile in held_out)
    assert all(tile.name == "a" for tile in (*tiles, *held_out))


def test_of_a_stack_only_the_corrected_parts_are_read(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.random.default_rng(0).integers(0, 4000, (5, 300, 200))
    read: list[int] = []
    measured: list[object] = []

    def on_disk(slices: tuple[slice, ...]) -> np.ndarray:
        read.append(stack[slices].size)
        return stack[slices]

    def measure(*given: Any) -> tuple[float, float]:
        measured.append(given)
        return percentiles(stack, given[1])

    monkeypatch.setattr(seen, "percentiles", measure)
    state = np.zeros(stack.shape, np.uint8)
    state[1, 200:210, 100:130], state[4, :9, 3:5] = PAINTED, CONFIRMED
    boxes = {1: np.s_[192:218, 92:138], 4: np.s_[0:17, 0:13]}
    lazy = LazyArray(stack.shape, stack.dtype, on_disk)
    tiles, _ = run(correction_tiles(model, [Corrections(lazy, np.ones(state.shape, int), state, axes="ZYX")]))
    assert len(measured) == 1, "once for the whole stack"
    assert read == [stack[i][box].size for i, box in boxes.items()]
    whole, _ = prepare(model, stack, "ZYX")
    for tile, (i, box) in zip(tiles, boxes.items(), strict=True):
        np.testing.assert_array_equal(tile.image[0], whole[0, i][box])


def test_so_little_that_all_of_it_would_be_held_out_is_learned_from(model: Model) -> None:
    state = np.zeros((SIDE, SIDE))
    state[1:5, 1:5] = PAINTED  # in the first cell, which is held out
    tiles, held_out = parted(model, corrections(state))
    assert held_out == []
    assert where(tiles, SIDE * SIDE).sum() == 16


def test_labels_and_state_are_scaled_with_the_image(model: Model) -> None:
    y, x = np.indices((60, 60))
    labels = ((y - 30) ** 2 + (x - 30) ** 2 < 400).astype(np.uint32) * 7
    image = (labels > 0) * 1000.0
    state = full(60, 60).astype(np.uint8)
    tiles, _ = run(correction_tiles(model, [Corrections(image, labels, state, diameter=40.0, name="big")]))
    (tile,) = tiles
    assert tile.image.shape == (1, 15, 15)
    assert set(np.unique(tile.target[1])) == {0, 7}
    assert ((tile.image[0] > 0.5) == (tile.target[0] == 1)).mean() > 0.9
    assert tile.target[2].max() == 1


def test_images_of_several_slices_and_several_images(model: Model) -> None:
    state = np.zeros((4, SIDE, SIDE))
    state[1], state[3, :, 10:] = CONFIRMED, PAINTED
    stack, single = corrections(state, axes="TYX"), corrections(full(SIDE, SIDE))
    empty = corrections(np.zeros((SIDE, SIDE)))
    tiles, _ = parted(model, stack, empty, single)
    assert len(tiles) == 3


def test_a_model_of_classes_learns_classes() -> None:
    model = Model.new(width=1, depth=0, task="classes", classes=("background", "a", "b"))
    labels = np.random.default_rng(0).integers(0, 3, (SIDE, SIDE))
    tiles, held_out = parted(model, corrections(full(SIDE, SIDE), labels))
    for tile in (*tiles, *held_out):
        assert not tile.weight[1].any()
        assert not tile.target[1:].any()
        assert set(np.unique(tile.target[0])) <= {0, 1, 2}


def test_nothing_corrected_is_told(model: Model) -> None:
    for given in ([], [corrections(np.zeros((SIDE, SIDE)))]):
        with pytest.raises(DataError, match="Nothing is corrected yet"):
            parted(model, *given)


def test_labels_of_another_image_are_told(model: Model) -> None:
    wrong = replace(corrections(full(SIDE, SIDE)), labels=np.ones((SIDE, 7), int))
    with pytest.raises(DataError, match=r"'a' are \(40, 7\) pixels and the image \(40, 40\)"):
        parted(model, wrong)


def test_what_is_given_stays_as_it_was(model: Model) -> None:
    given = corrections(full(SIDE, SIDE), diameter=20.0)
    copies = [np.array(part) for part in (given.image, given.labels, given.state)]
    for part in (given.image, given.labels, given.state):
        part.flags.writeable = False  # type: ignore[union-attr]
    parted(model, given)
    assert all((a == b).all() for a, b in zip(copies, (given.image, given.labels, given.state), strict=True))


@pytest.mark.parametrize("brush", [CONFIRMED, PAINTED])
def test_images_of_small_objects_are_learned_enlarged(brush: int) -> None:
    rows, columns = np.indices((SIDE, SIDE))
    plane = np.where((rows % 8 < 4) & (columns % 8 < 4), rows // 8 * 5 + columns // 8 + 1, 0)
    labels = np.stack([plane] * 3)  # the same numbers in each frame
    state = np.zeros(labels.shape, np.uint8)
    state[:, :, 1:3] = brush  # strokes are narrower than the objects
    image = places(*labels.shape)
    model = replace(Model.new(width=1, depth=0), diameter=10.0)
    for smallest, factor in ((None, 1), (6.5, 1.5), (30.0, 2), (4.0, 1)):
        tiles, _ = run(correction_tiles(replace(model, smallest=smallest), [Corrections(image, labels, state, "TYX")]))
        assert tiles[0].image.shape[1] == round(SIDE * factor)
    given = Corrections(image, labels, state, "TYX", diameter=10.0)
    tiles, _ = run(correction_tiles(replace(model, smallest=30.0), [given]))
    assert tiles[0].image.shape[1] == SIDE  # what the user says goes before
