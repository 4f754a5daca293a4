"""What "this tile is right" and "object is right" vouch for: which pixels, and the outlines that show them.

A model of stacks learns boundary and distance only from objects that are known in all their slices. For it a tile
goes on through the neighbouring slices, and an object through all that it is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.gui.regions import LONGEST, clamp
from napari_unet.learn.corrections import State
from napari_unet.store.actions import Action, Runs

if TYPE_CHECKING:
    from napari_unet.gui.regions import Region
    from napari_unet.learn.stopping import Review

    NDArray = np.ndarray[Any, np.dtype[Any]]

RING = 2  # pixels of background around an accepted object that are right too; one slice above and below it
DEEP = 8  # slices to each side of the one in view: as many as a person looks through before calling them right
BLOCK = LONGEST // 2  # side in pixels of a tile with neighbouring slices
CORNERS = 48  # of an object's outline, at most
KINDS = {State.CONFIRMED: "confirm tile", State.ACCEPTED: "accept object"}  # what the actions are called


@dataclass(frozen=True, eq=False)
class Mark:
    """A tile or an object that the user called right; `mask` is None for a whole tile."""

    state: State
    region: Region
    mask: NDArray | None = None
    outlines: tuple[NDArray, ...] = ()  # corners, in pixels; one outline for each slice
    review: Review | None = None  # of a tile: what had been changed in it then

    def agrees(self, same: NDArray) -> bool:
        """Return whether it is true of other labels, which are the same as before in these pixels of its region."""
        return bool((same if self.mask is None else same[self.mask]).all())


def tile_mark(view: Region, shape: tuple[int, ...], depth: int | None) -> Mark:
    """Return the mark of what is in view.

    Parameters
    ----------
    view : tuple of slice
        In pixels of the labels; one slice along all axes but the last two.
    shape : tuple of int
        Of the labels.
    depth : int or None
        The axis of the slices, if the model sees several at once.
    """
    if depth is None:
        region = clamp(view)
    else:
        at = view[depth].start
        block = slice(max(at - DEEP, 0), min(at + DEEP + 1, shape[depth]))
        region = tuple(block if axis == depth else r for axis, r in enumerate(clamp(view, BLOCK)))
    return Mark(State.CONFIRMED, region, None, _tile_outlines(region))


def object_mark(labels: Any, plane: Region, number: int, depth: int | None) -> Mark | None:
    """Return the mark of an object with a thin ring of background, or None if it is not in the plane.

    Parameters
    ----------
    labels : integer array
        All labels.
    plane : tuple of slice
        Where the object is looked for.
    number : int
        Its number.
    depth : int or None
        The axis of the slices through which it is followed, if the model sees several at once.
    """
    reach = dict.fromkeys((len(plane) - 2, len(plane) - 1), RING)
    if depth is not None:
        plane, reach[depth] = _followed(labels, plane, number, depth), 1
    found = ndi.find_objects((np.asarray(labels[plane]) == number).astype(np.uint8))
    if not found:
        return None
    region = tuple(
        slice(max(p.start + b.start - reach.get(axis, 0), 0), min(p.start + b.stop + reach.get(axis, 0), n))
        for axis, (p, b, n) in enumerate(zip(plane, found[0], labels.shape, strict=True))
    )
    there = np.asarray(labels[region])
    inside = there == number
    ring = ndi.binary_dilation(inside, iterations=RING) & (there == 0)
    return Mark(State.ACCEPTED, region, inside | ring, _object_outlines(region, inside))


def called_right(mark: Mark, labels: Any) -> Action:
    """Return the action that makes a mark on labels."""
    there = Runs.pack(np.asarray(labels[mark.region]))
    mask = np.ones(there.shape, bool) if mark.mask is None else mark.mask
    return Action(KINDS[mark.state], mark.region, there, there, Runs.pack(mask))


def mark_of(action: Action) -> Mark | None:
    """Return the mark that an action made; None if it made none."""
    state = next((state for state, kind in KINDS.items() if kind == action.kind), None)
    if state is None or action.vouched is None:
        return None
    if state == State.CONFIRMED:
        return Mark(state, action.region, None, _tile_outlines(action.region))
    mask = action.vouched.unpack()  # the object and a ring of background
    return Mark(state, action.region, mask, _object_outlines(action.region, mask & (action.after.unpack() > 0)))


def _followed(labels: Any, plane: Region, number: int, depth: int) -> Region:
    """Return a plane with its neighbours, as far as an object goes on in them."""

    def part(slices: slice) -> Region:
        return *plane[:depth], slices, *plane[depth + 1 :]

    def is_there(at: int) -> bool:
        return 0 <= at < labels.shape[depth] and bool((np.asarray(labels[part(slice(at, at + 1))]) == number).any())

    low, high = plane[depth].start, plane[depth].stop
    while is_there(low - 1):
        low -= 1
    while is_there(high):
        high += 1
    return part(slice(low, high))


def _tile_outlines(region: Region) -> tuple[NDArray, ...]:
    """Return the four corners of a tile, in each of its slices."""
    *leading, y, x = region if len(region) > 1 else (slice(0, 1), *region)
    top, bottom, left, right = y.start - 0.5, y.stop - 0.5, x.start - 0.5, x.stop - 0.5
    corners = np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
    return tuple(_at(place, corners) for place in product(*(range(r.start, r.stop) for r in leading)))


def _object_outlines(region: Region, mask: NDArray) -> tuple[NDArray, ...]:
    """Return the corners of an object's outline, in each slice that it is in."""
    from skimage.measure import find_contours

    *leading, y, x = region
    outlines = []
    for index in np.ndindex(mask.shape[:-2]):
        if mask[index].any():
            longest = max(find_contours(np.pad(mask[index], 1).astype(np.float32), 0.5), key=len)[:-1]
            corners = longest[:: -(-len(longest) // CORNERS)] - 1 + [y.start, x.start]
            outlines.append(_at(tuple(r.start + i for r, i in zip(leading, index, strict=True)), corners))
    return tuple(outlines)


def _at(place: tuple[int, ...], corners: NDArray) -> NDArray:
    """Return corners in a plane with the place of the plane before them."""
    return np.hstack([np.tile(np.array(place, float), (len(corners), 1)), corners])
