"""How much three confirmed tiles teach: a nuclei model, fine-tuned to whole cells in phase contrast.

Corrections are three 256² tiles, called right by the labels of the data set, each from another image; ten other
images are scored, before and after. The tiles go through `learn.finetune.fine_tune`, as the dock's do.

    python bench/fine_tune.py --json fine_tune.json
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from report import DATA, arguments, report

from napari_unet.infer.read import read_image, read_labels
from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import run
from napari_unet.learn.corrections import Corrections, State
from napari_unet.learn.evaluate import evaluate
from napari_unet.learn.finetune import fine_tune
from napari_unet.learn.settings import TrainSettings
from napari_unet.model import Model

if TYPE_CHECKING:
    from pathlib import Path

TILE = 256
SCORED = 10


def main() -> None:
    """Fine-tune once for each seed and print a line for each."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--data", default="phase_cells", help="folder below NAPARI_UNET_DATA")
    parser.add_argument("--tiles", type=int, default=3)
    parser.add_argument("--steps", type=int, default=TrainSettings().steps)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scored", type=int, default=SCORED)
    parser.add_argument("--diameter", type=float, help="of the objects in pixels, as a user would give it")
    chosen = parser.parse_args()
    how = SegmentSettings(diameter=chosen.diameter)
    model = Model.load(chosen.model)
    folder = DATA / chosen.data
    paths = sorted((folder / "images").glob("*.tif"))
    rows = []
    for seed in range(chosen.seeds):
        order = np.random.default_rng(seed).permutation(len(paths))
        learned = [paths[i] for i in order[: chosen.tiles]]
        scored = [paths[i] for i in order[chosen.tiles : chosen.tiles + chosen.scored]]
        images = [read_image(path).data for path in scored]
        masks = [read_labels(folder / "masks" / path.name) for path in scored]
        began = time.perf_counter()
        settings = replace(TrainSettings(), steps=chosen.steps, seed=seed)
        result = run(fine_tune(model, [confirmed(path, seed, chosen.diameter) for path in learned], settings))
        seconds = time.perf_counter() - began
        before = evaluate(model, images, masks, settings=how)
        after = evaluate(result.model, images, masks, settings=how)
        held_out = [scores.ap50 if scores else float("nan") for scores in (result.before, result.after)]
        rows.append(
            {
                "seed": seed,
                "steps": result.steps,
                "seconds": seconds,
                "AP.50 before": before.ap50,
                "AP.50 after": after.ap50,
                "AP.75 after": after.ap[5],
                "Dice after": after.dice,
                "held-out before": held_out[0],
                "held-out after": held_out[1],
            }
        )
    report(rows, chosen.json)


def confirmed(path: Path, seed: int, diameter: float | None) -> Corrections:
    """Confirm the tile of an image that has the most objects, of twenty tried at random."""
    image, labels = read_image(path), read_labels(path.parents[1] / "masks" / path.name)
    random = np.random.default_rng(seed)
    corners = [[random.integers(0, n - TILE + 1) for n in labels.shape] for _ in range(20)]
    windows = [tuple(slice(c, c + TILE) for c in corner) for corner in corners]
    best = max(windows, key=lambda window: len(np.unique(labels[window])))
    state = np.zeros(labels.shape, np.uint8)
    state[best] = State.CONFIRMED
    return Corrections(image.data, labels, state, axes=image.axes, diameter=diameter, name=path.stem)


if __name__ == "__main__":
    main()
