"""What a long run has found so far, seen in the viewer: first what is in view, then block by block."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_unet.errors import UnetError
from napari_unet.exchange import blockwise
from napari_unet.exchange.ome_zarr import shapes_of_levels
from napari_unet.exchange.work import begin
from napari_unet.gui.layers import ONLY_SEEN, keep_active, placement, remove, scale_of
from napari_unet.gui.pyramid import Pyramid, Redraw
from napari_unet.gui.runs import load
from napari_unet.infer.blocks import nearest_first
from napari_unet.infer.image import Image
from napari_unet.infer.read import read_image
from napari_unet.infer.segment import Part
from napari_unet.jobs import Job, Progress, T, as_part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Labels
    from napari.viewer import Viewer

    from napari_unet.exchange.blockwise import Result
    from napari_unet.gui.layers import Source
    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.regions import Region
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.infer.tiles import Block

FIRST = 512  # side in pixels of the first look: with what lies around it one tile, which is there within a second


class Growing(QObject):
    """Shows the labels of a run before it has ended, in a layer that is only looked at.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._pyramid: Pyramid | None = None
        self._grown = False  # whether there is something to be seen
        self._redraw: Redraw | None = None
        self.layer: Labels | None = None

    def begin(self, source: Source, pyramid: Pyramid) -> None:
        """Add a layer that shows a pyramid of an image; done before a run begins, it holds nobody up.

        What a run that was stopped has found stays until there is something of the new one.
        """
        if self.layer is None or self.layer not in self._viewer.layers:
            self._show(source, pyramid)

    def take(self, source: Source, payload: Any) -> None:
        """Show what came of a run over an image: a pyramid that grows, or a region in which it has."""
        if isinstance(payload, Pyramid) and payload is not self._pyramid:
            self._show(source, payload)
        elif self._redraw is not None:
            self._redraw.soon()
        self._grown = not isinstance(payload, Pyramid) or not payload.early

    def _show(self, source: Source, pyramid: Pyramid) -> None:
        remove(self._viewer, self.layer)
        self._pyramid, self.layer, self._grown = pyramid, self._add(pyramid.shown, source), False
        self._redraw = Redraw(self.layer)

    def keep(self) -> Labels | None:
        """Let go of the layer that has grown: it stays."""
        layer, self.layer = self.layer, None
        self.close()
        return layer if layer in self._viewer.layers else None

    def rest(self) -> None:
        """Let what has grown so far be seen until it goes on."""
        if self._redraw is not None:
            self._redraw.close()
        if not self._grown:
            remove(self._viewer, self.layer)
            self.layer = None
        self._redraw = self._pyramid = None

    def close(self) -> None:
        """Remove what is shown."""
        self.rest()
        remove(self._viewer, self.layer)
        self.layer = None

    def _add(self, data: Any, source: Source) -> Labels:
        with keep_active(self._viewer):
            layer = self._viewer.add_labels(
                data,
                name=f"{source.layer.name}_found so far",
                metadata={ONLY_SEEN: True},
                multiscale=True,
                **placement(source),
            )
        layer.editable = False
        return layer


def in_memory(job: Job[T], source: Source) -> Job[T]:
    """Run a job over all of an image, and gather the parts that it finds in a pyramid.

    Yields
    ------
    Progress
        Its own. The payload is a pyramid, then regions in which that has grown.
    """
    pyramid: Pyramid | None = None

    def grown(progress: Progress) -> Progress:
        nonlocal pyramid
        part = progress.payload
        if not isinstance(part, Part):
            return progress
        new = pyramid is None
        if pyramid is None:
            pyramid = Pyramid([np.zeros(shape, part.labels.dtype) for shape in shapes_of_levels(source.shape)])
        pyramid.take(part.region, part.labels)
        return Progress(progress.done, progress.total, progress.message, payload=pyramid if new else part.region)

    return (yield from as_part(job, grown))


@dataclass(frozen=True, eq=False)
class Written:
    """What a run wrote to the disk."""

    source: Source
    entry: ModelEntry
    pyramid: Pyramid
    target: Path
    result: Result


def to_disk(
    entry: ModelEntry,
    source: Source,
    settings: SegmentSettings,
    target: Path,
    first: Region,
    pyramid: Pyramid,
    hold: Callable[[bool], None] = lambda held: None,
) -> Job[Written]:
    """Segment all of a large image to an OME-Zarr label image, or go on with what was begun.

    `pyramid` is empty; it shows what is at `first` before the first block is done. `hold` is called before the labels
    are put in place, and with False if that fails: nothing else may be written there meanwhile.

    Yields
    ------
    Progress
        In thousandths of blocks. The payload is the pyramid, or a region in which it has grown.
    """
    began = time.perf_counter()
    model = yield from load(entry)
    target.parent.mkdir(parents=True, exist_ok=True)
    scale = scale_of(source)
    if target.parent.name == "labels":  # of an OME-Zarr, which knows its own pixels: not every reader tells of them
        with suppress(UnetError):
            scale = dict(read_image(target.parent.parent).scale) or scale
    image = Image(source.data, source.axes, scale, source.layer.name)

    def looked(progress: Progress) -> Progress:
        if not isinstance(part := progress.payload, Part):
            return progress
        pyramid.take_early(part.region, part.labels)
        return Progress(progress.done, progress.total, progress.message, payload=pyramid)

    work = yield from as_part(begin(model, image, target, settings, first=first), looked)
    labels = blockwise.label_image(work, target)
    labels.create()
    pyramid.read_again([labels.array(level, "r+") for level in range(labels.levels)])
    total, missing = len(work.blocks), nearest_first(work.missing(), first)
    before = 1000 * (total - len(missing))
    yield Progress(before, 1000 * total, "blocks", payload=pyramid)

    def grown(p: Progress) -> Progress:
        block: Block | None = p.payload
        if block is None:
            return Progress(before + p.done, 1000 * total, "blocks")
        pyramid.forget_early()
        if (found := blockwise.show_block(work, labels, block)) is not None:
            pyramid.take(block.write, found)
        return Progress(before + p.done, 1000 * total, "blocks", payload=block.write)

    yield from as_part(blockwise.do_each(work, missing, settings.device), grown)
    hold(True)
    try:
        result = yield from blockwise.finish(work, target)
    except BaseException:
        hold(False)
        raise
    from napari_unet.gui.on_disk import arrays_of

    pyramid.read_again(arrays_of(target))
    return Written(source, entry, pyramid, target, replace(result, seconds=time.perf_counter() - began))
