"""How many clicks an object takes: a simulated annotator clicks until its outline is right.

The first click goes into the middle of an object, each further one into the middle of the largest error, inside or
outside, up to 20. NoC85 and NoC90 are the mean number of clicks until the outline's IoU with the truth is .85 and .90
(Sofiiuk et al. 2022, arXiv:2102.06583; an object that never gets there counts 20). Beside it what "take the automatic
mask under the click" gives: the share of the objects that such a mask fits as well. How wide objects are it is told
by the automatic masks, as the Click tool is by the object that was accepted before.

    python bench/clicks.py --json clicks.json
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from data import TESTS, Labelled, read
from report import arguments, report
from scipy import ndimage as ndi

from napari_unet import Model
from napari_unet.infer.clicks import Outline, Prompt, outline
from napari_unet.infer.familiar import plane_of
from napari_unet.infer.seen import see
from napari_unet.learn.clicks import SMALLEST, middle, worst
from napari_unet.model import CLICKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAP = 20  # clicks
SETS = {  # the automatic model beside it
    "nuclei: fluorescence": "nuclei",
    "nuclei: histology": "nuclei",
    "tissue nuclei: kidney": "nuclei",
    "phase cells": "phase-cells",
}


def main() -> None:
    """Click objects of each set and print a line for each."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default=CLICKS, help="the shipped one, or a file")
    parser.add_argument("--tests", choices=SETS, nargs="+", default=list(SETS))
    parser.add_argument("--objects", type=int, default=200, help="of each set, drawn at random")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = Model.load(chosen.model)
    rows = []
    for name in chosen.tests:
        images = read(TESTS[name])
        automatic = Model.load(SETS[name])
        objects = [(i, n) for i, each in enumerate(images) for n in large(each.mask)]
        random = np.random.default_rng(chosen.seed)
        picks = random.permutation(len(objects))[: chosen.objects]
        masks = {i: automatic.segment(images[i].image, axes=images[i].axes) for i in {objects[k][0] for k in picks}}
        found = [one(model, images[objects[k][0]], objects[k][1], masks[objects[k][0]]) for k in picks]
        rows.append({"set": name, "objects": len(found)} | table(found))
        print(rows[-1], flush=True)
    report(rows, chosen.json)


def typical_width(labels: NDArray[Any]) -> float | None:
    """Return the median of the longest sides of the objects of a plane, in pixels; None if there is none.

    Objects that its border cuts are left out, unless all of them are.
    """
    _, compact = np.unique(labels, return_inverse=True)  # numbers may be as large as they like
    first = 1 if (labels == 0).any() else 0
    boxes = ndi.find_objects(compact.reshape(labels.shape) + (1 - first))
    ends = [[(s.start > 0 and s.stop < n) for s, n in zip(box, labels.shape, strict=True)] for box in boxes]
    whole = [box for box, inside in zip(boxes, ends, strict=True) if all(inside)] or boxes
    return float(np.median([max(s.stop - s.start for s in box) for box in whole])) if whole else None


def large(mask: NDArray[Any]) -> list[int]:
    """Return the numbers of the objects that are large enough to be meant."""
    numbers, sizes = np.unique(mask[mask > 0], return_counts=True)
    return numbers[sizes >= SMALLEST].tolist()


def one(model: Model, each: Labelled, number: int, automatic: NDArray[Any]) -> dict[str, Any]:
    """Click one object; return the IoU after each click, that of the automatic mask, and seconds of a click."""
    truth = each.mask == number
    plane = plane_of(see(model, each.image, each.axes), (), 2)
    first = middle(truth)
    under, width = automatic[first], typical_width(automatic)
    inside: list[tuple[float, float]] = [first]
    outside: list[tuple[float, float]] = []
    mask: Outline | None = None
    overlaps, seconds = [], []
    while len(overlaps) < CAP:
        began = time.perf_counter()
        mask = outline(model, plane, Prompt(tuple(inside), tuple(outside)), mask=mask, width=width)
        seconds.append(time.perf_counter() - began)
        said = np.zeros_like(truth)
        if mask is not None:
            said[mask.box] = mask.mask
        overlaps.append(iou(truth, said))
        if overlaps[-1] >= 0.9:
            break
        at, is_inside = worst(truth, said)
        (inside if is_inside else outside).append(at)
    own = iou(truth, automatic == under) if under else 0.0
    return {"overlaps": overlaps, "automatic": own, "seconds": seconds}


def iou(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    """Return intersection over union."""
    return float((truth & said).sum() / (truth | said).sum())


def table(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a set."""
    line: dict[str, Any] = {}
    for share in (0.85, 0.9):
        counts = [next((i for i, o in enumerate(each["overlaps"], 1) if o >= share), CAP) for each in found]
        line[f"NoC{share * 100:.0f}"] = float(np.mean(counts))
        line[f"at once {share}"] = float(np.mean([each["overlaps"][0] >= share for each in found]))
        line[f"automatic {share}"] = float(np.mean([each["automatic"] >= share for each in found]))
        line[f"never {share}"] = float(np.mean([max(each["overlaps"]) < share for each in found]))
    line["mean IoU"] = float(np.mean([each["overlaps"][0] for each in found]))
    line["automatic IoU"] = float(np.mean([each["automatic"] for each in found]))
    line["ms"] = 1000 * float(np.median([s for each in found for s in each["seconds"]]))
    return line


if __name__ == "__main__":
    main()
