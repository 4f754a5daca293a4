"""How right models are, on each set of test images they can do: objects by AP, classes by Dice.

Several models, such as one recipe with several seeds, give a line each and their mean.

    python bench/accuracy.py --models nuclei --json accuracy.json
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from data import TESTS, read
from report import arguments, report

from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import run
from napari_unet.learn.evaluate import evaluate_job, quality
from napari_unet.model import Model

if TYPE_CHECKING:
    from data import Labelled

    from napari_unet.learn.metrics import Scores


def main() -> None:
    """Score each model on each set and print a line for each."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--models", nargs="+", default=["nuclei"], help="shipped names or files")
    parser.add_argument("--tests", nargs="+", choices=TESTS, default=[t for t in TESTS if t.startswith("nuclei")])
    parser.add_argument("--diameter", type=float, help="of the objects in pixels, as a user would give it")
    parser.add_argument("--flips", action="store_true", help="look at each image mirrored too and take the mean")
    parser.add_argument("--all", action="store_true", help="in the JSON, each image too")
    chosen = parser.parse_args()
    models = [Model.load(name) for name in chosen.models]
    settings = SegmentSettings(diameter=chosen.diameter, flips=chosen.flips)
    rows: list[dict[str, Any]] = []
    for test in chosen.tests:
        images = read(TESTS[test])
        lines = []
        for name, model in zip(chosen.models, models, strict=True):
            scores = score(model, images, settings)
            parameters = sum(p.numel() for p in model.network.parameters())
            lines.append({"model": name, "parameters": parameters, "test": test} | figures(scores))
            if chosen.all:
                lines[-1]["per image"] = [image.to_dict() for image in scores.per_image]
        rows += lines
        if len(lines) > 1:
            keys = [key for key, value in lines[0].items() if isinstance(value, float)]
            rows.append(lines[0] | {"model": "mean"} | {k: float(np.mean([line[k] for line in lines])) for k in keys})
    report(rows, chosen.json)


def score(model: Model, images: list[Labelled], settings: SegmentSettings | None = None) -> Scores:
    """Segment images as a user would and score them."""
    pixels, masks, axes, names = zip(*((i.image, i.mask, i.axes, i.name) for i in images), strict=True)
    return run(evaluate_job(model, pixels, masks, axes=axes, names=names, settings=settings))


def figures(scores: Scores) -> dict[str, Any]:
    """Return the figures of a table: AP pooled and as the mean over images, or Dice of each class."""
    found: dict[str, Any] = {"images": len(scores.per_image)}
    if scores.objects is None or scores.ap50_interval is None:
        return found | {f"Dice {each.name}": each.dice for each in scores.classes}
    low, high = scores.ap50_interval
    found |= {"objects": scores.objects.n_truth, "AP.50": scores.ap50, "low": low, "high": high}
    found |= {"AP.75": scores.ap[5], "AP.90": scores.ap[8], "AP.50-.90": quality(scores)}
    means = {f"mean {k}": scores.mean_ap[i] for k, i in (("AP.50", 0), ("AP.75", 5), ("AP.90", 8))}
    return found | means | {"PQ": scores.pq, "Dice": scores.dice}


if __name__ == "__main__":
    main()
