"""From clicks to the outline of one object: a crop around it, and a network that is told what is meant.

The network is given the image, the mask so far, and where was clicked inside and outside (Sofiiuk et al. 2022, RITM,
arXiv:2102.06583). It sees a crop of always the same size, in which the object is about as large as it learned them: if
it turns out to be larger or smaller than thought, it looks again. It learns in :mod:`napari_unet.learn.clicks`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.errors import ImageError
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
MOST = 2048  # pixels of the image in the side of a crop: what is larger is no object to click
# Side of the crop, times the longest side of the object: at least and at most, as it is learned; and what is aimed at
NARROW, WIDE, FRAME = 1.15, 4.0, 2.0
FITS = 3  # looks at most at a crop that is not cut, until its size fits the object
SAME = 0.3  # overlap of an object with itself in the next slice, at least
WIDTHS = (14, 23, 36, 58, 92, 148)  # pixels: where nobody knows how wide objects are, it looks for each of these

Place = tuple[float, float]


@dataclass(frozen=True)
class Prompt:
    """What was said of one object, in pixels of the plane, the middle of a pixel at whole numbers.

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


@dataclass(frozen=True, eq=False)
class Outline:
    """The pixels of an object.

    Attributes
    ----------
    box : tuple of two slices
        Of the plane.
    mask : bool array
        Which pixels of the box.
    cut : bool
        Whether it goes on beyond the largest crop that is looked at, `MOST` pixels wide.
    """

    box: tuple[slice, slice]
    mask: NDArray[np.bool_]
    cut: bool = False


@dataclass(frozen=True)
class _Frame:
    """A square of the plane, `side` pixels wide from `start` on; it may reach beyond the plane."""

    start: tuple[int, int]
    side: int

    @classmethod
    def around(cls, low: Sequence[float], high: Sequence[float], side: float) -> _Frame:
        """Return the frame with the box in its middle."""
        whole = min(max(round(side), LEAST), MOST)
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
        What was said of the object: at least one click inside, a box, or clicks outside of `mask`.
    mask : Outline, optional
        The object as it was outlined before the last click, or as a model proposed it.
    width : float, optional
        How wide objects are here, in pixels, if that is known; otherwise it looks for several widths.
    device : str
        Where to compute.

    Raises
    ------
    ImageError
        If the model is for something else, nothing was said, or it was said of a place beyond the plane.
    """
    _check(model, plane[1], prompt, mask)
    alone = mask is None and prompt.box is None
    frames = [_first(prompt, mask, each) for each in ((width,) if width or not alone else WIDTHS)]
    looks = [(frame, *_look(model, plane, prompt, mask, frame, device)) for frame in dict.fromkeys(frames)]
    seen = [(frame, found, sure) for frame, found, sure in looks if found is not None]
    if not seen:
        return None
    fitting = [look for look in seen if _better(look[0], look[1], plane[1]) is None]
    frame, found, _ = max(fitting or seen, key=lambda look: look[2])
    fits = 0
    while fits < FITS:
        better = _better(frame, found, plane[1])
        if better is None:
            break
        fits += better.side <= frame.side or not any(_cut(frame, found, plane[1]))
        frame = better
        again, _ = _look(model, plane, prompt, mask, frame, device)
        if again is None:
            break
        found = again
    return replace(found, cut=any(_cut(frame, found, plane[1])))


def _check(model: Model, shape: Sequence[int], prompt: Prompt, mask: Outline | None) -> None:
    """Refuse a model that is for something else, and a prompt that says nothing of the plane."""
    if model.task != "clicks" or model.ndim != 2:
        raise ImageError(f"The model {model.name!r} segments images: choose one that outlines what is clicked.")
    if not prompt.inside and prompt.box is None and mask is None:
        raise ImageError("Nothing was said of the object: click into it, or draw a box around it.")
    for at in (*prompt.inside, *prompt.outside):
        if not all(-0.5 <= i < n - 0.5 for i, n in zip(at, shape, strict=True)):
            raise ImageError(f"The click {at} lies beyond the plane of {tuple(shape)} pixels: click into the image.")
    for box in (each for each in (prompt.box, mask.box if mask else None) if each is not None):
        if not all(0 <= (s.start or 0) < (s.stop or 0) <= n for s, n in zip(box, shape, strict=True)):
            raise ImageError(f"The box {box} is none of the plane of {tuple(shape)} pixels: draw it in the image.")


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
        Slices that it was found in, of those that there are.

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


def _first(prompt: Prompt, mask: Outline | None, width: float | None) -> _Frame:
    """Return a frame around what is known of an object; clicks outside are seen as far as they lie in it."""
    boxes = [each for each in (prompt.box, mask.box if mask else None) if each is not None]
    low = [min([b[i].start for b in boxes] + [p[i] for p in prompt.inside]) for i in range(2)]
    high = [max([b[i].stop for b in boxes] + [p[i] + 1 for p in prompt.inside]) for i in range(2)]
    extent = max(b - a for a, b in zip(low, high, strict=True))
    return _Frame.around(low, high, FRAME * max(extent, 0 if boxes else width or 0))


def _better(frame: _Frame, found: Outline, shape: Sequence[int]) -> _Frame | None:
    """Return a frame that fits what was found better; None if this one fits, or there is no better one."""
    low, high = [float(s.start) for s in found.box], [float(s.stop) for s in found.box]
    extent = max(b - a for a, b in zip(low, high, strict=True))
    cut = _cut(frame, found, shape)
    if any(cut):
        for i, n in enumerate(shape):  # as much again where it goes on
            low[i] = max(low[i] - cut[2 * i] * frame.side, 0)
            high[i] = min(high[i] + cut[2 * i + 1] * frame.side, n)
        side = NARROW * max(b - a for a, b in zip(low, high, strict=True))
        better = _Frame.around(low, high, max(side, frame.side))
    elif NARROW * extent <= frame.side <= max(WIDE * extent, LEAST):
        return None
    else:
        better = _Frame.around(low, high, FRAME * extent)
    return None if better == frame or (any(cut) and frame.side >= MOST) else better


def _cut(frame: _Frame, found: Outline, shape: Sequence[int]) -> tuple[bool, bool, bool, bool]:
    """Return at which sides an object goes on beyond the frame: top, bottom, left, right."""
    ends = zip(found.box, frame.start, shape, strict=True)
    sides = [(0 < b.start <= s, b.stop < n and b.stop >= s + frame.side) for b, s, n in ends]
    return (*sides[0], *sides[1])


def _look(
    model: Model, plane: Plane, prompt: Prompt, mask: Outline | None, frame: _Frame, device: str
) -> tuple[Outline | None, float]:
    """Return what the network makes of one frame, and how sure it is of the pixels of the object, 0 to 1."""
    import torch
    from torch.nn import functional as F

    read, shape = plane
    window = tuple(slice(max(s, 0), min(s + frame.side, n)) for s, n in zip(frame.start, shape, strict=True))
    pad = [(w.start - s, s + frame.side - w.stop) for s, w in zip(frame.start, window, strict=True)]
    image = np.pad(read(window), [(0, 0), *pad], mode="reflect")
    channels = model.config.in_channels - PROMPTS
    image = np.repeat(image[:1], channels, axis=0) if len(image) < channels else image
    size = (SIDE, SIDE)
    seen = F.interpolate(torch.from_numpy(image)[None], size, mode="bilinear", antialias=True, align_corners=False)
    said = np.zeros((PROMPTS, SIDE, SIDE), np.float32)
    if mask is not None:
        said[0] = _drawn(frame, mask)
    elif prompt.box is not None:
        said[0] = _drawn(frame, _filled(prompt.box))
    for number, places in ((1, prompt.inside), (2, prompt.outside)):
        for at in places:
            draw(said[number], frame.place(at))
    answer = run(predict_tiles(model, np.concatenate((seen[0].numpy(), said)), device, waited_for=True))[1]
    inside = answer > 0.5
    sure = float(np.abs(2 * answer[inside] - 1).mean()) if inside.any() else 0.0
    wide = F.interpolate(
        torch.from_numpy(answer)[None, None], (frame.side, frame.side), mode="bilinear", align_corners=False
    )
    whole = wide[0, 0].numpy()[tuple(slice(a, frame.side - b) for a, b in pad)] > 0.5
    return _meant(whole, (window[0], window[1]), prompt, mask), sure


def _meant(
    found: NDArray[np.bool_], window: tuple[slice, slice], prompt: Prompt, mask: Outline | None
) -> Outline | None:
    """Return the pieces that were clicked, else the one that is most of what it was; None if there is none.

    Holes are filled, unless they were clicked as outside.
    """
    pieces, count = ndi.label(found)
    inside, outside = ([_local(at, window) for at in places] for places in (prompt.inside, prompt.outside))
    named = {int(pieces[at]) for at in inside if at is not None} - {0}
    refused = {int(pieces[at]) for at in outside if at is not None} - named
    left = [i for i in range(1, count + 1) if i not in refused]
    if not named and left:
        before = mask or (_filled(prompt.box) if prompt.box is not None else None)
        if before is not None:
            shared = [
                (max(b.start, w.start), max(min(b.stop, w.stop), b.start, w.start))
                for b, w in zip(before.box, window, strict=True)
            ]
            here, there = (
                tuple(slice(low - r.start, high - r.start) for (low, high), r in zip(shared, region, strict=True))
                for region in (window, before.box)
            )
            sizes = np.bincount(pieces[here][before.mask[there]], minlength=count + 1)
            best = max(left, key=lambda i: sizes[i])
            named = {best} if sizes[best] else set()
        elif any(at is not None for at in inside):  # just missed
            at = next(at for at in inside if at is not None)
            far = ndi.distance_transform_edt(~np.isin(pieces, left), return_distances=False, return_indices=True)
            named = {int(pieces[tuple(far[(slice(None), *at)])])}
    if not named:
        return None
    object_ = np.isin(pieces, list(named))
    holes, _ = ndi.label(ndi.binary_fill_holes(object_) & ~object_)
    clicked = {int(holes[at]) for at in outside if at is not None}
    object_ |= (holes > 0) & ~np.isin(holes, list(clicked))
    box = ndi.find_objects(object_.astype(np.uint8))[0]
    first, second = (slice(w.start + b.start, w.start + b.stop) for w, b in zip(window, box, strict=True))
    return Outline((first, second), object_[box])


def pixel(at: Place) -> tuple[int, int]:
    """Return the pixel in which a place lies."""
    return int(np.floor(at[0] + 0.5)), int(np.floor(at[1] + 0.5))


def _local(at: Place, window: tuple[slice, slice]) -> tuple[int, int] | None:
    """Return the pixel of a window in which a place of the plane lies; None if it lies beyond."""
    row, column = (i - w.start for i, w in zip(pixel(at), window, strict=True))
    inside = 0 <= row < window[0].stop - window[0].start and 0 <= column < window[1].stop - window[1].start
    return (row, column) if inside else None


def _filled(box: tuple[slice, slice]) -> Outline:
    return Outline(box, np.ones([s.stop - s.start for s in box], bool))


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
