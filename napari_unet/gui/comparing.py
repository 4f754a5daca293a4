"""Two models held against each other: scores on the user's own tiles, and what differs in view."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QProgressBar,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import ImageError
from napari_unet.gui import runs
from napari_unet.gui.layers import keep_active, placement
from napari_unet.gui.look import button, in_digits, label, row, say
from napari_unet.gui.marks import tile_mark
from napari_unet.gui.regions import region_of
from napari_unet.infer.segment import SegmentSettings
from napari_unet.learn.compare import CHANGED, GAINED, LOST
from napari_unet.learn.corrections import State

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.gui.layers import Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.regions import Region
    from napari_unet.gui.session import Session
    from napari_unet.jobs import Progress
    from napari_unet.learn.metrics import Scores

# Okabe and Ito's: told apart by the colour-blind too, and readable as squares on both themes
COLOURS: dict[int | None, str] = {GAINED: "#e69f00", LOST: "#56b4e9", CHANGED: "#cc79a7"}
OPACITY = 0.6  # filled, for the outlines of the labels have all colours; the image stays to be seen
ROWS = 8  # of the table that are seen at once


class Comparison(QWidget):
    """Starts a comparison, and shows what came out.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.layer: Labels | None = None  # the picture of the difference
        self._source: Source | None = None  # what it lies over
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self.hide_difference)
        self.bar = QProgressBar()
        self.stop = button("Stop", "End the comparison; nothing is changed.", session.cancel)
        self.running = QWidget()
        self.running.setLayout(row(self.bar, self.stop, stretch=0))
        self.running.setVisible(False)
        self.note = label("", "quiet")
        self.title = label()
        self.table = QTableWidget(0, 4)
        self.table.setToolTip(
            "AP at IoU .50 (of classes: Dice) on each tile that you called right: of all objects, true or found,\n"
            "the share that agree. The arrow points to the better one. * It learned from this tile.\n"
            "Labels that were mended rather than drawn anew also flatter the model that proposed them."
        )
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setShowGrid(False)
        self.flattered, self.legend = label("", "warn"), label()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.hide_button = button("Hide differences", "Remove the coloured layer.", self.hide_difference)
        self.table.setVisible(False)
        self.hide_button.setVisible(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self.running, self.note, self.title, self.table, self.flattered, self.legend, self.hide_button):
            column.addWidget(widget)
        session.busy_changed.connect(self.show_busy)
        session.progressed.connect(self._on_progress)
        session.image_changed.connect(self._on_image)
        session.viewer.layers.events.removed.connect(self._on_removed)

    # ---- shows

    def show_busy(self) -> None:
        """Show how far the comparison is."""
        running = self.session.busy == "compare"
        if self.running.isHidden() and running:
            self.bar.setRange(0, 0)
        elif not self.running.isHidden() and not running and self.note.text().endswith("…"):
            say(self.note, "Stopped; nothing was compared.")
        self.running.setVisible(running)

    def _on_progress(self, progress: Progress) -> None:
        if self.session.busy == "compare":
            self.bar.setRange(0, progress.total if progress.total > 1 else 0)
            self.bar.setValue(progress.done)
            self.bar.setFormat(f"{progress.done} of {progress.total}")
            say(self.note, f"{progress.message[:1].upper()}{progress.message[1:]} …")

    def _show(self, compared: runs.Compared) -> None:
        """Show scores, and draw the difference."""
        names = [entry.name for entry in compared.models]
        say(self.title, f"“{names[0]}” against “{names[1]}”")
        self._show_scores(compared, names)
        said = [] if compared.tiles else ["Call tiles right in step 3 to see scores on them."]
        if compared.difference is None:
            said.append("Nothing of the image is in view in 2-D, so no differences are drawn.")
        elif (source := compared.source) is not None:
            if source.layer in self.session.viewer.layers and source.is_current():
                self._draw(compared, source)
            else:
                said.append("The image changed or went away meanwhile, so no differences are drawn.")
        say(self.note, "\n".join([*said, *compared.notes]))

    def _show_scores(self, compared: runs.Compared, names: list[str]) -> None:
        table = self.table
        table.setVisible(compared.total is not None)
        table.setRowCount(0)
        flattered = [name for i, name in enumerate(names) if any(tile.learned[i] for tile in compared.tiles)]
        who, whom = " and ".join(f"“{name}”" for name in flattered), "it" if len(flattered) == 1 else "both"
        say(self.flattered, f"* {who} learned from them, so they flatter {whom}." if flattered else "")
        if compared.total is None:
            return
        lines = [(tile.name, tile.scores, tile.learned) for tile in compared.tiles]
        learned = (any(tile.learned[0] for tile in compared.tiles), any(tile.learned[1] for tile in compared.tiles))
        lines.append(("all" if len(lines) > 1 else "sum", compared.total, learned))
        table.setRowCount(len(lines))
        table.setHorizontalHeaderLabels(["tile", names[0], "", names[1]])
        for i, (name, scores, stars) in enumerate(lines):
            for column, text in enumerate(_line(name, scores, stars)):
                item = QTableWidgetItem(text)
                item.setToolTip(name if column == 0 else names[column // 2] if column != 2 else "")
                item.setTextAlignment(
                    Qt.AlignmentFlag.AlignVCenter
                    | (Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignHCenter)
                )
                font = item.font()
                font.setBold(i == len(lines) - 1)
                item.setFont(font)
                table.setItem(i, column, item)
        self._fit()

    def _fit(self) -> None:
        """Give the table the width of its columns and the height of its rows, up to some."""
        table = self.table
        down, across = table.verticalHeader(), table.horizontalHeader()
        if down is None or across is None:
            return
        down.setVisible(False)
        down.setDefaultSectionSize(table.fontMetrics().height() + 6)
        across.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        across.setSectionResizeMode(2, QHeaderView.ResizeMode.Fixed)
        across.setMinimumSectionSize(18)
        table.setColumnWidth(2, 22)
        seen = min(table.rowCount(), ROWS)
        table.setFixedHeight(across.sizeHint().height() + seen * down.defaultSectionSize() + 4)

    # ---- does

    def start(self, chosen: ModelEntry, used: ModelEntry) -> None:
        """Compare a model with the one in use."""
        session, source = self.session, self.session.source
        if source is None or session.busy:
            return
        self.clear()
        with session.told():
            tiles, region = self._tiles(), self._region(source, chosen, used)
            settings = SegmentSettings(channel=session.channel, diameter=session.diameter, **session.thresholds())
            say(self.note, "Getting ready …")
            session.run("compare", lambda: runs.compare(chosen, used, tiles, source, settings, region), self._show)

    def _tiles(self) -> list[runs.Tile]:
        """Return the tiles that were called right, in all images, as they are now."""
        session, found = self.session, []
        annotated = session.annotated()
        for source, annotation in annotated:
            annotation.settle()
            if source.shape != tuple(annotation.layer.data.shape):
                continue
            channel, diameter = session.how(source.layer)
            tiles = [mark for mark in annotation.marks if mark.state == State.CONFIRMED]
            for i, mark in enumerate(tiles):
                name = f"tile {i + 1}" if len(annotated) == 1 else f"{source.layer.name} {i + 1}"
                truth = np.array(annotation.layer.data[mark.region])
                settings = SegmentSettings(channel=channel, diameter=diameter, **session.thresholds())
                found.append(runs.Tile(name, source, settings, mark.region, truth))
        return found

    def _region(self, source: Source, *entries: ModelEntry) -> Region | None:
        """Return what T would call right: what is in view, of slices or of a block; None if nothing is."""
        viewer, labels = self.session.viewer, self.session.labels
        if viewer.dims.ndisplay != 2:
            return None
        try:
            view = region_of(viewer, source, "view", labels)
        except ImageError:
            return None
        stacks = any(entry.ndim == 3 for entry in entries) and "Z" in source.letters
        return tile_mark(view, source.shape, source.letters.index("Z") if stacks else None).region

    def _draw(self, compared: runs.Compared, source: Source) -> None:
        """Lay the picture of the difference over the image, without taking the brush out of the user's hand."""
        from napari.utils.colormaps import DirectLabelColormap

        difference, region = compared.difference, compared.region
        if difference is None or region is None:
            return
        picture = difference.picture
        picture.flags.writeable = False  # so that nobody can paint on it, nor choose it as labels to correct
        colours = {None: "transparent", 0: "transparent"} | COLOURS
        with keep_active(self.session.viewer):
            layer = self.session.viewer.add_labels(
                picture,
                name=f"{source.layer.name}_differences",
                colormap=DirectLabelColormap(color_dict=colours),
                opacity=OPACITY,
                **placement(source, region),
            )
        layer.editable = False
        self.layer, self._source = layer, source
        names = [f"“{escape(entry.name)}”" for entry in compared.models]
        unit = "" if compared.models[0].get().task == "instances" else " px"
        parts = [
            (GAINED, difference.gained, f"found by {names[0]} only"),
            (LOST, difference.lost, f"found by {names[1]} only"),
            (CHANGED, difference.changed, "found by both, drawn differently"),
        ]
        lines = [f'<span style="color:{COLOURS[k]}">■</span> {count}{unit} {what}' for k, count, what in parts]
        say(self.legend, "<br>".join([*lines, f"{difference.same}{unit} found by both alike"]))
        self.hide_button.setVisible(True)

    def hide_difference(self) -> None:
        """Remove the coloured layer."""
        layer, self.layer, self._source = self.layer, None, None
        if layer is not None and layer in self.session.viewer.layers:
            self.session.viewer.layers.remove(layer)
        if not self.session.closed:  # else the widgets may be gone
            say(self.legend, "")
            self.hide_button.setVisible(False)

    def clear(self) -> None:
        """Forget the last comparison."""
        self.hide_difference()
        self.table.setVisible(False)
        for line in (self.note, self.title, self.flattered):
            say(line, "")

    def _on_image(self) -> None:
        """Take the picture away if its image shows something else now."""
        if self._source is not None and not self._source.is_current():
            self._later.start(0)

    def _on_removed(self, event: Any) -> None:
        if self._source is not None and event.value in (self.layer, self._source.layer):
            self._later.start(0)  # not while napari removes layers: it goes on with a list that this one is in

    def close_part(self) -> None:
        """Let go of the viewer, and remove the coloured layer."""
        self.session.viewer.layers.events.removed.disconnect(self._on_removed)
        self.hide_difference()


def _line(name: str, scores: tuple[Scores, Scores], learned: tuple[bool, bool]) -> tuple[str, str, str, str]:
    """Return a line of the table; the arrow points to the better score."""
    from napari_unet.learn.evaluate import headline

    one, other = (round(headline(each), 2) for each in scores)
    arrow = "=" if one == other else "◀" if one > other else "▶"
    first, second = (f"{in_digits(value)}{'*' * star}" for value, star in zip((one, other), learned, strict=True))
    return name, first, arrow, second
