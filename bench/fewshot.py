"""How much a few corrections teach: a base model, fine-tuned to another kind of image, against one that saw all of it.

Corrections are 256² tiles called right, each from another image as far as there are so many; with --strokes only the
share of their pixels that short strokes of a brush cover. They go through `learn.finetune.fine_tune`, as the dock's
do. Full data are all images of the set that are not for the test, with --full steps.

    python bench/fewshot.py --domain "phase cells" --tiles 1 2 5 10 --json fewshot.json
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from accuracy import score
from data import LEARNED, TESTS, Labelled, read
from report import arguments, report

from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import run
from napari_unet.learn.corrections import Corrections, State
from napari_unet.learn.evaluate import headline
from napari_unet.learn.finetune import fine_tune
from napari_unet.learn.settings import TrainSettings
from napari_unet.model import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE = 256
DOMAINS = {  # what is learned: learned from, tested on
    "phase cells": ("phase cells", "phase cells"),
    "axons": ("axons", "axons"),
    "tissue nuclei": ("tissue nuclei", "tissue nuclei: kidney"),
}
CLASSES = {"axons": ("background", "myelin", "axon")}
BRUSH = 4  # radius in pixels of the simulated brush; napari's is 5
STROKE = 40  # length in pixels of a simulated stroke


def main() -> None:
    """Fine-tune once for each seed and number of tiles, and print a line for each."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei", help="the base: a shipped name or a file")
    parser.add_argument("--domain", choices=DOMAINS, default="phase cells")
    parser.add_argument("--tiles", type=int, nargs="*", default=[1, 2, 5, 10])
    parser.add_argument("--strokes", type=float, default=1.0, help="share of the tiles' pixels that are painted")
    parser.add_argument("--full", type=int, default=0, help="steps with all the data, once for each seed; 0: none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each fine-tuning; default: by the corrections")
    parser.add_argument("--diameter", type=float, help="of the objects in pixels, as a user would give it")
    chosen = parser.parse_args()
    learned, test = (read(part[name]) for part, name in zip((LEARNED, TESTS), DOMAINS[chosen.domain], strict=True))
    model, how = base(chosen.model, chosen.domain), SegmentSettings(diameter=chosen.diameter)
    same_task = model.task == Model.load(chosen.model).task
    rows: list[dict[str, Any]] = [row("before", 0, 0, 0.0, headline(score(model, test, how)) if same_task else 0.0)]
    for seed in range(chosen.seeds):
        for count in (*chosen.tiles, *[0] * bool(chosen.full)):
            part = tiles(learned, count, seed) if count else [(each, whole(each)) for each in learned]
            given = [
                corrections(each, window, chosen.strokes if count else 1.0, (seed, i), chosen.diameter)
                for i, (each, window) in enumerate(part)
            ]
            settings = replace(TrainSettings(), steps=chosen.steps if count else chosen.full, seed=seed)
            began = time.perf_counter()
            result = run(fine_tune(model, given, settings))
            seconds = time.perf_counter() - began
            what = f"{count} tiles" if count else "all images"
            rows.append(row(what, seed, result.steps, seconds, headline(score(result.model, test, how))))
            print(rows[-1], flush=True)
    report(rows, chosen.json)


def row(what: str, seed: int, steps: int, seconds: float, value: float) -> dict[str, Any]:
    """Return a line of the table; the score is AP.50 for objects and Dice for classes."""
    return {"learned from": what, "seed": seed, "steps": steps, "seconds": seconds, "score": value}


def base(name: str, domain: str) -> Model:
    """Return the model to start from, with a new head if the domain is one of classes."""
    model = Model.load(name)
    return model.with_classes(CLASSES[domain]) if domain in CLASSES else model


def whole(each: Labelled) -> tuple[slice, ...]:
    """Return the window that is all of an image."""
    return tuple(slice(0, n) for n in each.mask.shape)


def tiles(images: list[Labelled], count: int, seed: int) -> list[tuple[Labelled, tuple[slice, ...]]]:
    """Choose tiles as a user would: of twenty places in an image, drawn at random, the one with most to see."""
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(images)) for _ in range(math.ceil(count / len(images)))])
    found = []
    for i in order[:count]:
        corners = [[random.integers(0, max(n - TILE, 0) + 1) for n in images[i].mask.shape] for _ in range(20)]
        windows = [tuple(slice(c, c + TILE) for c in corner) for corner in corners]
        # objects by their number; of classes, how many there are and how evenly: as the entropy of the mask
        found.append((images[i], max(windows, key=lambda window: _content(images[i].mask[window]))))
    return found


def _content(mask: NDArray[np.integer[Any]]) -> float:
    _, counts = np.unique(mask, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def corrections(
    each: Labelled, window: tuple[slice, ...], coverage: float, seed: tuple[int, ...], diameter: float | None
) -> Corrections:
    """Confirm a window of an image, or paint a share of its pixels with strokes."""
    state = np.zeros(each.mask.shape, np.uint8)
    if coverage >= 1:
        state[window] = State.CONFIRMED
    else:
        state[window] = np.where(strokes(each.mask[window].shape, coverage, seed), State.PAINTED, State.UNKNOWN)
    return Corrections(each.image, each.mask, state, axes=each.axes, diameter=diameter, name=each.name)


def strokes(shape: tuple[int, ...], coverage: float, seed: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where strokes of a round brush, of random place and direction, cover about this share of a plane."""
    random = np.random.default_rng(seed)
    painted = np.zeros(shape, bool)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    while painted.mean() < coverage:
        y, x = random.uniform(0, shape)
        angle = random.uniform(0, 2 * np.pi)
        along = ((rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)).clip(0, STROKE)
        far = np.hypot(rows - y - along * np.sin(angle), columns - x - along * np.cos(angle))
        painted |= far <= BRUSH
    return painted


if __name__ == "__main__":
    main()
