"""What a run found, into labels: a new layer over the image, or the one that is there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui.layers import placement
from napari_unet.gui.regions import whole
from napari_unet.store.actions import Runs

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.layers import Source
    from napari_unet.gui.runs import Found
    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Annotation

SUFFIX = "_unet_labels"
ALL, PART = f"{SUFFIX} (all)", f"{SUFFIX} (part)"  # of an image that is too large to be held at once
WAIT = 20  # ms between two looks whether a result can be written
CUT = "The labels got other data while the result was written, so the rest of it was dropped."
OUTLINE = 2  # pixels: the image stays to be seen under the objects
OUTLINED = 2304**2  # pixels of the largest plane with outlines: drawing them takes four times as long (bench/redraw.py)


def dropped(session: Session, found: Found) -> str:
    """Return why what was found may not be written any more; empty if it may."""
    if found.source.layer not in session.viewer.layers or not found.source.is_current():
        return "The image changed or went away during the run, so its result was dropped."
    if found.entry is not session.model:
        return "The model was changed during the run, so its result was dropped."
    return ""


def add_labels(session: Session, source: Source, data: NDArray[Any], *, outlined: bool = True) -> Labels:
    """Add a labels layer exactly over the image; it becomes the active one, to be corrected."""
    suffix = SUFFIX if source.window is None else PART
    labels = session.viewer.add_labels(data, name=f"{source.layer.name}{suffix}", **placement(source))
    if outlined and math.prod(data.shape[-2:]) <= OUTLINED:
        labels.contour, labels.opacity = OUTLINE, 1.0
    if outlined:
        labels.selected_label = int(data.max(initial=0)) + 1
    return labels


def add_result(session: Session, found: Found) -> Labels:
    """Add a labels layer with what was found for an image that has none; that it was empty can be taken back to."""
    source = found.source
    if found.region == whole(source.shape):
        data = found.labels
    else:
        data = np.zeros(source.shape, found.labels.dtype)
        data[found.region] = found.labels
    done = [found.action] if found.action.before.count else []  # nothing was found: that is no step
    labels = add_labels(session, source, data, outlined=found.entry.get().task == "instances")
    session.set_labels(labels, first=Runs.empty(data.shape, data.dtype), done=done, source=source)
    return labels


def write_result(annotation: Annotation, found: Found) -> None:
    """Write what was found into the labels that it was joined with; a large one `annotation.writer` goes on writing."""
    layer = annotation.layer
    # a number that was selected but not painted yet becomes none of the objects that are written
    if found.entry.get().task == "instances" and found.was < layer.selected_label <= found.largest:
        layer.selected_label = min(found.largest + 1, np.iinfo(layer.data.dtype).max)
    annotation.run(found.action, found.values())
