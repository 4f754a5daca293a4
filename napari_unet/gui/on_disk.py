"""Labels of a large image that lie on the disk: shown as a pyramid, corrected in windows, which are written back."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_unet.errors import DataError
from napari_unet.exchange.labels import ENDING, SOFTWARE, stem_of
from napari_unet.gui.layers import ONLY_SEEN
from napari_unet.gui.notices import tell
from napari_unet.gui.pyramid import Pyramid, Redraw, at_level, read_whole
from napari_unet.gui.regions import overlap
from napari_unet.gui.worker import Worker
from napari_unet.gui.writing import put
from napari_unet.jobs import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari.layers import Image, Labels, Layer
    from numpy.typing import NDArray

    from napari_unet.gui.layers import Source
    from napari_unet.gui.regions import Region
    from napari_unet.gui.strokes import Annotation
    from napari_unet.jobs import Job

SOON = 100  # ms until what was changed is written
PATIENCE = 10.0  # seconds that closing waits for what is being written
SIDE = 2048  # of the parts that are read to look for the largest number
FOLDER, IMAGE = "napari-unet: on disk", "napari-unet: labels of"  # in a layer's metadata: path, name of the image
LARGEST = "largest"  # beside the name of the model that made them


class OnDisk(QObject):
    """A label image on the disk, and the windows in which it is corrected.

    What is changed in a window is in the journal first, and on the disk a moment later: in a thread, all levels. What
    the disk refuses is told and kept, and tried again with the next change.

    Parameters
    ----------
    layer : Labels layer
        It shows the pyramid.
    pyramid : Pyramid
        What it shows.
    folder : Path
        The OME-Zarr label image.
    image : Image layer
        What the labels are of.
    """

    def __init__(self, layer: Labels, pyramid: Pyramid, folder: Path, image: Image) -> None:
        super().__init__()
        layer.metadata.update({FOLDER: str(folder), IMAGE: image.name})
        self.layer, self.pyramid, self.folder, self._image = layer, pyramid, folder, image
        self.redraw = Redraw(layer)
        self._followed: list[tuple[Annotation, Region]] = []
        self._slots: list[tuple[Annotation, Callable[[Region], None]]] = []
        self._changed: list[tuple[Annotation, Region, Region]] = []  # annotation, its window, the part that changed
        self._parts: list[tuple[Region, NDArray[Any]]] = []  # copies that are not on the disk yet, the oldest first
        self._worker: Worker | None = None
        self._refused = False  # whether the disk did, the last time
        self._held, self._turn = False, threading.Lock()
        self.changes = 0  # what is another one whenever labels in a window have changed
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._write)

    # ---- windows

    def follow(self, annotation: Annotation, window: Region, changed: Region | None = None) -> None:
        """Write what changes in a window from now on, and what has changed; there the pyramid shows nothing."""
        self._followed.append((annotation, window))

        def wrote(region: Region) -> None:
            self._on_wrote(annotation, window, region)

        annotation.wrote.connect(wrote)
        self._slots.append((annotation, wrote))
        self._show_holes()
        self._share(max(each.largest() for each in self.followed))
        if changed is not None:
            self._on_wrote(annotation, window, changed)

    def _share(self, largest: int, by: Annotation | None = None) -> None:
        """Let no other window take a number that is used in one."""
        for each in self.followed:
            selected, free = each.layer.selected_label, max(largest, each.taken) + 1
            unused = each is not by and each.taken < selected < free and not np.any(each.layer.data == selected)
            each.taken = max(each.taken, largest)
            if unused:  # selected for a new object
                each.layer.selected_label = min(free, np.iinfo(each.layer.data.dtype).max)

    def hold(self, held: bool = True) -> None:
        """Write nothing for a while, for other labels are put in this place; what is being written ends first."""
        with self._turn:
            self._held = held

    def leave(self, annotation: Annotation) -> None:
        """Write what is left of a window whose layer went away, and show what is there."""
        if all(each is not annotation for each, _ in self._followed):
            return
        self.settle()
        self._followed = [each for each in self._followed if each[0] is not annotation]
        self._slots = [each for each in self._slots if each[0] is not annotation]  # it goes away with them
        self._show_holes()

    @property
    def settled(self) -> bool:
        """Whether all that was changed is on the disk."""
        return not self._parts and not self._changed and self._worker is None

    @property
    def followed(self) -> list[Annotation]:
        """The windows that write here."""
        return [annotation for annotation, _ in self._followed]

    def _show_holes(self) -> None:
        self.pyramid.holes = [window for _, window in self._followed]
        self.redraw.soon()

    def read(self, window: Region) -> Job[tuple[NDArray[Any], int]]:
        """Read the labels of a window, and the largest number of all; that is looked for once."""
        yield Progress(0, 1, "reading the labels from the disk")
        finest, refused = self.pyramid.arrays[0], list(self._parts)  # those first: they may be written meanwhile
        labels = read_whole(finest, window)
        for region, part in refused:
            here, there = overlap(window, region)
            if here is not None and there is not None:
                labels[here] = part[there]
        group, said = self._said()
        if LARGEST not in said:
            largest, starts = 0, list(np.ndindex(*(-(-n // SIDE) for n in finest.shape[-2:])))
            for done, (y, x) in enumerate(starts):
                yield Progress(done, len(starts), "looking for free numbers")
                for plane in np.ndindex(finest.shape[:-2]):
                    part = finest[(*plane, slice(y * SIDE, (y + 1) * SIDE), slice(x * SIDE, (x + 1) * SIDE))]
                    largest = max(largest, int(np.max(part)))
            group.attrs[SOFTWARE] = said = said | {LARGEST: largest}
        return labels, max([int(said[LARGEST]), *(int(part.max(initial=0)) for _, part in refused)])

    def labels_in(self, window: Region) -> NDArray[Any]:
        """Return the labels of a window as they are on the disk."""
        return read_whole(self.pyramid.arrays[0], window)

    def largest(self) -> int:
        """Return the largest number of all labels, as far as it was looked for."""
        return int(self._said()[1].get(LARGEST, 0))

    def _said(self) -> tuple[Any, dict[str, Any]]:
        """Return the group on the disk, and what we have said there."""
        import zarr

        group: Any = zarr.open_group(self.folder, mode="r+", use_consolidated=False)
        return group, dict(group.attrs.get(SOFTWARE, {}))

    # ---- to the disk

    def settle(self) -> None:
        """Write at once what is left; it waits for the disk. What cannot be written is told and kept."""
        self._refused = False
        self._later.stop()
        try:
            for annotation in [each for each, _, _ in self._changed]:
                annotation.settle()
            self._take_changed()
            if self._worker is not None and not self._worker.wait(PATIENCE):
                raise TimeoutError(f"nothing was heard of it for {PATIENCE:g} s; it is still tried")
            for _ in self._writing():
                pass
        except Exception as error:  # noqa: BLE001 whoever removes a layer or closes the dock goes on
            if not self._refused:  # else the worker has told it
                self._fail(error)

    def close(self, *, write: bool = True) -> None:
        """Write what is left, unless other labels lie in its place now, and let go of the windows and the layer."""
        if write:
            self.settle()
        for annotation, wrote in self._slots:
            annotation.wrote.disconnect(wrote, missing_ok=True)
        self._followed, self._slots, self._changed = [], [], []
        if not write:
            with self._turn:
                self._parts = []
        self._later.stop()
        self.redraw.close()
        self.layer.metadata[IMAGE] = self._image.name  # it may have got another one
        if self._worker is not None:
            _late.add(self)

    def _on_wrote(self, annotation: Annotation, window: Region, region: Region) -> None:
        self.changes += 1
        pending = 0 if annotation.writer is None else annotation.writer.largest
        self._share(max(pending, int(np.max(annotation.layer.data[region], initial=0))), by=annotation)
        self._changed.append((annotation, window, region))
        if not self._later.isActive():
            self._later.start(SOON)

    def _write(self) -> None:
        busy = any(each.writer is not None or each.layer._block_history for each, _, _ in self._changed)
        if not self._changed and not self._parts:
            return
        if busy or self._held or self._worker is not None:
            self._later.start(SOON)
            return
        self._take_changed()
        self._later.stop()
        self._refused = False
        self._worker = Worker(self._writing, background=False)
        self._worker.failed.connect(self._fail)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def _take_changed(self) -> None:
        """Copy what is to be written, and show it in other windows."""
        changed, self._changed = self._changed, []
        for annotation, window, region in changed:
            where = tuple(slice(w.start + r.start, w.start + r.stop) for w, r in zip(window, region, strict=True))
            labels = np.array(annotation.layer.data[region])
            self._parts.append((where, labels))
            for other, place in self._followed:  # windows may overlap
                here, there = overlap(place, where)
                if other is not annotation and here is not None and there is not None:
                    put(other.layer, here, labels[there])

    def _writing(self) -> Job[None]:
        """Write the parts into all levels, also those that come meanwhile; each is kept until it is written."""
        while self._parts:
            parts = list(self._parts)
            largest = max(int(labels.max(initial=0)) for _, labels in parts)
            group, said = self._said()
            if largest > int(said.get(LARGEST, largest)):  # before the labels: no number may seem free that is not
                group.attrs[SOFTWARE] = said | {LARGEST: largest}
            for done, (region, labels) in enumerate(parts):
                yield Progress(done, len(parts), "writing labels")
                with self._turn:
                    if self._held or not self._parts:
                        return
                    for array, factors in zip(self.pyramid.arrays, self.pyramid.factors, strict=True):
                        if (fits := at_level(region, factors, array.shape)) is not None:
                            array[fits[0]] = labels[fits[1]]
                    self.pyramid.take(region, labels)
                    del self._parts[0]

    def _fail(self, error: Exception) -> None:
        self._refused = True
        tell(
            DataError(
                f"The corrected labels cannot be written to {str(self.folder)!r} ({error}): free the disk, and go on; "
                "with the next stroke all is tried again. The journal has the corrections too."
            )
        )

    def _on_finished(self) -> None:
        self._worker = None
        if self in _late:
            _late.discard(self)
            return
        self.redraw.soon()
        if self._changed or (self._parts and not self._refused):
            self._later.start(SOON)


_late: set[OnDisk] = set()  # closed while the disk still writes: Qt's objects may not end in its thread


def taken_over(image: Source, layers: Iterable[Layer], known: Mapping[int, OnDisk]) -> OnDisk | None:
    """Return the labels of an image on the disk that a layer shows, to be corrected; None if there are none.

    Parameters
    ----------
    image : Source
        All of it.
    layers : iterable of Layer
        Those of the viewer.
    known : mapping from id of an image layer to OnDisk
        What is corrected already.
    """
    for layer in layers:
        if not may_show(layer, image, known) or (folder := opened(layer)) is None:
            continue
        if _are_of(image.layer, layer, folder):
            pyramid = Pyramid(arrays_of(folder))
            layer.data, layer.visible = pyramid.shown, True
            return OnDisk(layer, pyramid, folder, image.layer)
    return None


def may_show(layer: Layer, image: Source, known: Mapping[int, OnDisk]) -> bool:
    """Return whether a layer is a pyramid that may show labels of an image; not so if it shows those of another one."""
    from napari.layers import Labels

    if not isinstance(layer, Labels) or ONLY_SEEN in layer.metadata or not layer.multiscale:
        return False
    others = [disk.layer for key, disk in known.items() if key != id(image.layer)]
    if tuple(layer.data[0].shape) != image.shape or any(layer is other for other in others):
        return False
    folder = opened(layer)
    return folder is None or _are_of(image.layer, layer, folder)


def _are_of(image: Image, layer: Labels, folder: Path) -> bool:
    """Return whether labels are of an image: they lie in its own OME-Zarr, or have its name."""
    if IMAGE in layer.metadata:
        return bool(layer.metadata[IMAGE] == image.name)
    if folder.name.startswith(plain(image.name) + ENDING):
        return True
    path = None if image.source.path is None else Path(image.source.path).resolve()
    where = folder.resolve()
    if path is None:
        return False
    return where.is_relative_to(path) or (where.parent == path.parent and where.name.startswith(stem_of(path) + ENDING))


def plain(name: str) -> str:
    """Return the name of a layer as that of a file."""
    return "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name).strip() or "image"


def opened(layer: Labels) -> Path | None:
    """Return where the labels that a layer shows lie, if that is an OME-Zarr label image that may be written."""
    path = layer.metadata.get(FOLDER, layer.source.path)
    if not layer.multiscale or path is None:
        return None
    for folder in (Path(path), Path(path) / "labels" / layer.name.split("/")[-1]):
        named = FOLDER in layer.metadata or folder.parent.name == "labels" or "label" in folder.name
        if named and _levels(folder) and os.access(folder, os.W_OK):
            return folder
    return None


def arrays_of(folder: Path) -> list[Any]:
    """Return the levels of an OME-Zarr label image, the finest first, to be read and written."""
    import zarr

    return [zarr.open_array(folder / name, mode="r+") for name in _levels(folder)]


def _levels(folder: Path) -> list[str]:
    """Return the names of the levels of an OME-Zarr; none if it is not one."""
    import zarr

    if not any((folder / name).exists() for name in ("zarr.json", ".zattrs")):
        return []
    said: dict[str, Any] = dict(zarr.open_group(folder, mode="r", use_consolidated=False).attrs)
    said = said.get("ome", said)
    return [each["path"] for each in said.get("multiscales", [{}])[0].get("datasets", ())]
