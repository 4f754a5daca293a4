"""Whether "Next" finds what is wrong sooner than chance: a simulated annotator visits objects in several orders.

Each visit puts the truth of that object, and of what overlaps it, right; an object that an earlier visit has mended is
passed over. The visits are counted in percent of all objects and places that may have been missed, image by image. The
signs that make up the doubt were chosen on every second image with --signs; without it, the others are scored.

    python bench/next.py --json next.json
    python bench/next.py --signs
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from data import TESTS, Labelled, read
from report import arguments, report
from scipy import ndimage as ndi
from scipy.stats import rankdata

from napari_unet.infer import doubt
from napari_unet.infer.doubt import Doubt, doubts, in_turn
from napari_unet.infer.instances import decode
from napari_unet.infer.segment import SegmentSettings, get_ready
from napari_unet.jobs import run
from napari_unet.learn.matching import match_objects
from napari_unet.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MODELS = {"phase cells": "phase-cells", "nuclei: fluorescence": "nuclei", "tissue nuclei: kidney": "nuclei"}
SHARES = (0.1, 0.2, 0.3)  # of the visits
RIGHT = 10**6  # numbers above it were put right
OVERLAP = 0.2  # share of a truth, or of the object that is visited, from which they have to do with each other


@dataclass(frozen=True)
class Case:
    """An image as a model segmented it."""

    model: Model
    truth: NDArray[np.int64]
    maps: NDArray[np.float32]
    mirrored: NDArray[np.float32] | None  # the mean over mirrored looks
    labels: NDArray[Any]


def main() -> None:
    """Print a line for each set of images and order, or for each sign."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--signs", action="store_true", help="on the other half: what each sign tells")
    parser.add_argument("--seeds", type=int, default=5, help="random orders")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for test, name in MODELS.items():
        model = Model.load(name)
        cases = [case(model, each, chosen.signs) for each in read(TESTS[test])[not chosen.signs :: 2]]
        rows += [{"set": test} | row for row in (signs(cases) if chosen.signs else orders(cases, chosen.seeds))]
    report(rows, chosen.json)


def case(model: Model, each: Labelled, mirror: bool) -> Case:
    """Segment an image as a user would."""
    ready = run(get_ready(model, each.image, each.axes, SegmentSettings()))
    part, _ = ready.seen.read()
    maps = run(ready.maps(part))
    mirrored = run(replace(ready, settings=SegmentSettings(flips=True)).maps(part)) if mirror else None
    return Case(ready.model, each.mask.astype(np.int64), maps, mirrored, decode(ready.model, maps))


# ---- orders


def orders(cases: list[Case], seeds: int) -> list[dict[str, Any]]:
    """Return how right the labels are after some of the visits, in each order."""
    found = [doubts(each.model, each.maps, each.labels) for each in cases]
    rows = [scored("Next", cases, [in_turn(f, c.labels.shape) for f, c in zip(found, cases, strict=True)])]
    by_value = [sorted(each, key=lambda doubt: -doubt.value) for each in found]
    rows.append(scored("by doubt alone", cases, by_value))
    rows.append(scored("reading", cases, [sorted(each, key=lambda doubt: doubt.point) for each in found]))
    drawn = []
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        drawn.append(scored("random", cases, [[f[i] for i in random.permutation(len(f))] for f in found]))
    keys = [key for key, value in drawn[0].items() if isinstance(value, float)]
    rows.append(drawn[0] | {key: float(np.mean([each[key] for each in drawn])) for key in keys})
    return rows


def scored(name: str, cases: list[Case], plans: list[list[Doubt]]) -> dict[str, Any]:
    """Visit objects in a planned order, and score the labels of all images on the way."""
    sums: dict[float, NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, int))
    for each, plan in zip(cases, plans, strict=True):
        labels, left, done = each.labels.astype(np.int64), iter(plan), 0
        sums[0] += score(each.truth, labels)
        for share in SHARES:
            while done < ceil(share * len(plan)):
                visited = next((d for d in left if is_there(d, labels)), None)
                if visited is None:
                    break
                mend(visited, labels, each.truth)
                done += 1
            sums[share] += score(each.truth, labels)
    wrong = {share: int(missed + spurious) for share, (_, missed, spurious) in sums.items()}
    row: dict[str, Any] = {"order": name, "images": len(cases), "visits": sum(map(len, plans))}
    row |= {"AP.50": sums[0][0] / sums[0].sum()}
    row |= {f"AP.50 at {share:.0%}": float(sums[share][0] / sums[share].sum()) for share in SHARES}
    return row | {f"mended at {share:.0%}": 1 - wrong[share] / wrong[0] for share in SHARES}


def score(truth: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many objects are right, missed and spurious at IoU .50."""
    matching = match_objects(truth, labels)
    return np.array([len(matching.truth), len(matching.missed), len(matching.spurious)])


def is_there(visited: Doubt, labels: NDArray[np.int64]) -> bool:
    """Return whether an object, or a place without one, is still as it was proposed."""
    if visited.number:
        return bool((labels[visited.box] == visited.number).any())
    return labels[visited.point] == 0


def mend(visited: Doubt, labels: NDArray[np.int64], truth: NDArray[np.int64]) -> None:
    """Put the truth of an object, and of what overlaps it, right."""
    there = np.zeros(labels.shape, bool)
    there[visited.box] = labels[visited.box] == visited.number
    size = np.count_nonzero(there)
    numbers, shared = np.unique(truth[there], return_counts=True)
    labels[there] = 0
    for number, pixels in zip(numbers.tolist(), shared.tolist(), strict=True):
        mine = truth == number
        if number == 0 or pixels < OVERLAP * (min(size, mine.sum()) if visited.number else mine.sum()):
            continue
        for other, covered in zip(*np.unique(labels[mine], return_counts=True), strict=True):
            if 0 < other < RIGHT and covered > 0.5 * np.count_nonzero(labels == other):
                labels[labels == other] = 0
        labels[mine] = RIGHT + number


# ---- signs


def signs(cases: list[Case]) -> list[dict[str, Any]]:
    """Return what each sign tells of the objects that ask for mending: alone, and added to the two that are used."""
    told = [(told_by(each), to_mend(each)) for each in cases]
    rows = []
    for name in told[0][0]:
        row: dict[str, Any] = {"sign": name}
        for what, base in (("", ()), (" added", ("no middle", "finer"))):
            values = [sum(found[key] for key in {*base, name}) for found, _ in told]
            wrong = [wrong for _, wrong in told]
            row |= {f"AUC{what}": area(values, wrong), f"in first 20 %{what}": early(values, wrong, 0.2)}
        rows.append(row)
    return rows


def told_by(each: Case) -> dict[str, NDArray[Any]]:
    """Return the signs of each object; each 0 to about 1."""
    model, labels, maps = each.model, each.labels, each.maps
    found = doubts(model, maps, labels)
    found = [one for one in found if one.number]
    numbers, classes = np.arange(1, len(found) + 1), len(model.classes)
    foreground, boundary, distance = 1 - maps[0], maps[classes], maps[classes + 1]
    vague = 1 - ndi.maximum(distance, labels, numbers)
    edge = ndi.minimum_filter(labels, 3) != ndi.maximum_filter(labels, 3)
    sizes = np.bincount(labels.ravel())[1:]
    p = foreground.clip(1e-6, 1 - 1e-6)

    def mean(values: Any, where: Any = True) -> NDArray[Any]:
        return np.asarray(ndi.mean(values, np.where(where, labels, 0), numbers))

    def against(maps: Any, **thresholds: float) -> NDArray[Any]:
        other = replace(model, decode=replace(model.decode, **thresholds))
        return doubt._compared(labels.astype(np.int32), decode(other, maps).astype(np.uint32))[0]

    assert each.mirrored is not None
    return {
        "no middle": vague,
        "finer": np.array([one.value for one in found]) - vague,
        "entropy": mean(-(p * np.log2(p) + (1 - p) * np.log2(1 - p))),
        "boundary unseen at its edge": 1 - mean(boundary, edge),
        "boundary unsure": mean(4 * boundary * (1 - boundary)),
        "mirrored: other object": against(each.mirrored),
        "mirrored: other foreground": mean(np.abs(foreground - 1 + each.mirrored[0])),
        "coarser": against(maps, seed=2 * model.decode.seed),
        "foreground .3": against(maps, foreground=0.3),
        "foreground .7": against(maps, foreground=0.7),
        "size": 0.1 * np.abs(np.log(sizes / np.median(sizes))),
        "shape": 1 - np.array([solidity(labels[one.box] == one.number) for one in found]),
    }


def solidity(mask: NDArray[np.bool_]) -> float:
    """Return the share of its convex hull that an object fills."""
    from skimage.morphology import convex_hull_image

    return float(mask.sum() / convex_hull_image(np.pad(mask, 1)).sum())


def to_mend(each: Case) -> NDArray[np.bool_]:
    """Return which objects are no true one, or also cover another one that was missed."""
    matching = match_objects(each.truth, each.labels)
    wrong = ~np.isin(np.arange(each.labels.max() + 1), matching.prediction)
    for number in matching.missed:
        inside = each.labels[each.truth == number]
        counts = np.bincount(inside)
        counts[0] = 0
        if counts.max(initial=0) >= 2 * OVERLAP * len(inside):
            wrong[counts.argmax()] = True
    return wrong[1:]


def area(values: Sequence[NDArray[Any]], wrong: Sequence[NDArray[np.bool_]]) -> float:
    """Return how often a wrong object stands before a right one of the same image, mean over the wrong ones."""
    sums = np.zeros(2)
    for v, w in zip(values, wrong, strict=True):
        bad, good = np.count_nonzero(w), np.count_nonzero(~w)
        if bad and good:
            sums += (rankdata(v)[w].sum() - bad * (bad + 1) / 2) / good, bad
    return float(sums[0] / sums[1])


def early(values: Sequence[NDArray[Any]], wrong: Sequence[NDArray[np.bool_]], share: float) -> float:
    """Return the share of the wrong objects among the first ones of each image."""
    pairs = list(zip(values, wrong, strict=True))
    return sum(w[np.argsort(-v)[: ceil(share * len(v))]].sum() for v, w in pairs) / sum(w.sum() for w in wrong)


if __name__ == "__main__":
    main()
