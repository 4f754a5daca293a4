"""What a hand painted is known, and no longer known when it was undone."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import Dims
from napari.layers import Labels

from napari_unet.gui.models import ModelEntry
from napari_unet.gui.strokes import Annotation, Mark
from napari_unet.gui.writing import TileWriter, is_large, write_region
from napari_unet.learn.corrections import State
from napari_unet.learn.stopping import Review, review

ALL = (slice(0, 64), slice(0, 64))
ALL_OF_300 = (slice(0, 300), slice(0, 300))


@pytest.fixture
def layer() -> Labels:
    data = np.zeros((64, 64), np.uint32)
    data[10:20, 10:20] = 1
    made = Labels(data)
    made.brush_size = 6
    return made


def painted(annotation: Annotation) -> np.ndarray:
    return annotation.state() == State.PAINTED


def take(annotation: Annotation) -> list[Review]:
    """As a training that begins and ends at once."""
    lesson = annotation.lesson()
    annotation.learned(lesson)
    return lesson.reviews


def stroke(layer: Labels, number: int, *points: tuple[int, int]) -> None:
    """As napari's brush does it: many stamps, one event."""
    with layer.block_history():
        for point in points:
            layer.paint(point, number)


def test_a_stroke_is_known_where_it_changed_something(layer: Labels) -> None:
    annotation = Annotation(layer)
    before = layer.data.copy()
    stroke(layer, 5, (40, 40), (42, 42))
    np.testing.assert_array_equal(painted(annotation), before != layer.data)
    assert annotation.strokes == 1


def test_undo_and_redo_are_followed(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40), (42, 42))
    first = painted(annotation)
    stroke(layer, 6, (41, 41))
    layer.fill((15, 15), 9)
    everything = painted(annotation)
    for _ in range(2):
        layer.undo()
    np.testing.assert_array_equal(painted(annotation), first)
    assert annotation.strokes == 1
    layer.undo()
    assert not painted(annotation).any()
    assert not annotation.known()
    for _ in range(3):
        layer.redo()
    np.testing.assert_array_equal(painted(annotation), everything)
    assert annotation.strokes == 3
    layer.undo()
    layer.undo()
    np.testing.assert_array_equal(painted(annotation), first)


def test_a_new_stroke_after_undo(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    layer.undo()
    stroke(layer, 6, (50, 50))
    layer.redo()  # nothing to do again
    assert annotation.strokes == 1
    assert painted(annotation)[50, 50]
    assert not painted(annotation)[40, 40]


def test_strokes_older_than_the_history_stay_known(layer: Labels) -> None:
    annotation = Annotation(layer)
    for i in range(layer._history_limit + 20):
        layer.paint((i % 60, (i * 7) % 60), i + 2)
    known = painted(annotation)
    for _ in range(layer._history_limit + 5):
        layer.undo()
    left = painted(annotation)
    assert left.any()
    assert not (left & ~known).any()
    assert annotation.strokes == 20


def test_data_setitem_and_polygons_count(layer: Labels) -> None:
    annotation = Annotation(layer)
    layer.data_setitem((np.array([1, 2]), np.array([3, 4])), 8)
    assert painted(annotation).sum() == 2
    layer.paint_polygon([[30, 30], [30, 40], [40, 35]], 4)
    np.testing.assert_array_equal(painted(annotation)[30:41, 30:41], layer.data[30:41, 30:41] == 4)


@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_painting_and_undoing(layer: Labels, seed: int) -> None:
    """What is painted is what differs from the start, if each stroke has a number of its own."""
    random = np.random.default_rng(seed)
    annotation = Annotation(layer)
    start = layer.data.copy()
    for number in range(2, 60):
        match random.choice(["paint", "undo", "redo"], p=[0.5, 0.3, 0.2]):
            case "paint":
                stroke(layer, number, *random.integers(0, 64, (3, 2)))
            case "undo":
                layer.undo()
            case _:
                layer.redo()
        np.testing.assert_array_equal(painted(annotation), layer.data != start)


def test_a_run_is_no_stroke_and_never_writes_over_one(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    by_hand = layer.data.copy()
    known = painted(annotation)
    write_region(annotation, ALL, np.full((64, 64), 3, np.uint32))
    np.testing.assert_array_equal(layer.data, np.where(known, by_hand, 3))
    assert annotation.strokes == 1
    layer.undo()
    np.testing.assert_array_equal(layer.data, by_hand)
    np.testing.assert_array_equal(painted(annotation), known)
    layer.redo()
    assert (layer.data[~known] == 3).all()
    layer.undo()
    layer.undo()
    assert not annotation.known()


def test_a_run_that_changes_nothing_leaves_no_step(layer: Labels) -> None:
    annotation = Annotation(layer)
    write_region(annotation, ALL, layer.data.copy())
    assert not layer._undo_history


def test_a_large_layer_is_written_tile_by_tile(layer: Labels, qtbot) -> None:
    layer = Labels(np.zeros((600, 700), np.uint32))
    annotation = Annotation(layer)
    layer.paint((300, 300), 5)
    known, by_hand = annotation.state() > 0, layer.data.copy()
    values = np.arange(500 * 600, dtype=np.uint32).reshape(500, 600) + 10
    writer = TileWriter(annotation, (slice(50, 550), slice(60, 660)), values)
    with qtbot.waitSignal(writer.finished, timeout=20_000):
        writer.start()
        layer._begin_stroke()
        qtbot.wait(30)
        assert layer.data.max() == 5, "it waits while the hand paints"
        layer._commit_stroke()
    expected = by_hand.copy()
    expected[50:550, 60:660] = values
    np.testing.assert_array_equal(layer.data, np.where(known, by_hand, expected))
    assert annotation.strokes == 1
    layer.undo()
    np.testing.assert_array_equal(layer.data, by_hand)
    layer.redo()
    np.testing.assert_array_equal(layer.data, np.where(known, by_hand, expected))
    layer.undo()
    layer.undo()
    assert not layer.data.any()
    assert annotation.strokes == 0


def test_a_part_of_a_stack_is_large_by_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Labels(np.zeros((9, 64, 64), np.uint32))
    assert not is_large(layer, (slice(0, 9), *ALL))
    monkeypatch.setattr("napari_unet.gui.writing.MOST", 2 * 64 * 64)
    assert is_large(layer, (slice(0, 9), *ALL))
    assert not is_large(layer, (slice(3, 5), *ALL))


def test_a_stack_is_written_tile_by_tile(qtbot) -> None:
    """In the slice that is shown, and in the others; what is painted meanwhile stays."""
    layer = Labels(np.zeros((5, 300, 300), np.uint32))
    layer._slice_dims(Dims(ndim=3, ndisplay=2, point=(2, 0, 0), range=((0, 4, 1), (0, 299, 1), (0, 299, 1))))
    annotation = Annotation(layer)
    layer.paint((2, 50, 50), 5)
    values = np.arange(4 * 300 * 300, dtype=np.uint32).reshape(4, 300, 300) + 10
    writer = TileWriter(annotation, (slice(1, 5), slice(0, 300), slice(0, 300)), values)
    for _ in range(3):
        writer._turn()
    assert layer.data[1].any()
    layer.paint((4, 280, 280), 7)
    with qtbot.waitSignal(writer.finished, timeout=20_000):
        writer.start()
    known = annotation.state() > 0
    assert (layer.data[known] == np.where(np.nonzero(known)[0] == 2, 5, 7)).all()
    assert not layer.data[0].any()
    np.testing.assert_array_equal(layer.data[1:][~known[1:]], values[~known[1:]])
    written = layer.data.copy()
    layer.undo()
    np.testing.assert_array_equal(layer.data, written)  # undo cannot span what was painted meanwhile
    shown = layer.colormap._data_to_texture(layer.data[2])
    np.testing.assert_array_equal(layer._slice.image.view, shown)


@pytest.mark.parametrize(
    ("when", "kept"), [("before", True), ("meanwhile", True), ("meanwhile", False)], ids=["before", "painted", "large"]
)
def test_undo_while_a_result_is_written_brings_nothing_back(monkeypatch, qtbot, when: str, kept: bool) -> None:
    """A stroke undone between two tiles would leave what was there before the run."""
    monkeypatch.setattr("napari_unet.gui.writing.TILE", 30)
    if not kept:
        monkeypatch.setattr("napari_unet.gui.writing.KEPT", 10)
    layer = Labels(np.full((300, 300), 3, np.uint32))
    annotation = Annotation(layer)
    if when == "before":
        layer.paint((5, 5), 7)
    values = np.where(annotation.state() > 0, layer.data, 4)
    writer = TileWriter(annotation, ALL_OF_300, values)
    with qtbot.waitSignal(writer.finished, timeout=20_000):
        writer.start()
        if when == "before":
            layer.undo()  # before the first tile
        else:
            layer.paint((280, 280), 7)  # where nothing was written yet
        for _ in range(5):
            writer._turn()
        assert (layer.data[:60, :60] == 4).any()
        layer.undo()
    known = annotation.state() > 0
    assert annotation.strokes == 1
    assert known.any()
    np.testing.assert_array_equal(layer.data, np.where(known, 7, 4))
    layer.undo()
    assert set(np.unique(layer.data)) == ({3, 7} if when == "before" else {4, 7}), "all of the run, or nothing"


def test_a_layer_that_gets_other_data_is_written_no_further(monkeypatch, qtbot) -> None:
    monkeypatch.setattr("napari_unet.gui.writing.TILE", 30)
    layer = Labels(np.zeros((300, 300), np.uint32))
    writer = TileWriter(Annotation(layer), ALL_OF_300, np.full((300, 300), 4, np.uint32))
    with qtbot.waitSignal(writer.finished, timeout=20_000):
        writer.start()
        for _ in range(5):
            writer._turn()
        assert layer.data.any()
        layer.data = np.zeros((100, 100), np.uint32)
    assert writer.cut
    assert not layer.data.any()


@pytest.mark.parametrize("lazy", [False, True])
def test_other_data_keep_what_agrees(layer: Labels, lazy: bool) -> None:
    zarr = pytest.importorskip("zarr") if lazy else None
    if zarr is not None:
        layer.data = zarr.array(layer.data)
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    stroke(layer, 6, (10, 50))
    annotation.mark(Mark(State.CONFIRMED, (slice(0, 8), slice(0, 8))))
    annotation.mark(Mark(State.CONFIRMED, (slice(36, 44), slice(36, 44))))
    other = np.array(layer.data)
    other[30:50, 30:50] = 0
    layer.data = other if zarr is None else zarr.array(other)
    assert not painted(annotation)[40, 40]
    assert painted(annotation)[10, 50]
    assert annotation.tiles == 1
    layer.undo()
    np.testing.assert_array_equal(np.asarray(layer.data), other)


def test_data_of_another_shape_start_anew(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    layer.data = np.zeros((10, 12), np.uint32)
    assert annotation.state().shape == (10, 12)
    assert not annotation.known()


def test_marks(layer: Labels) -> None:
    annotation = Annotation(layer)
    tile = (slice(0, 32), slice(0, 32))
    annotation.mark(Mark(State.CONFIRMED, tile))
    mask = np.zeros((12, 12), bool)
    mask[2:10, 2:10] = True
    annotation.mark(Mark(State.ACCEPTED, (slice(28, 40), slice(28, 40)), mask))
    stroke(layer, 5, (5, 5))
    state = annotation.state()
    assert (state[:4, 20:30] == State.CONFIRMED).all()
    assert (state[30:38, 30:38] == State.ACCEPTED).all()
    assert state[5, 5] == State.PAINTED
    assert state[39, 39] == State.UNKNOWN
    region = (slice(20, 50), slice(1, 45))
    np.testing.assert_array_equal(annotation.state(region), state[region])
    np.testing.assert_array_equal(annotation.protected(region), state[region] > 0)
    assert (annotation.tiles, annotation.objects) == (1, 1)
    annotation.take_back()
    annotation.take_back()
    annotation.take_back()
    assert not (annotation.state() == State.CONFIRMED).any()


def test_undo_and_redo_let_go_of_marks_that_no_longer_hold(layer: Labels) -> None:
    annotation = Annotation(layer)
    tile, far = (slice(0, 32), slice(0, 32)), (slice(40, 64), slice(40, 64))
    write_region(annotation, tile, np.full((32, 32), 3, np.uint32))  # a run
    stroke(layer, 5, (8, 8))
    annotation.mark(Mark(State.CONFIRMED, tile))
    annotation.mark(Mark(State.CONFIRMED, far))
    stroke(layer, 6, (20, 20))
    layer.undo()
    assert (annotation.tiles, annotation.lost) == (2, 0), "the labels are again what was called right"
    layer.redo()
    assert annotation.tiles == 2, "painted since: known by hand"
    layer.undo()
    layer.undo()
    assert (annotation.tiles, annotation.lost) == (1, 1), "what was called right is no longer there"
    layer.undo()
    annotation.mark(Mark(State.CONFIRMED, tile))
    assert annotation.lost == 0
    layer.redo()
    assert [mark.region for mark in annotation.marks] == [far], "the run came back over the tile"


def test_marks_are_let_go_when_the_history_is_full(layer: Labels) -> None:
    annotation = Annotation(layer)
    for i in range(layer._history_limit + 5):
        layer.paint((i % 60, i % 50), i + 2)
    write_region(annotation, ALL, np.full((64, 64), 3, np.uint32))
    layer.undo()
    annotation.mark(Mark(State.CONFIRMED, ALL))
    layer.redo()
    assert annotation.tiles == 0


def test_a_tile_is_compared_with_what_it_was_before_the_strokes(layer: Labels) -> None:
    annotation, tile = Annotation(layer), Mark(State.CONFIRMED, (slice(0, 32), slice(0, 32)))
    before = layer.data.copy()
    stroke(layer, 5, (5, 5), (5, 8))
    stroke(layer, 6, (5, 6), (31, 31))  # over the last one, and beyond the tile
    layer.data_setitem((np.array([25, 25, 50]), np.array([3, 4, 50])), [7, 8, 9])
    layer.fill((15, 15), 0)
    stroke(layer, 4, (15, 15))
    stroke(layer, 3, (15, 25))
    layer.undo()
    annotation.mark(tile)
    assert annotation.reviews() == [review(before[:32, :32], layer.data[:32, :32])]
    annotation.take_back()
    assert annotation.reviews() == []


def test_strokes_that_left_the_history_are_still_compared(layer: Labels) -> None:
    annotation, before = Annotation(layer), layer.data.copy()
    for i in range(layer._history_limit + 5):
        layer.paint((i % 60, i % 50), i + 2)
    annotation.mark(Mark(State.CONFIRMED, ALL))
    assert annotation.reviews() == [review(before, layer.data)]


def test_a_run_changes_what_is_proposed(layer: Labels) -> None:
    annotation, found = Annotation(layer), np.full((64, 64), 3, np.uint32)
    stroke(layer, 5, (40, 40))
    mine = layer.data == 5
    write_region(annotation, ALL, found)
    annotation.mark(Mark(State.CONFIRMED, ALL))
    (seen,) = annotation.reviews()
    assert (seen.pixels, seen.pixels_changed) == (64 * 64, mine.sum()), "the stroke was on background"


def test_nothing_is_reviewed_twice(layer: Labels) -> None:
    annotation, left, right = Annotation(layer), (slice(0, 64), slice(0, 20)), (slice(0, 64), slice(20, 64))
    layer.data[:] = 1  # as a run that found one object; that it was no stroke is what counts
    stroke(layer, 5, (10, 18), (10, 22))
    annotation.mark(Mark(State.CONFIRMED, left))
    annotation.mark(Mark(State.CONFIRMED, ALL))
    assert sum(each.pixels for each in annotation.reviews()) == 64 * 64, "what both take in counts once"
    assert take(annotation) == [
        review(np.ones((64, 20), int), layer.data[left]),
        review(np.ones((64, 44), int), layer.data[right]),
    ]
    assert annotation.reviews() == take(annotation) == []
    stroke(layer, 6, (50, 50))
    annotation.mark(Mark(State.CONFIRMED, ALL))
    assert annotation.reviews()[0].objects == 0, "all of it was learned from"


def test_strokes_that_were_learned_from_are_no_proposal(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    old = painted(annotation)
    take(annotation)
    stroke(layer, 6, (30, 30))
    annotation.mark(Mark(State.CONFIRMED, ALL))
    before = np.where(layer.data == 6, 0, layer.data)
    assert annotation.reviews() == [review(before, layer.data, ~old)]


def test_other_data_are_nobodys_proposal(layer: Labels) -> None:
    annotation = Annotation(layer)
    annotation.mark(Mark(State.CONFIRMED, ALL))
    layer.data = layer.data.copy()
    assert annotation.tiles == 1
    assert annotation.reviews() == take(annotation) == []


def test_only_what_was_there_when_the_training_began_was_learned_from(layer: Labels) -> None:
    annotation, left, right = Annotation(layer), (slice(0, 64), slice(0, 32)), (slice(0, 64), slice(32, 64))
    stroke(layer, 5, (15, 15))
    annotation.mark(Mark(State.CONFIRMED, left))
    lesson, before = annotation.lesson(), layer.data.copy()
    (seen,) = annotation.reviews()
    assert lesson.reviews == [seen], "nothing is taken before something was learned"
    stroke(layer, 6, (40, 50))
    annotation.mark(Mark(State.CONFIRMED, right))
    annotation.learned(lesson)
    assert annotation.reviews() == [review(before[right], layer.data[right])]
    assert take(annotation) == [review(before[right], layer.data[right])]


def test_a_training_that_ends_after_the_labels_got_other_data(layer: Labels) -> None:
    annotation = Annotation(layer)
    annotation.mark(Mark(State.CONFIRMED, ALL))
    lesson = annotation.lesson()
    layer.data = np.zeros((3, 10, 12), np.uint32)
    annotation.learned(lesson)
    annotation.mark(Mark(State.CONFIRMED, (slice(0, 3), slice(0, 10), slice(0, 12))))
    assert annotation.reviews() == []


def test_the_labels_are_reviewed_for_the_model_that_proposed_them(layer: Labels) -> None:
    first, other, left, right = (
        ModelEntry("first"),
        ModelEntry("other"),
        (ALL[0], slice(0, 32)),
        (ALL[0], slice(32, 64)),
    )
    annotation = Annotation(layer, model=first)
    stroke(layer, 5, (15, 15), (40, 40))
    annotation.mark(Mark(State.CONFIRMED, left))
    old, known = annotation.reviews(), painted(annotation)
    annotation.choose(other)
    assert annotation.reviews() == annotation.lesson().reviews == []
    annotation.choose(first)
    assert annotation.reviews() == old
    annotation.choose(other)
    write_region(annotation, ALL, np.full((64, 64), 3, np.uint32))
    assert annotation.reviews() == []
    before = layer.data.copy()
    stroke(layer, 6, (50, 50))
    annotation.mark(Mark(State.CONFIRMED, right))
    assert annotation.reviews() == [review(before[right], layer.data[right], ~known[right])]
    annotation.choose(first)
    assert annotation.reviews() == []


def test_a_model_that_proposes_what_is_there_already_is_reviewed_for_it(layer: Labels) -> None:
    annotation = Annotation(layer, model=ModelEntry("first"))
    annotation.choose(ModelEntry("other"))
    write_region(annotation, ALL, layer.data.copy())
    annotation.mark(Mark(State.CONFIRMED, ALL))
    assert annotation.reviews() == [review(layer.data, layer.data)]


def test_a_child_goes_on_with_what_its_parent_proposed(layer: Labels) -> None:
    parent, child = ModelEntry("parent"), ModelEntry("child")
    annotation = Annotation(layer, model=parent)
    annotation.mark(Mark(State.CONFIRMED, ALL))
    seen = annotation.reviews()
    assert len(seen) == 1
    annotation.choose(child, parent)
    assert annotation.reviews() == seen
    write_region(annotation, ALL, np.full((64, 64), 3, np.uint32))
    assert annotation.reviews() == seen
    annotation.choose(parent)
    assert annotation.reviews() == []


def test_a_model_of_a_later_dock_is_another_one(layer: Labels) -> None:
    annotation = Annotation(layer, model=ModelEntry("tiny"))
    annotation.mark(Mark(State.CONFIRMED, ALL))
    assert len(annotation.reviews()) == 1
    annotation.close()
    annotation.watch(ModelEntry("tiny"))
    assert annotation.reviews() == []


def test_closed_and_watched_again(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    annotation.close()
    stroke(layer, 6, (10, 50))
    assert annotation.strokes == 1
    annotation.watch()
    stroke(layer, 7, (50, 10))
    layer.undo()
    layer.undo()
    assert painted(annotation)[40, 40]
    assert annotation.strokes == 1
