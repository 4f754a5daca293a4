"""What a hand did is seen on the canvas and explained: drawn after each action, taken back with it, gone at the end."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from scipy import ndimage as ndi

from napari_unet.gui.look import GOOD
from napari_unet.gui.outlines import dashes
from napari_unet.gui.regions import whole
from napari_unet.learn.corrections import State

PAINTED, CONFIRMED = "cells_unet_painted", "cells_unet_confirmed"
SHIFT_CTRL = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def painter(desk):
    """A dock with empty labels and the brush in hand."""
    at = desk(np.full((96, 96), 7, np.uint8))
    at.click(at.dock.correct.empty)
    return at


def drawn(at) -> np.ndarray:
    """Return where dashes are."""
    return np.asarray(at.viewer.layers[PAINTED].data) > 0


def edge(painted: np.ndarray) -> np.ndarray:
    """Return the pixels of painted ones that have one beside them, in the plane, that is not."""
    cross = np.zeros((1,) * (painted.ndim - 2) + (3, 3), bool)
    cross[..., 1, :] = cross[..., :, 1] = True
    return painted & ~ndi.binary_erosion(painted, cross)


def known(at) -> np.ndarray:
    return at.session.annotation.state() == State.PAINTED


def explained(at) -> tuple[bool, bool]:
    """Return whether the legend explains what was called right, and what was painted."""
    legend = at.dock.correct.legend
    return legend.right.isVisibleTo(at.dock), legend.painted.isVisibleTo(at.dock)


def test_a_stroke_is_seen_explained_and_taken_back(painter) -> None:
    at = painter
    assert explained(at) == (False, False)
    at.paint((20, 20), (20, 60), (60, 60))
    assert drawn(at).any()
    np.testing.assert_array_equal(drawn(at), edge(known(at)))
    assert explained(at) == (False, True)
    assert at.viewer.layers.selection.active is at.session.labels
    assert str(at.session.labels.mode) == "paint", "the brush stays in hand"
    at.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not drawn(at).any()
    assert explained(at) == (False, False)
    at.press(Qt.Key.Key_Z, SHIFT_CTRL)
    np.testing.assert_array_equal(drawn(at), edge(known(at)))


def test_both_colours_of_the_dashes_are_there_for_any_image(painter) -> None:
    painter.paint((20, 20), (20, 60))
    assert set(np.unique(painter.viewer.layers[PAINTED].data)) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(3))
def test_box_by_box_it_is_what_it_is_as_a_whole(painter, seed: int) -> None:
    at, random = painter, np.random.default_rng(seed)
    for _ in range(12):
        action = random.choice(["paint", "erase", "undo", "redo"], p=[0.5, 0.2, 0.2, 0.1])
        if action in ("paint", "erase"):
            at.session.labels.mode = action
            at.session.labels.brush_size = int(random.integers(1, 20))
            at.paint(*map(tuple, random.uniform(0, 96, (2, 2))))
        else:
            getattr(at.session.annotation, action)()
        if at.session.annotation.strokes:
            region, everywhere = dashes(at.session.annotation, whole((96, 96)))
            assert region == whole((96, 96))
            np.testing.assert_array_equal(at.viewer.layers[PAINTED].data, everywhere)
    np.testing.assert_array_equal(drawn(at), edge(known(at)))


def test_an_accepted_object_is_tinted_and_explained(painter) -> None:
    at = painter
    at.session.labels.data[20:60, 20:60] = 1
    at.session.labels.refresh()
    at.click(at.dock.correct.tools.napari["paint"])  # puts the brush away
    at.session.labels.selected_label = 1
    at.more()
    at.click(at.dock.correct.accept)
    layer = at.viewer.layers[CONFIRMED]
    assert layer.face_color[0][3] > 0
    assert explained(at) == (True, False)
    at.click(at.dock.correct.tile)
    assert 0 < layer.face_color[1][3] < layer.face_color[0][3], "the edge of a tile lies at that of the view"
    assert all(np.allclose(edge[:3] * 255, [int(GOOD[i : i + 2], 16) for i in (1, 3, 5)]) for edge in layer.edge_color)
    at.click(at.dock.correct.back)
    at.click(at.dock.correct.back)
    assert explained(at) == (False, False)
    assert PAINTED not in at.viewer.layers, "nothing was painted"


def test_what_a_tool_of_ours_changed_is_seen_too(painter) -> None:
    at = painter
    at.paint((30, 30), (30, 60))
    at.session.labels.data[60:80, 60:80] = 9
    at.session.labels.refresh()
    at.session.labels.selected_label = 9
    at.more()
    at.click(at.dock.correct.tools.at_once["reject"])
    assert drawn(at)[60:80, 60:80].sum() == 4 * 19
    np.testing.assert_array_equal(drawn(at), edge(known(at)))


def test_the_dashes_are_no_labels_to_correct(painter) -> None:
    at = painter
    at.paint((20, 20), (20, 60))
    assert at.session.candidates() == [at.session.labels]
    layer = at.viewer.layers[PAINTED]
    at.viewer.layers.selection.active = layer
    layer.mode = "paint"
    before = layer.data.copy()
    at.paint((50, 20), (50, 60))
    np.testing.assert_array_equal(layer.data, before)


def test_they_come_back_with_the_next_stroke_and_go_with_their_labels(painter) -> None:
    at = painter
    at.paint((20, 20), (20, 60))
    at.viewer.layers.remove(PAINTED)
    at.qtbot.wait(50)
    assert PAINTED not in at.viewer.layers, "who removes them is not contradicted"
    at.paint((60, 20), (60, 60))
    np.testing.assert_array_equal(drawn(at), edge(known(at)))
    at.viewer.layers.remove(at.session.labels)
    at.wait(lambda: PAINTED not in at.viewer.layers)


def test_they_go_with_the_dock_and_come_back_with_the_next(painter) -> None:
    from napari_unet.gui.dock import UNetDock

    at = painter
    at.paint((20, 20), (20, 60))
    before = drawn(at)
    at.viewer.window.remove_dock_widget(at.dock)
    assert PAINTED not in at.viewer.layers
    dock = UNetDock(at.viewer)
    at.viewer.window.add_dock_widget(dock)
    np.testing.assert_array_equal(drawn(at), before)
    assert dock.correct.legend.painted.isVisibleTo(dock)


def test_labels_of_another_shape_have_dashes_of_their_own(painter) -> None:
    at = painter
    at.paint((20, 20), (20, 60))
    at.session.image.data = np.full((80, 64), 7, np.uint8)
    at.viewer.layers["cells_unet_labels"].data = np.zeros((80, 64), np.uint32)
    at.qtbot.wait(20)
    at.session.set_image(at.session.image)
    assert PAINTED not in at.viewer.layers
    at.session.labels.mode = "paint"
    at.paint((20, 20), (20, 40))
    assert drawn(at).shape == (80, 64)
    np.testing.assert_array_equal(drawn(at), edge(known(at)))


def test_in_a_stack_they_lie_in_the_slice_that_was_painted(desk) -> None:
    at = desk(np.full((5, 64, 64), 7, np.uint8), scale=(3, 0.5, 0.5))
    at.click(at.dock.correct.empty)
    at.viewer.dims.set_current_step(0, 3)
    at.paint((10, 10), (10, 20))
    np.testing.assert_array_equal(drawn(at), edge(known(at)))
    assert drawn(at).any(axis=(1, 2)).tolist() == [False, False, False, True, False]
    np.testing.assert_allclose(at.viewer.layers[PAINTED].scale, at.session.labels.scale)
