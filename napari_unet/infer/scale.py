"""By how much an image is enlarged before a model sees it."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.infer.image import median_diameter
from napari_unet.infer.instances import decode
from napari_unet.infer.predict import predict_tiles
from napari_unet.jobs import Job, Progress, as_part

if TYPE_CHECKING:
    from napari_unet.infer.segment import Seen
    from napari_unet.model import Model

SIDE = {1: 8192, 2: 512, 3: 64}  # side in pixels of the windows that are looked at
FEW = 3  # objects: with fewer the median says little
LARGEST = 2**25  # pixels of a plane that is enlarged: its maps then take 2 GB


def scale_factor(model: Model, diameter: float | None) -> float:
    """Return by how much to enlarge the image so that its objects are as wide as those the model knows."""
    if diameter is not None and not 0 < diameter < np.inf:
        raise ImageError(f"The diameter is {diameter}, expected pixels from 1 up: give the width of an object.")
    if diameter is None or model.diameter is None:
        return 1.0
    return float(np.clip(model.diameter / diameter, 0.05, 8))


def enlargement(model: Model, diameter: float | None) -> float:
    """Return by how much to enlarge an image when nobody gave a diameter but it was found to be this one: 1, 1.5 or 2.

    Few steps, so that images of one kind, and an image before and after its correction, get the same.
    """
    if model.smallest is None or diameter is None:
        return 1.0
    return 2.0 if 1.75 * diameter < model.smallest else 1.5 if 1.25 * diameter < model.smallest else 1.0


def find_scale(model: Model, seen: Seen, diameter: float | None, device: str = "auto") -> Job[tuple[float, list[str]]]:
    """Return by how much to enlarge an image, and what to say about it.

    Without a diameter, a model that enlarges small objects looks at the image as it is: at the whole plane in the
    middle if it is no larger than two windows, else at a window in each of its quarters. A plane of more than `LARGEST`
    pixels is never enlarged.

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
    if diameter is not None or model.smallest is None or model.task == "classes":
        return scale_factor(model, diameter), []
    side = SIDE[model.ndim]
    leading, spatial = seen.shape[: -model.ndim], seen.shape[-model.ndim :]
    if prod(spatial) > LARGEST:
        return 1.0, []
    windows = [
        [slice(None)] if n <= 2 * side else [slice(c - side // 2, c + side // 2) for c in (n // 4, 3 * n // 4)]
        for n in spatial
    ]
    sizes = []
    for window in product(*windows):
        part, _ = seen.read([*(n // 2 for n in leading), *window])
        maps = yield from as_part(predict_tiles(model, part, device), lambda _: Progress(0, 1, "looking at the size"))
        sizes.append(np.bincount(decode(model, maps).ravel())[1:])
    counts = np.concatenate(sizes)
    factor = enlargement(model, median_diameter(counts, model.ndim) if len(counts) >= FEW else None)
    said = f"enlarged {factor:g} times, since the objects are small; give a diameter to choose yourself"
    return factor, [said] if factor > 1 else []
