"""Which pixels of a labels layer a user vouches for: strokes of the brush, confirmed tiles, accepted objects.

The strokes also tell what the labels were before them: what the model proposed, which no copy is kept of.

napari tells of a stroke, a fill or a polygon in one `paint` event; undo and redo are told only as `set_data`. So each
stroke is remembered with the edits that napari keeps in its history: a stroke counts as long as its edits lie on the
undo side, or have left the history at its far end.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from scipy import ndimage as ndi

from napari_unet.gui.layers import LONGEST, Region, shape_of_region
from napari_unet.learn.corrections import State
from napari_unet.learn.stopping import review

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.models import ModelEntry
    from napari_unet.learn.objects import Edit
    from napari_unet.learn.stopping import Review


@dataclass(eq=False)
class Stroke:
    """One edit by hand: napari's atoms, and whether their pixels were painted before, in the same order.

    `where` are the pixels that it was the first to paint, ``int32 (axis, pixel)``; `was` is what they were before. An
    edit of more pixels than a tile has corrects no object: of it they are not kept.
    """

    atoms: list[Any]
    before: list[NDArray[np.bool_]] = field(default_factory=list)
    applied: bool = True
    where: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 0), np.int32))
    was: NDArray[Any] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, eq=False)
class Mark:
    """A tile or an object that the user called right; `mask` is None for a whole tile."""

    state: State
    region: Region
    mask: NDArray[np.bool_] | None = None
    outlines: tuple[NDArray[np.float64], ...] = ()  # corners, in pixels; one outline for each slice
    values: NDArray[Any] | None = None  # the labels that were called right
    review: Review | None = None  # of a tile: what had been changed in it then


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is known by hand when a model begins to learn from it, and the reviews of it."""

    reviews: list[Review]
    marks: list[Mark]
    strokes: list[Stroke]
    data: Any  # of the labels layer


class Annotation:
    """What is known by hand about one labels layer.

    Parameters
    ----------
    layer : Labels layer
        It is watched until `close`.
    foreign : bool
        Its labels came from elsewhere, so that what is changed in them says nothing about a model.
    model : ModelEntry, optional
        The model that is chosen; what the labels hold is its proposal.
    """

    changed = Signal()
    replaced = Signal()  # the layer got other data: what no longer agrees with them was let go

    def __init__(self, layer: Labels, *, foreign: bool = False, model: ModelEntry | None = None) -> None:
        self.layer = layer
        self.foreign = foreign
        self._model = model  # of the last run
        self.marks: list[Mark] = []
        self.strokes = 0
        self.lost = 0  # marks that the last undo or redo took with it
        self._changes = 0
        self._painted = np.zeros(layer.data.shape, bool)
        self._data = layer.data
        self._log: list[Stroke] = []
        self._new: list[Stroke] = []  # over what the model proposed, and not learned from
        self._taken: list[Mark] = []  # that were learned from, or are older than what the model proposed
        self._writing = False
        self.watch(model)

    def watch(self, model: ModelEntry | None = None) -> None:
        """Begin to watch, or go on after `close`, with the model that is chosen now; no stroke meanwhile counts."""
        self._chosen = model  # the next run is of it
        self._log, self._seen = [], self._lengths()
        self.layer.events.paint.connect(self._on_paint)
        self.layer.events.set_data.connect(self._on_set_data)
        self._on_set_data()

    def close(self) -> None:
        """Stop watching."""
        self.changed.disconnect()
        self.replaced.disconnect()
        self.layer.events.paint.disconnect(self._on_paint)
        self.layer.events.set_data.disconnect(self._on_set_data)

    @property
    def version(self) -> tuple[int, ...]:
        """What is another one whenever labels, strokes or marks have changed; another slice to look at is no change."""
        return self._changes, id(self.layer.data), *self._lengths()

    @property
    def tiles(self) -> int:
        """How many tiles are confirmed."""
        return sum(mark.state == State.CONFIRMED for mark in self.marks)

    @property
    def objects(self) -> int:
        """How many objects are accepted."""
        return sum(mark.state == State.ACCEPTED for mark in self.marks)

    def known(self) -> bool:
        """Return whether there is anything to learn from."""
        return bool(self.marks) or self.strokes > 0

    def state(self, region: Region | None = None) -> NDArray[np.uint8]:
        """Return a `State` for each pixel of a region, a new ``uint8`` array."""
        region = region or tuple(slice(0, n) for n in self._painted.shape)
        result = np.zeros(shape_of_region(region), np.uint8)
        for mark in sorted(self.marks, key=lambda mark: mark.state):
            here, there = _overlap(region, mark.region)
            if here is not None:
                known = True if mark.mask is None else mark.mask[there]
                result[here] = np.where(known, np.uint8(mark.state), result[here])
        result[self._painted[region]] = State.PAINTED
        return result

    def protected(self, region: Region) -> NDArray[np.bool_]:
        """Return which pixels of a region no run may overwrite."""
        return self.state(region) > State.UNKNOWN

    def mark(self, mark: Mark) -> None:
        """Remember a tile or an object as right."""
        mark = replace(mark, values=np.array(self.layer.data[mark.region]))
        if mark.state == State.CONFIRMED:
            mark = replace(mark, review=self._review(mark, self._untaken()))
        self.marks.append(mark)
        self._tell()

    def edit(self, kind: str, edit: Edit, about: Mapping[str, Any] | None = None) -> None:
        """Write what a tool made of an object, as done by hand; napari's history holds neither kind nor about."""
        changed = np.nonzero(edit.values != np.asarray(self.layer.data[edit.region]))
        if changed[0].size:
            where = tuple(i + r.start for i, r in zip(changed, edit.region, strict=True))
            self.layer.data_setitem(where, edit.values[changed])

    def take_back(self) -> None:
        """Forget the last mark."""
        if self.marks:
            self.marks.pop()
            self._tell()

    def choose(self, model: ModelEntry | None, parent: ModelEntry | None = None) -> None:
        """Say which model the next run is of; if it learned from `parent`, what that one proposed counts as its own."""
        self._chosen = model
        if parent is not None and self._model is parent:
            self._model = model

    def reviews(self) -> list[Review]:
        """Return what was changed of the chosen model's labels in each tile called right, as it was then.

        Tiles that were learned from are left out.
        """
        return [mark.review for mark in self._untaken() if mark.review is not None] if self._counts() else []

    def lesson(self) -> Lesson:
        """Review the labels as they are now, for a model that begins to learn from them."""
        tiles = self._untaken() if self._counts() else []
        reviews = [self._review(tile, tiles[:i]) for i, tile in enumerate(tiles)]
        return Lesson(reviews, list(self.marks), list(self._new), self._data)

    def learned(self, lesson: Lesson) -> None:
        """Count what is in a lesson in no other review: a model has learned from it."""
        if lesson.data is self._data:  # else nothing of it is left
            strokes, taken = set(lesson.strokes), set(self._taken)
            self._new = [stroke for stroke in self._new if stroke not in strokes]
            self._taken += [mark for mark in lesson.marks if mark not in taken]

    def _counts(self) -> bool:
        """Return whether the labels are what the chosen model proposed."""
        return not self.foreign and self._model is self._chosen

    def _untaken(self) -> list[Mark]:
        """Return the tiles that may be reviewed."""
        taken = {id(mark) for mark in self._taken}
        return [mark for mark in self.marks if mark.state == State.CONFIRMED and id(mark) not in taken]

    def _review(self, tile: Mark, others: list[Mark]) -> Review:
        """Compare a tile with what it was before the new strokes, but for what lies in others or was learned from."""
        region, labels = tile.region, np.array(self.layer.data[tile.region])
        proposed, looked_at = labels.copy(), ~self._painted[region]
        for stroke in self._new:
            if stroke.applied:
                ends = zip(stroke.where, region, strict=True)
                inside = np.logical_and.reduce([(i >= r.start) & (i < r.stop) for i, r in ends])
                at = tuple(i[inside] - r.start for i, r in zip(stroke.where, region, strict=True))
                proposed[at], looked_at[at] = stroke.was[inside], True
        for mark in (*self._taken, *others):
            here, there = _overlap(region, mark.region)
            if here is not None:
                looked_at[here] &= False if mark.mask is None else ~mark.mask[there]
        return review(proposed, labels, looked_at)

    @contextmanager
    def not_by_hand(self) -> Iterator[None]:
        """Write into the layer what the chosen model proposes, without that counting as a stroke."""
        if self._model is not self._chosen:  # it does not propose what is known already
            self._model, self._new, self._taken = self._chosen, [], list(self.marks)
        self._writing = True
        try:
            yield
        finally:
            self._writing = False
            self._changes += 1
            self._seen = self._lengths()

    def _tell(self, lost: int = 0) -> None:
        self._changes += 1
        self.lost = lost
        self.changed.emit()

    # ---- what napari tells

    def _on_paint(self, event: Any) -> None:
        self._changes += 1
        if self._writing:
            return
        stroke, first = Stroke(list(event.value)), []
        for atom in stroke.atoms:
            part, which = self._pixels(atom)
            before = np.array(part[which])
            stroke.before.append(before)
            if before.size <= LONGEST**2 and not before.all():
                first.append(_first(atom, ~before))
            part[which] = True
        if first:
            stroke.where = np.concatenate([where for where, _ in first], axis=1, dtype=np.int32)
            stroke.was = np.concatenate([was for _, was in first])
            self._new.append(stroke)
        self._log.append(stroke)
        self.strokes += 1
        self._forget_what_cannot_return()
        self._seen = self._lengths()
        self._tell()

    def _on_set_data(self, event: Any = None) -> None:
        del event
        if self._writing:
            return
        if self.layer.data is not self._data:
            self._on_other_data()
        elif self._lengths() != self._seen:
            self._follow_history()

    def _follow_history(self) -> None:
        """Take back strokes that were undone, last first, and count again those that were done again."""
        seen, self._seen = self._seen, self._lengths()
        done, undone = _ends(self.layer._undo_history), _ends(self.layer._redo_history)
        for stroke in reversed(self._log):
            if stroke.applied and id(stroke.atoms[0]) in undone:
                stroke.applied = False
                self.strokes -= 1
                for atom, before in zip(reversed(stroke.atoms), reversed(stroke.before), strict=True):
                    part, which = self._pixels(atom)
                    part[which] = before
        for stroke in self._log:
            if not stroke.applied and id(stroke.atoms[0]) in done:
                stroke.applied = True
                self.strokes += 1
                for atom in stroke.atoms:
                    part, which = self._pixels(atom)
                    part[which] = True
        marks = len(self.marks)
        self._drop_marks(seen)
        self._tell(marks - len(self.marks))

    def _drop_marks(self, seen: tuple[int, int]) -> None:
        """Let go of marks in which undo or redo, since the history had these lengths, changed what was called right."""
        now = self._lengths()
        done, undone = list(self.layer._undo_history), list(self.layer._redo_history)
        # a step that left one side is at the end of the other
        steps = undone[-(seen[0] - now[0]) :] if seen[0] > now[0] else []
        steps += done[-(seen[1] - now[1]) :] if seen[1] > now[1] else []
        boxes = [_box(atom, self._painted.shape) for step in steps for atom in step]
        self.marks = [
            mark
            for mark in self.marks
            if all(_overlap(mark.region, box)[0] is None for box in boxes) or self._holds(mark)
        ]

    def _holds(self, mark: Mark) -> bool:
        """Return whether a mark's labels are as they were called right, or painted since."""
        same = np.asarray(self.layer.data[mark.region] == mark.values) | self._painted[mark.region]
        return bool((same if mark.mask is None else same[mark.mask]).all())

    def _forget_what_cannot_return(self) -> None:
        """Let go of strokes that napari can neither undo nor do again."""
        within = _ends(self.layer._undo_history) | _ends(self.layer._redo_history)
        for stroke in self._log:
            if id(stroke.atoms[0]) not in within:
                stroke.atoms, stroke.before = [], []
        self._log = [stroke for stroke in self._log if stroke.atoms]
        self._new = [stroke for stroke in self._new if stroke.atoms or stroke.applied]

    def _on_other_data(self) -> None:
        """Keep what agrees with the new data; napari's history does not, and would write into them."""
        old, new = self._data, self.layer.data
        self._data = new
        self.layer._reset_history()
        self._log, self._new, self._taken, self._seen = [], [], [], self._lengths()
        self.foreign = True
        if new.shape != old.shape:
            self._painted = np.zeros(new.shape, bool)
            self.marks, self.strokes = [], 0
        else:
            for box in ndi.find_objects(self._painted.view(np.uint8)):
                self._painted[box] &= _same(old, new, box)
            self.marks = [mark for mark in self.marks if _agrees(_same(old, new, mark.region), mark)]
            self.strokes = self.strokes if self._painted.any() else 0
        self.replaced.emit()
        self._tell()

    def _pixels(self, atom: Any) -> tuple[NDArray[np.bool_], Any]:
        """Return a view of what is painted, and which of its pixels an atom of napari's history changed."""
        if hasattr(atom, "slice_key"):  # of a brush, fill or polygon; no mask: all of the box changed
            return self._painted[atom.slice_key], ... if atom.mask is None else atom.mask
        return self._painted, atom[0]  # of `data_setitem`: indices, old values, new values

    def _lengths(self) -> tuple[int, int]:
        return len(self.layer._undo_history), len(self.layer._redo_history)


def _first(atom: Any, fresh: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return where those pixels of an atom of napari's history lie that are fresh, and what they were before it."""
    if not hasattr(atom, "slice_key"):  # of `data_setitem`: indices, old values, new values
        return np.stack([i[fresh] for i in atom[0]]), atom[1][fresh]
    inside = fresh
    if atom.mask is not None:
        inside = np.zeros(atom.mask.shape, bool)
        inside[atom.mask] = fresh
    corner = np.array([s.start for s in atom.slice_key])
    return np.stack(np.nonzero(inside)) + corner[:, None], atom.old_values[fresh]


def _ends(history: Any) -> set[int]:
    """Return the identities of the first and last edit of each step; undo turns a step's edits round."""
    return {id(item[at]) for item in history for at in (0, -1) if item}


def _box(atom: Any, shape: tuple[int, ...]) -> Region:
    """Return where in labels of a shape an atom of napari's history lies."""
    where = atom.slice_key if hasattr(atom, "slice_key") else atom[0]
    return tuple(
        slice(*w.indices(n)[:2]) if isinstance(w, slice) else slice(int(np.min(w)), int(np.max(w)) + 1)
        for w, n in zip(where, shape, strict=True)
    )


def _same(old: Any, new: Any, region: Region) -> NDArray[np.bool_]:
    """Return where in a region two arrays agree; zarr's do not compare pixels, and none is read as a whole."""
    return np.asarray(np.asarray(old[region]) == np.asarray(new[region]))


def _agrees(same: NDArray[np.bool_], mark: Mark) -> bool:
    return bool((same if mark.mask is None else same[mark.mask]).all())


def _overlap(a: Region, b: Region) -> tuple[Region, Region] | tuple[None, None]:
    """Return what two regions share, in pixels of the one and of the other."""
    shared = [(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True)]
    if any(start >= stop for start, stop in shared):
        return None, None
    return (
        tuple(slice(start - r.start, stop - r.start) for (start, stop), r in zip(shared, a, strict=True)),
        tuple(slice(start - r.start, stop - r.start) for (start, stop), r in zip(shared, b, strict=True)),
    )
