"""What each engine makes of the processor: a tile of real nuclei through the network, beside the machine's own peak.

The peak is a product of two matrices of 4096², measured in the same run; AP.90 is of the labels against those of
float32, on real images of the validation split.

    python bench/engines.py --json engines.json
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from peak import median, operations, product
from report import DATA, arguments, report

from napari_unet.infer import int8
from napari_unet.infer.engine import Torch
from napari_unet.infer.image import rescale
from napari_unet.infer.instances import decode
from napari_unet.infer.openvino_engine import OpenVINO
from napari_unet.infer.segment import SegmentSettings, get_ready
from napari_unet.jobs import run
from napari_unet.model import Model

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
    peaks = {"f32": product(torch.float32), "bf16": product(torch.bfloat16), "int8": product(torch.int8)}
    truth: list[Any] = []
    for (name, precision), engine in engines.items():
        labels = [decode(model, engine.start(x, whole(x)).maps()) for x in seen]
        truth = truth or labels
        row: dict[str, Any] = {"engine": name, "precision": precision}
        for side in chosen.sides:
            x = np.ascontiguousarray(np.resize(seen[0], (seen[0].shape[0], side, side)))
            seconds = median(lambda engine=engine, x=x: engine.start(x, whole(x)).maps())
            row[f"{side}² ms"] = 1000 * seconds
            row[f"{side}² GFLOP/s"] = operations(model.network) * side**2 / seconds / 1e9
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


if __name__ == "__main__":
    main()
