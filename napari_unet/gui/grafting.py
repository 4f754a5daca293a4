"""Corrections in parts of a large image, taken over into the labels of a later run over all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui.regions import overlap, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.gui.on_disk import OnDisk
    from napari_unet.gui.regions import Region
    from napari_unet.gui.strokes import Annotation
    from napari_unet.jobs import Job


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
        return self.annotation.version == self.version


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
        if found.dtype == np.uint8:  # classes
            labels = np.where(known, made, found)
        else:
            labels = graft(made, found, known, taken)
            taken = max(taken, int(labels.max(initial=0)))
        for each in grafted:
            there, here = overlap(each.part, part)
            if here is not None and there is not None:
                each.labels[there] = labels[here]
        grafted.append(Grafted(annotation, part, version, labels.astype(found.dtype), taken))
    return grafted
