"""What a model forgets of its own images while it learns others: the base's test, before and after fine-tuning.

python bench/forgetting.py --domain "phase cells" --json forgetting.json
python bench/forgetting.py --replay 0.25 --steps 100 --seeds 1
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from accuracy import figures, score
from data import LEARNED, TESTS, read
from fewshot import DOMAINS, base, corrections, tiles
from report import arguments, report

from napari_unet.jobs import run
from napari_unet.learn.finetune import fine_tune
from napari_unet.learn.settings import TrainSettings


def main() -> None:
    """Fine-tune once for each seed and print what is left of the base's score."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--own", choices=TESTS, nargs="+", default=["nuclei", "nuclei: fluorescence"])
    parser.add_argument("--domain", choices=[d for d in DOMAINS if d != "axons"], default="phase cells")
    parser.add_argument("--tiles", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=TrainSettings().steps)
    parser.add_argument("--replay", type=float, default=TrainSettings().replay, help="share of made images, 0 to 0.9")
    parser.add_argument("--freeze-norms", action="store_true")
    chosen = parser.parse_args()
    model = base(chosen.model, chosen.domain)
    learned, test = LEARNED[DOMAINS[chosen.domain][0]], DOMAINS[chosen.domain][1]
    tests = {name: read(TESTS[name]) for name in (*chosen.own, test)}
    before = {name: figures(score(model, images)) for name, images in tests.items()}
    settings = TrainSettings(steps=chosen.steps, replay=chosen.replay, freeze_norms=chosen.freeze_norms)
    rows: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        given = [corrections(*tile, 1.0, (seed,), None) for tile in tiles(read(learned), chosen.tiles, seed)]
        tuned = run(fine_tune(model, given, replace(settings, seed=seed))).model
        for name, images in tests.items():
            own, after = before[name]["AP.50"], figures(score(tuned, images))["AP.50"]
            rows.append({"seed": seed, "test": name, "AP.50 before": own, "AP.50 after": after, "lost": own - after})
    report(rows, chosen.json)


if __name__ == "__main__":
    main()
