"""What each engine makes of the processor: a tile of real nuclei through the network, beside the machine's own peak.

The peak is a product of two matrices of 4096², measured in the same run; AP.90 is of the labels against those of
float32, on real images of the validation split.

    python bench/engines.py --json engines.json
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from report import DATA, arguments, report

from napari_unet.infer import int8
from napari_unet.infer.engine import Torch
from napari_unet.infer.image import rescale
from napari_unet.infer.instances import decode
from napari_unet.infer.openvino_engine import OpenVINO
from napari_unet.infer.segment import SegmentSettings, get_ready
from napari_unet.jobs import run
from napari_unet.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 9
IMAGES = 60  # of the validation split, for AP.90


def main() -> None:
    """Print a line for each engine."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1136], help="of the tiles, in pixels")
    chosen = parser.parse_args()
    model, images = Model.load(chosen.model), tiles()
    cpu, stride = torch.device("cpu"), model.network.stride
    ready = [run(get_ready(model, image, None, SegmentSettings())) for image in images]
    seen = [rescale(each.seen.read()[0], each.factor) for each in ready]
    seen = [x[(slice(None), *(slice(n // stride * stride) for n in x.shape[1:]))] for x in seen]
    limits = run(int8.calibrate(model, seen[:: max(len(seen) // int8.TILES, 1)]))
    engines = {
        ("torch", "f32"): Torch(model.network, cpu, precise=True),
        ("torch", "bf16"): Torch(model.network, cpu),
        ("OpenVINO", "bf16"): OpenVINO(model.network),
        ("OpenVINO", "int8"): OpenVINO(model.network, limits or None),
    }
    rows: list[dict[str, Any]] = []
    peaks = {"f32": peak(torch.float32), "bf16": peak(torch.bfloat16), "int8": peak(torch.int8)}
    truth: list[Any] = []
    for (name, precision), engine in engines.items():
        labels = [decode(model, engine.start(x, whole(x)).maps()) for x in seen]
        truth = truth or labels
        row: dict[str, Any] = {"engine": name, "precision": precision}
        for side in chosen.sides:
            x = np.ascontiguousarray(np.resize(seen[0], (seen[0].shape[0], side, side)))
            seconds = median(lambda engine=engine, x=x: engine.start(x, whole(x)).maps())
            row[f"{side}² ms"] = 1000 * seconds
            row[f"{side}² GFLOP/s"] = flops(model, side) / seconds / 1e9
        row["peak GFLOP/s"] = peaks[precision] / 1e9
        row["of peak"] = max(row[f"{side}² GFLOP/s"] for side in chosen.sides) / row["peak GFLOP/s"]
        row["AP.90"] = int8._agreement(model, truth, labels)
        rows.append(row)
    report(rows, chosen.json)


def tiles() -> list[np.ndarray]:
    """Return images of the validation split, evenly from all of it."""
    import tifffile

    paths = sorted((DATA / "nuclei" / "val" / "images").glob("*.tif"))
    return [tifffile.imread(path) for path in paths[:: max(len(paths) // IMAGES, 1)]]


def whole(x: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return all of a tile as the part that is wanted."""
    return tuple((0, n) for n in x.shape[1:])


def flops(model: Model, side: int) -> float:
    """Return the operations of a network on a square tile, a multiplication and an addition being two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.network.eval()(torch.zeros(1, model.config.in_channels, 256, 256))
    return counter.get_total_flops() * (side / 256) ** 2


def peak(dtype: torch.dtype, side: int = 4096) -> float:
    """Return the operations a second of a matrix product."""
    if dtype == torch.int8:
        a = torch.randint(-9, 9, (side, side), dtype=dtype)
        return 2 * side**3 / median(lambda: torch._int_mm(a, a), 3)
    a = torch.rand(side, side).to(dtype)
    return 2 * side**3 / median(lambda: a @ a, 3)


def median(does: Callable[[], object], times: int = TIMES) -> float:
    """Return the seconds that something takes, warm."""
    does()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        does()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


if __name__ == "__main__":
    main()
