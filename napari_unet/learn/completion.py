"""Objects known in part, by a stroke or two, completed by the model that learns from them.

The distance to an object's edge is known only of a whole object. Strokes show where an object is and where it is not,
and class and boundary are learned from them at once; what these two say then fills the rest (the idea of scribble
supervision: Lin et al. 2016, arXiv:1604.05144).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from napari_unet.learn.targets import normalised_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.learn.targets import TrainingTile

# Weight of what the model added: half of that of a tile that was called right; for the distance, which nothing else
# teaches, as much as there.
GUESSED, COMPLETED = 0.25, 0.5
SURE = 0.9  # from this probability up the model's background is taken for background
SMOOTH = 1.0  # sigma in pixels; the noise of single pixels is no outline


def incomplete(tile: TrainingTile) -> bool:
    """Return whether pixels of objects are known whose distance is not."""
    return bool(((tile.weight[0] > 0) & (tile.target[1] > 0) & (tile.weight[2] == 0)).any())


def complete(tile: TrainingTile, maps: NDArray[np.float32], classes: int) -> TrainingTile:
    """Return a tile in which objects that are known in part are known as a whole.

    Parameters
    ----------
    tile : TrainingTile
        With unknown pixels.
    maps : float32 array, ``(classes + 2, *spatial)``
        What the model sees in it: class probabilities, boundary, distance.
    classes : int
        Class channels, background included.

    Returns
    -------
    TrainingTile
        Known pixels as they were, but that the distance is known of all of them. Objects that were known in part have
        grown over the foreground, from their known pixels up to the boundary or another object. Where the model is
        sure of it, there is background. The rest stays unknown.
    """
    known = tile.weight[0] > 0
    numbers = np.where(known, tile.target[1], 0).astype(np.int64)
    whole = _grown(numbers, known, maps[0], maps[classes])
    has_distance = tile.weight[2] > 0
    partly = np.setdiff1d(numbers[known & ~has_distance], [0])
    # an object known as a whole keeps its number where it is not known: its known pixels there touch no other object
    kept = ~known & np.isin(tile.target[1], np.setdiff1d(numbers[has_distance], [0]))
    filled = np.isin(whole, partly) & ~has_distance & ~kept
    nothing = ~known & ~kept & (maps[0] > SURE)
    added = filled & ~known
    classes_of = np.zeros(int(numbers.max()) + 1, np.float32)
    classes_of[numbers[known]] = tile.target[0][known]
    target, weight = tile.target.copy(), tile.weight.copy()
    target[1][~known & ~kept] = 0
    target[1][added] = whole[added]
    target[0][added] = classes_of[whole[added]]
    target[0][nothing] = 0
    target[2] = np.where(filled, normalised_distance(whole), np.where(nothing, 0, target[2]))
    weight[:2, added] = GUESSED
    weight[:, nothing] = GUESSED
    weight[2][filled] = COMPLETED
    weight[2] = np.where(known & (numbers == 0), weight[0], weight[2])  # background counts again, against these
    return replace(tile, target=target, weight=weight)


def _grown(
    numbers: NDArray[np.int64],
    known: NDArray[np.bool_],
    background: NDArray[np.float32],
    boundary: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Let known pixels of objects flood the foreground.

    Cores, which are pieces of foreground without boundary, belong to the object that alone has known pixels in them.
    Those without any are other objects and stop the flood.
    """
    from skimage.segmentation import watershed

    outline = ndi.gaussian_filter(boundary, SMOOTH)
    inside = ((background < 0.5) & ~known) | (numbers > 0)
    cores, count = ndi.label(inside & (outline < 0.5))
    highest = np.asarray(ndi.maximum(numbers, cores, np.arange(count + 1)), np.int64)
    lowest = np.asarray(
        ndi.minimum(np.where(numbers > 0, numbers, highest.max(initial=0) + 1), cores, np.arange(count + 1)), np.int64
    )
    owner = np.where(highest == 0, -np.arange(count + 1), np.where(lowest == highest, highest, 0))
    owner[0] = 0
    seeds = np.where(numbers > 0, numbers, owner[cores])
    found: NDArray[np.int64] = watershed(outline, seeds, mask=inside)
    return np.maximum(found, 0)
