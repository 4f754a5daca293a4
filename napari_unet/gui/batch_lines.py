"""One line for each image of a batch: what was found; a click shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QBrush
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_unet.errors import ImageError, UnetError
from napari_unet.gui.launch import layer_data
from napari_unet.gui.layers import look_at
from napari_unet.gui.results import add_labels
from napari_unet.gui.runs import sentence

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

    from napari_unet.gui.batch import Outcome
    from napari_unet.gui.layers import Source
    from napari_unet.gui.look import Theme
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.session import Session

HEIGHT = 180  # pixels: six short lines


@dataclass(eq=False)
class Line:
    """What came of an image, and the layer that shows it, if there is one."""

    outcome: Outcome
    layer: Image | None


class BatchLines(QListWidget):
    """The list of what came of each image.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.rows: list[Line] = []
        self._entry: ModelEntry | None = None
        self._theme: Theme | None = None
        self.setToolTip("A click shows the image with its result and hides the others of this list.")
        self.setWordWrap(True)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSpacing(2)
        self.setFixedHeight(HEIGHT)
        self.setVisible(False)
        self.itemClicked.connect(lambda item: self.open(self.row(item)))

    def start(self, entry: ModelEntry) -> None:
        """Begin anew, with results of this model."""
        self.rows, self._entry = [], entry
        self.clear()
        self.setVisible(False)

    def add(self, outcome: Outcome) -> None:
        """Add a line."""
        self.rows.append(Line(replace(outcome, layer=None), outcome.layer))
        notes = ". " * bool(outcome.notes) + " ".join(map(sentence, outcome.notes))
        item = QListWidgetItem(f"{outcome.name}: {outcome.words}{notes}")
        self._colour(item, outcome)
        self.addItem(item)
        self.setVisible(True)
        self.scrollToItem(item)

    def set_theme(self, theme: Theme) -> None:
        """Colour the lines."""
        self._theme = theme
        for i, each in enumerate(self.rows):
            self._colour(self.item(i), each.outcome)

    def _colour(self, item: QListWidgetItem | None, outcome: Outcome) -> None:
        if item is not None and self._theme is not None:
            colours = {"failed": self._theme.warning, "kept": self._theme.quiet}
            item.setForeground(QBrush(colours.get(outcome.state, self._theme.text)))

    def let_go(self) -> None:
        """Hold no layer that was removed."""
        for each in self.rows:
            if each.layer is not None and each.layer not in self.session.viewer.layers:
                each.layer = None

    def open(self, number: int) -> None:
        """Show the image of a line with its result, and hide the other images of the list."""
        session, each = self.session, self.rows[number]
        layers, outcome = session.viewer.layers, each.outcome
        with session.told():
            if each.layer is None or each.layer not in layers:
                if outcome.image is None:
                    raise ImageError(f"The layer of {outcome.name!r} is no longer there: open the image again.")
                each.layer = self._open_image(outcome.image)
            self._show_alone(each.layer)
            source = self._source(each.layer)
            labels = session.labels_of(source)
            if source is not None and labels is None and outcome.target is not None:
                from napari_unet.infer.read import read_labels

                data = read_labels(outcome.target)
                if [n for n in data.shape if n > 1] != [n for n in source.shape if n > 1]:
                    raise ImageError(f"{outcome.target.name} does not fit {outcome.name}: segment it again.")
                data = np.array(data.reshape(source.shape))
                labels = add_labels(session, source, data, outlined=data.dtype != np.uint8)
                foreign = outcome.state != "done" or self._entry is not session.model
                session.set_labels(labels, foreign=foreign, source=source)
            layers.selection.active = each.layer if labels is None else labels
            if labels is not None:
                labels.visible = True

    def _source(self, layer: Image) -> Source | None:
        """Return what a layer is to the model, if it is anything."""
        try:
            return look_at(layer, self.session.axes_of(layer))
        except UnetError:
            return None

    def _open_image(self, path: Path) -> Image:
        from napari_unet.infer.read import read_image

        data, settings, _ = layer_data(read_image(path))
        layer: Image = self.session.viewer.add_image(data, **settings)
        self.session.viewer.fit_to_view(layers=[layer])
        return layer

    def _show_alone(self, layer: Image) -> None:
        """Work on an image, and see it rather than the others of the list."""
        session = self.session
        for each in self.rows:
            if each.layer is not None and each.layer is not layer and each.layer in session.viewer.layers:
                each.layer.visible = False
                labels = session.labels_of(self._source(each.layer))
                if labels is not None:
                    labels.visible = False
        layer.visible = True
        session.viewer.layers.selection.active = layer
