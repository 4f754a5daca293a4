"""What a hand painted is known, and no longer known when it was undone: one history of all that is done to labels."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import Dims
from napari.layers import Labels

from napari_unet.gui import strokes
from napari_unet.gui.marks import Mark
from napari_unet.gui.models import ModelEntry
from napari_unet.gui.strokes import Annotation
from napari_unet.gui.writing import TileWriter, is_large
from napari_unet.learn import objects
from napari_unet.learn.corrections import State
from napari_unet.learn.objects import Edit
from napari_unet.learn.stopping import Review, review
from napari_unet.store import actions
from napari_unet.store.actions import Action, Parts, Runs

ALL = (slice(0, 64), slice(0, 64))


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


def propose(annotation: Annotation, region: tuple[slice, ...], values: np.ndarray) -> None:
    """As a run of the chosen model that finds these."""
    old = np.array(annotation.layer.data[region])
    new = np.where(annotation.protected(region), old, values).astype(old.dtype)
    none = Runs.pack(old[:0, :0])
    action = Action.between("segment", region, old, new) or Action("segment", (slice(0, 0),) * 2, none, none)
    box = zip(action.region, region, strict=True)
    annotation.run(action, new[tuple(slice(b.start - r.start, b.stop - r.start) for b, r in box)].copy())


def seen(annotation: Annotation) -> tuple[object, ...]:
    """All that undo must bring back."""
    known = annotation.strokes, list(annotation.marks), annotation.reviews(), annotation.lesson().reviews
    return np.array(annotation.layer.data).tobytes(), annotation.state().tobytes(), *known


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


def test_strokes_beyond_what_the_log_holds_stay_known(layer: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MOST", 1000)
    monkeypatch.setattr(actions, "LEAST", 20)
    annotation = Annotation(layer)
    for i in range(40):
        layer.paint((i, (i * 7) % 60), i + 2)
    known = painted(annotation)
    for _ in range(60):
        layer.undo()
    left = painted(annotation)
    assert left.any()
    assert not (left & ~known).any()
    assert 0 < annotation.strokes < 40


def test_more_than_two_hundred_steps_are_taken_back(layer: Labels) -> None:
    annotation, before = Annotation(layer), layer.data.copy()
    for i in range(220):
        layer.paint((i % 60, (i * 7) % 60), i + 2)
    after = layer.data.copy()
    for _ in range(220):
        layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    assert not annotation.known()
    for _ in range(220):
        layer.redo()
    np.testing.assert_array_equal(layer.data, after)
    assert annotation.strokes == 220


def test_nothing_is_left_to_naparis_own_undo(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    by_hand = layer.data.copy()
    Labels.undo(layer)  # whoever goes round ours
    np.testing.assert_array_equal(layer.data, by_hand)
    layer.undo()
    Labels.redo(layer)
    assert not (layer.data == 5).any()
    annotation.close()
    assert layer.undo.__func__ is Labels.undo


def test_undo_leaves_what_it_knows_nothing_of(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40), (50, 50))
    layer.data[40:43, 40:43] = 9  # a script
    layer.undo()
    assert (layer.data == 9).sum() == 9
    assert not (layer.data == 5).any()
    assert not annotation.known()


def test_undo_waits_for_the_hand(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    with layer.block_history():
        layer.paint((10, 50), 6)
        layer.undo()
        assert (layer.data == 5).any()
    layer.undo()
    assert annotation.strokes == 1
    assert not (layer.data == 6).any()


def test_an_edit_is_by_hand_and_one_step(layer: Labels) -> None:
    annotation = Annotation(layer)
    before = layer.data.copy()
    annotation.edit("delete", objects.delete(layer.data, 1), {"number": 1})
    assert annotation.undoes == "delete"
    np.testing.assert_array_equal(painted(annotation), before != layer.data)
    assert annotation.strokes == 1
    annotation.edit("smooth", Edit(ALL, layer.data.copy()))
    assert annotation.undoes == "delete", "what changes nothing is no step"
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    assert not annotation.known()
    assert (annotation.undoes, annotation.redoes) == ("", "delete")


def test_data_setitem_and_polygons_count(layer: Labels) -> None:
    annotation = Annotation(layer)
    layer.data_setitem((np.array([1, 2]), np.array([3, 4])), 8)
    assert painted(annotation).sum() == 2
    layer.paint_polygon([[30, 30], [30, 40], [40, 35]], 4)
    np.testing.assert_array_equal(painted(annotation)[30:41, 30:41], layer.data[30:41, 30:41] == 4)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_doing_and_undoing(layer: Labels, seed: int, large: bool, monkeypatch) -> None:
    """After each step back or forth all is as it was then, also where results are written tile by tile."""
    random, drawn = np.random.default_rng(seed), seed % 2  # with outlines or filled
    layer.contour = 2 * drawn
    if large:
        monkeypatch.setattr(strokes, "is_large", lambda layer, region: True)
        monkeypatch.setattr(TileWriter, "start", lambda writer: None)
        monkeypatch.setattr("napari_unet.gui.writing.TILE", 11)
    models = [ModelEntry("one"), ModelEntry("two")]
    annotation = Annotation(layer, model=models[0])

    def box() -> tuple[slice, ...]:
        return tuple(slice(int(a), int(a + n)) for a, n in zip(*random.integers(1, 30, (2, 2)), strict=True))

    def do(what: str) -> None:
        region = box()
        match what:
            case "paint":
                stroke(layer, int(random.integers(0, 9)), *random.integers(0, 64, (3, 2)))
            case "edit":
                values = np.array(layer.data[region])
                values[random.random(values.shape) < 0.5] = random.integers(9)
                annotation.edit("split", Edit(region, values))
            case "mark" if random.random() < 0.5:
                annotation.mark(Mark(State.CONFIRMED, region))
            case "mark":
                mask = random.random([r.stop - r.start for r in region]) < 0.5
                annotation.mark(Mark(State.ACCEPTED, region, mask))
            case "run":
                annotation.settle()
                annotation.choose(models[random.integers(2)])
                propose(annotation, region, random.integers(0, 9, [r.stop - r.start for r in region]))

    def settled() -> tuple[object, ...]:
        annotation.choose(None)  # one look for all: which model is chosen is no matter of undo
        annotation.choose(annotation._proposal.model)
        return seen(annotation)

    states, at = [settled()], 0
    for _ in range(120):
        match random.choice(["do", "undo", "redo"], p=[0.5, 0.3, 0.2]):
            case "do":
                do(random.choice(["paint", "paint", "edit", "mark", "run"]))
                if annotation.writer is not None:
                    for _ in range(random.integers(3)):
                        annotation.writer._turn()
                    stroke(layer, 7, *random.integers(0, 64, (3, 2)))  # also over what is not written yet
                done = annotation._log.standing - at
                states = states[: at + 1] if done else states
                if done == 2:
                    annotation.undo()
                    states.append(settled())
                    annotation.redo()
                if done:
                    states.append(settled())
                at += done
            case "undo":
                annotation.undo()
                at -= at > 0
            case "redo":
                annotation.redo()
                at += at < len(states) - 1
        assert annotation._log.standing == at
        assert settled() == states[at]
        shown = layer.colormap._data_to_texture(layer.data)
        if not drawn:
            np.testing.assert_array_equal(layer._slice.image.view, shown)


def test_a_stroke_that_an_error_cut_off_is_known_and_can_be_taken_back(layer: Labels) -> None:
    annotation = Annotation(layer)
    before = layer.data.copy()

    def cut_off() -> None:
        with layer.block_history():
            layer.paint((40, 40), 5)
            raise IndexError  # as napari does where a brush leaves the image in 3-D

    with pytest.raises(IndexError):
        cut_off()
    annotation.settle()
    assert annotation.strokes == 1
    np.testing.assert_array_equal(painted(annotation), layer.data != before)
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)


def test_a_run_is_no_stroke_and_never_writes_over_one(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    by_hand = layer.data.copy()
    known = painted(annotation)
    propose(annotation, ALL, np.full((64, 64), 3, np.uint32))
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
    propose(annotation, ALL, layer.data.copy())
    assert not annotation.undoes


def test_a_run_that_made_the_layer_is_a_step(layer: Labels) -> None:
    found = layer.data.copy()
    action = Action.between("segment", ALL, np.zeros_like(found), found)
    annotation = Annotation(layer, done=[action])
    assert not annotation.known()
    layer.undo()
    assert not layer.data.any()
    layer.redo()
    np.testing.assert_array_equal(layer.data, found)


def test_a_large_layer_is_written_tile_by_tile(qtbot, monkeypatch) -> None:
    monkeypatch.setattr(strokes, "is_large", lambda layer, region: True)
    layer = Labels(np.zeros((600, 700), np.uint32))
    annotation = Annotation(layer)
    layer.paint((300, 300), 5)
    known, by_hand = annotation.state() > 0, layer.data.copy()
    region, values = (slice(50, 550), slice(60, 660)), np.arange(500 * 600, dtype=np.uint32).reshape(500, 600) + 10
    propose(annotation, region, values)
    with qtbot.waitSignal(annotation.writer.finished, timeout=20_000):
        layer._begin_stroke()
        qtbot.wait(30)
        assert layer.data.max() == 5, "it waits while the hand paints"
        layer._commit_stroke()
    expected = by_hand.copy()
    expected[region] = values
    expected = np.where(known, by_hand, expected)
    np.testing.assert_array_equal(layer.data, expected)
    assert annotation.strokes == 1
    for step, labels in ((layer.undo, by_hand), (layer.redo, expected), (layer.undo, by_hand)):
        step()
        qtbot.waitUntil(lambda: annotation.writer is None, timeout=20_000)
        np.testing.assert_array_equal(layer.data, labels)
    layer.undo()
    annotation.settle()
    assert not layer.data.any()
    assert annotation.strokes == 0


def test_a_part_of_a_stack_is_large_by_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Labels(np.zeros((9, 64, 64), np.uint32))
    assert not is_large(layer, (slice(0, 9), *ALL))
    monkeypatch.setattr("napari_unet.gui.writing.MOST", 2 * 64 * 64)
    assert is_large(layer, (slice(0, 9), *ALL))
    assert not is_large(layer, (slice(3, 5), *ALL))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_what_is_undone_is_drawn_whichever_way_the_stack_is_looked_at(order: tuple[int, ...], lazy: bool) -> None:
    data = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(np.uint32)
    if lazy:
        data = pytest.importorskip("zarr").array(data)
    layer, middle = Labels(data), (2, 3, 4)
    span = tuple((0, n - 1, 1) for n in data.shape)
    layer._slice_dims(Dims(ndim=3, ndisplay=2, point=middle, range=span, order=order))
    annotation = Annotation(layer)
    before = np.array(layer.data)
    values = np.array(before[1:4, 1:5, 2:6])
    values[values == 3] = 8
    annotation.edit("merge", Edit((slice(1, 4), slice(1, 5), slice(2, 6)), values))
    for step in (lambda: None, layer.undo, layer.redo, layer.undo):
        step()
        plane = np.take(np.array(layer.data), middle[order[0]], order[0])
        plane = plane if order[1] < order[2] else plane.T
        np.testing.assert_array_equal(layer._slice.image.raw, plane)
        np.testing.assert_array_equal(layer._slice.image.view, layer.colormap._data_to_texture(plane))
    np.testing.assert_array_equal(np.array(layer.data), before)


def test_a_stack_is_written_tile_by_tile(qtbot, monkeypatch) -> None:
    """In the slice that is shown, and in the others; what is painted meanwhile stays."""
    monkeypatch.setattr(strokes, "is_large", lambda layer, region: True)
    layer = Labels(np.zeros((5, 300, 300), np.uint32))
    layer._slice_dims(Dims(ndim=3, ndisplay=2, point=(2, 0, 0), range=((0, 4, 1), (0, 299, 1), (0, 299, 1))))
    annotation = Annotation(layer)
    layer.paint((2, 50, 50), 5)
    by_hand = layer.data.copy()
    values = np.arange(4 * 300 * 300, dtype=np.uint32).reshape(4, 300, 300) + 10
    propose(annotation, (slice(1, 5), slice(0, 300), slice(0, 300)), values)
    for _ in range(3):
        annotation.writer._turn()
    assert layer.data[1].any()
    layer.paint((4, 280, 280), 7)
    with qtbot.waitSignal(annotation.writer.finished, timeout=20_000):
        pass
    known = annotation.state() > 0
    assert (layer.data[known] == np.where(np.nonzero(known)[0] == 2, 5, 7)).all()
    assert not layer.data[0].any()
    np.testing.assert_array_equal(layer.data[1:][~known[1:]], values[~known[1:]])
    layer.undo()
    annotation.settle()
    np.testing.assert_array_equal(layer.data[4], values[3], "where it was not written yet too")
    layer.undo()
    annotation.settle()
    np.testing.assert_array_equal(layer.data, by_hand)
    shown = layer.colormap._data_to_texture(layer.data[2])
    np.testing.assert_array_equal(layer._slice.image.view, shown)


def test_undo_while_a_result_is_written_takes_all_of_it_back(monkeypatch) -> None:
    monkeypatch.setattr(strokes, "is_large", lambda layer, region: True)
    monkeypatch.setattr("napari_unet.gui.writing.TILE", 30)
    monkeypatch.setattr(TileWriter, "start", lambda writer: None)
    layer = Labels(np.full((300, 300), 3, np.uint32))
    annotation = Annotation(layer)
    propose(annotation, (slice(0, 300), slice(0, 300)), np.full((300, 300), 4))
    for _ in range(5):
        annotation.writer._turn()
    assert set(np.unique(layer.data)) == {3, 4}
    assert annotation.largest() == 4
    layer.undo()
    annotation.settle()
    assert (layer.data == 3).all()


@pytest.mark.parametrize("redo", [False, True])
@pytest.mark.parametrize("shape", [(300, 310), (4, 90, 80), (70, 1, 3)])
def test_what_is_painted_while_a_run_is_taken_back_is_a_step_after_it(shape, redo: bool, monkeypatch) -> None:
    monkeypatch.setattr(strokes, "is_large", lambda layer, region: True)
    monkeypatch.setattr("napari_unet.gui.writing.TILE", 30)
    monkeypatch.setattr(TileWriter, "start", lambda writer: None)
    random = np.random.default_rng(0)
    layer = Labels(random.integers(0, 5, shape).astype(np.uint32))
    annotation, before = Annotation(layer), layer.data.copy()
    propose(annotation, tuple(slice(0, n) for n in shape), random.integers(5, 9, shape))
    annotation.settle()
    after = layer.data.copy()
    untold = tuple(slice(n // 2, n // 2 + 3) for n in shape)
    layer.data[untold] = before[untold] = after[untold] = 70
    annotation.undo()
    if redo:
        annotation.settle()
        annotation.redo()
    expected = after if redo else before
    for number in (20, 21, 22):
        for _ in range(2):
            annotation.writer._turn()
        stroke(layer, number, *random.integers(0, shape, (3, len(shape))))
    annotation.settle()
    by_hand = layer.data > 19
    by_hand &= layer.data != 70
    np.testing.assert_array_equal(layer.data[~by_hand], expected[~by_hand])
    for _ in range(3):
        annotation.undo()
    annotation.settle()
    np.testing.assert_array_equal(layer.data, expected)


def test_a_run_is_taken_back_in_pieces(monkeypatch, qtbot) -> None:
    pieces: list[int] = []
    monkeypatch.setattr(strokes, "is_large", lambda layer, region: True)
    monkeypatch.setattr("napari_unet.gui.writing.TILE", 30)
    monkeypatch.setattr(Runs, "unpack", lambda runs: pytest.fail("all of it is unpacked at once"))
    unpack = Parts.unpack
    monkeypatch.setattr(Parts, "unpack", lambda *of: pieces.append(of[2] - of[1]) or unpack(*of))
    layer = Labels(np.zeros((300, 310), np.uint32))
    annotation = Annotation(layer)
    propose(annotation, (slice(0, 300), slice(0, 310)), np.full((300, 310), 4))
    annotation.settle()
    layer.undo()
    assert not pieces
    qtbot.waitUntil(lambda: annotation.writer is None, timeout=20_000)
    assert not layer.data.any()
    assert set(pieces) == {30 * 310}


def test_a_layer_that_gets_other_data_is_written_no_further(monkeypatch, qtbot) -> None:
    monkeypatch.setattr(strokes, "is_large", lambda layer, region: True)
    monkeypatch.setattr("napari_unet.gui.writing.TILE", 30)
    layer = Labels(np.zeros((300, 300), np.uint32))
    annotation = Annotation(layer)
    propose(annotation, (slice(0, 300), slice(0, 300)), np.full((300, 300), 4))
    writer = annotation.writer
    with qtbot.waitSignal(writer.finished, timeout=20_000):
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
    for _ in range(4):
        annotation.undo()
    assert not annotation.state().any()
    annotation.redo()
    assert (annotation.state()[tile] == State.CONFIRMED).all()


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
    annotation.undo()
    assert annotation.reviews() == []


def test_strokes_that_left_the_log_are_still_compared(layer: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MOST", 1000)
    monkeypatch.setattr(actions, "LEAST", 20)
    annotation, before = Annotation(layer), layer.data.copy()
    for i in range(40):
        layer.paint((i % 60, i % 50), i + 2)
    annotation.mark(Mark(State.CONFIRMED, ALL))
    assert annotation.reviews() == [review(before, layer.data)]


def test_what_was_learned_is_not_reviewed_after_undo_and_redo(layer: Labels) -> None:
    annotation = Annotation(layer)
    stroke(layer, 5, (40, 40))
    annotation.mark(Mark(State.CONFIRMED, ALL))
    take(annotation)
    for step in (layer.undo, layer.undo, layer.redo, layer.redo):
        step()
    assert annotation.tiles == 1
    assert annotation.reviews() == take(annotation) == []


def test_a_run_changes_what_is_proposed(layer: Labels) -> None:
    annotation, found = Annotation(layer), np.full((64, 64), 3, np.uint32)
    stroke(layer, 5, (40, 40))
    mine = layer.data == 5
    propose(annotation, ALL, found)
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
    propose(annotation, ALL, np.full((64, 64), 3, np.uint32))
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
    propose(annotation, ALL, layer.data.copy())
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
    propose(annotation, ALL, np.full((64, 64), 3, np.uint32))
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
