"""From clicks to the outline of one object: a crop around it, and a network that is told what is meant.

The network is given the image, the mask so far, and where was clicked inside and outside (Sofiiuk et al. 2022, RITM,
arXiv:2102.06583). It sees a crop of always the same size, in which the object is about as large as it learned them: if
it turns out to be larger or smaller than thought, it looks again. It learns in :mod:`napari_unet.learn.clicks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.infer.predict import predict_tiles
from napari_unet.jobs import Job, Progress, run
from napari_unet.model_file import PROMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.infer.familiar import Plane
    from napari_unet.model import Model

SIDE = 128  # of the crop that the network sees, in pixels
RADIUS = 3  # of a click, drawn as a disk: RITM's 5 in crops three times as wide
LEAST = 24  # pixels of the image in the side of a crop: below, it would only be blown up
# Side of the crop, times the longest side of the object: at least and at most, as it was learned; and what is aimed at
NARROW, WIDE, FRAME = 1.15, 4.0, 2.0
LOOKS = 4  # at most, until the crop fits the object
SAME = 0.3  # overlap of an object with itself in the next slice, at least
WIDTH = 24.0  # pixels of an object of which nothing is known

Place = tuple[float, float]


@dataclass(frozen=True)
class Prompt:
    """What was said of one object, in pixels of the plane.

    Attributes
    ----------
    inside, outside : tuple of (float, float)
        Clicks; a stroke is many of them.
    box : tuple of two slices, or None
        Drawn around the object.
    """

    inside: tuple[Place, ...] = ()
    outside: tuple[Place, ...] = ()
    box: tuple[slice, slice] | None = None


@dataclass(frozen=True)
class Outline:
    """The pixels of an object: a box of the plane, and which pixels of it."""

    box: tuple[slice, slice]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Frame:
    """A square of the plane, `side` pixels wide from `start` on; it may reach beyond the plane."""

    start: tuple[int, int]
    side: int

    @classmethod
    def around(cls, low: Sequence[float], high: Sequence[float], side: float) -> _Frame:
        """Return the frame with the box in its middle."""
        whole = max(round(side), LEAST)
        start = [round((a + b - whole) / 2) for a, b in zip(low, high, strict=True)]
        return cls((start[0], start[1]), whole)

    def place(self, at: Place) -> tuple[int, int]:
        """Return where a pixel of the plane lies in what the network sees."""
        row, column = (int((i + 0.5 - s) * SIDE / self.side) for i, s in zip(at, self.start, strict=True))
        return row, column


def outline(
    model: Model,
    plane: Plane,
    prompt: Prompt,
    *,
    mask: Outline | None = None,
    width: float | None = None,
    device: str = "auto",
) -> Outline | None:
    """Return the object that is meant; None if there is none to be seen.

    Parameters
    ----------
    model : Model
        With task ``"clicks"``.
    plane : Plane
        The image; only a window of it is read.
    prompt : Prompt
        What was said of the object, at least one click inside or a box, or clicks outside of `mask`.
    mask : Outline, optional
        The object as it was outlined before the last click.
    width : float, optional
        How wide objects are here, in pixels, if that is known: it saves a look.
    device : str
        Where to compute.
    """
    frame = _first(prompt, mask, width or WIDTH)
    found = None
    for _ in range(LOOKS):
        said = _look(model, plane, prompt, mask, frame, device)
        if said is None:  # a smaller object is easier missed
            smaller = _Frame.around(*_middle_of(frame), frame.side / 2)
            if found is not None or smaller.side == frame.side:
                break
            frame = smaller
            continue
        found = said
        better = _better(frame, found, plane[1], prompt)
        if better is None:
            break
        frame = better
    return found


def follow(
    model: Model, plane_at: Callable[[int], Plane], slices: int, first: int, found: Outline, device: str = "auto"
) -> Job[dict[int, Outline]]:
    """Follow an object through the slices of a stack, up and down, until it ends.

    In each slice the middle of the object in the one before is clicked. It has ended where nothing is found there, or
    what is found hardly overlaps the one before (`SAME`).

    Parameters
    ----------
    model, device
        See :func:`outline`.
    plane_at : callable
        Returns the plane of a slice.
    slices : int
        How many there are.
    first : int
        Where it was outlined.
    found : Outline
        The outline there.

    Yields
    ------
    Progress
        Slices looked at, of those that there are.

    Returns
    -------
    dict of Outline
        By slice, without the first.
    """
    through: dict[int, Outline] = {}
    for way in (range(first + 1, slices), range(first - 1, -1, -1)):
        last = found
        for at in way:
            yield Progress(len(through), slices, "following the object")
            width = float(max(last.mask.shape))
            now = outline(model, plane_at(at), Prompt((middle(last),)), width=width, device=device)
            if now is None or overlap(last, now) < SAME:
                break
            through[at] = last = now
    return through


def middle(found: Outline) -> Place:
    """Return the pixel of an object that is farthest from its edge."""
    far = ndi.distance_transform_edt(np.pad(found.mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(far.argmax()), far.shape)
    return float(row + found.box[0].start), float(column + found.box[1].start)


def overlap(a: Outline, b: Outline) -> float:
    """Return the intersection of two objects over their union, 0 to 1."""
    low = [max(x.start, y.start) for x, y in zip(a.box, b.box, strict=True)]
    high = [max(min(x.stop, y.stop), at) for x, y, at in zip(a.box, b.box, low, strict=True)]
    parts = [
        each.mask[tuple(slice(s - o.start, t - o.start) for s, t, o in zip(low, high, each.box, strict=True))]
        for each in (a, b)
    ]
    shared = int(np.count_nonzero(parts[0] & parts[1]))
    return shared / (int(a.mask.sum()) + int(b.mask.sum()) - shared)


def _first(prompt: Prompt, mask: Outline | None, width: float) -> _Frame:
    """Return a frame around all that is known of an object."""
    boxes = [each for each in (prompt.box, mask.box if mask else None) if each is not None]
    points = [*prompt.inside, *prompt.outside]
    low = [min([b[i].start for b in boxes] + [p[i] for p in points]) for i in range(2)]
    high = [max([b[i].stop for b in boxes] + [p[i] + 1 for p in points]) for i in range(2)]
    extent = max(b - a for a, b in zip(low, high, strict=True))
    return _Frame.around(low, high, FRAME * (extent if boxes else max(extent, width)))


def _middle_of(frame: _Frame) -> tuple[list[float], list[float]]:
    middle = [s + frame.side / 2 for s in frame.start]
    return middle, middle


def _better(frame: _Frame, found: Outline, shape: Sequence[int], prompt: Prompt) -> _Frame | None:
    """Return a frame that fits what was found better; None if this one fits."""
    low, high = [s.start for s in found.box], [s.stop for s in found.box]
    extent = max(b - a for a, b in zip(low, high, strict=True))
    cut = any(
        (a <= max(s, 0) and a > 0) or (b >= min(s + frame.side, n) and b < n)
        for a, b, s, n in zip(low, high, frame.start, shape, strict=True)
    )
    if not cut and NARROW * extent <= frame.side <= max(WIDE * extent, LEAST):
        return None
    points = [*prompt.inside, *prompt.outside]
    low = [min([low[i], *(p[i] for p in points)]) for i in range(2)]
    high = [max([high[i], *(p[i] + 1 for p in points)]) for i in range(2)]
    extent = max(b - a for a, b in zip(low, high, strict=True))
    better = _Frame.around(low, high, FRAME * extent)
    return None if better == frame else better


def _look(
    model: Model, plane: Plane, prompt: Prompt, mask: Outline | None, frame: _Frame, device: str
) -> Outline | None:
    """Return what the network makes of one frame."""
    import torch
    from torch.nn import functional as F

    read, shape = plane
    window = tuple(
        slice(min(max(s, 0), n - 1), min(max(s + frame.side, 1), n)) for s, n in zip(frame.start, shape, strict=True)
    )
    pad = [(w.start - s, s + frame.side - w.stop) for s, w in zip(frame.start, window, strict=True)]
    image = np.pad(read(window), [(0, 0), *pad], mode="symmetric")
    channels = model.config.in_channels - PROMPTS
    image = np.repeat(image[:1], channels, axis=0) if len(image) < channels else image
    size = (SIDE, SIDE)
    seen = F.interpolate(torch.from_numpy(image)[None], size, mode="bilinear", antialias=True, align_corners=False)
    said = np.zeros((PROMPTS, SIDE, SIDE), np.float32)
    if mask is not None:
        said[0] = _drawn(frame, mask)
    elif prompt.box is not None:
        whole = np.ones([s.stop - s.start for s in prompt.box], bool)
        said[0] = _drawn(frame, Outline(prompt.box, whole))
    for number, places in ((1, prompt.inside), (2, prompt.outside)):
        for at in places:
            draw(said[number], frame.place(at))
    maps = run(predict_tiles(model, np.concatenate((seen[0].numpy(), said)), device))
    wide = F.interpolate(
        torch.from_numpy(maps[1])[None, None], (frame.side, frame.side), mode="bilinear", align_corners=False
    )
    whole = wide[0, 0].numpy()[tuple(slice(a, frame.side - b) for a, b in pad)] > 0.5
    return _one(whole, window, prompt)


def _one(found: NDArray[np.bool_], window: tuple[slice, ...], prompt: Prompt) -> Outline | None:
    """Return the pieces that were clicked, else the largest one, with their holes filled; None if there is none."""
    pieces, count = ndi.label(found)
    if not count:
        return None
    clicked = set()
    for at in prompt.inside:
        local = [int(i) - w.start for i, w in zip(at, window, strict=True)]
        if all(0 <= i < n for i, n in zip(local, pieces.shape, strict=True)):
            clicked.add(int(pieces[tuple(local)]))
    clicked -= {0}
    keep = list(clicked) or [1 + int(np.bincount(pieces.ravel())[1:].argmax())]
    mask = ndi.binary_fill_holes(np.isin(pieces, keep))
    box = ndi.find_objects(mask.astype(np.uint8))[0]
    first, second = (slice(w.start + b.start, w.start + b.stop) for w, b in zip(window, box, strict=True))
    return Outline((first, second), mask[box])


def _drawn(frame: _Frame, mask: Outline) -> NDArray[np.float32]:
    """Return a mask as the network sees it, ``(SIDE, SIDE)``: each of its pixels is the nearest one of the mask."""
    centres = [(np.arange(SIDE) + 0.5) * frame.side / SIDE + s for s in frame.start]
    index = [np.floor(c).astype(int) - b.start for c, b in zip(centres, mask.box, strict=True)]
    inside = [(i >= 0) & (i < n) for i, n in zip(index, mask.mask.shape, strict=True)]
    pixels = mask.mask[np.ix_(*(i.clip(0, n - 1) for i, n in zip(index, mask.mask.shape, strict=True)))]
    return (pixels & np.logical_and.outer(*inside)).astype(np.float32)


def draw(map_: NDArray[np.float32], at: Sequence[int]) -> None:
    """Draw a click into a map ``(SIDE, SIDE)``; what lies outside is left out."""
    rows, columns = (np.arange(n) - i for n, i in zip(map_.shape, at, strict=True))
    near: tuple[Any, ...] = tuple(np.flatnonzero(np.abs(each) <= RADIUS) for each in (rows, columns))
    disk = np.hypot.outer(rows[near[0]], columns[near[1]]) <= RADIUS
    map_[np.ix_(*near)] = np.maximum(map_[np.ix_(*near)], disk)
