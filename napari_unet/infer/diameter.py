"""The typical diameter of the objects in an image, found by looking at it at several scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.errors import ImageError
from napari_unet.infer.familiar import choose, middle, plane_of
from napari_unet.infer.image import estimate_diameter, rescale
from napari_unet.infer.instances import decode
from napari_unet.infer.predict import predict_tiles
from napari_unet.infer.seen import Seen, see
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from napari_unet.model import Model

SCALES = (1.0, 0.5, 2.0, 0.25, 4.0)  # at which the image is looked at; the likely ones first
SIDE = {1: 8192, 2: 640, 3: 96}  # side in pixels of what the network looks at, at each scale
FEW = 3  # objects: with fewer the median says little


@dataclass(frozen=True)
class Look:
    """What was seen at one scale.

    Attributes
    ----------
    diameter : float
        Median diameter of the objects, in pixels of the image.
    objects : int
        How many there were.
    score : float
        How believable, 0 to 1: how sure the network is inside the objects, times how near their size is to what it
        knows.
    """

    diameter: float
    objects: int
    score: float


def diameter_job(
    model: Model, image: ArrayLike, axes: str | None = None, channel: int | None = None, device: str = "auto"
) -> Job[float]:
    """Find the typical diameter by segmenting the middle of an image at several scales.

    Parameters
    ----------
    model : Model
        Of objects, not of classes.
    image : array
        Any numeric dtype.
    axes, channel, device
        See :class:`~napari_unet.infer.segment.SegmentSettings`.

    Yields
    ------
    Progress
        Scales done.

    Returns
    -------
    float
        In pixels of the image.

    Raises
    ------
    ImageError
        If the model is one of classes, or finds no objects at any scale.
    """
    if model.task == "classes":
        raise ImageError(
            f"The model {model.name!r} names classes, not objects, so there is no diameter to find: leave it empty."
        )
    seen = see(model, image, axes, channel)
    model, _ = yield from choose(model, plane_of(seen, middle(seen, model.ndim), model.ndim), device)
    scales = SCALES if model.diameter else SCALES[:1]
    looks: list[Look] = []
    for done, scale in enumerate(scales):
        yield Progress(done, len(scales) + 1, f"looking at scale {scale:g}")
        looks += yield from _look(model, seen, scale, device)
    if not looks:
        raise ImageError(
            f"The model {model.name!r} finds no objects at any scale: type their width, or choose another model."
        )
    best = max(looks, key=lambda look: look.score)
    if model.diameter:  # once more at the scale that this makes right
        yield Progress(len(scales), len(scales) + 1, "looking once more")
        again = yield from _look(model, seen, _bounded(model.diameter / best.diameter), device)
        best = max([best, *again], key=lambda look: look.score)
    return best.diameter


def _bounded(scale: float) -> float:
    return min(max(scale, 0.1), 8.0)


def _look(model: Model, seen: Seen, scale: float, device: str) -> Job[list[Look]]:
    """Segment the middle of an image at one scale; nothing is seen where there are no objects."""
    side = round(SIDE[model.ndim] / scale)
    leading, spatial = seen.shape[: -model.ndim], seen.shape[-model.ndim :]
    starts = [max(0, (n - side) // 2) for n in spatial]
    part, _ = seen.read([*(n // 2 for n in leading), *(slice(start, start + side) for start in starts)])
    maps = yield from predict_tiles(model, rescale(part, scale), device)
    labels = decode(model, maps)
    width = estimate_diameter(labels)
    objects = int(labels.max(initial=0))
    if width is None:
        return []
    sure = float(1 - maps[0][labels > 0].mean())
    fit = math.exp(-abs(math.log2(width / model.diameter))) if model.diameter else 1.0
    return [Look(width / scale, objects, sure * fit * min(1.0, objects / FEW))]
