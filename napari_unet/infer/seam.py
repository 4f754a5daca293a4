"""Where a model sees a boundary inside of one object, so that it can be parted there."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.infer.image import rescale, resize
from napari_unet.infer.predict import predict_tiles
from napari_unet.infer.scale import enlargement, may_enlarge, scale_factor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.infer.familiar import Plane
    from napari_unet.jobs import Job
    from napari_unet.model import Model

SEEN = 0.5  # share of the object that a model must take for foreground; of another kind of image it sees less


def seam_job(
    model: Model,
    plane: Plane,
    mask: NDArray[np.bool_],
    corner: Sequence[int],
    diameter: float | None = None,
    device: str = "auto",
) -> Job[NDArray[np.float32] | None]:
    """Look at the surroundings of an object that is most likely two, mostly one tile.

    Parameters
    ----------
    model : Model
        Any; only those that find objects slice by slice have something to say.
    plane : Plane
        The image that the object is in.
    mask : bool array, ``(y, x)``
        The object, in a box.
    corner : (y, x)
        Where the box begins in the plane.
    diameter : float, optional
        Typical width of an object in pixels, if the user gave it.
    device : str
        Where to compute.

    Returns
    -------
    float32 array of the mask's shape; None
        0 on a boundary to 1, a relief to part the object by; None if the model sees no object there.
    """
    if model.task != "instances" or model.ndim != 2 or not mask.any():
        return None
    read, shape = plane
    factor = scale_factor(model, diameter)
    if may_enlarge(model, diameter, shape):
        factor = enlargement(model, float(2 * np.sqrt(np.count_nonzero(mask) / 2 / np.pi)))  # of one of the two
    margin, grid = ceil(model.network.halo / factor), 2 * model.network.stride
    starts = [max(at - margin, 0) // grid * grid for at in corner]
    stops = [min(at + n + margin, end) for at, n, end in zip(corner, mask.shape, shape, strict=True)]
    part = read(tuple(slice(*ends) for ends in zip(starts, stops, strict=True)))
    maps = resize((yield from predict_tiles(model, rescale(part, factor), device)), part.shape[1:])
    box = (slice(at - start, at - start + n) for at, start, n in zip(corner, starts, mask.shape, strict=True))
    here = maps[(slice(None), *box)]
    if np.count_nonzero(here[0][mask] < 0.5) < SEEN * np.count_nonzero(mask):
        return None
    relief: NDArray[np.float32] = 1 - here[len(model.classes)]
    return relief
