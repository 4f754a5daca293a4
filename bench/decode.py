"""What each threshold of the decoder is worth, on the images that a recipe holds out (never on a test split).

Run it as ``python bench/decode.py --json decode.json``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from report import DATA, arguments, report

import napari_unet
from napari_unet.infer import instances
from napari_unet.infer.predict import predict_tiles
from napari_unet.jobs import run
from napari_unet.learn.evaluate import quality
from napari_unet.learn.metrics import score_instances, summarise
from napari_unet.learn.recipe import load_tiles, read_recipe
from napari_unet.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.model import DecodeSettings

RECIPE = Path(napari_unet.__file__).parent / "recipes" / "nuclei.toml"


def main() -> None:
    """Predict once, decode in every way, print a line for each."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    chosen = parser.parse_args()
    model, recipe = Model.load(chosen.model), read_recipe(chosen.recipe)
    _, tiles = run(load_tiles(model, recipe.data, recipe.held_out, DATA, recipe.smallest))
    images = [np.repeat(t.image[:1], 3, axis=0) if len(t.image) == 1 else t.image for t in tiles]
    maps = [run(predict_tiles(model, image)) for image in images]
    rows: list[dict[str, Any]] = []
    for what, settings, smooth in ways(model.decode):
        instances.SMOOTH = smooth
        labels = [instances.decode_instances(m, len(model.classes), settings) for m in maps]
        scores = summarise(score_instances(t.labels, found) for t, found in zip(tiles, labels, strict=True))
        rows.append({"way": what, "AP.50": scores.ap50, "AP.75": scores.ap[5], "AP.50-.90": quality(scores)})
    report(rows, chosen.json)


def ways(own: DecodeSettings) -> Iterator[tuple[str, DecodeSettings, float]]:
    """Yield the model's own way, and each threshold moved by itself."""
    smooth = instances.SMOOTH
    yield "the model's own", own, smooth
    moved = {"foreground": (0.4, 0.5, 0.6), "seed": (0.05, 0.1, 0.15, 0.2, 0.3), "boundary": (0.0, 0.5, 1.0)}
    for name, values in moved.items():
        for value in values:
            yield f"{name} {value}", replace(own, **{name: value}), smooth
    for value in (0.0, 0.5, 1.0, 2.0):
        yield f"smoothing {value} px", own, value
    for value in (0.0, 0.2, 0.3, 0.4, 0.5):
        yield f"lowest middle {value}", replace(own, middle=value), smooth


if __name__ == "__main__":
    main()
