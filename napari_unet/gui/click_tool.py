"""The Click tool: outlines the object that is clicked, shows it, and writes it into the labels when it is accepted.

A click or a stroke says what is inside, with Shift or the right button what is not, with Ctrl a box what is meant.
Nothing is written before Enter; the outline is drawn on a shapes layer that is only looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_unet.errors import DataError
from napari_unet.gui.notices import tell
from napari_unet.gui.sketch import Sketch
from napari_unet.gui.worker import Worker, hurry, rest
from napari_unet.infer.clicks import Outline, Prompt, follow, middle, outline, pixel
from napari_unet.infer.familiar import plane_of
from napari_unet.jobs import Job, Progress
from napari_unet.learn import objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.layers import Labels

    from napari_unet.gui.hand import Hand
    from napari_unet.gui.layers import Source
    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Annotation
    from napari_unet.infer.clicks import Place
    from napari_unet.infer.familiar import Plane
    from napari_unet.infer.seen import Seen
    from napari_unet.model import Model

TOOL = "click"
DRAGGED = 4.0  # pixels of the screen: less is a click with a trembling hand
HOW = "Click a cell. Drag to scribble in it, Ctrl+drag for a box around it."
NEXT = "Enter keeps it, Esc drops it. Click to add, Shift+click to take away."
NOTHING = "Nothing to be seen there: click the middle of a cell, or Ctrl+drag a box around it."


@dataclass(frozen=True)
class _Drawing:
    """What is being outlined: where, what was said, and what came out."""

    annotation: Annotation
    source: Source
    channel: int | None
    place: tuple[int, ...]  # on the leading axes of the labels
    prompt: Prompt = field(default_factory=Prompt)
    start: Outline | None = None  # an object that was there, from which something is taken away
    found: Outline | None = None
    key: object = field(default_factory=object)  # the same as long as it is the same object that is meant

    @property
    def plane(self) -> Any:
        """The labels of the slice."""
        return self.annotation.layer.data[self.place]

    def slice(self, seen: Seen, place: tuple[int, ...]) -> Plane:
        """Return the image of a slice; the core knows no axis of channels in labels."""
        kept = tuple(i for i, letter in zip(place, self.source.letters, strict=False) if letter != "C")
        return plane_of(seen, kept, 2)


class ClickTool:
    """Clicks in the image of a session.

    Parameters
    ----------
    session : Session
        Its image is looked at, its labels are written.
    hand : Hand
        What lends the mouse.
    """

    said = Signal(str)  # what to do next, or what is wrong
    changed = Signal()  # something to accept or not; something to follow through slices

    def __init__(self, session: Session, hand: Hand) -> None:
        self._session, self._hand = session, hand
        self._taken = False  # in hand
        self._drawing: _Drawing | None = None
        self._last: tuple[_Drawing, int] | None = None  # what was accepted, with its number
        self._width: float | None = None  # of the last object
        self._sketch = Sketch(session.viewer)
        self._worker: Worker | None = None
        self._again = self._accepting = False
        self._said_since: list[tuple[np.ndarray, bool, bool]] = []  # while an outline is still to be accepted
        self._model: Model | None = None
        self._image: Any = None  # that the width is of
        self._seen: tuple[Any, int | None, Seen] | None = None
        hand.changed.connect(self._on_hand)
        session.image_changed.connect(self._on_image)

    @property
    def pending(self) -> bool:
        """Whether there is an outline to accept or to drop."""
        return self._drawing is not None and self._drawing.found is not None

    @property
    def followable(self) -> bool:
        """Whether the last accepted object may go on in other slices."""
        if self._last is None or self._last[0].annotation is not self._session.annotation:
            return False
        drawing, number = self._last
        if drawing.found is None or drawing.plane[pixel(middle(drawing.found))] != number:  # taken back
            return False
        source = self._last[0].source
        return "Z" in source.letters and source.shape[source.letters.index("Z")] > 1

    # ---- in the hand

    def take(self) -> None:
        """Take the tool, or put it away if it is in hand."""
        keys = {"Enter": self.accept, "Escape": self.drop}
        self._hand.take(TOOL, self._on_press, keys)

    def _on_hand(self) -> None:
        """Say what to do with it; drop what was not accepted when it is put away."""
        if self._hand.tool == TOOL:
            self._taken = True
            self.said.emit(HOW)
            self._warm_up()
        elif self._taken:
            self._taken = False
            self._forget()
            self._sketch.remove()
            self.said.emit("")

    def _on_image(self) -> None:
        """Hold nothing of an image that is no longer worked on."""
        source = self._session.source
        if source is None or self._image is not source.data:
            self._image = None if source is None else source.data
            self._width = self._seen = self._last = None
            self.changed.emit()

    def close(self) -> None:
        """End what runs; the dock is closed."""
        self.said.disconnect()
        self.changed.disconnect()
        self._forget()
        self._sketch.remove()
        if self._worker is not None:
            self._worker.cancel()
            self._worker.join(5.0)

    # ---- what is said

    def _on_press(self, labels: Labels, event: Any) -> Iterator[None]:
        """Collect a click or a drag; napari calls this as long as the button is down."""
        viewer = self._session.viewer
        if viewer.dims.ndisplay != 2 or event.button not in (1, 2) or "Alt" in event.modifiers:
            return
        outside, box = event.button == 2 or "Shift" in event.modifiers, "Control" in event.modifiers
        path, pixels = [labels.world_to_data(event.position)], [np.asarray(event.pos)]
        yield
        while event.type == "mouse_move":
            path.append(labels.world_to_data(event.position))
            pixels.append(np.asarray(event.pos))
            yield
        if max(float(np.abs(each - pixels[0]).max()) for each in pixels) < DRAGGED:
            path = path[:1]
        elif event.button == 2:  # napari zooms by that
            return
        if self._hand.tool != TOOL:  # put away meanwhile
            return
        with self._session.told():
            self._say(np.array(path), outside=outside, box=box and len(path) > 1)

    def _say(self, path: np.ndarray, *, outside: bool, box: bool) -> None:
        """Add a gesture, points ``(n, axes)`` in pixels of the labels, to the prompt."""
        if self._accepting:
            self._said_since.append((path, outside, box))
            return
        session, annotation = self._session, self._session.annotation
        if annotation is None or session.source is None or self._hand.plane()[0] is None:
            return
        shape = np.array(session.source.shape)
        if ((path[0] < -0.5) | (path[0] >= shape - 0.5)).any():
            return
        place = tuple(round(float(i)) for i in path[0, :-2])
        points: list[Place] = [(float(a), float(b)) for a, b in path[:, -2:].clip(0, shape[-2:] - 1)]
        now, new = self._drawing, _Drawing(annotation, session.source, session.channel, place)
        if now is None or now.place != place or now.annotation is not annotation:
            now = new
        if box:
            low, high = np.floor(path[:, -2:].min(axis=0)), np.ceil(path[:, -2:].max(axis=0)) + 1
            ends = [(int(max(a, 0)), int(min(b, n))) for a, b, n in zip(low, high, shape[-2:], strict=True)]
            now = replace(new, prompt=Prompt(box=(slice(*ends[0]), slice(*ends[1]))))
        elif outside:
            if not (now.prompt.inside or now.prompt.box or now.start):
                there = _object_at(now.plane, points[0])
                if there is None:
                    self.said.emit("Click the cell first; Shift+click then takes away what is not of it.")
                    return
                now = replace(now, start=there, found=there)
            now = replace(now, prompt=replace(now.prompt, outside=(*now.prompt.outside, *points)))
        else:
            now = replace(now, prompt=replace(now.prompt, inside=(*now.prompt.inside, *points)))
        self._drawing = now
        self._look()

    # ---- what comes of it

    def _look(self) -> None:
        """Outline what was said, in a thread; of what is said meanwhile only the last counts."""
        if self._worker is not None:
            self._again = True
            return
        drawing = self._drawing
        if drawing is None:
            return
        self._draw()
        look = self._looking(drawing)
        self._run(lambda: look, lambda found: self._on_found(drawing, found))

    def _looking(self, drawing: _Drawing) -> Job[Outline | None]:
        width = self._width or self._session.diameter
        yield Progress(0, 1, "outlining")
        model, seen = self._ready(drawing.source, drawing.channel)
        before = drawing.found or drawing.start
        return outline(model, drawing.slice(seen, drawing.place), drawing.prompt, mask=before, width=width)

    def _warm_up(self) -> None:
        """Open the model and look at the image's brightness before the first click, which else would wait for it."""
        source, channel = self._session.source, self._session.channel
        if self._model is not None or self._worker is not None or source is None:
            return

        def warming() -> Job[None]:
            yield Progress(0, 1, "getting ready")
            self._ready(source, channel)

        self._run(warming, lambda _: None)

    def _ready(self, source: Source, channel: int | None) -> tuple[Model, Seen]:
        """Return the model and the image with its brightness, both looked at once."""
        from napari_unet.infer.seen import see
        from napari_unet.model import CLICKS, Model

        if self._model is None:
            self._model = Model.load(CLICKS)
        if self._seen is None or self._seen[0] is not source.data or self._seen[1] != channel:
            self._seen = source.data, channel, see(self._model, source.data, source.axes, channel)
        return self._model, self._seen[2]

    def _run(self, make: Callable[[], Job[Any]], done: Callable[[Any], None]) -> None:
        worker = self._worker = Worker(make, background=False)
        worker.returned.connect(lambda result: None if self._session.closed else done(result))
        worker.failed.connect(self._on_failed)
        worker.finished.connect(self._on_finished)
        hurry(self)
        worker.start()

    def _on_failed(self, error: Exception) -> None:
        self._accepting, self._said_since = False, []
        if not self._session.closed:
            self.said.emit("")
            tell(error)

    def _on_finished(self) -> None:
        self._worker = None
        rest(self)
        again, self._again = self._again, False
        if self._session.closed:
            return
        if again:
            self._look()
        elif self._accepting:
            self._accepting = False
            since, self._said_since = self._said_since, []
            with self._session.told():
                self.accept()
                for path, outside, box in since:
                    self._say(path, outside=outside, box=box)

    def _on_found(self, drawing: _Drawing, found: Outline | None) -> None:
        now = self._drawing
        if now is None or now.key is not drawing.key:  # dropped meanwhile
            return
        self._drawing = replace(now, found=found)
        self._draw()
        self.said.emit(NOTHING if found is None else NEXT)
        self.changed.emit()

    def accept(self) -> None:
        """Write the outline into the labels: in place of the object that it is, or as a new one."""
        if self._worker is not None and self._drawing is not None:
            self._accepting = True  # as soon as it is there
            return
        drawing = self._drawing
        if drawing is None or drawing.found is None or drawing.annotation is not self._session.annotation:
            return
        annotation = drawing.annotation
        if self._hand.plane()[0] is None:
            return
        try:
            edit, number = objects.put(drawing.plane, drawing.found.box, drawing.found.mask, annotation.largest() + 1)
        except DataError as error:
            self.said.emit(str(error))
            return
        lead = tuple(slice(i, i + 1) for i in drawing.place)
        annotation.edit("click", objects.Edit((*lead, *edit.region), edit.values[(None,) * len(lead)]))
        annotation.layer.selected_label = number
        self._width = float(max(drawing.found.mask.shape))
        self._last = drawing, number
        self._forget()
        self.said.emit(HOW)
        self.changed.emit()

    def drop(self) -> None:
        """Drop the outline; the labels stay as they are."""
        if self._drawing is None:
            self._hand.put_away()
            return
        self._forget()
        self.said.emit(HOW)
        self.changed.emit()

    def _forget(self) -> None:
        self._drawing, self._accepting, self._again = None, False, False
        self._said_since = []
        self._draw()

    # ---- through the slices

    def through(self) -> None:
        """Follow the last accepted object through the slices of the stack, and write it there."""
        if not self.followable or self._worker is not None or self._last is None or self._last[0].found is None:
            return
        drawing, number = self._last
        start, axis = self._last[0].found, drawing.source.letters.index("Z")

        def looking() -> Job[dict[int, Outline]]:
            model, seen = self._ready(drawing.source, drawing.channel)

            def plane_at(z: int) -> Plane:
                return drawing.slice(seen, (*drawing.place[:axis], z, *drawing.place[axis + 1 :]))

            return (yield from follow(model, plane_at, drawing.source.shape[axis], drawing.place[axis], start))

        self.said.emit("Following the object through the slices…")
        self._run(looking, lambda found: self._on_followed(drawing, number, axis, found))

    def _on_followed(self, drawing: _Drawing, number: int, axis: int, found: dict[int, Outline]) -> None:
        """Write the object into the other slices, as one edit; what other objects have stays theirs."""
        annotation, self._last = drawing.annotation, None
        if annotation is not self._session.annotation:
            self.said.emit("")
            return
        if annotation.layer._block_history:
            self._last = drawing, number
            self.said.emit("Finish the stroke first; then follow the object through the slices again.")
            return
        annotation.settle()
        if found:
            boxes = [each.box for each in found.values()]
            rows, columns = (slice(min(b[i].start for b in boxes), max(b[i].stop for b in boxes)) for i in range(2))
            lead = [slice(i, i + 1) for i in drawing.place]
            lead[axis] = slice(min(found), max(found) + 1)
            region = (*lead, rows, columns)
            values = np.array(annotation.layer.data[region])
            for z, each in found.items():
                at = tuple(z - lead[axis].start if i == axis else 0 for i in range(len(lead)))
                box = tuple(
                    slice(b.start - r.start, b.stop - r.start) for b, r in zip(each.box, (rows, columns), strict=True)
                )
                part = values[at][box]
                part[each.mask & (part == 0)] = number
            annotation.edit("click", objects.Edit(region, values))
        slices = f"In {len(found)} more slice{'s' * (len(found) != 1)}: look at them, Ctrl+Z takes them back."
        self.said.emit(slices if found else "It is in no other slice.")
        self.changed.emit()

    # ---- shows

    def _draw(self) -> None:
        """Show the outline and what was said, or nothing."""
        drawing = self._drawing
        if drawing is not None:
            self._sketch.show(drawing.annotation.layer, drawing.place, drawing.prompt, drawing.found)
        else:
            self._sketch.clear()


def _object_at(plane: Any, at: Place) -> Outline | None:
    """Return the object of the labels that lies here, as it is."""
    number = int(plane[round(at[0]), round(at[1])])
    if number == 0:
        return None
    first, second = objects.box_of(plane, number, margin=0)
    return Outline((first, second), np.asarray(plane[first, second] == number))
