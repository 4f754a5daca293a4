"""Corrections in parts of a large image, put into labels of all of it: of a later run, or of an earlier session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui.regions import overlap, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_unet.gui.on_disk import OnDisk
    from napari_unet.gui.regions import Region
    from napari_unet.gui.strokes import Annotation
    from napari_unet.jobs import Job
    from napari_unet.store.journal import Kept

ALIKE = 0.9  # share of pixels of the same numbers: of the labels of two runs hardly any have the same


@dataclass(frozen=True, eq=False)
class Grafted:
    """What a part becomes.

    Attributes
    ----------
    annotation, part : Annotation, Region
        What is known, and where.
    version : tuple of int
        Of the annotation when its labels were read.
    labels : array
        What was found, with all that is known by hand.
    taken : int
        The largest number of all labels of the image.
    """

    annotation: Annotation
    part: Region
    version: tuple[int, ...]
    labels: NDArray[Any]
    taken: int

    def fits(self) -> bool:
        """Return whether nothing was done to the labels meanwhile."""
        return self.annotation.version == self.version and self.annotation.writer is None

    def move(self) -> None:
        """Let the annotation go on with these labels; what was selected stays so, by its new number."""
        annotation, layer = self.annotation, self.annotation.layer
        labels, selected = self.labels.reshape(layer.data.shape), layer.selected_label
        same = labels[(layer.data == selected) & annotation.protected(whole(layer.data.shape))]
        annotation.move_to(labels)
        annotation.taken = self.taken
        if labels.dtype != np.uint8:
            free = min(annotation.largest() + 1, np.iinfo(labels.dtype).max)
            layer.selected_label = int(same[0]) if selected and same.size else free


def graft_all(disk: OnDisk, parts: Sequence[tuple[Annotation, Region]]) -> Job[list[Grafted]]:
    """Join the labels on the disk with what is known by hand in parts, each with numbers of its own.

    Parameters
    ----------
    disk : OnDisk
        The labels.
    parts : sequence of (Annotation, Region)
        What is known, and where; nothing is changed.

    Yields
    ------
    Progress
        What is read.

    Returns
    -------
    list of Grafted
        Not of parts in which objects are corrected where the disk has classes, or the other way round.
    """
    from napari_unet.infer.merge import graft

    grafted: list[Grafted] = []
    for annotation, part in parts:
        found, largest = yield from disk.read(part)
        version, made = annotation.version, np.array(annotation.layer.data).reshape(found.shape)
        known = annotation.protected(whole(annotation.layer.data.shape)).reshape(found.shape)
        for each in grafted:  # parts may overlap
            here, there = overlap(part, each.part)
            if here is not None and there is not None:
                found[here] = each.labels[there]
        taken = max([largest, *(each.taken for each in grafted)])
        classes = found.dtype == np.uint8
        if known.any() and (classes or made.dtype == np.uint8) and made.dtype != found.dtype:
            continue  # objects are no classes
        if classes:
            labels = np.where(known, made, found)
        else:
            labels = graft(made, found, known, taken)
            taken = max(taken, int(labels.max(initial=0)))
            if taken > np.iinfo(found.dtype).max:
                continue
        for each in grafted:
            there, here = overlap(each.part, part)
            if here is not None and there is not None:
                each.labels[there] = labels[here]
        grafted.append(Grafted(annotation, part, version, labels.astype(found.dtype), taken))
    return grafted


def of_these(kept: Kept, part: Region, there: NDArray[Any], parts: Sequence[tuple[Kept, Region]]) -> bool:
    """Return whether what an earlier session did in a part was done to the labels on the disk.

    Others, such as what a run found in view before the whole image was segmented, have other numbers.

    Parameters
    ----------
    kept, part : Kept, Region
        What was done, and where.
    there : array
        What is on the disk there.
    parts : sequence of (Kept, Region)
        All that was done by then; where that changed something it tells nothing.
    """
    first = kept.labels.unpack().reshape(there.shape)
    tells = (first > 0) | (there > 0)
    for here, before, after in _done(part, parts):
        tells[here] &= before == after
    return bool(tells.any() and (first == there)[tells].mean() > ALIKE)


def replayed(part: Region, there: NDArray[Any], parts: Sequence[tuple[Kept, Region]]) -> NDArray[Any]:
    """Return the labels of a part with all that was done in it and in parts that overlap it, in the order of time.

    For the parameters see :func:`of_these`. What reached the disk is there already, and stays.
    """
    labels = np.array(there)
    for here, before, after in _done(part, parts):
        changed = (before != after) & (labels[here] == before)  # else something was done there since
        labels[here][changed] = after[changed]
    return labels


def _done(part: Region, parts: Sequence[tuple[Kept, Region]]) -> Iterator[tuple[Region, NDArray[Any], NDArray[Any]]]:
    """Yield where in a part something was done, and the labels there before and after it."""
    every = [(action, region) for kept, region in parts for action in kept.actions if action.before is not action.after]
    for action, region in sorted(every, key=lambda pair: pair[0].when):
        box = tuple(slice(w.start + r.start, w.start + r.stop) for w, r in zip(region, action.region, strict=True))
        here, inside = overlap(part, box)
        if here is not None and inside is not None:
            yield here, action.before.unpack()[inside], action.after.unpack()[inside]
