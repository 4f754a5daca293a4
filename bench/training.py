"""What a step of training costs: its parts, its share of the machine's peak, and its memory beside what was stated.

Tiles are real nuclei. The peak is that of the best product of two square matrices in the same dtype, measured in the
same run; the operations are those of the convolutions, forward and backward. Each line is its own process, so that its
peak memory is its own; parts are timed in other steps than the whole, since each waits for the device.

    python bench/training.py --json training.json
"""

from __future__ import annotations

import inspect
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from data import TESTS, read
from report import arguments, report
from torch.utils.flop_counter import FlopCounterMode

from napari_unet.infer.seen import prepare
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.targets import TrainingTile, training_tile
from napari_unet.learn.trainer import Trainer
from napari_unet.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

TILES = 24
SIDES = (1024, 2048, 4096)  # of the matrices whose product is the peak
PARTS = ("draw", "augment", "forward + loss", "backward", "clip", "optimiser", "average")


def main() -> None:
    """Print a line for each batch."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--steps", type=int, default=9, help="of which the medians are told, for each of two rounds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--one", type=int, help="measure this batch here and print JSON")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.model, chosen.one, chosen.crop, chosen.steps, chosen.device)))
        return
    rows = []
    for batch in chosen.batches:
        own = ["--one", batch, "--model", chosen.model, "--crop", chosen.crop, "--steps", chosen.steps]
        command = [sys.executable, __file__, *map(str, own), "--device", chosen.device]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(said.stdout))
    report(rows, chosen.json)


def measure(name: str, batch: int, crop: int, steps: int, device: str) -> dict[str, Any]:
    """Train for some steps and return a line."""
    model = Model.load(name)
    given, settings = tiles(model), TrainSettings(steps=1000, batch=batch, crop=crop, device=device)
    held()
    before = held()
    trainer = Trainer(model, given, settings)
    whole = [seconds(trainer, lambda i=i: trainer.step(i)) for i in range(steps + 2)][2:]
    memory = held() - before if trainer.device.type == "cpu" else torch.cuda.max_memory_allocated(trainer.device)
    with FlopCounterMode(display=False) as counter:
        trainer.loss().backward()
    took = parts(trainer, steps)
    step, best = statistics.median(whole), peak(trainer.device, trainer.dtype or torch.float32)
    return {
        "device": trainer.device.type,
        "dtype": str(trainer.dtype or torch.float32).removeprefix("torch."),
        "batch": batch,
        "step ms": 1000 * step,
        **{f"{part} ms": 1000 * statistics.median(took[part]) for part in PARTS},
        "GFLOP/s": counter.get_total_flops() / step / 1e9,
        "peak GFLOP/s": best / 1e9,
        "of peak": counter.get_total_flops() / step / best,
        "memory GB": memory / 1e9,
        "stated GB": trainer.memory / 1e9,
    }


def tiles(model: Model) -> list[TrainingTile]:
    """Return images of the validation split, evenly from all of it."""
    images = read(TESTS["nuclei"])
    return [
        training_tile(prepare(model, each.image, each.axes)[0], each.mask, model.task)
        for each in images[:: max(len(images) // TILES, 1)][:TILES]
    ]


def parts(trainer: Trainer, steps: int) -> dict[str, list[float]]:
    """Return the seconds of each part of a step, step by step: its functions are wrapped in a clock."""
    home: Any = inspect.getmodule(type(trainer))
    wrapped: list[tuple[Any, str, str]] = [
        (trainer.batches, "draw", "draw"),
        (home, "augment", "augment"),
        (trainer, "logits", "forward + loss"),
        (home, "total_loss", "forward + loss"),
        (torch.Tensor, "backward", "backward"),
        (torch.nn.utils, "clip_grad_norm_", "clip"),
        *((each, "step", "optimiser") for each in trainer.optimisers),
        (trainer, "_update_average", "average"),
    ]
    originals = [getattr(owner, name) for owner, name, _ in wrapped]
    found: dict[str, list[float]] = {part: [0.0] * steps for part in PARTS}
    now = 0
    spent: dict[str, float] = defaultdict(float)

    def clocked(original: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **how: Any) -> Any:
            result = None

            def does() -> None:
                nonlocal result
                result = original(*args, **how)

            spent[part] += seconds(trainer, does)
            return result

        return call

    for (owner, name, part), original in zip(wrapped, originals, strict=True):
        setattr(owner, name, clocked(original, part))
    try:
        for now in range(steps):
            spent.clear()
            trainer.step(now)
            for part, took in spent.items():
                found[part][now] = took
    finally:
        for (owner, name, _), original in zip(wrapped, originals, strict=True):
            setattr(owner, name, original)
    return found


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations a second of the best matrix product."""
    found = []
    for side in SIDES:
        a = torch.rand(side, side, device=device).to(dtype)
        found += [2 * side**3 / _seconds(device, lambda a=a: a @ a) for _ in range(5)][1:]
    return max(found)


def seconds(trainer: Trainer, does: Callable[[], object]) -> float:
    """Return the seconds that something takes on the trainer's device."""
    return _seconds(trainer.device, does)


def _seconds(device: torch.device, does: Callable[[], object]) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    does()
    wait()
    return time.perf_counter() - began


def held() -> int:
    """Return the bytes that this process has held at most since it was last asked, where the system can forget that."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if sys.platform == "linux":
        status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        most = int(status["VmHWM"].split()[0]) * 1024
        Path("/proc/self/clear_refs").write_text("5")
    return most


if __name__ == "__main__":
    main()
