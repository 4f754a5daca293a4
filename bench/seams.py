"""Whether blocks give what the whole image gives, and what cutting into objects costs.

Real images are segmented whole and in small blocks; objects are the same if every pixel is. Then made objects, disks
and balls, are cut out of their maps on one thread, beside scikit-image's watershed of the same relief from the same
tops, which gives the same basins.

    python bench/seams.py --json seams.json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from typing import Any

import numpy as np
import tifffile
from report import DATA, arguments, report
from skimage.segmentation import watershed
from speed import mosaic

from napari_unet.infer import blocks
from napari_unet.infer.instances import _Hills, decode_instances
from napari_unet.model import Model

SETS = {  # model, images, side of the blocks
    "nuclei side by side, 2048²": ("nuclei", None, 300),
    "phase-contrast cells": ("phase-cells", "phase_cells", 160),
    "tissue nuclei": ("nuclei", "tissue_nuclei", 160),
}
IMAGES = 8  # of each set
MADE = {"disks, 2048²": ((2048, 2048), 7000, 11), "balls, 64 × 512 × 512": ((64, 512, 512), 10000, 9)}
TIMES = 3


def main() -> None:
    """Print both tables."""
    parser = arguments(__doc__ or "")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = [same(name, *how) for name, how in SETS.items()]
    report(rows, chosen.json)
    print()
    report([cost(name, *how) for name, how in MADE.items()], chosen.json and chosen.json.with_suffix(".cost.json"))


def same(name: str, model_name: str, folder: str | None, side: int) -> dict[str, Any]:
    """Segment images whole and in blocks."""
    model = Model.load(model_name)
    if folder is None:
        images = [mosaic(2048)]
    else:
        paths = sorted((DATA / folder / "images").glob("*.tif"))
        images = [tifffile.imread(path) for path in paths[:: max(len(paths) // IMAGES, 1)]][:IMAGES]
    usual, objects, equal = blocks.PIXELS[2], 0, 0
    for image in images:
        whole = model.segment(image)
        blocks.PIXELS[2] = side**2
        parts = model.segment(image)
        blocks.PIXELS[2] = usual
        objects += int(whole.max())
        equal += identical(whole, parts)
    return {"images": name, "count": len(images), "blocks": f"{side}²", "objects": objects, "the same": equal}


def identical(a: np.ndarray, b: np.ndarray) -> int:
    """Return how many objects of one are there in the other with the same pixels."""
    pairs, counts = np.unique(np.stack((a.ravel(), b.ravel())), axis=1, return_counts=True)
    same = (np.bincount(a.ravel())[pairs[0]] == counts) & (np.bincount(b.ravel())[pairs[1]] == counts)
    return int(same[(pairs > 0).all(axis=0)].sum())


def cost(name: str, shape: tuple[int, ...], tries: int, radius: int) -> dict[str, Any]:
    """Time the cutting of made objects."""
    model = Model.new(ndim=len(shape))
    maps = made(shape, tries, radius)
    took, theirs = [], []
    for _ in range(TIMES):
        began = time.perf_counter()
        labels = decode_instances(maps, 1, model.decode)
        took.append(time.perf_counter() - began)
        hills, foreground = relief_of(maps, model)
        began = time.perf_counter()
        watershed(-hills[0], hills[1], connectivity=np.ones((3,) * len(shape), bool), mask=foreground)
        theirs.append(time.perf_counter() - began)
    return {
        "made": name,
        "objects": int(labels.max()),
        "foreground": float(foreground.mean()),
        "all s": statistics.median(took),
        "watershed alone s": statistics.median(theirs),
    }


def relief_of(maps: np.ndarray, model: Model) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return relief and tops as the decoder sees them, and the foreground."""
    from scipy import ndimage as ndi

    foreground = maps[0] < 1 - model.decode.foreground
    relief = ndi.gaussian_filter(maps[2] - model.decode.boundary * maps[1], 1)
    relief[~foreground] = -4
    hills = _Hills.of(relief)
    seeds = np.zeros(relief.size, np.int32)
    places = np.flatnonzero(foreground)
    heights = relief.ravel()[places]
    tops = heights == hills.tops[hills.basin]
    seeds[places[tops]] = hills.basin[tops] + 1
    return (relief, seeds.reshape(relief.shape)), foreground


def made(shape: tuple[int, ...], tries: int, radius: int) -> np.ndarray:
    """Return maps of disks or balls that do not overlap, with a little noise."""
    random = np.random.default_rng(0)
    offsets = np.stack(np.meshgrid(*[np.arange(-radius, radius + 1)] * len(shape), indexing="ij"))
    length = np.sqrt((offsets**2).sum(axis=0))
    ball, height = length <= radius, np.clip(1 - length / radius, 0, 1).astype(np.float32)
    taken, distance = np.zeros(shape, bool), np.zeros(shape, np.float32)
    for _ in range(tries):
        centre = [int(random.integers(radius, n - radius)) for n in shape]
        box = tuple(slice(c - radius, c + radius + 1) for c in centre)
        if not taken[box][ball].any():
            taken[box] |= ball
            distance[box] = np.maximum(distance[box], height * ball)
    distance += taken * random.normal(0, 0.01, shape).astype(np.float32)
    return np.stack([(~taken).astype(np.float32), np.zeros(shape, np.float32), distance])


if __name__ == "__main__":
    main()
