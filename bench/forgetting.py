"""What a model forgets of its own images while it learns others: the base's test, before and after fine-tuning.

What the weights themselves still know is scored beside it: without the base that a fine-tuned model carries.

    python bench/forgetting.py --domain "phase cells" --json forgetting.json
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accuracy import figures, score
from data import LEARNED, TESTS, Labelled, read
from fewshot import DOMAINS, base, corrections, tiles
from report import arguments, report

from napari_unet.jobs import run
from napari_unet.learn.finetune import fine_tune
from napari_unet.learn.settings import TrainSettings

if TYPE_CHECKING:
    from napari_unet.model import Model


def main() -> None:
    """Fine-tune once for each seed and print what is left of the base's score."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--own", choices=TESTS, nargs="+", default=["nuclei", "nuclei: fluorescence"])
    parser.add_argument("--domain", choices=[d for d in DOMAINS if d != "axons"], default="phase cells")
    parser.add_argument("--tiles", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each fine-tuning; default: by the corrections")
    parser.add_argument("--freeze-norms", action="store_true")
    chosen = parser.parse_args()
    model = base(chosen.model, chosen.domain)
    learned, test = LEARNED[DOMAINS[chosen.domain][0]], DOMAINS[chosen.domain][1]
    tests = {name: read(TESTS[name]) for name in (*chosen.own, test)}
    before = {name: ap50(model, images) for name, images in tests.items()}
    settings = TrainSettings(steps=chosen.steps, freeze_norms=chosen.freeze_norms)
    rows: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        given = [corrections(*tile, 1.0, (seed,), None) for tile in tiles(read(learned), chosen.tiles, seed)]
        tuned = run(fine_tune(model, given, replace(settings, seed=seed))).model
        for name, images in tests.items():
            own, after, alone = before[name], ap50(tuned, images), ap50(replace(tuned, base=None), images)
            rows.append({"seed": seed, "test": name, "AP.50 before": own, "after": after, "lost": own - after})
            rows[-1]["after, without the base"] = alone
            print(rows[-1], flush=True)
    report(rows, chosen.json)


def ap50(model: Model, images: list[Labelled]) -> float:
    """Return the pooled AP at .50."""
    return float(figures(score(model, images))["AP.50"])


if __name__ == "__main__":
    main()
