"""What napari says of an edit by hand: its `paint` event lists the atoms of a stroke, a fill or a polygon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.regions import Region


def painted(layer: Labels, atoms: list[Any]) -> tuple[Region, NDArray[Any], NDArray[Any]]:
    """Return the box of what is painted, and the labels in it before and after; both are copies.

    An atom that a mask-based tool made has slices, a mask (None: all of its box), the old values under it and the new
    one; one of `data_setitem` is a tuple of indices, old and new values. A stroke overlaps itself: the first atom has
    the oldest values.
    """
    shape = layer.data.shape
    boxes = [_box(atom, shape) for atom in atoms]
    axes = zip(*boxes, strict=True)
    region = tuple(slice(min(r.start for r in axis), max(r.stop for r in axis)) for axis in axes)
    before = np.array(layer.data[region])
    places = [_place(atom, box, region, shape) for atom, box in zip(atoms, boxes, strict=True)]
    for atom, (box, pixels) in reversed(list(zip(atoms, places, strict=True))):
        before[box][pixels] = atom.old_values if hasattr(atom, "slice_key") else atom[1]
    # a stroke is told when it is in the data, a single edit just before
    after = before.copy()
    for atom, (box, pixels) in zip(atoms, places, strict=True):
        after[box][pixels] = atom.new_value if hasattr(atom, "slice_key") else atom[2]
    return region, before, after


def _place(atom: Any, box: Region, region: Region, shape: tuple[int, ...]) -> tuple[Region, Any]:
    """Return where in a region an atom lies, and which pixels there it changed."""
    inside = tuple(slice(b.start - r.start, b.stop - r.start) for b, r in zip(box, region, strict=True))
    if hasattr(atom, "slice_key"):
        return inside, ... if atom.mask is None else atom.mask
    return inside, tuple(np.asarray(i) % n - b.start for i, n, b in zip(atom[0], shape, box, strict=True))


def _box(atom: Any, shape: tuple[int, ...]) -> Region:
    """Return where in labels of a shape an atom lies."""
    if hasattr(atom, "slice_key"):
        return tuple(slice(*key.indices(n)[:2]) for key, n in zip(atom.slice_key, shape, strict=True))
    wrapped = [np.asarray(i) % n for i, n in zip(atom[0], shape, strict=True)]
    return tuple(slice(int(i.min()), int(i.max()) + 1) for i in wrapped)
