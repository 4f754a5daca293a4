"""By how much an image is enlarged before a model sees it."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.infer.familiar import middle
from napari_unet.infer.image import estimate_diameter
from napari_unet.infer.instances import decode
from napari_unet.infer.predict import predict_tiles
from napari_unet.jobs import Job, Progress, as_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.infer.seen import Seen
    from napari_unet.model import Model

FEW = 3  # objects: with fewer the median says little
# Pixels of an image that is enlarged by itself, 1024². It takes up to five times as long, and finds a little more: a
# second or two are well spent on that, ten on a larger image are not.
LARGEST = 2**20


def scale_factor(model: Model, diameter: float | None) -> float:
    """Return by how much to enlarge the image so that its objects are as wide as those the model knows."""
    if diameter is not None and not 0 < diameter < np.inf:
        raise ImageError(f"The diameter is {diameter}, expected pixels from 1 up: give the width of an object.")
    if diameter is None or model.diameter is None:
        return 1.0
    return float(as_fraction(float(np.clip(model.diameter / diameter, 0.05, 8))))


def as_fraction(factor: float) -> Fraction:
    """Return a factor by which whole pixels come to lie on whole pixels again soon, so that blocks fit together."""
    return Fraction(factor).limit_denominator(20)  # .05 is the least, and no other is changed by more than 1 in 40


def may_enlarge(model: Model, diameter: float | None, shape: Sequence[int]) -> bool:
    """Return whether a model enlarges an image of this shape by itself, if its objects turn out to be small."""
    spatial = shape[-model.ndim :]
    return diameter is None and model.smallest is not None and model.task == "instances" and prod(spatial) <= LARGEST


def enlargement(model: Model, diameter: float | None) -> float:
    """Return by how much to enlarge an image that may be when this diameter was found in it: 1, 1.5 or 2.

    Few steps, so that images of one kind, and an image before and after its correction, get the same.
    """
    if model.smallest is None or diameter is None:
        return 1.0
    return 2.0 if 1.75 * diameter < model.smallest else 1.5 if 1.25 * diameter < model.smallest else 1.0


def find_scale(model: Model, seen: Seen, diameter: float | None, device: str = "auto") -> Job[tuple[float, list[str]]]:
    """Return by how much to enlarge an image, and what to say about it.

    Without a diameter, a model that enlarges small objects looks at the image as it is, or at the plane in the middle.
    One of more than `LARGEST` pixels is not enlarged.

    Parameters
    ----------
    model : Model
        What will segment the image.
    seen : Seen
        The image.
    diameter : float or None
        Of the objects in pixels, if the user gave it.
    device : str
        Where to look.
    """
    if not may_enlarge(model, diameter, seen.shape):
        return scale_factor(model, diameter), []
    plane, _ = seen.read([*middle(seen, model.ndim), *[slice(None)] * model.ndim])
    maps = yield from as_part(predict_tiles(model, plane, device), lambda _: Progress(0, 1, "looking at the size"))
    labels = decode(model, maps)
    factor = enlargement(model, estimate_diameter(labels) if labels.max(initial=0) >= FEW else None)
    said = f"enlarged {factor:g} times, since the objects are small; give a diameter to choose yourself"
    return factor, [said] if factor > 1 else []
