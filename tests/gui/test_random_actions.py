"""Whatever a person does, in whatever order: nothing breaks, all can be taken back, and what runs comes to its end.

About 150 actions in each test run, the same ones; `ACTIONS=2000 SEED=7` in the environment makes it others, and more.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import time
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from napari._vispy.canvas import NapariSceneCanvas
from napari.layers import Image, Labels
from napari.utils.notifications import NotificationSeverity, notification_manager
from qtpy.QtCore import QEvent, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QDoubleSpinBox, QFileDialog, QListWidget

from napari_unet import model
from napari_unet.gui import writing
from napari_unet.gui.dock import UNetDock
from napari_unet.gui.look import Fold
from napari_unet.gui.models import ModelEntry
from napari_unet.gui.toolbox import AT_ONCE

ACTIONS = int(os.environ.get("ACTIONS", "150"))
SEED = int(os.environ.get("SEED", "0"))
ROUND = 50  # actions in one viewer
SHORTEN = 60  # seconds that a failure is made shorter
LOUD = "ACTIONS" in os.environ

NAPARIS = {  # where napari fails by itself
    ("labels.py", "_draw"): "painting outside of the image in 3-D",
    ("_labels_utils.py", "first_nonzero_coordinate"): "painting labels that have fewer axes than the viewer in 3-D",
    ("camera.py", "viewbox_mouse_event"): "a drag that began in 2-D and goes on in 3-D, or the other way round",
}

SHAPES = {
    "plane": (48, 40),
    "odd": (33, 71),
    "sliver": (1, 50),
    "dot": (1, 1),
    "stack": (4, 40, 36),
    "channels": (2, 36, 44),
    "many axes": (2, 3, 32, 28),
    "rgb": (36, 40, 3),
    "channels last": (30, 34, 2),
}
CONTENT = ("disks", "constant", "nan", "all nan", "16 bit", "huge", "bool")
KEYS = "stcarojkdhug123456pefmlvqz[]"  # of the dock and of napari's labels
NAMED = {"Delete", "Backspace", "Escape", "Return", "Enter", "Left", "Right", "Up", "Down"}
BUTTONS = {"left": Qt.MouseButton.LeftButton, "right": Qt.MouseButton.RightButton}
MODIFIERS = {
    "none": Qt.KeyboardModifier.NoModifier,
    "shift": Qt.KeyboardModifier.ShiftModifier,
    "control": Qt.KeyboardModifier.ControlModifier,
}
NUMBER = range(60)  # of one out of what is there
YES_OR_NO = (False, True)
TOOLS = ["new", "paint", "paint", "erase", "fill", "pick", "click", "merge", "split", "delete", "region"]
MEANWHILE = ("nothing", "remove", "select other", "slice", "3-D", "undo", "Escape", "D", "T", "hide", "close dock", "S")


def picture(kind: str, content: str) -> np.ndarray:
    shape = SHAPES[kind]
    rows, columns = shape[-3:-1] if kind in ("rgb", "channels last") else shape[-2:]
    y, x = np.mgrid[:rows, :columns] % 16 - 8
    plane = np.where(np.hypot(y, x) < 5, 200, 20).astype(np.uint8)
    data = plane[..., None] if kind in ("rgb", "channels last") else plane
    data = np.array(np.broadcast_to(data, shape))
    if content == "constant":
        data[:] = 7
    elif "nan" in content:
        data = data.astype(np.float32)
        data[..., : data.shape[-1] // 2] = np.nan
        data = np.full_like(data, np.nan) if content == "all nan" else data
    elif content == "16 bit":
        data = data.astype(np.uint16) * 300
    elif content == "huge":
        data = data.astype(np.float64) * 1e30
    elif content == "bool":
        data = data > 100
    return data


def a_place(dice: random.Random) -> tuple[float, float]:
    """Return a place in the image or a little outside: it goes from 0 to 1."""
    return dice.uniform(-0.1, 1.1), dice.uniform(-0.1, 1.1)


def a_path(dice: random.Random) -> list[tuple[float, float]]:
    return [a_place(dice) for _ in range(dice.randint(1, 4))]


def action(*, when=lambda self: True, often: float = 2, **arguments):
    """Make a method something that can be done `when` that holds, with one of the values for each argument."""

    def marked(method):
        method.when, method.often, method.arguments = when, often, arguments
        return method

    return marked


class Person:
    """Somebody who does not know what she wants, at a dock of her own."""

    def __init__(self, desk, qtbot, folder, tiny, steady, many: bool) -> None:
        for each in (folder, folder.parent / "journals"):
            shutil.rmtree(each, ignore_errors=True)
        self.qtbot, self.tiny = qtbot, tiny
        self.said: list = []
        steady.setattr(notification_manager, "dispatch", self.said.append)
        # sometimes results are written tile by tile, as large ones are
        steady.setattr(writing, "MOST", 300 if many else 2048**2)
        steady.setattr(writing, "TILE", 8 if many else 256)
        self.caught = qtbot.captureExceptions()
        self.raised = self.caught.__enter__()
        self.at = desk()
        self.viewer = self.at.viewer
        self.set_up()
        self.add_image("stack" if many else "plane", "disks", 1.0)
        self.first: dict = {}  # data and, before all that can be taken back, labels; by annotation and id of the data
        self.images_of: dict = {}  # each labels layer's: the first, and those that it was chosen for since

    @classmethod
    def actions(cls) -> dict:
        return {name: method for name, method in vars(cls).items() if hasattr(method, "when")}

    def think(self, dice: random.Random) -> tuple[str, dict]:
        """Return what to do next."""
        possible = {name: method for name, method in self.actions().items() if method.when(self)}
        (name,) = dice.choices(list(possible), [method.often for method in possible.values()])
        wanted = possible[name].arguments.items()
        return name, {key: values(dice) if callable(values) else dice.choice(values) for key, values in wanted}

    def do(self, name: str, arguments: dict) -> None:
        """Do it, if that is still possible, and look whether all is well."""
        method = self.actions()[name]
        if method.when(self):
            method(self, **arguments)
        self.all_is_well()

    def set_up(self) -> None:
        """Let the learning take two steps."""
        for name, value in (("steps", 2), ("batch", 1), ("device", "cpu")):
            self.at.dock.finetune.settings.set(name, value)

    @property
    def session(self):
        return self.at.session

    def layer(self, number: int, kind: type | None = None):
        layers = [each for each in self.viewer.layers if kind is None or isinstance(each, kind)]
        return layers[number % len(layers)] if layers else None

    def has_layers(self) -> bool:
        return len(self.viewer.layers) > 0

    def is_open(self) -> bool:
        return self.at.dock is not None

    def has_labels(self) -> bool:
        return self.is_open() and self.session.labels is not None

    def has_source(self) -> bool:
        return self.is_open() and self.session.source is not None

    # ---- what must be true

    def nothing_raised(self) -> None:
        raised = [error for _, error, _ in self.raised if not is_naparis(error)]
        self.raised.clear()
        if raised:
            raise raised[0]

    def all_is_well(self) -> None:
        self.qtbot.wait(1)
        wrong = [each for each in self.said if each.severity > NotificationSeverity.WARNING]
        assert not wrong, [str(each.message) for each in wrong]
        self.nothing_raised()
        if not self.is_open():
            return
        session = self.session
        layers = list(self.viewer.layers)
        assert session.image is None or session.image in layers
        for key, labels in session._pairs.items():
            image = next(each for each in layers if id(each) == key)
            assert labels in layers, "it works on labels that are gone"
            images = self.images_of.setdefault(labels, [image])
            if image not in images:
                assert labels in session.candidates()
                images.append(image)
        for annotation in session._annotations.values():
            assert annotation._painted.shape == annotation.layer.data.shape
            key = annotation, id(annotation.layer.data)
            if key not in self.first and not annotation.layer._block_history:
                self.first[key] = annotation.layer.data, self.rewound(annotation)

    def rewound(self, annotation) -> np.ndarray:
        """Return the labels as they are when all is taken back; then all is done again."""
        annotation.settle()
        steps, now, known = 0, np.array(annotation.layer.data), annotation.state()
        while annotation.undoes:
            annotation.undo()
            steps += 1
        annotation.settle()
        first = np.array(annotation.layer.data)
        for _ in range(steps):
            annotation.redo()
        annotation.settle()
        np.testing.assert_array_equal(annotation.layer.data, now, err_msg="done again, it is not what it was")
        np.testing.assert_array_equal(annotation.state(), known)
        return first

    @action(when=has_labels)
    def take_all_back(self) -> None:
        annotation = self.session.annotation
        if annotation.layer._block_history:
            return
        _, first = self.first[annotation, id(annotation.layer.data)]
        np.testing.assert_array_equal(self.rewound(annotation), first, err_msg="not the first labels")

    # ---- images and layers

    @action(often=1, kind=list(SHAPES), content=CONTENT, scale=(1.0, 0.25))
    def add_image(self, kind: str, content: str, scale: float) -> None:
        if len([each for each in self.viewer.layers if isinstance(each, Image)]) > 4:
            return
        data = picture(kind, content)
        axes = len(SHAPES[kind]) - (kind == "rgb")
        if kind == "rgb" and content != "disks":
            data = picture(kind, "disks")  # others are no colours
        self.viewer.add_image(data, name=kind, rgb=kind == "rgb", scale=[scale] * axes)

    @action(often=1, when=has_source)
    def add_labels_from_elsewhere(self) -> None:
        shape = self.session.source.shape
        self.viewer.add_labels(np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 3)

    @action(often=0.5, when=has_layers, number=NUMBER)
    def remove(self, number: int) -> None:
        self.viewer.layers.remove(self.layer(number))

    @action(often=0.2, when=has_layers)
    def remove_all(self) -> None:
        self.viewer.layers.clear()

    @action(often=0.7, when=has_layers, number=NUMBER, name=["a", "a_unet_labels", "ä/ü <b>", ""])
    def rename(self, number: int, name: str) -> None:
        self.layer(number).name = name

    @action(often=0.7, when=has_layers, one=NUMBER, other=NUMBER)
    def move(self, one: int, other: int) -> None:
        n = len(self.viewer.layers)
        self.viewer.layers.move(one % n, other % n)

    @action(often=1, when=has_layers, number=NUMBER, more=YES_OR_NO)
    def select(self, number: int, more: bool) -> None:
        if more:
            self.viewer.layers.selection.toggle(self.layer(number))
        else:
            self.viewer.layers.selection.active = self.layer(number)

    @action(often=0.7, when=has_layers, number=NUMBER)
    def show_or_hide(self, number: int) -> None:
        layer = self.layer(number)
        layer.visible = not layer.visible

    @action(often=0.5, when=has_layers, number=NUMBER, other_shape=YES_OR_NO)
    def give_other_data(self, number: int, other_shape: bool) -> None:
        layer = self.layer(number)
        if isinstance(layer, Image | Labels) and layer.editable and not layer.rgb if hasattr(layer, "rgb") else False:
            data = np.array(layer.data)
            layer.data = data[..., : max(1, data.shape[-1] - 3)] if other_shape else data

    # ---- the view

    @action(step=NUMBER)
    def slide(self, step: int) -> None:
        dims = self.viewer.dims
        if dims.ndim > 2:
            axis = step % (dims.ndim - 2)
            dims.set_current_step(dims.order[axis], step % max(dims.nsteps[dims.order[axis]], 1))

    @action(often=0.4)
    def look_in_3d(self) -> None:
        self.viewer.dims.ndisplay = 5 - self.viewer.dims.ndisplay

    @action(often=10, when=lambda self: self.viewer.dims.ndisplay == 3)
    def look_in_2d(self) -> None:
        self.viewer.dims.ndisplay = 2

    @action(often=0.3)
    def roll(self) -> None:
        self.viewer.dims.roll()

    @action(how=["all"] * 5 + ["in", "out", "away"])
    def look_at(self, how: str) -> None:
        camera = self.viewer.scene.camera
        if how == "all":
            self.viewer.reset_view()
        elif how == "away":
            camera.center = tuple(each + 30 for each in camera.center)
        else:
            camera.zoom *= 2 if how == "in" else 0.5

    @action(often=0.3)
    def change_theme(self) -> None:
        self.viewer.theme = "light" if self.viewer.theme == "dark" else "dark"

    # ---- the hand

    def places(self, path) -> list[QPointF]:
        """Return places of the image on the canvas; whatever is there."""
        canvas = self.viewer.window._qt_viewer.canvas.native
        layer = self.session.image if self.is_open() else None
        low, high = np.array(layer.extent.world if layer is not None else [[0, 0], [1, 1]])[:, -2:]
        at = low + np.array(path) * (high - low)
        middle = np.array([canvas.height(), canvas.width()]) / 2
        pixels = middle + (at - self.viewer.scene.camera.center[-2:]) * self.viewer.scene.camera.zoom
        pixels = pixels.clip(0, [canvas.height() - 1, canvas.width() - 1])
        return [QPointF(round(x), round(y)) for y, x in pixels]

    def send(self, kind, place: QPointF, held: Qt.MouseButton, button: Qt.MouseButton, modifier) -> None:
        canvas = self.viewer.window._qt_viewer.canvas.native
        there = QPointF(canvas.mapToGlobal(place.toPoint()))
        about = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else button
        QApplication.sendEvent(canvas, QMouseEvent(kind, place, there, about, held, modifier))
        self.qtbot.wait(1)

    @action(
        often=3,
        path=a_path,
        button=[*BUTTONS, "left", "left"],
        modifier=["none", *MODIFIERS],
        meanwhile=(["nothing"] * 12 + list(MEANWHILE)),
    )
    def drag(self, path, button: str, modifier: str, meanwhile: str) -> None:
        kinds, held, keys = QEvent.Type, BUTTONS[button], MODIFIERS[modifier]
        places = self.places(path)
        self.send(kinds.MouseMove, places[0], Qt.MouseButton.NoButton, held, keys)
        self.send(kinds.MouseButtonPress, places[0], held, held, keys)
        for place in places[1:]:
            self.send(kinds.MouseMove, place, held, held, keys)
        self.do_meanwhile(meanwhile)
        self.send(kinds.MouseMove, places[0], held, held, keys)
        self.send(kinds.MouseButtonRelease, places[-1], Qt.MouseButton.NoButton, held, keys)

    @action(often=14, when=has_labels, tool=["new", *TOOLS], path=a_path, meanwhile=["nothing"] * 24 + list(MEANWHILE))
    def draw(self, tool: str, path, meanwhile: str) -> None:
        """Take a tool in hand and use it where all is in view."""
        self.viewer.reset_view()
        self.take(tool)
        self.drag(path, "left", "none", meanwhile)

    def do_meanwhile(self, what: str) -> None:
        """Do something while the mouse is held down."""
        active = self.viewer.layers.selection.active
        if what == "remove" and active is not None:
            self.viewer.layers.remove(active)
        elif what == "select other" and self.has_layers():
            self.viewer.layers.selection.active = self.viewer.layers[0]
        elif what == "slice":
            self.slide(1)
        elif what == "3-D":
            self.look_in_3d()
        elif what == "undo" and self.is_open():
            self.at.dock.correct.undo()
        elif what == "hide" and active is not None:
            active.visible = not active.visible
        elif what == "close dock" and self.is_open():
            self.close_dock()
        elif what in ("Escape", "D", "T", "S"):
            self.at.press(getattr(Qt.Key, f"Key_{what}"))

    @action(often=8, place=a_place, key=[*KEYS, *sorted(NAMED)], modifier=(["none"] * 5 + ["shift"]))
    def press(self, place, key: str, modifier: str) -> None:
        """Press a key with the mouse somewhere."""
        none = Qt.MouseButton.NoButton
        (where,) = self.places([place])
        self.send(QEvent.Type.MouseMove, where, none, none, MODIFIERS["none"])
        name = {"[": "BracketLeft", "]": "BracketRight"}.get(key, key.upper() if len(key) == 1 else key)
        self.at.press(getattr(Qt.Key, f"Key_{name}"), MODIFIERS[modifier])

    @action(often=3, times=(1, 2, 3), again=YES_OR_NO)
    def undo_or_redo(self, times: int, again: bool) -> None:
        for _ in range(times):
            self.at.press(Qt.Key.Key_Z, MODIFIERS["control"] | MODIFIERS["shift" if again else "none"])

    # ---- the dock

    def click(self, button) -> None:
        if button.isEnabled() and button.isVisibleTo(self.at.dock):
            QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    @action(often=4, when=is_open, number=range(200))
    def click_a_button(self, number: int) -> None:
        buttons = [
            each
            for each in self.at.dock.findChildren(QAbstractButton)
            if each.isEnabled() and each.isVisibleTo(self.at.dock)
        ]
        button = buttons[number % len(buttons)]
        self.click(button)

    @action(often=1, when=is_open, number=NUMBER, item=NUMBER)
    def choose(self, number: int, item: int) -> None:
        boxes = [
            each
            for each in self.at.dock.findChildren(QComboBox)
            if each.isEnabled() and each.isVisibleTo(self.at.dock) and each.count()
        ]
        if boxes:
            box = boxes[number % len(boxes)]
            box.setCurrentIndex(item % box.count())
            box.activated.emit(box.currentIndex())

    @action(when=is_open, number=NUMBER, item=NUMBER, double=YES_OR_NO)
    def choose_a_line(self, number: int, item: int, double: bool) -> None:
        lists = [each for each in self.at.dock.findChildren(QListWidget) if each.isVisibleTo(self.at.dock)]
        lists = [each for each in lists if each.count()]
        if lists:
            chosen = lists[number % len(lists)]
            line = chosen.item(item % chosen.count())
            chosen.setCurrentItem(line)
            (chosen.itemDoubleClicked if double else chosen.itemClicked).emit(line)

    @action(often=0.7, when=has_source, diameter=[0.0, 8.0, 20.0, 500.0])
    def set_diameter(self, diameter: float) -> None:
        box: QDoubleSpinBox = self.at.dock.image.diameter
        box.setValue(diameter)

    @action(often=4, when=has_source, wait=YES_OR_NO)
    def segment(self, wait: bool) -> None:
        self.click(self.at.dock.segment.start)
        if wait:
            self.wait()

    @action(often=1, when=has_source, cancel=YES_OR_NO)
    def segment_all(self, cancel: bool) -> None:
        self.at.dock.segment.many.segment()
        if cancel:
            self.click(self.at.dock.segment.many.stop)

    @action(often=1, when=has_source)
    def start_empty(self) -> None:
        self.click(self.at.dock.correct.empty)

    @action(often=2, when=has_labels, tool=TOOLS)
    def take(self, tool: str) -> None:
        tools = self.at.dock.correct.tools
        self.at.more()
        self.click({"new": tools.new, **tools.napari, **tools.ours}[tool])

    @action(often=6, when=lambda self: self.is_open() and self.at.dock.correct.tools.clicks.pending, keep=YES_OR_NO)
    def end_an_outline(self, keep: bool) -> None:
        """Accept the outline that the Click tool found, or drop it."""
        self.at.press(Qt.Key.Key_Enter if keep else Qt.Key.Key_Escape)

    @action(often=2, when=has_labels, what=[*AT_ONCE, "view again", "through"])
    def mend(self, what: str) -> None:
        """Change the selected object at once, or have objects found again."""
        tools = self.at.dock.correct.tools
        self.at.more()
        self.click({"view again": tools.view_again, "through": tools.through, **tools.at_once}[what])

    @action(often=1, when=has_labels, doubt=YES_OR_NO)
    def go_to_the_next(self, doubt: bool) -> None:
        self.at.more()
        self.click(self.at.dock.correct.next.overlay if doubt else self.at.dock.correct.next.button)

    @action(often=1, when=is_open)
    def preview_or_not(self) -> None:
        self.click(self.at.dock.finetune.preview.wanted)

    @action(often=1.5, when=is_open, number=NUMBER, what=["use", "compare", "compare", "rename", "export"])
    def judge_a_version(self, number: int, what: str) -> None:
        versions = self.at.dock.finetune.versions
        (fold,) = (each for each in self.at.dock.findChildren(Fold) if each.content is versions)
        fold.toggle.setChecked(True)
        self.qtbot.wait(20)  # until what was folded away has its place
        versions.list.setCurrentRow(number % max(versions.list.count(), 1))
        self.click(versions.tools[what])

    @action(often=3, when=has_labels)
    def confirm(self) -> None:
        self.click(self.at.dock.correct.tile)

    @action(often=4, when=has_labels)
    def fine_tune(self) -> None:
        """If there is something to learn from; the next actions come meanwhile."""
        self.click(self.at.dock.finetune.start)

    @action(often=4, when=lambda self: self.is_open() and self.session.result is not None, keep=YES_OR_NO)
    def judge(self, keep: bool) -> None:
        section = self.at.dock.finetune
        self.click(section.keep if keep else section.discard)

    @action(often=4, when=lambda self: self.is_open() and self.session.busy)
    def wait(self) -> None:
        if self.session.paused:
            self.session.pause(False)
        if self.has_labels() and self.session.labels._block_history:
            self.at.press(Qt.Key.Key_Escape)  # a line around an object that is not closed; the result waits for it
        self.at.wait(lambda: self.raised or not (self.session.busy or self.at.dock.segment._waiting))
        self.nothing_raised()  # else what was to end would never do

    @action(often=1, when=lambda self: self.is_open() and self.session.busy)
    def cancel(self) -> None:
        self.session.cancel()

    @action(often=0.4, when=is_open)
    def close_dock(self) -> None:
        dock, self.at.dock, self.at.session = self.at.dock, None, None
        self.first.clear()  # what is known goes on, but cannot be taken back any more
        self.viewer.window.remove_dock_widget(dock)
        assert dock.session.closed
        dock.deleteLater()

    @action(often=30, when=lambda self: not self.is_open())
    def open_dock(self) -> None:
        self.at.dock = dock = UNetDock(self.viewer)
        self.at.session = dock.session
        self.viewer.window.add_dock_widget(dock, name="U-Net", area="right")
        dock.session.set_model(ModelEntry("tiny", self.tiny))
        self.set_up()

    # ---- the end

    def go(self) -> None:
        """Close the viewer, in the midst of it all; nothing is left."""
        worker = self.session._worker if self.is_open() else None
        try:
            self.viewer.close()
        finally:
            self.caught.__exit__(None, None, None)
            self.at = self.viewer = None
            self.first, self.images_of = {}, {}
        assert worker is None or worker.join(5), "a job goes on after the end"
        self.nothing_raised()
        QApplication.processEvents()
        gc.collect()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        ours = [each for each in QApplication.allWidgets() if type(each).__module__.startswith("napari_unet")]
        assert not ours, "a widget is left"
        timers = [each for each in gc.get_objects() if issubclass(type(each), QTimer) and is_ours(each)]
        assert not timers, "a timer is left"


def is_naparis(error: BaseException | None) -> bool:
    """Return whether an exception is one of napari's own, known errors; nothing of ours was on the way to it."""
    frames = []
    while error is not None:
        frames += [(Path(each.filename), each.name) for each in traceback.extract_tb(error.__traceback__)]
        error = error.__context__
    ours = any("napari_unet" in path.parts for path, _ in frames)
    return not ours and any((path.name, name) in NAPARIS for path, name in frames)


def is_ours(timer: QTimer) -> bool:
    """Return whether a timer that runs belongs to something of the dock."""
    with suppress(RuntimeError):  # deleted already
        return timer.isActive() and type(timer.parent()).__module__.startswith("napari_unet")
    return False


def walk(make, todo: list | None, length: int, dice: random.Random) -> tuple[list, BaseException | None]:
    """Do what is listed, or else a number of random actions; return what was done, and what went wrong."""
    done: list = []
    person = make()
    try:
        for i in range(len(todo) if todo is not None else length):
            done.append(todo[i] if todo is not None else person.think(dice))
            if LOUD:
                print(i, *done[-1], flush=True)  # noqa: T201
            person.do(*done[-1])
    except Exception as error:  # noqa: BLE001 whatever goes wrong is what is looked for
        with suppress(Exception):
            person.go()
        return done, error
    try:
        person.go()
    except Exception as error:  # noqa: BLE001
        return done, error
    return done, None


def shortened(make, done: list, error: BaseException) -> list:
    """Leave out what the error does not need, as far as a minute goes."""
    end, size = time.monotonic() + SHORTEN, max(len(done) // 2, 1)
    while True:
        at = 0
        while at < len(done) and time.monotonic() < end:
            fewer = done[:at] + done[at + size :]
            _, other = walk(make, fewer, 0, random.Random(0))
            if type(other) is type(error) and str(other)[:80] == str(error)[:80]:
                done = fewer
            else:
                at += size
        if size == 1 or time.monotonic() > end:
            return done
        size //= 2


@pytest.mark.filterwarnings("ignore:Contours are not displayed:UserWarning")  # napari says so in 3-D
@pytest.mark.timeout(0)
def test_whatever_a_person_does(desk, qtbot, tiny, own_folder, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    for what, answer in (("OpenFileName", ("", "")), ("SaveFileName", ("", "")), ("ExistingDirectory", "")):
        monkeypatch.setattr(QFileDialog, f"get{what}", lambda *_, answer=answer, **__: answer)
    # nothing is drawn: in OpenGL done by software napari by itself now and then ends Python when a layer was removed
    monkeypatch.setattr(NapariSceneCanvas, "_draw_scene", lambda *_, **__: None)
    monkeypatch.setattr(model, "SHIPPED", tmp_path)
    model.Model.new(width=2, depth=1).with_clicks().save(tmp_path / f"{model.CLICKS}{model.SUFFIX}")
    for number in range(max(1, ACTIONS // ROUND)):
        dice = random.Random(SEED * 1000 + number)
        make = partial(Person, desk, qtbot, own_folder, tiny, monkeypatch, dice.random() < 0.5)
        done, error = walk(make, None, min(ROUND, ACTIONS), dice)
        if error is not None:
            steps = "\n".join(f"{name} {arguments}" for name, arguments in shortened(make, done, error))
            raise AssertionError(f"This goes wrong:\n{steps}") from error
