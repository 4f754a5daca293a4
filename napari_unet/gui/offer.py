"""A line of the dock that offers to restore what an earlier session did to labels of the image that is open."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.gui.grafting import of_these, replayed
from napari_unet.gui.look import button, label, row, say, set_property
from napari_unet.gui.results import add_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.gui.layers import Source
    from napari_unet.gui.segment_large import SegmentLarge
    from napari_unet.gui.session import Session
    from napari_unet.store.journal import Kept


class Offer(QWidget):
    """Asks once for each image; who does not answer is asked again at the next start.

    Parameters
    ----------
    session : Session
        What the sections share.
    large : SegmentLarge
        Knows the labels on the disk of a large image.
    """

    def __init__(self, session: Session, large: SegmentLarge) -> None:
        super().__init__()
        self.session, self.large = session, large
        self.line = label("", "warn")
        self.restore = button(
            "Restore",
            "Bring the labels back as a new layer, with strokes and marks; no other layer changes.",
            self._restore,
        )
        self.discard = button("Discard", "Do not ask again; the journal stays on the disk for 30 days.", self._discard)
        self.buttons = QWidget()
        self.buttons.setLayout(row(self.restore, self.discard))
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 6, 4)
        column.addWidget(self.line)
        column.addWidget(self.buttons)
        set_property(self.restore, "primary", True)
        self._kept: list[Kept] = []
        session.image_changed.connect(self.show_offer)
        session.busy_changed.connect(self.show_offer)
        session.leftovers.found.connect(self.show_offer)
        self.show_offer()

    def show_offer(self) -> None:
        """Offer what fits the image by name and shape; not while a result is on its way to other labels."""
        session = self.session
        image = None if session.source is None else session.whole_of(session.source.layer)
        self._kept = []
        if image is not None and image.large:
            self._kept = session.leftovers.those(lambda kept: _window(kept, image) is not None)
        elif image is not None:
            self._kept = session.leftovers.of(image.name, image.shape)
        self.setVisible(bool(self._kept))
        self.buttons.setVisible(bool(self._kept))
        self.restore.setEnabled(session.busy != "segment")
        if self._kept:
            copy = session.leftovers.copy_of(self._kept[0])
            name = (
                "" if copy is None else copy.name.replace("_", "_\u200b").replace(".", ".\u200b")
            )  # it may wrap there
            rest = "" if copy is None else f"; what followed is damaged, and all of it is kept in {name}"
            say(self.line, f"Earlier work on this image can be restored: {_said(self._kept)}{rest}.")
            self.line.setToolTip("" if copy is None else str(copy))

    def _restore(self) -> None:
        session, kept = self.session, self._kept
        source = session.source
        if source is None:
            return
        with session.told():
            image, apart = session.whole_of(source.layer), 0
            disk = session.disk_of(image) if image.large else None
            found = [(each, (_window(each, image) if image.large else image) or image) for each in kept]
            parts = [(each, source.window) for each, source in found if source.window is not None]
            for each, source in found:
                outlined = not any(action.about.get("task") == "classes" for action in each.actions)
                there, now = None if disk is None else disk.labels_in(source.window or ()), each.now()
                of_disk = there is not None and of_these(each, source.window or (), there, parts)
                if of_disk and there is not None:
                    now = replayed(source.window or (), there, parts).reshape(now.shape)
                apart += disk is not None and not of_disk
                labels = add_labels(session, source, now, outlined=outlined)
                session.set_labels(
                    labels, foreign=True, first=each.labels, done=each.actions, source=source, apart=not of_disk
                )
                if of_disk and disk is not None and (annotation := session.annotation) is not None:
                    annotation.taken = disk.largest()
                    for action in each.actions:  # what did not reach the disk, and what did again
                        annotation.wrote.emit(action.region)
            said = [action.about["model"] for each in kept for action in each.actions if "model" in action.about]
            for entry in [entry for entry in session.models if said and entry.name == said[-1]]:
                session.set_model(entry)  # what it was segmented with, maybe one that was taught since
            self._settle(kept)
            self.setVisible(True)
            more = f" There is more, from before: {_said(self._kept)}." if self._kept else ""
            beside = " It is not of the labels on the disk: it lies beside them, and does not go there." * bool(apart)
            say(self.line, f"Restored {_said(kept)}.{beside}{more}")

    def _discard(self) -> None:
        self._settle(self._kept)

    def _settle(self, kept: list[Kept]) -> None:
        self.session.leftovers.settle(kept)
        self.show_offer()


def _window(kept: Kept, image: Source) -> Source | None:
    """Return the window of a large image that labels are of."""
    window = image.named(kept.image)
    return window if window is not None and window.shape == kept.labels.shape else None


def _said(kept: Sequence[Kept]) -> str:
    """Say how many actions there are, and when the last one was done."""
    count = sum(len(each.actions) for each in kept)
    last = datetime.fromtimestamp(max(action.when for each in kept for action in each.actions))
    today = last.date() == datetime.now().date()
    when = f"{last:%H:%M}" if today else f"{last.day} {last:%B, %H:%M}"
    return f"{count} action{'s' * (count != 1)} from {when}"
