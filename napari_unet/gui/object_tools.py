"""The tools for whole objects: merge, split, delete and the rest, each one gesture or key and one step to take back.

Three are taken in hand and used on the canvas; the others act at once, by key on the object under the mouse and by
button on the selected one. All of them work in the plane that is shown.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError, UnetError
from napari_unet.gui.regions import region_of
from napari_unet.gui.seams import Seams
from napari_unet.learn import objects
from napari_unet.learn.objects import Edit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari.layers import Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_unet.gui.hand import Hand
    from napari_unet.gui.regions import Region
    from napari_unet.gui.session import Session

AT_ONCE: dict[str, Callable[[NDArray[Any], int], Edit]] = {
    "delete": objects.delete,
    "reject": objects.delete,  # nothing is left of it either way; what it was done for is another matter
    "fill holes": objects.fill_holes,
    "smooth": objects.smooth,
    "grow": objects.grow,
    "shrink": partial(objects.grow, pixels=-1),
}
IDLE = {
    "fill holes": "has no hole",
    "smooth": "is smooth already",
    "grow": "has no background around it to grow into",
}
HOW = {
    "merge": "Drag from one object to the other.",
    "split": "Draw a line across an object, or click once in each half of it.",
    "delete": "Click the objects that should not be there.",
}
STILL = 4  # pixels of the screen: a mouse that moves less clicks
COLOUR = "#ffd23f"  # of the line, to be seen on dark and bright images


class ObjectTools:
    """Turns gestures and keys into edits of the labels that are corrected.

    Parameters
    ----------
    session : Session
        What the sections share.
    hand : Hand
        What lends the mouse.
    tell : callable
        Shows a line to the user.
    """

    def __init__(self, session: Session, hand: Hand, tell: Callable[[str], None]) -> None:
        self.session, self.hand = session, hand
        self._tell = tell
        self._line = Line(session.viewer)
        self.seams = Seams(session, self._cut)
        self._first: Any = None  # where the first of two clicks was, in the world
        hand.changed.connect(self._forget_click)
        session.viewer.dims.events.current_step.connect(self._on_plane)

    # ---- in hand

    def take(self, tool: str) -> None:
        """Take a tool in hand, or put it away if it is there."""
        self.hand.take(tool, self._on_press)
        self._tell(HOW[tool] if self.hand.tool == tool else "")

    def close(self) -> None:
        """Leave nothing on the canvas; touches no widget."""
        self.session.viewer.dims.events.current_step.disconnect(self._on_plane)
        self._forget_click()
        self.seams.close()

    def _on_plane(self, event: Any = None) -> None:
        del event
        self._forget_click()  # it was made in another plane

    def _on_press(self, layer: Labels, event: Any) -> Iterator[None]:
        """Follow the mouse from press to release, and draw where it was."""
        if event.button != 1 or not layer.visible:
            return
        tool, path, places = self.hand.tool, [event.position], [event.pos]
        shown = list(event.dims_displayed)[::-1]
        yield
        while event.type == "mouse_move":
            path.append(event.position)
            places.append(event.pos)
            if tool != "delete" and self.hand.tool == tool:
                self._line.show(layer, np.array(path)[:, shown])
            yield
        self._line.remove()
        if self.hand.tool != tool:  # put away meanwhile
            return
        with self.session.told():
            clicked = np.ptp(np.array([*places, event.pos]), axis=0).max() < STILL
            if tool == "delete":
                self.act("delete", at=path[0])
            elif tool == "merge":
                self.merge([*path, event.position])
            elif not clicked:
                self.split([*path, event.position])
            elif self._first is None:
                self._first = path[0]
                self._line.show(layer, np.array(path[:1])[:, shown])
                self._tell("Click in the other half of the same object, or draw a line across it.")
            else:
                self.split_between([self._first, path[0]])

    def _forget_click(self) -> None:
        self._first = None
        self._line.remove()

    # ---- does

    def act(self, kind: str, *, under_mouse: bool = True, at: Any = None) -> None:
        """Change the object under the mouse, at a place in the world, or the selected one.

        Parameters
        ----------
        kind : str
            One of `AT_ONCE`.
        under_mouse : bool
            Or else the selected one.
        at : sequence of float, optional
            A place in the world instead of the mouse's.
        """
        with _Said(self._tell):
            labels, plane = self._plane()
            if labels is None:
                return
            if under_mouse:
                place = self.session.viewer.cursor.position if at is None else at
                points = self._pixels(labels, plane, [place])
                number = int(_values(labels, points).max(initial=0))
                if not number:
                    raise DataError("There is no object under the mouse: point at one.")
                window = objects.window_around(labels.data, points[0])
            else:
                number, window = int(labels.selected_label), plane
            edit = AT_ONCE[kind](_flat(labels, window), number)
            if not under_mouse and not np.any(np.asarray(labels.data[self._in_view(labels)]) == number):
                raise DataError(
                    f"The selected object, {number}, is not in view: Pick one, or point at one and press the key."
                )
            if not self._write(kind, window, edit, [number]):
                raise DataError(f"Object {number} {IDLE.get(kind, 'is as it was')}.")

    def delete(self) -> None:
        """Delete the object under the mouse, if its layer is the active one: the key means other things elsewhere."""
        if self.session.viewer.layers.selection.active is self.session.labels:
            self.act("delete")

    def merge(self, path: Sequence[Any]) -> None:
        """Make one object of all that a line of places in the world touches; it begins on one of them."""
        with _Said(self._tell):
            labels, plane = self._plane()
            if labels is None:
                return
            points = objects.pixels_along(self._pixels(labels, plane, path, outside=True))
            points = points[_inside(points, labels.data.shape)]
            values = _values(labels, points)
            numbers = list(dict.fromkeys(values[values > 0].tolist())) if len(values) and values[0] else []
            around = [objects.window_around(labels.data, points[np.argmax(values == n)]) for n in numbers] or [plane]
            axes = zip(*around, strict=True)
            window = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)
            self._write("merge", window, objects.merge(_flat(labels, window), numbers), numbers)

    def split(self, path: Sequence[Any]) -> None:
        """Cut the object that most of a line of places in the world lies in."""
        with _Said(self._tell):
            labels, plane = self._plane()
            if labels is None:
                return
            corners = self._pixels(labels, plane, path, outside=True)
            points = objects.pixels_along(corners)
            points = points[_inside(points, labels.data.shape)]
            values = _values(labels, points)
            if not values.any():
                raise DataError("The line crosses no object: draw it from one side of an object to the other.")
            numbers, lengths = np.unique(values[values > 0], return_counts=True)
            number = int(numbers[np.argmax(lengths)])
            window = objects.window_around(labels.data, points[np.argmax(values == number)])
            here = corners[:, -2:] - [w.start for w in window[-2:]]
            edit = objects.split_along(_flat(labels, window), number, here, self._free(labels))
            self._write("split", window, edit, [number])

    def split_between(self, places: Sequence[Any]) -> None:
        """Part the object in which two places in the world lie, where the model sees a boundary between them.

        It looks in a thread; where it sees no object, the object is parted where it is narrow.
        """
        self._forget_click()
        with _Said(self._tell):
            labels, plane = self._plane()
            if labels is None:
                return
            points = self._pixels(labels, plane, places)
            numbers = set(_values(labels, points).tolist())
            if len(points) < 2 or len(numbers) > 1 or not all(numbers):
                raise DataError("Splitting takes two points in the same object: click once in each half.")
            if self.session.annotation is not None:
                self.seams.find(self.session.annotation, points)

    def _cut(self, points: NDArray[Any], window: Region, relief: NDArray[Any] | None) -> None:
        """Part the object that some pixels lie in, by a relief of its window."""
        with _Said(self._tell):
            labels, annotation = self.session.labels, self.session.annotation
            if labels is None or annotation is None or labels._block_history:  # in a stroke
                raise DataError("The object was not split, since the brush was down: click in both halves again.")
            annotation.settle()
            number = int(labels.data[tuple(points[0])])
            here = points[:, -2:] - [w.start for w in window[-2:]]
            edit = objects.split_at(_flat(labels, window), number, here.tolist(), self._free(labels), relief)
            self._write("split", window, edit, [number])

    def _in_view(self, labels: Labels) -> Region:
        source = self.session.source
        return region_of(self.session.viewer, source, "view", labels) if source is not None else ()

    def _plane(self) -> tuple[Labels | None, Region]:
        """Return the labels and the plane that is shown; the labels become the active layer."""
        labels, plane = self.hand.plane()
        if labels is not None:
            self.session.viewer.layers.selection.active = labels  # so that Ctrl+Z takes back what is done
        return labels, plane

    def _pixels(self, labels: Labels, plane: Region, places: Sequence[Any], *, outside: bool = False) -> NDArray[Any]:
        """Return places in the world as pixels of the labels in a plane; those outside only if asked for."""
        points = np.array([labels.world_to_data(place) for place in places], float)
        points[:, :-2] = [r.start for r in plane[:-2]]
        if outside:
            return points
        points = np.round(points).astype(np.intp)
        return points[_inside(points, labels.data.shape)]

    def _free(self, labels: Labels) -> int:
        """Return the first number that is free, and not in hand to be painted with."""
        annotation = self.session.annotation
        number = (int(np.max(labels.data)) if annotation is None else annotation.largest()) + 1
        return max(number, labels.selected_label + 1) if labels.selected_label >= number else number

    def _write(self, kind: str, window: Region, edit: Edit, numbers: list[int]) -> bool:
        """Write an edit of a window's plane into the labels; return whether it changes anything."""
        annotation = self.session.annotation
        rows = zip(edit.region, window[-2:], strict=True)
        region = (*window[:-2], *(slice(r.start + w.start, r.stop + w.start) for r, w in rows))
        values = edit.values.reshape(tuple(r.stop - r.start for r in region))
        if annotation is None or np.array_equal(values, np.asarray(annotation.layer.data[region])):
            return False
        annotation.edit(kind, Edit(region, values), {"objects": numbers})
        return True


class Line:
    """A thin line over the layers while a gesture lasts; it is on the canvas only, no layer that could be kept.

    Parameters
    ----------
    viewer : Viewer
        Whose canvas it is.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._nodes: list[Any] = []

    def show(self, layer: Labels, points: NDArray[Any]) -> None:
        """Draw it through points of the world as the canvas shows it ``(n, (x, y))``; one point is a dot."""
        from vispy.scene.visuals import Line as Path
        from vispy.scene.visuals import Markers

        if not self._nodes:
            canvas = self._viewer.window._qt_viewer.canvas
            scene = canvas.layer_to_visual[layer].node.parent
            self._nodes = [Path(color=COLOUR, width=2, parent=scene), Markers(parent=scene)]
            for node in self._nodes:
                node.order = 10**6  # over all layers
                node.set_gl_state("translucent", depth_test=False)
        path, dot = self._nodes
        path.visible = len(points) > 1
        if path.visible:
            path.set_data(points)
        dot.set_data(points[:1], face_color=COLOUR, edge_color="black", edge_width=1, size=8)

    def remove(self) -> None:
        """Take it off the canvas."""
        for node in self._nodes:
            node.parent = None
        self._nodes = []


def _flat(labels: Labels, window: Region) -> NDArray[Any]:
    """Return a window as a plane ``(y, x)``."""
    here = np.asarray(labels.data[window])
    return here.reshape(here.shape[-2:])


def _inside(points: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points < shape)).all(axis=1))


def _values(labels: Labels, points: NDArray[Any]) -> NDArray[Any]:
    """Return the labels at some pixels, read as one box: they may lie on a disk."""
    if not len(points):
        return np.zeros(0, labels.data.dtype)
    low, high = points.min(axis=0), points.max(axis=0) + 1
    box = np.asarray(labels.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    return np.asarray(box[tuple((points - low).T)])


class _Said:
    """A context in which what the user can mend becomes a line in the section."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        """Say it, and go on."""
        if isinstance(error, UnetError):
            self._tell(str(error))
        return isinstance(error, UnetError)
