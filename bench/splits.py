"""How well two clicks part objects that grew together: by the model's boundary, and by the distance to the edge.

Each two touching objects of made images are taken for one, and clicked once each: in the middle, and where a hand in a
hurry may click, anywhere but in the outer half. The figures are the mean IoU of both pieces with the truth, and the
share of pairs with a piece below .7; where the model sees no object, its maps count as the distance does.

    python bench/splits.py --json splits.json
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from report import arguments, report
from scipy import ndimage as ndi

from napari_unet import Model
from napari_unet.infer.familiar import plane_of
from napari_unet.infer.seam import seam_job
from napari_unet.infer.seen import see
from napari_unet.jobs import run
from napari_unet.learn import objects
from napari_unet.sample_data import fluorescence, phase_contrast

if TYPE_CHECKING:
    from numpy.typing import NDArray

MADE = {  # the model that fits, and one that does not; the first seed is that of the shipped sample
    "nuclei": (fluorescence.nuclei, 10, ("nuclei", "phase-cells")),
    "cells": (phase_contrast.cells, 8, ("phase-cells", "nuclei")),
}
TOUCH = 5  # pixels of border that two have in common


def main() -> None:
    """Print a line for each kind of image, model and way to click."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--images", type=int, default=3, help="of each kind (3)")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rows: list[dict[str, Any]] = []
    for name, (make, seed, models) in MADE.items():
        images = [make(seed + i) for i in range(chosen.images)]
        for model in map(Model.load, models):
            found = [line for image, labels in images for line in parted(model, image, labels)]
            for way in ("middle", "anywhere"):
                rows.append({"image": name, "model": model.name, "click": way, **table(found, way)})
    report(rows, chosen.json)


def pairs(labels: NDArray[Any]) -> list[tuple[int, int]]:
    """Return the objects that touch."""
    found: dict[tuple[int, int], int] = {}
    for a, b in ((labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])):
        meet = (a != b) & (a > 0) & (b > 0)
        for one, other in zip(a[meet].tolist(), b[meet].tolist(), strict=True):
            pair = min(one, other), max(one, other)
            found[pair] = found.get(pair, 0) + 1
    return [pair for pair, length in found.items() if length >= TOUCH]


def parted(model: Model, image: NDArray[Any], labels: NDArray[Any]) -> list[dict[str, Any]]:
    """Part each pair that touches; return the IoU of both pieces for each way."""
    random, lines = np.random.default_rng(0), []
    plane = plane_of(see(model, image, "YX"), (), 2)
    for pair in pairs(labels):
        mask = np.isin(labels, pair)
        box = objects.box_of(mask.astype(np.uint8), 1)
        one, truth, began = mask[box].astype(np.uint32), labels[box], time.perf_counter()
        seam = run(seam_job(model, plane, mask[box], [r.start for r in box]))
        line: dict[str, Any] = {"ms": 1000 * (time.perf_counter() - began), "seen": seam is not None}
        for way in ("middle", "anywhere"):
            clicks = [click(truth == n, way, random) for n in pair]
            for what, relief in (("distance", None), ("maps", seam)):
                edit = objects.split_at(one, 1, clicks, 2, relief)
                after = one.copy()
                after[edit.region] = edit.values
                line[f"{way} {what}"] = [iou(after == after[c], truth == n) for c, n in zip(clicks, pair, strict=True)]
        lines.append(line)
    return lines


def click(mask: NDArray[np.bool_], way: str, random: np.random.Generator) -> tuple[int, int]:
    """Return a place in an object."""
    depth = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    places = np.argwhere(depth >= (1 if way == "middle" else 0.5) * depth.max())
    y, x = places[random.integers(len(places))].tolist()
    return y, x


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return intersection over union."""
    return float((a & b).sum() / (a | b).sum())


def table(found: list[dict[str, Any]], way: str) -> dict[str, Any]:
    """Return the figures of a line."""
    line: dict[str, Any] = {"pairs": len(found), "seen": float(np.mean([each["seen"] for each in found]))}
    for what in ("distance", "maps"):
        overlaps = np.array([each[f"{way} {what}"] for each in found])
        line |= {f"IoU, {what}": float(overlaps.mean()), f"< .7, {what}": float((overlaps.min(axis=1) < 0.7).mean())}
    return line | {"ms": float(np.median([each["ms"] for each in found]))}


if __name__ == "__main__":
    main()
