"""Step 1 of the dock: which image, which model, how large the objects are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFileDialog, QFormLayout, QSizePolicy

from napari_unet.gui import runs
from napari_unet.gui.layers import channels_within, level_of, looks_empty, pixel_size, split_channels
from napari_unet.gui.look import Step, button, label, row, say
from napari_unet.gui.models import UNTRAINED, ModelEntry
from napari_unet.model import SUFFIX, find

if TYPE_CHECKING:
    from napari_unet.gui.layers import Source
    from napari_unet.gui.session import Session
    from napari_unet.jobs import Progress

AXES_IN_WORDS = {
    "ZYX": "stack (ZYX)",
    "TYX": "movie (TYX)",
    "CYX": "channels (CYX)",
    "TZYX": "movie of stacks (TZYX)",
    "CZYX": "channels of stacks (CZYX)",
    "CTYX": "channels of movies (CTYX)",
    "ZCYX": "stack with channels (ZCYX)",
    "TCYX": "movie with channels (TCYX)",
    "TZCYX": "movie of stacks with channels (TZCYX)",
    "TCZYX": "movie of channels of stacks (TCZYX)",
    "CTZYX": "channels of movies of stacks (CTZYX)",
    "YXC": "channels last (YXC)",
    "ZYXS": "coloured stack (ZYXS)",
    "TYXS": "coloured movie (TYXS)",
}

OPEN = "Open file…"


class ImageSection(Step):
    """Shows the image that is worked on, and lets the user choose model and size.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(1, "Image & model")
        self.session = session
        self.name, self.facts, self.trouble = label("-"), label("", "quiet"), label("", "warn")
        self.axes, self.channel, self.model = QComboBox(), QComboBox(), QComboBox()
        self.axes.setToolTip(
            "What the axes of this image are. A movie or stack is segmented slice by slice by a 2-D model."
        )
        self.channel.setToolTip("The channel that shows the objects best.")
        self.model.setToolTip("What the objects are found with. Models that you teach appear here.")
        for box in (self.axes, self.channel, self.model):
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            box.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.split = button(
            "Split channels into layers", "One layer for each channel, in the place of this one.", self.split_channels
        )
        self.open = button(OPEN, f"Choose a model file ({SUFFIX}) from elsewhere.", self.choose_file)
        self.open.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.diameter = QDoubleSpinBox()
        self.diameter.setRange(0, 10_000)
        self.diameter.setDecimals(1)
        self.diameter.setSuffix(" px")
        self.diameter.setSpecialValueText("auto")
        self.diameter.setToolTip(
            "How wide a typical object is, in pixels of your image.\n"
            "The image is scaled so that its objects get the size that the model knows; auto: it is taken as it is."
        )
        self.diameter.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.estimate = button(
            "Estimate",
            "Find the width: look at the middle of the image at several scales and take the one\n"
            "at which the model is surest. If three objects are known as a whole, theirs is taken.",
            self.find_diameter,
        )
        self.estimate.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.hint = label("", "quiet")
        self._lay_out()
        self._connect()
        self.show_models()
        self.show_image()

    def _lay_out(self) -> None:
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.setSpacing(5)
        self.form.addRow("Axes", self.axes)
        self.form.addRow("Channel", self.channel)
        self.form.addRow("Model", row(self.model, self.open, stretch=0))
        self.form.addRow("Diameter", row(self.diameter, self.estimate, stretch=0))
        self.column.addWidget(self.name)
        self.column.addWidget(self.facts)
        self.column.addWidget(self.trouble)
        self.column.addWidget(self.split)
        self.column.addLayout(self.form)
        self.column.addWidget(self.hint)

    def _connect(self) -> None:
        session = self.session
        session.image_changed.connect(self.show_image)
        session.models_changed.connect(self.show_models)
        session.model_changed.connect(self.show_models)
        session.busy_changed.connect(self.show_busy)
        session.progressed.connect(self._on_progress)
        self.axes.activated.connect(lambda i: session.set_axes(self.axes.itemData(i)))
        self.channel.activated.connect(lambda *_: self._tell_channel())
        self.diameter.valueChanged.connect(lambda *_: self._tell())
        self.model.activated.connect(lambda i: session.set_model(session.models[i]))

    # ---- shows

    def show_image(self) -> None:
        """Show what the session says about the image."""
        session, layer, source = self.session, self.session.image, self.session.source
        say(self.name, "No image yet" if layer is None else layer.name)
        say(self.facts, "Drop one onto the canvas, or take File > Open Sample > U-Net." if layer is None else "")
        self._show_row(self.axes, layer is not None and layer.ndim > 2 and bool(session.choices))
        self._show_row(self.channel, source is not None and source.channels > 1)
        self.axes.clear()
        for axes in session.choices:
            self.axes.addItem(AXES_IN_WORDS.get(axes, axes), axes)
        chosen = session.axes_of(layer) if layer is not None and session.choices else ""
        self.axes.setCurrentIndex(self.axes.findData(chosen))
        self.split.setVisible(channels_within(chosen) is not None)
        self.channel.clear()
        if source is not None:
            say(self.facts, _facts(source))
            self.channel.addItems([f"channel {i}" for i in range(source.channels)])
            self.channel.setCurrentIndex(session.channel or 0)
        self._show_trouble()
        self.diameter.blockSignals(True)
        self.diameter.setValue(self.session.diameter or 0)
        self.diameter.blockSignals(False)
        self._show_width()
        self.show_busy()

    def show_models(self) -> None:
        """Show the list of models and the one that is used."""
        self.model.clear()
        for i, entry in enumerate(self.session.models):
            self.model.addItem(entry.name)
            self.model.setItemData(i, _about(entry), Qt.ItemDataRole.ToolTipRole)
        current = self.session.model
        self.model.setCurrentIndex(self.session.models.index(current) if current is not None else -1)
        self.model.setPlaceholderText("choose…")
        self.show_busy()

    def show_busy(self) -> None:
        """Lock what must not change while a job runs."""
        session = self.session
        free = not session.busy
        for widget in (self.axes, self.channel, self.split, self.model, self.open, self.diameter):
            widget.setEnabled(free)
        knows = session.model is not None and session.model.name != UNTRAINED
        self.estimate.setEnabled(session.source is not None and free and (knows or session.annotation is not None))
        self.estimate.setText("…" if session.busy == "diameter" else "Estimate")
        self.open.setText("Opening …" if session.busy == "open" else OPEN)

    def _show_row(self, widget: QComboBox, shown: bool) -> None:
        self.form.setRowVisible(widget, shown)

    def _show_trouble(self) -> None:
        """Say what is wrong with the image, or with the channel that was chosen."""
        session, source, number = self.session, self.session.source, self.session.channel or 0
        empty = source is not None and source.channels > 1 and looks_empty(source, number)
        black = f"Channel {number} looks the same everywhere: choose the one that shows the objects." if empty else ""
        say(self.trouble, session.trouble or black)

    def _show_width(self) -> None:
        source, value = self.session.source, self.diameter.value()
        micrometres = pixel_size(source) if source is not None else None
        say(self.hint, f"{value * micrometres:.3g} µm wide" if value and micrometres else "")

    def _on_progress(self, progress: Progress) -> None:
        if self.session.busy == "diameter":
            say(self.hint, f"{progress.message[:1].upper()}{progress.message[1:]} …")

    # ---- does

    def _tell(self) -> None:
        source = self.session.source
        channel = self.channel.currentIndex() if source is not None and source.channels > 1 else None
        self.session.set_how(channel, self.diameter.value() or None)
        self._show_width()

    def _tell_channel(self) -> None:
        self._tell()
        self._show_trouble()

    def split_channels(self) -> None:
        """Give each channel a layer of its own."""
        session, layer = self.session, self.session.image
        if layer is not None and channels_within(session.axes_of(layer)) is not None:
            with session.told():
                split_channels(session.viewer, layer, session.axes_of(layer))

    def choose_file(self) -> None:
        """Ask for a model file and use it."""
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", "", f"U-Net models (*{SUFFIX})")
        if path:
            self.open_file(path)

    def open_file(self, path: str | Path) -> None:
        """Use the model in a file; what is wrong with the file is said here, not at the first run."""
        session = self.session
        with session.told():
            entry = ModelEntry(Path(path).stem, find(path))
            session.run("open", lambda: runs.load(entry), lambda _: session.set_model(entry))

    def find_diameter(self) -> None:
        """Find the typical diameter, and fill it in."""
        session, source, entry = self.session, self.session.source, self.session.model
        if source is None or entry is None:
            return
        corrected = None
        if session.annotation is not None and session.annotation.known():
            corrected = source.plain(np.array(session.annotation.layer.data)), source.plain(session.annotation.state())
        channel = session.channel

        def done(diameter: float) -> None:
            if session.source is not None and session.source.layer is source.layer:
                self.diameter.setValue(round(diameter, 1))

        session.run("diameter", lambda: runs.find_diameter(entry, source, channel, "auto", corrected), done)


def _facts(source: Source) -> str:
    """Return shape, axes, pixel size and type of an image on one line."""
    size = pixel_size(source)
    shape = level_of(source.layer, 0).shape
    parts = [" × ".join(str(n) for n in shape), source.axes, f"{size:.3g} µm/px" if size else ""]
    parts += [str(source.data.dtype), "worked on in parts" if source.large or source.window else ""]
    return " · ".join(part for part in parts if part)


def _about(entry: ModelEntry) -> str:
    if entry.path is None and entry.model is None:
        return "Learns only from what you draw. Draw a few whole objects and confirm a tile, then teach it."
    return str(entry.path) if entry.path else "Learned in this session."
