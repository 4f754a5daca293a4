"""The history of all that was done to a labels layer.

Strokes of napari's tools, edits by ours, marks and runs of a model are entries of one log. napari's own history stays
empty, since it knows only the first of them: its undo and redo, whoever calls them, walk this log.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_unet.gui import atoms
from napari_unet.gui.marks import called_right, mark_of
from napari_unet.gui.regions import Region, whole
from napari_unet.gui.steps import EARLIER, Lesson, Proposal, Step, known_before
from napari_unet.gui.vouched import Vouched
from napari_unet.gui.writing import TileWriter, is_large, put
from napari_unet.learn.corrections import State
from napari_unet.store.actions import Action, Log, Runs, bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.journals import Page
    from napari_unet.gui.marks import Mark
    from napari_unet.gui.models import ModelEntry
    from napari_unet.learn.objects import Edit
    from napari_unet.learn.stopping import Review

ROWS = 1024  # of labels on disk that are read at once


class Annotation(Vouched):
    """What is known by hand about one labels layer.

    Parameters
    ----------
    layer : Labels layer
        It is watched until `close`.
    foreign : bool
        Its labels came from elsewhere, so that what is changed in them says nothing about a model.
    model : ModelEntry, optional
        The model that is chosen; what the labels hold is its proposal.
    done : iterable of Action, optional
        What was done already to get the labels that the layer has; it can be taken back.
    """

    changed = Signal(bool)  # whether by hand, so that there is something new to learn from
    wrote = Signal(object)  # the region in which labels were, or are being, changed
    replaced = Signal()  # the layer got other data: what no longer agrees with them was let go

    def __init__(
        self,
        layer: Labels,
        *,
        foreign: bool = False,
        model: ModelEntry | None = None,
        done: Iterable[Action] = (),
    ) -> None:
        super().__init__(layer.data.shape)
        self.layer = layer
        self.foreign = foreign
        self.page: Page | None = None  # of the session's journal
        self.writer: TileWriter | None = None
        self.taken = 0  # numbers up to this one are those of objects beyond the layer
        self._largest: int | None = None  # of labels on disk, which are not read again and again
        self._changes = 0
        self._data = layer.data
        self._proposal = Proposal(model)
        self.watch(model)
        for action in done:
            step = Step(action, mark=mark_of(action))
            self._apply(step)
            if EARLIER not in action.about:
                self._log.do(step)

    def watch(self, model: ModelEntry | None = None) -> None:
        """Begin to watch, or go on after `close`, with the model that is chosen now; no stroke meanwhile counts."""
        self._chosen = model  # the next run is of it
        self._log: Log[Step] = Log()
        self.layer._reset_history()
        self.layer.undo, self.layer.redo = self.undo, self.redo
        self.layer.events.paint.connect(self._on_paint)
        self.layer.events.set_data.connect(self._on_set_data)
        self._on_set_data()

    def close(self) -> None:
        """Stop watching."""
        self.changed.disconnect()
        self.wrote.disconnect()
        self.replaced.disconnect()
        self.layer.events.paint.disconnect(self._on_paint)
        self.layer.events.set_data.disconnect(self._on_set_data)
        for name in ("undo", "redo"):
            vars(self.layer).pop(name, None)
        if self.writer is not None:
            self.writer.stop()
            self.writer = None
        if self.page is not None:
            self.page.leave()
            self.page = None

    # ---- what is known

    @property
    def version(self) -> tuple[int, ...]:
        """What is another one whenever labels, strokes or marks have changed; another slice to look at is no change."""
        return self._changes, id(self.layer.data)

    def largest(self) -> int:
        """Return the largest number in the labels, or about to be written, or taken by objects beyond them."""
        pending = 0 if self.writer is None else self.writer.largest
        data = self.layer.data
        if isinstance(data, np.ndarray):
            return max(int(data.max(initial=0)), pending, self.taken)
        if self._largest is None:
            rows = range(0, data.shape[-2], ROWS) if data.ndim > 1 else [0]
            parts = (data[..., at : at + ROWS, :] if data.ndim > 1 else data[:] for at in rows)
            self._largest = max(int(np.max(part, initial=0)) for part in parts)
        return max(self._largest, pending, self.taken)

    # ---- what a model proposed

    def choose(self, model: ModelEntry | None, parent: ModelEntry | None = None) -> None:
        """Say which model the next run is of; if it learned from `parent`, what that one proposed counts as its own."""
        self._chosen = model
        if parent is not None and self._proposal.model is parent:
            self._proposal.model = model

    def reviews(self) -> list[Review]:
        """Return what was changed of the chosen model's labels in each tile called right, as it was then.

        Tiles that were learned from are left out.
        """
        return [mark.review for mark in self._untaken() if mark.review is not None] if self._counts() else []

    def lesson(self) -> Lesson:
        """Review the labels as they are now, for a model that begins to learn from them."""
        self.settle()
        tiles = self._untaken() if self._counts() else []
        reviews = [self._review(tile, tiles[:i]) for i, tile in enumerate(tiles)]
        return Lesson(reviews, {*self.marks, *self._proposal.steps}, self._data)

    def learned(self, lesson: Lesson) -> None:
        """Count what is in a lesson in no other review: a model has learned from it."""
        if lesson.data is self._data:  # else nothing of it is left
            self._proposal.taken |= lesson.known

    def _counts(self) -> bool:
        """Return whether the labels are what the chosen model proposed."""
        return not self.foreign and self._proposal.model is self._chosen

    def _untaken(self) -> list[Mark]:
        """Return the tiles that may be reviewed."""
        return [mark for mark in self.marks if mark.state == State.CONFIRMED and mark not in self._proposal.taken]

    def _review(self, tile: Mark, others: list[Mark]) -> Review:
        labels = np.array(self.layer.data[tile.region])
        return self._proposal.review(tile, others, labels, self._painted[tile.region])

    # ---- what is done

    def mark(self, mark: Mark) -> None:
        """Remember a tile or an object as right."""
        self.settle()
        if mark.state == State.CONFIRMED:
            mark = replace(mark, review=self._review(mark, self._untaken()))
        self._do(Step(called_right(mark, self.layer.data), mark=mark))

    def edit(self, kind: str, edit: Edit, about: Mapping[str, Any] | None = None) -> None:
        """Write an edit by hand, one entry of the history unless it changes nothing; it vouches for its objects whole.

        Parameters
        ----------
        kind : str
            What it is, in a word or two: it stands after "Undo:".
        edit : Edit
            Worked out on the labels as they are in the layer.
        about : mapping, optional
            Plain values that are kept with it; ``"objects"`` are the numbers of those that it was done to.
        """
        before = np.array(self.layer.data[edit.region])
        after = edit.values.astype(before.dtype)
        if not np.array_equal(before, after):
            put(self.layer, edit.region, after)
            numbers = {*np.unique(after[before != after]).tolist(), *(about or {}).get("objects", ())} - {0}
            self._by_hand(kind, edit.region, before, after, np.isin(after, list(numbers)), about)

    def run(self, action: Action, values: NDArray[Any]) -> None:
        """Write what the chosen model proposes; what is known by hand must not be in it.

        Parameters
        ----------
        action : Action
            Worked out on the labels as they are.
        values : array
            What is in its box afterwards; the caller lets go of it.
        """
        other = self._proposal.model is not self._chosen
        if not values.size and not other:
            return
        # another model did not propose what is known already
        step = Step(action, proposal=Proposal(self._chosen, [], {*self.marks}) if other else None)
        if values.size:
            if self._largest is not None:
                self._largest = max(self._largest, int(values.max()))
            self._write(action.region, values)
        self._do(step)

    def move_to(self, labels: NDArray[Any]) -> None:
        """Go on with other labels in which all that is known is as it was, maybe with other numbers.

        What was done before cannot be taken back any more, and says nothing about a model.
        """
        known = self._painted.copy(), list(self.marks), list(self.painted), self.strokes
        with self.changed.blocked(), self.wrote.blocked():
            self.layer.data = labels
        self._painted, self.marks, self.painted, self.strokes = known
        self.changed.emit(False)

    @property
    def undoes(self) -> str:
        """What `undo` would take back, in a word or two; empty if there is nothing."""
        return "" if (step := self._log.last) is None else step.action.kind

    @property
    def redoes(self) -> str:
        """What `redo` would do again, in a word or two; empty if there is nothing."""
        return "" if (step := self._log.next) is None else step.action.kind

    def undo(self) -> None:
        """Take the last entry of the history back; not while the hand paints."""
        self.settle()
        if self.layer._block_history or (step := self._log.undo()) is None:
            return
        self._rewrite(step.action.region, step.action.after, step.action.before)
        self._revert(step)
        if self.page is not None:
            self.page.undo()
        self._tell(step)

    def redo(self) -> None:
        """Do the last entry that was taken back again; not while the hand paints."""
        self.settle()
        if self.layer._block_history or (step := self._log.redo()) is None:
            return
        self._rewrite(step.action.region, step.action.before, step.action.after)
        self._apply(step)
        if self.page is not None:
            self.page.redo()
        self._tell(step)

    def settle(self) -> None:
        """Write at once what is still being written, so that the layer holds the labels as they are."""
        if not self.layer._block_history:
            self.layer._commit_staged_history()  # of a stroke that an error of napari's cut off
            if self.writer is not None:
                self.writer.finish()

    def beginning(self, action: Action | None = None) -> Callable[[], tuple[Runs, list[Action]]]:
        """Return what packs the labels, with what is known of them as actions, for a history that begins with them.

        It may be called in a thread. Before an action that is not known yet they are copied as they were; else they are
        read from the layer then, and nothing may be done to them meanwhile.
        """
        labels, marks, strokes = self.layer.data, list(self.marks), self.strokes
        if action is not None:
            labels = np.array(labels)
            if action.before.count:
                labels[action.region] = action.before.unpack()
        box = bounds(self._painted) if strokes else None
        painted = None if box is None else self._painted[box].copy()
        return lambda: (Runs.pack(np.asarray(labels)), known_before(labels, marks, box, painted, strokes))

    def _by_hand(
        self,
        kind: str,
        region: Region,
        before: NDArray[Any],
        after: NDArray[Any],
        entirely: Any = False,
        about: Any = None,
    ) -> None:
        """Enter what a hand changed; where a result is still being written, that counts as there before it."""
        touched = before != after
        if self._largest is not None:
            self._largest = max(self._largest, int(after.max(initial=0)))
        if self.writer is not None:
            self.writer.ahead(region, before)
            after = np.where(touched, after, before)
            self.writer.take(region, after)
        if touched.any():
            labels = Runs.pack(before), Runs.pack(after)
            self._do(Step(Action(kind, region, *labels, Runs.pack(touched | entirely), about=about or {})))

    def _do(self, step: Step) -> None:
        if self.page is not None:
            self.page.do(step.action)
        self._apply(step)
        self._log.do(step)
        self._tell(step)

    def _apply(self, step: Step) -> None:
        """Know what a step tells."""
        self._vouch(step)
        if step.fresh is not None:
            self._proposal.steps.append(step)
        elif step.proposal is not None:
            step.proposal, self._proposal = self._proposal, step.proposal

    def _revert(self, step: Step) -> None:
        """Know no longer what a step told; it is the last one."""
        self._withdraw(step)
        if step.fresh is not None:
            self._proposal.steps.pop()
        elif step.proposal is not None:
            step.proposal, self._proposal = self._proposal, step.proposal

    def _rewrite(self, region: Region, old: Runs, new: Runs) -> None:
        """Turn labels into others; pixels that somebody changed without telling stay as they are."""
        if old is new or not new.count:
            self.settle()
        else:
            self._write(region, new, old)

    def _write(self, region: Region, values: NDArray[Any] | Runs, old: Runs | None = None) -> None:
        self.settle()
        writer = TileWriter(self.layer, region, values, old)
        if not is_large(self.layer, region):
            writer.finish()
            return
        self.writer = writer
        writer.finished.connect(self._on_written)
        writer.start()

    def _tell(self, step: Step | None = None) -> None:
        self._changes += 1
        if step is None or step.action.before is not step.action.after:
            self.wrote.emit(whole(self.layer.data.shape) if step is None else step.action.region)
        self.changed.emit(step is None or step.action.vouched is not None)

    # ---- what napari and the writer tell

    def _on_written(self) -> None:
        self.writer = None
        self._changes += 1

    def _on_paint(self, event: Any) -> None:
        self._changes += 1
        self.layer._undo_history.clear()
        self.layer._redo_history.clear()
        self._by_hand("stroke", *atoms.painted(self.layer, list(event.value)))

    def _on_set_data(self, event: Any = None) -> None:
        del event
        if self.layer.data is not self._data:
            self._on_other_data()

    def _on_other_data(self) -> None:
        """Keep what agrees with the new data; the history does not, and would write into them."""
        old, new = self._data, self.layer.data
        self._data, self._largest = new, None
        self.settle()  # what was being written is for the old ones
        self.layer._reset_history()
        self._log, self._proposal, self.foreign = Log(), Proposal(self._proposal.model), True
        self._keep(old, new)
        if self.page is not None:
            self.page.again()
        self.replaced.emit()
        self._tell()
