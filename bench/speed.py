"""How long a large image takes from array to labels, and how much memory.

The image is nuclei/val tiles side by side. Each line is its own process, so that its peak memory is its own.

    python bench/speed.py --json speed.json
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from report import DATA, arguments, report


def main() -> None:
    """Measure each size in a process of its own."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=int, help="measure this size here and print JSON")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one, chosen.model, chosen.repeats)))
        return
    rows = []
    for size in chosen.sizes:
        command = [sys.executable, __file__, "--one", str(size), "--model", chosen.model]
        said = subprocess.run([*command, "--repeats", str(chosen.repeats)], capture_output=True, text=True, check=True)
        rows.append(json.loads(said.stdout))
    report(rows, chosen.json)


def measure(size: int, name: str, repeats: int) -> dict[str, object]:
    """Segment one image several times."""
    from napari_unet.infer.instances import decode
    from napari_unet.infer.predict import predict_tiles
    from napari_unet.infer.seen import prepare
    from napari_unet.jobs import run
    from napari_unet.model import Model

    image = mosaic(size)
    model = Model.load(name)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    whole, network, decoding = [], [], []
    for _ in range(repeats):
        began = time.perf_counter()
        labels = model.segment(image)
        whole.append(time.perf_counter() - began)
        array, _ = prepare(model, image)
        began = time.perf_counter()
        maps = run(predict_tiles(model, array))
        network.append(time.perf_counter() - began)
        began = time.perf_counter()
        decode(model, maps)
        decoding.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "size": size,
        "objects": int(labels.max()),
        "segment s (first)": whole[0],
        "segment s (median)": statistics.median(whole),
        "network s": statistics.median(network),
        "decode s": statistics.median(decoding),
        "peak GB": peak,
        "peak GB before": base,
    }


def mosaic(size: int) -> np.ndarray:
    """Return a square fluorescence image of real tiles."""
    import tifffile

    paths = sorted((DATA / "nuclei" / "val" / "images").glob("*.tif"))
    tiles = [t for t in map(tifffile.imread, paths) if t.shape == (256, 256)]
    n = -(-size // 256)
    rows = [np.concatenate([tiles[(i * n + j) % len(tiles)] for j in range(n)], axis=1) for i in range(n)]
    return np.concatenate(rows, axis=0)[:size, :size]


if __name__ == "__main__":
    main()
