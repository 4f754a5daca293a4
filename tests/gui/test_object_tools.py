"""The tools for whole objects, with the mouse and the keys: each does one thing, in one step that can be taken back."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from app_model.types import KeyBinding
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton

from napari_unet.errors import DataError
from napari_unet.gui.models import ModelEntry
from napari_unet.infer import seam
from napari_unet.jobs import Progress
from napari_unet.learn.corrections import State
from napari_unet.model import Model

NONE, CTRL = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


def cells() -> np.ndarray:
    """Two disks that nearly touch (1, 2), two that are one object (3), a ring (4)."""
    y, x = np.mgrid[:96, :128]
    made = np.zeros((96, 128), np.uint32)
    for number, (row, column, radius) in enumerate([(24, 24, 14), (24, 54, 14), (66, 30, 12), (66, 96, 16)], start=1):
        made[np.hypot(y - row, x - column) < radius] = number
    made[np.hypot(y - 66, x - 50) < 12] = 3
    made[np.hypot(y - 66, x - 96) < 6] = 0
    return made


@pytest.fixture
def flat(desk):
    """A person at an image with labels."""
    return begin(desk(np.zeros((96, 128), np.uint8)), cells())


@pytest.fixture
def stack(desk):
    """A person at the third slice of a stack in micrometres, with the same labels in all slices."""
    at = desk(np.zeros((4, 96, 128), np.uint8), axis_labels=("z", "y", "x"), scale=(3, 0.5, 0.5), units=("um",) * 3)
    begin(at, np.stack([cells()] * 4))
    at.viewer.dims.set_current_step(0, 2)
    return at


def begin(at, labels: np.ndarray):
    at.click(at.dock.correct.empty)
    at.dock.correct.tools.take("paint")  # puts it away
    at.session.labels.data[:] = labels
    at.session.labels.refresh()
    at.viewer.reset_view()
    at.qtbot.wait(20)
    return at


def parted(at) -> None:
    """Wait until the model has looked at the object that was clicked twice."""
    at.wait(lambda: not at.dock.correct.tools.objects.seams.busy)


def hover(at, y: float, x: float) -> None:
    canvas = at.viewer.window._qt_viewer.canvas.native
    y0, x0 = at.viewer.scene.camera.center[-2:]
    zoom = at.viewer.scene.camera.zoom
    place = QPoint(round(canvas.width() / 2 + (x - x0) * zoom), round(canvas.height() / 2 + (y - y0) * zoom))
    QTest.mouseMove(canvas, place - QPoint(9, 9))
    at.qtbot.wait(20)
    QTest.mouseMove(canvas, place)
    at.qtbot.wait(20)


def said(at) -> str:
    return at.dock.correct.count.text()


def numbers(labels: np.ndarray) -> set[int]:
    return set(np.unique(labels).tolist()) - {0}


def one_step(at, before: np.ndarray) -> np.ndarray:
    """Return the labels now; what changed and all of its objects is known, and one Ctrl+Z takes all of it back."""
    labels, annotation = at.session.labels, at.session.annotation
    after = labels.data.copy()
    assert (after != before).any()
    assert annotation.strokes == 1
    known = annotation.state() == State.PAINTED
    made = (after > 0) & np.isin(after, after[known])
    made &= known.any(axis=(-2, -1), keepdims=True)  # in the slice that is shown
    np.testing.assert_array_equal(known, made | (after != before))
    at.press(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(labels.data, before)
    assert not annotation.known()
    at.press(Qt.Key.Key_Z, CTRL | SHIFT)
    np.testing.assert_array_equal(labels.data, after)
    return after


def test_the_object_under_the_mouse_is_deleted(flat) -> None:
    for key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace, Qt.Key.Key_D):
        hover(flat, 24, 54)
        flat.press(key)
        np.testing.assert_array_equal(one_step(flat, cells()), np.where(cells() == 2, 0, cells()), err_msg=str(key))
        flat.press(Qt.Key.Key_Z, CTRL)


def test_objects_are_deleted_by_clicks(flat) -> None:
    flat.more()
    flat.click(flat.dock.correct.tools.ours["delete"])
    flat.paint((24, 54))
    np.testing.assert_array_equal(one_step(flat, cells()), np.where(cells() == 2, 0, cells()))
    flat.paint((24, 24))
    assert numbers(flat.session.labels.data) == {3, 4}


def test_delete_leaves_the_labels_alone_while_another_layer_is_active(flat) -> None:
    flat.viewer.layers.selection.active = flat.viewer.layers["cells"]
    hover(flat, 24, 54)
    flat.press(Qt.Key.Key_Delete)
    np.testing.assert_array_equal(flat.session.labels.data, cells())


def test_what_a_drag_touches_becomes_one_object(flat) -> None:
    flat.press(Qt.Key.Key_J)
    for path in ([(24, 54), (24, 24)], [(24, 54), (20, 40), (24, 24)]):
        flat.paint(*path)
        after = one_step(flat, cells())
        assert numbers(after) == {2, 3, 4}
        assert (after[np.isin(cells(), [1, 2])] == 2).all()
        assert after[24, 39] == 2, "the gap is closed"
        flat.press(Qt.Key.Key_Z, CTRL)


def test_a_merge_goes_on_through_several_objects(flat) -> None:
    flat.click(flat.dock.correct.tools.ours["merge"])
    flat.paint((24, 24), (24, 54), (60, 50), (50, 96), (66, 85))
    assert numbers(one_step(flat, cells())) == {1}


def test_a_line_cuts_the_object_that_it_crosses(flat) -> None:
    flat.press(Qt.Key.Key_K)
    flat.paint((48, 41), (66, 40), (86, 41))
    after = one_step(flat, cells())
    assert numbers(after) == {1, 2, 3, 4, 5}
    assert {after[66, 30], after[66, 50]} == {3, 5}
    np.testing.assert_array_equal(np.isin(after, [3, 5]), cells() == 3)


def test_two_clicks_part_an_object_where_it_is_narrow(flat) -> None:
    flat.click(flat.dock.correct.tools.ours["split"])
    flat.paint((66, 28))
    assert "other half" in said(flat)
    np.testing.assert_array_equal(flat.session.labels.data, cells())
    flat.paint((66, 52))
    parted(flat)
    after = one_step(flat, cells())
    assert {after[66, 30], after[66, 50]} == {3, 5}
    np.testing.assert_array_equal(np.isin(after, [3, 5]), cells() == 3)


@pytest.fixture
def boundary(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A model that sees objects everywhere, and a boundary in the column in the list, if there is one, or fails."""
    sees: list[object] = [35]

    def predict(model: object, image: np.ndarray, device: str):
        yield Progress(0, 1, "tiles")
        if isinstance(sees[0], Exception):
            raise sees[0]
        maps = np.zeros((4, *image.shape[1:]), np.float32)
        maps[0 if sees[0] is None else 1] = 1
        maps[2, :, sees[0]] = 1
        return maps

    monkeypatch.setattr(seam, "predict_tiles", predict)
    return sees


def halves(at, *, column: int) -> None:
    """The two disks that are one object are parted there."""
    after, columns = one_step(at, cells()), np.indices(cells().shape)[1]
    left, right = (cells() == 3) & (columns < column - 1), (cells() == 3) & (columns > column + 1)
    assert len(numbers(after[left])) == len(numbers(after[right])) == 1
    assert numbers(after[left]) | numbers(after[right]) == {3, 5}


def test_two_clicks_part_an_object_where_the_model_sees_a_boundary(flat, boundary) -> None:
    flat.press(Qt.Key.Key_K)
    flat.paint((66, 30))
    flat.paint((66, 50))
    parted(flat)
    halves(flat, column=35)


@pytest.mark.parametrize("trouble", [None, DataError("too little memory"), "no model", "classes"])
def test_where_the_model_has_nothing_to_say_an_object_is_parted_where_it_is_narrow(
    flat, boundary, told: list[str], trouble
) -> None:
    if trouble == "no model":
        flat.session.model = None
    elif trouble == "classes":
        made = Model.new(classes=("background", "cell"), width=2, depth=1, task="classes")
        flat.session.set_model(ModelEntry("classes", None, made))
    else:
        boundary[0] = trouble
    flat.press(Qt.Key.Key_K)
    flat.paint((66, 30))
    flat.paint((66, 50))
    parted(flat)
    halves(flat, column=40)
    assert told == []


def test_objects_clicked_while_the_model_looks_are_parted_one_after_the_other(flat, boundary) -> None:
    tools = flat.dock.correct.tools.objects
    tools.split_between([(66, 30), (66, 50)])
    tools.split_between([(24, 18), (24, 30)])
    assert tools.seams.busy
    parted(flat)
    assert numbers(flat.session.labels.data) == {1, 2, 3, 4, 5, 6}
    assert flat.session.annotation.strokes == 2


def test_labels_that_changed_meanwhile_are_not_parted_by_what_was_seen_before(flat, boundary) -> None:
    tools = flat.dock.correct.tools.objects
    tools.split_between([(66, 30), (66, 50)])
    flat.session.labels.selected_label = 4
    tools.act("fill holes", under_mouse=False)
    parted(flat)
    assert numbers(flat.session.labels.data) == {1, 2, 3, 4, 5}
    assert (flat.session.labels.data[cells() == 4] == 4).all()


def test_a_piece_gets_no_number_that_is_about_to_be_painted(flat) -> None:
    flat.click(flat.dock.correct.tools.new)
    assert flat.session.labels.selected_label == 5
    flat.press(Qt.Key.Key_K)
    flat.paint((48, 41), (86, 41))
    assert numbers(flat.session.labels.data) == {1, 2, 3, 4, 6}


AT_ONCE = {"fill holes": Qt.Key.Key_H, "smooth": Qt.Key.Key_U, "grow": Qt.Key.Key_G, "shrink": Qt.Key.Key_G}


def test_an_object_is_changed_at_once(flat) -> None:
    for kind, by in product(AT_ONCE, ("key", "button")):
        change_at_once(flat, kind, by)


def change_at_once(flat, kind: str, by: str) -> None:
    if by == "key":
        hover(flat, 66, 85)
        flat.press(AT_ONCE[kind], SHIFT if kind == "shrink" else NONE)
    else:
        flat.more()
        flat.session.labels.selected_label = 4
        flat.click(flat.dock.correct.tools.at_once[kind])
    after, old = one_step(flat, cells()) == 4, cells() == 4
    np.testing.assert_array_equal(flat.session.labels.data[~(old | after)], cells()[~(old | after)])
    match kind:
        case "fill holes":
            assert after[66, 96]
        case "grow":
            assert after.sum() > old.sum()
            assert after[old].all()
        case "shrink":
            assert 0 < after.sum() < old.sum()
            assert old[after].all()
    flat.press(Qt.Key.Key_Z, CTRL)


WRONG = [
    ("merge", [(24, 24), (30, 24)], "at least two objects"),
    ("merge", [(2, 2), (24, 24), (24, 54)], "begin on one"),
    ("merge", [(24, 24)], "at least two objects"),
    ("split", [(2, 2), (2, 100)], "crosses no object"),
    ("split", [(66, 30), (66, 50)], "does not part"),
    ("split", [(66, 30), (48, 30)], "does not part"),
    ("delete", [(2, 2)], "no object under the mouse"),
    ("delete", [(-30, 24)], "no object under the mouse"),
]


def test_a_wrong_gesture_is_told_and_changes_nothing(flat, told: list[str]) -> None:
    flat.more()
    for tool, gesture, words in WRONG:
        flat.click(flat.dock.correct.tools.ours[tool])
        flat.paint(*gesture)
        assert words in said(flat)
        unchanged(flat, told)
        flat.click(flat.dock.correct.tools.ours[tool])  # puts it away
        flat.dock.correct.show_count()


def test_the_second_click_must_be_in_the_same_object(flat, told: list[str]) -> None:
    for second in ((24, 24), (2, 2), (66, 28)):
        flat.press(Qt.Key.Key_K)
        flat.paint((66, 28))
        flat.paint(second)
        parted(flat)
        assert "two points in the same object" in said(flat)
        unchanged(flat, told)
        flat.press(Qt.Key.Key_K)  # puts it away


def test_a_key_with_nothing_under_the_mouse(flat, told: list[str]) -> None:
    for key in (Qt.Key.Key_Delete, *AT_ONCE.values()):
        flat.dock.correct.show_count()
        hover(flat, 4, 4)
        flat.press(key)
        assert "no object under the mouse" in said(flat)
        unchanged(flat, told)


def test_what_has_nothing_to_do_says_so(flat, told: list[str]) -> None:
    flat.more()
    flat.session.labels.selected_label = 1
    flat.click(flat.dock.correct.tools.at_once["fill holes"])
    assert said(flat) == "Object 1 has no hole."
    flat.session.labels.selected_label = 77
    flat.click(flat.dock.correct.tools.at_once["grow"])
    assert "no object 77" in said(flat)
    flat.session.labels.visible = False
    flat.click(flat.dock.correct.tools.at_once["grow"])
    assert "is hidden" in said(flat)
    flat.session.labels.visible = True
    flat.viewer.dims.ndisplay = 3
    flat.click(flat.dock.correct.tools.at_once["grow"])
    assert "Switch to 2-D" in said(flat)
    flat.viewer.dims.ndisplay = 2
    unchanged(flat, told)


def unchanged(at, told: list[str]) -> None:
    np.testing.assert_array_equal(at.session.labels.data, cells())
    assert not at.session.labels._undo_history
    assert not at.session.annotation.known()
    assert told == []


def test_in_a_stack_only_the_slice_that_is_shown_changes(stack) -> None:
    before = stack.session.labels.data.copy()
    stack.press(Qt.Key.Key_J)
    stack.paint((12, 27), (12, 12))
    after = one_step(stack, before)
    assert numbers(after[2]) == {2, 3, 4}
    np.testing.assert_array_equal(np.delete(after, 2, 0), np.delete(before, 2, 0))


def test_a_split_in_a_stack(stack) -> None:
    before = stack.session.labels.data.copy()
    stack.click(stack.dock.correct.tools.ours["split"])
    stack.paint((33, 14))
    stack.viewer.dims.set_current_step(0, 1)
    stack.paint((33, 26))
    assert "other half" in said(stack), "the first click was in another slice"
    np.testing.assert_array_equal(stack.session.labels.data, before)
    stack.paint((33, 14))
    parted(stack)
    after = one_step(stack, before)
    assert {after[1, 66, 30], after[1, 66, 50]} == {3, 5}
    np.testing.assert_array_equal(np.delete(after, 1, 0), np.delete(before, 1, 0))


def test_the_object_under_the_mouse_in_a_stack(stack) -> None:
    before = stack.session.labels.data.copy()
    hover(stack, 12, 27)
    stack.press(Qt.Key.Key_Delete)
    after = one_step(stack, before)
    assert [numbers(plane) for plane in after] == [{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 3, 4}, {1, 2, 3, 4}]


def test_a_plane_that_is_not_shown_is_not_changed(stack, told: list[str]) -> None:
    before = stack.session.labels.data.copy()
    stack.viewer.dims.order = (1, 0, 2)
    stack.more()
    stack.click(stack.dock.correct.tools.ours["delete"])
    stack.paint((6, 12))
    assert "does not show the rows and columns" in said(stack)
    np.testing.assert_array_equal(stack.session.labels.data, before)
    assert told == []


def test_a_tool_is_put_away(flat) -> None:
    labels, section = flat.session.labels, flat.dock.correct
    split = section.tools.ours["split"]
    own = list(labels.mouse_drag_callbacks)

    def away() -> bool:
        return not split.isChecked() and labels.mouse_drag_callbacks == own and not labels.keymap

    for key in (Qt.Key.Key_Escape, Qt.Key.Key_Z, Qt.Key.Key_6, Qt.Key.Key_K):
        flat.click(split)
        assert split.isChecked()
        assert not labels.mouse_pan
        flat.press(key)
        assert away(), key
        assert labels.mouse_pan
    flat.click(split)
    flat.click(split)
    assert away()
    flat.click(split)
    flat.press(Qt.Key.Key_J)
    assert section.tools.ours["merge"].isChecked()
    assert not split.isChecked()
    flat.click(section.tools.napari["paint"])
    assert section.tools.napari["paint"].isChecked()
    assert str(labels.mode) == "paint"
    assert not labels.mouse_pan
    labels.mode = "pan_zoom"
    assert away()
    assert not section.tools.ours["merge"].isChecked()


@pytest.mark.parametrize("tool", ["paint", "erase", "pick", "fill"])
def test_escape_puts_the_tools_of_napari_away_too(flat, tool: str) -> None:
    labels, button = flat.session.labels, flat.dock.correct.tools.napari[tool]
    flat.more()
    flat.click(flat.dock.correct.tools.ours["merge"])
    flat.click(button)
    assert str(labels.mode) == tool
    flat.press(Qt.Key.Key_Escape)
    assert str(labels.mode) == "pan_zoom"
    assert not button.isChecked()
    assert not labels.keymap


def test_each_tool_says_what_to_do(flat) -> None:
    tools = flat.dock.correct.tools
    for button, words in ((tools.ours["merge"], "Drag from one"), (tools.ours["split"], "Draw a line across")):
        flat.click(button)
        assert words in said(flat)
        flat.click(button)
        assert words not in said(flat)
    flat.session.labels.selected_label = 3
    flat.click(tools.napari["paint"])
    assert "Paints object 3. New starts another" in said(flat)
    flat.click(tools.new)
    assert "Paints object 5." in said(flat)


def test_a_selected_object_that_is_not_in_view_is_left_alone(flat, told: list[str]) -> None:
    flat.more()
    flat.session.labels.selected_label = 1
    flat.viewer.scene.camera.center, flat.viewer.scene.camera.zoom = (80, 110), 40
    flat.qtbot.wait(20)
    for kind in ("reject", "grow"):
        flat.click(flat.dock.correct.tools.at_once[kind])
        assert "The selected object, 1, is not in view" in said(flat)
        unchanged(flat, told)
    flat.click(flat.dock.correct.accept)
    assert "The selected object, 1, is not in view" in said(flat)
    assert not flat.session.annotation.marks


def test_space_moves_the_image_with_a_tool_in_hand(flat) -> None:
    canvas, labels = flat.viewer.window._qt_viewer.canvas.native, flat.session.labels
    flat.press(Qt.Key.Key_K)
    QTest.keyPress(canvas, Qt.Key.Key_Space)
    assert labels.mouse_pan
    flat.paint((10, 24), (40, 24))
    np.testing.assert_array_equal(labels.data, cells(), err_msg="nothing is cut by moving the image")
    QTest.keyRelease(canvas, Qt.Key.Key_Space)
    assert not labels.mouse_pan
    assert flat.dock.correct.tools.hand.tool == "split"


def test_a_line_is_seen_while_dragging_and_is_no_layer(flat) -> None:
    canvas = flat.viewer.window._qt_viewer.canvas
    scene, layers = canvas.layer_to_visual[flat.session.labels].node.parent, list(flat.viewer.layers)
    before = len(scene.children)
    places = [QPoint(canvas.native.width() // 2 + x, canvas.native.height() // 2) for x in (-40, -20, 20)]
    flat.press(Qt.Key.Key_J)
    QTest.mousePress(canvas.native, Qt.MouseButton.LeftButton, NONE, places[0])
    for place in places[1:]:
        QTest.mouseMove(canvas.native, place)
        flat.qtbot.wait(20)
    assert len(scene.children) > before
    assert list(flat.viewer.layers) == layers
    QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, NONE, places[-1])
    assert len(scene.children) == before
    flat.press(Qt.Key.Key_K)
    flat.paint((66, 28))
    assert len(scene.children) > before, "the first of two clicks is seen too"
    flat.press(Qt.Key.Key_Escape)
    assert len(scene.children) == before


@pytest.mark.parametrize("end", ["dock", "layer", "viewer"])
def test_nothing_is_left_of_a_tool_in_hand(flat, end: str) -> None:
    labels, tools = flat.session.labels, flat.dock.correct.tools.objects
    scene = flat.viewer.window._qt_viewer.canvas.layer_to_visual[labels].node.parent
    before = len(scene.children)
    flat.press(Qt.Key.Key_K)
    flat.paint((66, 28))
    match end:
        case "dock":
            flat.viewer.window.remove_dock_widget(flat.dock)
            flat.dock.deleteLater()
            assert len(scene.children) == before
        case "layer":
            flat.viewer.layers.remove(labels)
        case _:
            with flat.qtbot.waitSignal(flat.dock.destroyed, timeout=20_000):
                flat.viewer.close()
    assert tools._on_press not in labels.mouse_drag_callbacks
    assert not labels.keymap
    if end == "dock":
        assert "ObjectTools" not in str(flat.viewer.dims.events.current_step.callbacks)
    assert labels.mouse_pan


def test_no_key_is_one_of_napari(flat) -> None:
    kinds = (Labels, *type(flat.viewer).__mro__)
    theirs = {key for kind in kinds for key in getattr(kind, "class_keymap", {})}
    assert len(theirs) > 20
    same = {KeyBinding.from_str(key) for key in ("Ctrl+Z", "Ctrl+Shift+Z")}  # and they do the same
    assert theirs & set(flat.viewer.keymap) == same


def test_each_tip_names_its_key(flat) -> None:
    section = flat.dock.correct
    keys = {"click": "(C)", "merge": "(J)", "split": "(K)", "delete": "(Delete:", "region": "(O)"}
    keys |= {"fill holes": "(H:", "smooth": "(U:", "reject": "(D:", "grow": "(G:", "shrink": "(Shift+G:"}
    for name, tool in (section.tools.ours | section.tools.at_once).items():
        assert keys[name] in tool.toolTip()
    assert "(R)" in section.tools.view_again.toolTip()


def test_no_more_than_seven_tools_are_seen_before_more(flat) -> None:
    section = flat.dock.correct
    seen = [each for each in section.tools.findChildren(QAbstractButton) if each.isVisibleTo(flat.dock)]
    assert len(seen) == 6 + 1, "and More"
    flat.click(section.tools.fold.toggle)
    assert section.tools.view_again.isVisibleTo(flat.dock)
    inside = section.parentWidget()
    assert inside.minimumSizeHint().width() <= 320, "nothing is cut off at 320 px"


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        (lambda at: at.press(Qt.Key.Key_G), {2}),
        (lambda at: at.dock.correct.tools.objects.merge([(24, 24), (24, 54)]), {1}),
        (lambda at: at.dock.correct.tools.objects.split([(50, 40), (90, 40)]), {3, 5}),
        (lambda at: at.press(Qt.Key.Key_H), {4}),
    ],
    ids=["grow", "merge", "split", "fill holes"],
)
def test_the_view_is_segmented_again_around_objects_that_were_corrected(flat, change, whole: set[int]) -> None:
    hover(flat, *((24, 54) if whole == {2} else (52, 96)))
    change(flat)
    labels = flat.session.labels
    kept = np.where(np.isin(labels.data, list(whole)), labels.data, 0)
    assert numbers(kept) == whole
    flat.press(Qt.Key.Key_R)
    flat.wait(lambda: "objects" in flat.dock.segment.note.text().lower() and not flat.session.busy)
    assert flat.session.labels is labels
    np.testing.assert_array_equal(labels.data, kept, err_msg="the model that knows nothing found nothing else")
