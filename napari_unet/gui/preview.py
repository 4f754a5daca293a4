"""What the model that learns finds in view, meanwhile: a box to ask for it, and the layer that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_unet.errors import ImageError, UnetError, in_words
from napari_unet.gui.hand import is_down
from napari_unet.gui.layers import keep_active, placement
from napari_unet.gui.look import label, say
from napari_unet.gui.models import ModelEntry
from napari_unet.gui.regions import clamp, region_of
from napari_unet.gui.runs import segment_part
from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.layers import Source
    from napari_unet.gui.regions import Region
    from napari_unet.gui.session import Session
    from napari_unet.learn.preview import Look
    from napari_unet.model import Model

COLOUR = "#ff4dff"  # seen on dark, grey and bright images, beside the green of what is right
TIP = (
    "While the model learns, see every few seconds what it would find in what is in view, at most 1024 × 1024 pixels.\n"
    "Your labels stay as they are. It takes up to a tenth of the time."
)
STACKS = "This model looks at whole stacks: that takes too long to be done every few seconds."


@dataclass(frozen=True, eq=False)
class View:
    """What of an image is in view, in pixels of its labels, and how it is segmented."""

    source: Source
    region: Region
    settings: SegmentSettings


@dataclass(frozen=True, eq=False)
class Previewed:
    """What a model that learns finds in view.

    Attributes
    ----------
    picture : uint8 array, the region's shape, or None
        Where an object ends 1, where a class ends its number, 0 elsewhere; read-only.
    trouble : str
        Why there is no picture.
    """

    view: View
    picture: NDArray[np.uint8] | None
    trouble: str = ""


def find(view: View, model: Model) -> Job[None]:
    """Find what is in view: the last Progress has a :class:`Previewed`. What goes wrong is said, no more."""
    try:
        entry = ModelEntry(model.name, None, model)
        labels = (yield from segment_part(entry, view.source, view.settings, view.region, None)).found
    except (UnetError, OSError, MemoryError) as error:
        yield Progress(1, 1, payload=Previewed(view, None, in_words(error)))
        return
    except Exception as error:  # noqa: BLE001 nothing that is only looked at may end the learning
        words = f"something unforeseen ({type(error).__name__}: {error})."
        yield Progress(1, 1, payload=Previewed(view, None, words))
        return
        return
    ends = np.zeros(labels.shape, bool)
    for axis in range(max(labels.ndim - 2, 0), labels.ndim):
        one, other = (np.swapaxes(array, axis, 0) for array in (labels, ends))
        differ = one[1:] != one[:-1]
        other[1:] |= differ
        other[:-1] |= differ
    picture = np.where(ends, labels if model.task == "classes" else labels > 0, 0).astype(np.uint8)
    picture.flags.writeable = False  # nobody can paint on it, nor choose it as labels to correct
    yield Progress(1, 1, payload=Previewed(view, picture))


class Preview(QWidget):
    """Says what is in view while a model learns, and shows what the model finds there.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.layer: Labels | None = None
        self._learns: ModelEntry | None = None
        self._device = "auto"
        self._view: View | None = None  # read by the thread that learns
        self._shown: View | None = None  # what the layer shows
        self._late: Previewed | None = None  # to be shown when the hand is lifted
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self.hide_layer)
        square = QPixmap(12, 12)
        square.fill(QColor(COLOUR))
        self.wanted = QCheckBox("Preview while it learns")
        self.wanted.setIcon(QIcon(square))
        self.wanted.toggled.connect(self._on_toggled)
        self.trouble = label("", "quiet")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.wanted)
        column.addWidget(self.trouble)
        session.model_changed.connect(self.show_state)
        session.image_changed.connect(self._on_image)
        session.busy_changed.connect(self._on_busy)
        session.progressed.connect(self._on_progress)
        session.viewer.layers.events.removed.connect(self._on_removed)
        self.show_state()

    def show_state(self) -> None:
        """Show whether there can be a preview."""
        entry = self._learns or self.session.model
        flat = entry is None or entry.ndim < 3
        self.wanted.setEnabled(flat)
        self.wanted.setToolTip(TIP if flat else STACKS)

    def begin(self, entry: ModelEntry, device: str) -> None:
        """Preview what this model finds, from now on."""
        self._learns, self._device = entry, device
        self.show_state()
        self._see()

    def end(self) -> None:
        """The model learns no more, or is asked to end."""
        self._learns = self._view = None
        say(self.trouble, "")
        self.hide_layer()
        self.show_state()

    def look(self) -> Look | None:
        """Return what finds what is in view, if somebody wants to see it; asked by the thread that learns."""
        view = self._view
        return None if view is None else partial(find, view)

    def _see(self) -> None:
        """Note what is in view."""
        session, entry, source = self.session, self._learns, self.session.source
        self._view = None
        if entry is None or entry.ndim > 2 or source is None or not self.wanted.isChecked():
            return
        if session.viewer.dims.ndisplay != 2:
            return
        try:
            region = clamp(region_of(session.viewer, source, "view", session.labels))
        except ImageError:
            return  # its planes are not on the screen
        how = session.thresholds() | {"device": self._device, "flips": False}  # four looks at once take too long
        self._view = View(source, region, SegmentSettings(channel=session.channel, diameter=session.diameter, **how))

    def _on_progress(self, progress: Progress) -> None:
        if self._learns is None:
            return
        self._see()
        if isinstance(progress.payload, Previewed):
            self._late = progress.payload
        if self._late is not None and not is_down(self.session, self.session.annotation):
            found, self._late = self._late, None
            self._show(found)

    def _show(self, found: Previewed) -> None:
        """Lay outlines over the image, if they are still of what is wanted, with the brush staying in the hand."""
        from napari.utils.colormaps import DirectLabelColormap, label_colormap

        view, source = found.view, self.session.source
        if self._view is None or source is None or view.source.layer is not source.layer or not source.is_current():
            return
        if view.source.data is not source.data or view.source.axes != source.axes:
            return
        say(self.trouble, f"No preview: {found.trouble}" if found.trouble else "")
        if found.picture is None:
            self.hide_layer()
            return
        place = placement(source, view.region)
        if self.layer is None:
            classes = self._learns is not None and self._learns.get().task == "classes"
            colours: dict[int | None, Any] = {None: COLOUR, 0: "transparent"}
            with keep_active(self.session.viewer):
                self.layer = self.session.viewer.add_labels(
                    found.picture,
                    name=f"{source.layer.name}_preview",
                    colormap=label_colormap() if classes else DirectLabelColormap(color_dict=colours),
                    opacity=1,
                    **place,
                )
        else:
            self.layer.data = found.picture
            if self._shown is None or self._shown.region != view.region:  # else napari would lay out all layers anew
                self.layer.translate = place["translate"]
        self.layer.editable = False
        self._shown = view

    def hide_layer(self) -> None:
        """Remove the layer."""
        layer, self.layer, self._shown, self._late = self.layer, None, None, None
        if layer is not None and layer in self.session.viewer.layers:
            self.session.viewer.layers.remove(layer)

    def _on_toggled(self, wanted: bool) -> None:
        self._see()
        if not wanted:
            say(self.trouble, "")
            self.hide_layer()

    def _on_busy(self) -> None:
        if self._learns is not None and self.session.busy != "learn":
            self.end()

    def _on_image(self) -> None:
        """Take the outlines away where their image is not worked on any more, or shows something else."""
        source = self.session.source
        self._see()
        if self._shown is not None and (source is None or source.data is not self._shown.source.data):
            self._later.start(0)

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer and self.layer is not None:  # the user removed it
            self.layer = self._shown = None
            self.wanted.setChecked(False)

    def close_part(self) -> None:
        """Let go of the viewer, and remove the layer; touches no widget."""
        self.session.viewer.layers.events.removed.disconnect(self._on_removed)
        self._learns = self._view = None
        self.hide_layer()
