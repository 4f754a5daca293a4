"""What the product's choices are worth: how objects are represented, what network learns them, and how.

Every variant is trained from scratch by the product's own `train`, on the same tiles and with the same seeds, and
differs in nothing but what it names from `UNetConfig()` and `SCRATCH`, decoded as the product does. All tiles carry the
objects, so that the loss weighs crowded pixels alike for all representations. The thresholds of each way of decoding
are chosen on --tune pieces of the learned images, by the mean AP of .50 to .90; with 0 they are the defaults.

    python bench/choices.py --vary representation --data nuclei --json representation.json
"""

from __future__ import annotations

import itertools
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch
from accuracy import figures
from data import TESTS, read
from report import DATA, arguments, report
from scipy import ndimage as ndi
from skimage.segmentation import watershed
from torch.optim import AdamW
from torch.utils.flop_counter import FlopCounterMode

from napari_unet.infer.instances import decode_instances
from napari_unet.infer.predict import predict_tiles
from napari_unet.infer.segment import predict
from napari_unet.jobs import run
from napari_unet.learn import augment, losses, train
from napari_unet.learn.evaluate import BOUNDARIES, FOREGROUNDS, SEEDS, quality
from napari_unet.learn.metrics import score_instances, summarise
from napari_unet.learn.recipe import Source, load_tiles, read_recipe
from napari_unet.learn.settings import SCRATCH, Augmentation
from napari_unet.model import DecodeSettings, Model
from napari_unet.nets.config import UNetConfig
from napari_unet.nets.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_unet.learn.targets import TrainingTile

RECIPE = Path(train.__file__).parents[1] / "recipes" / "nuclei.toml"
DATASETS: dict[str, tuple[Any, tuple[str, ...]]] = {  # channels, tests
    "nuclei": ("rgb", ("nuclei", "nuclei: fluorescence", "nuclei: histology", "tissue nuclei: kidney")),
    "phase cells": ("grey", ("phase cells",)),
}
PIECE = 384  # largest side in pixels of what thresholds are chosen on
Row = dict[str, Any]
AP = ("AP.50", "AP.75", "AP.90", "AP.50-.90")


@dataclass(frozen=True)
class Way:
    """From maps and thresholds to objects; the thresholds to try."""

    name: str
    labels: Callable[[Any, DecodeSettings], Any]
    tries: Mapping[str, tuple[float, ...]]


def renumber(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Drop small objects and number the rest from 1 without gaps."""
    kept = np.bincount(labels.ravel()) >= max(min_size, 1)
    kept[0] = False
    return (np.cumsum(kept, dtype=np.uint32) * kept)[labels]


def grown(maps: Any, settings: DecodeSettings) -> Any:
    """Return the connected pieces of what is inside, grown over the foreground; `middle` is the threshold of inside."""
    foreground = maps[0] < 1 - settings.foreground
    seeds = ndi.label((maps[1] > settings.middle) & foreground)[0]
    return renumber(watershed(-maps[1], seeds, mask=foreground), settings.min_size)


_SHARES = tuple(i / 10 for i in range(2, 10))
_TRIES = {"foreground": FOREGROUNDS, "seed": SEEDS}
WATERSHED = Way("watershed", lambda m, s: decode_instances(m, 2, s), _TRIES | {"boundary": BOUNDARIES})
NO_BOUNDARY = Way("without boundary", lambda m, s: decode_instances(m, 2, replace(s, boundary=0.0)), _TRIES)
NO_DISTANCE = Way(
    "without distance", lambda m, s: decode_instances(np.stack((*m[:3], 1 - m[0])), 2, replace(s, boundary=1.0)), _TRIES
)
COMPONENTS = Way(
    "components", lambda m, s: renumber(ndi.label(m[0] < 1 - s.foreground)[0], s.min_size), {"foreground": _SHARES}
)
GROWN = Way("inside, grown", grown, {"foreground": FOREGROUNDS, "middle": _SHARES})


def three_classes(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the loss for inside and boundary, which is drawn after the augmentation as the product's is."""
    kinds = target[:, :1] + losses.boundary(target[:, 1])[:, None]
    return losses.total_loss(logits, torch.cat((kinds, target[:, 1:]), dim=1), weight, classes)


def augmentation(times: float) -> dict[str, Augmentation]:
    """Return the default augmentation, its ranges so many times as wide."""
    own = Augmentation()
    rest = {key: times * getattr(own, key) for key in ("elastic", "contrast", "colour", "noise", "blur")}
    return {"augmentation": Augmentation(scale=own.scale**times, rotation=times > 0, **rest)}


@dataclass(frozen=True)
class Variant:
    """What differs from the base in UNetConfig and in TrainSettings, what is replaced, how it is decoded."""

    name: str
    network: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    replaced: Any = field(default_factory=nullcontext)  # in the product, while it trains
    ways: tuple[Way, ...] = (WATERSHED,)


_THREE = patch.object(train, "total_loss", three_classes)
_ADAMW = patch.object(train, "optimisers", lambda n, lr, w: (AdamW(n.parameters(), lr, weight_decay=w, fused=True),))
_NO_LIGHT = patch.object(augment, "_light", lambda image, how, random: image)  # else brightness would still be shifted

VARIANTS: dict[str, tuple[Variant, ...]] = {
    "representation": (
        Variant("foreground", {"instance_maps": False}, ways=(COMPONENTS,)),
        Variant("three classes", {"instance_maps": False, "classes": 3}, replaced=_THREE, ways=(GROWN,)),
        Variant("foreground, boundary, distance", ways=(WATERSHED, NO_DISTANCE, NO_BOUNDARY)),
    ),
    "network": (
        Variant("width 16"),
        Variant("width 32, top 16", {"width": 32, "top": 16}),
        Variant("width 32", {"width": 32}),
        Variant("depth 3", {"depth": 3}),
        Variant("depth 5", {"depth": 5}),
        Variant("not halved", {"halve": False}),
    ),
    "optimiser": (
        Variant("Muon + AdamW 2e-3", train={"learning_rate": 2e-3}),
        Variant("Muon + AdamW 5e-3", train={"learning_rate": 5e-3}),
        Variant("Muon + AdamW 1e-2", train={"learning_rate": 1e-2}),
        Variant("AdamW 1e-3", train={"learning_rate": 1e-3}, replaced=_ADAMW),
        Variant("AdamW 2e-3", train={"learning_rate": 2e-3}, replaced=_ADAMW),
    ),
    "augmentation": (
        Variant("none", train=augmentation(0), replaced=_NO_LIGHT),
        Variant("half", train=augmentation(0.5)),
        Variant("default", train=augmentation(1)),
        Variant("twice", train=augmentation(2)),
    ),
    "loss": (
        Variant("crowded 4, outside 0.1"),
        Variant("crowded 0", replaced=patch.object(losses, "CROWDED", 0.0)),
        Variant("outside 1", replaced=patch.object(losses, "OUTSIDE", 1.0)),
    ),
    "crop": (  # about the same number of pixels in a step
        Variant("16 of 128 px", train={"batch": 16, "crop": 128}),
        Variant("4 of 256 px", train={"batch": 4, "crop": 256}),
        Variant("2 of 384 px", train={"batch": 2, "crop": 384}),
    ),
}


def main() -> None:
    """Train each variant with each seed, decode it in each of its ways, and print a line for each test."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--vary", choices=VARIANTS, default="representation")
    names = [v.name for each in VARIANTS.values() for v in each]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="of these variants")
    parser.add_argument("--data", choices=DATASETS, default="nuclei")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", type=int, default=24, help="pieces that thresholds are chosen on; 0: the defaults")
    parser.add_argument("--every", type=int, default=1, help="take every Nth image only, to try the program")
    chosen = parser.parse_args()
    channels, tests = DATASETS[chosen.data]
    tiles = learned(chosen.data, channels, tests)[:: chosen.every]
    sets = {test: read(TESTS[test])[:: chosen.every] for test in tests}
    rows: list[Row] = []
    for variant, seed in itertools.product(
        (v for v in VARIANTS[chosen.vary] if v.name in chosen.only), range(chosen.seeds)
    ):
        model, seconds = trained(variant, tiles, channels, chosen.steps, seed)
        size = {"parameters": sum(p.numel() for p in model.network.parameters()), "GMAC/MP": work(model.config)}
        about = {"variant": variant.name, "seed": seed, "steps": chosen.steps} | size | {"s/step": seconds}
        for found in scored(model, variant.ways, tiles, chosen.tune, sets):
            rows.append(about | found)
            print(rows[-1], flush=True)
    report(rows + summary(rows, tests) if chosen.seeds > 1 else rows, chosen.json)


def learned(data: str, channels: Any, tests: tuple[str, ...]) -> list[TrainingTile]:
    """Read what is learned from: all that is not for the tests."""
    sources = read_recipe(RECIPE).data if data == "nuclei" else (Source("phase_cells"),)
    out = {TESTS[test].folder: TESTS[test].names for test in tests}
    sources = tuple(replace(each, leave_out=out.get(each.folder, each.leave_out)) for each in sources)
    return run(load_tiles(Model.new(channels=channels), sources, 0.0, DATA))[0]


def trained(variant: Variant, tiles: list[TrainingTile], channels: Any, steps: int, seed: int) -> tuple[Model, float]:
    """Return a model trained from scratch, and the median seconds of a step."""
    config = UNetConfig(in_channels=3 if channels == "rgb" else 1, **variant.network)
    task: Any = "instances" if config.instance_maps else "classes"
    classes = ("background", "inside", "boundary")[: config.classes]
    start = Model(UNet(config, seed).eval(), variant.name, task, classes, channels)
    settings = replace(SCRATCH, steps=steps, seed=seed, **variant.train)
    moments: list[float] = []
    with variant.replaced:
        result = run(train.train(start, tiles, [], settings), lambda _: moments.append(time.perf_counter()))
    return result.model, float(np.median(np.diff(moments)))


def work(config: UNetConfig) -> float:
    """Return the billions of multiply-adds for a million pixels."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        UNet(config)(torch.empty(1, config.in_channels, 1024, 1024))
    return counter.get_total_flops() / 2 / 1024**2 / 1000


def scored(model: Model, ways: tuple[Way, ...], tiles: list[Any], tune: int, sets: dict[str, Any]) -> Iterator[Row]:
    """Yield the scores on each set, decoded in each way from the same maps."""
    odds = np.array([tile.share for tile in tiles]) / sum(tile.share for tile in tiles)
    tuning = []
    for tile in (tiles[i] for i in np.random.default_rng(0).choice(len(tiles), min(tune, len(tiles)), False, odds)):
        piece = tile.image[:, :PIECE, :PIECE].repeat(model.config.in_channels // len(tile.image), axis=0)
        tuning.append((run(predict_tiles(model, piece)), tile.labels[:PIECE, :PIECE]))
    images = {image.name: image for each in sets.values() for image in each}  # sets may share images
    maps = {name: predict(model, image.image, axes=image.axes) for name, image in images.items()}
    for way in ways:
        how = tuned(way, model.decode, tuning) if tuning else model.decode
        about = {"decoded": way.name, "thresholds": " ".join(f"{key} {getattr(how, key)}" for key in way.tries)}
        one = {name: score_instances(images[name].mask, way.labels(maps[name], how), name=name) for name in maps}
        for test, each in sets.items():
            found = figures(summarise(one[image.name] for image in each))
            yield about | {"test": test} | {key: found[key] for key in AP}


def tuned(way: Way, own: DecodeSettings, tuning: list[tuple[Any, Any]]) -> DecodeSettings:
    """Return the thresholds that score best on maps and their truth; the own ones if none are better."""
    ends = (dict[str, Any](zip(way.tries, t, strict=True)) for t in itertools.product(*way.tries.values()))
    tries = (own, *(replace(own, **end) for end in ends))
    return max(tries, key=lambda s: quality(summarise(score_instances(y, way.labels(x, s)) for x, y in tuning)))


def summary(rows: list[Row], tests: tuple[str, ...]) -> list[Row]:
    """Return for each test and variant the mean over the seeds and the range, the highest less the lowest."""
    lines = []
    for test, (variant, way) in itertools.product(tests, dict.fromkeys((r["variant"], r["decoded"]) for r in rows)):
        same = [r for r in rows if (r["test"], r["variant"], r["decoded"]) == (test, variant, way)]
        for what, number in (("mean", np.mean), ("range", np.ptp)):
            found = {key: float(number([r[key] for r in same])) for key in ("s/step", *AP)}
            lines.append(same[0] | {"seed": what, "thresholds": ""} | found)
    return lines


if __name__ == "__main__":
    main()
