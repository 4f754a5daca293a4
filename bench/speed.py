"""From image file to labels file: seconds and memory of ours, with OpenVINO and with torch only, and of others.

The image is nuclei/val tiles side by side. Each program has its turn in each round, in a process of its own, with its
model loaded and warm; before and after it the machine's own peak is measured, which tells how busy it was. Figures are
medians over the rounds; ratios are of seconds times that peak, so that what else ran meanwhile cancels, roughly.
bench/rivals.py says what is measured of the others; those that none of the Pythons has are left out. Last, the command
as a whole.

    python bench/speed.py --rivals VENV/bin/python OTHER/bin/python --json speed.json
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from report import DATA, arguments, report
from rivals import RIVALS

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
ENGINES = ("OpenVINO", "torch")
PARTS = ("objects", "network s", "masks s", "array s", "file s")
COLUMNS = (*PARTS, "network × ours", "file × ours", "peak GB", "of peak", "machine GFLOP/s", "rounds", "measured")


def main() -> None:
    """Measure each line in a process of its own."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rivals", nargs="+", default=[sys.executable], metavar="PYTHON", help="which may have them")
    parser.add_argument("--repeats", type=int, default=5, help="of ours, in each round")
    parser.add_argument("--one", choices=ENGINES, help="measure ours here and print JSON")
    parser.add_argument("--image", type=Path, help="for --one")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.image, chosen.model, chosen.repeats, chosen.one)))
        return
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for size in chosen.sizes:
            image, truth = Path(folder) / f"{size}.tif", Path(folder) / f"{size}_true.tif"
            tifffile.imwrite(image, mosaic(size))
            tifffile.imwrite(truth, mosaic(size, "masks"))
            ours = [
                sys.executable,
                __file__,
                "--model",
                chosen.model,
                "--repeats",
                chosen.repeats,
                "--image",
                image,
                "--one",
            ]
            asked = {f"ours, {engine}": [[*ours, engine]] for engine in ENGINES}
            for name in RIVALS:
                program = Path(__file__).with_name("rivals.py")
                asked[name] = [[python, program, name, image, truth] for python in chosen.rivals]
            rows += compared(size, asked, chosen.rounds)
        rows += commands(Path(folder) / f"{chosen.sizes[0]}.tif", chosen)
    report(rows, chosen.json)


def compared(size: int, asked: dict[str, list[list[Any]]], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each program that runs: medians over rounds in which each has its turn."""
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):
        first: dict[str, Any] = {}
        for who, ways in asked.items():
            machine = machine_peak()
            said = next(filter(None, map(child, ways)), None)
            if said is None:
                continue
            first = first or said
            said["machine GFLOP/s"] = (machine + machine_peak()) / 2
            if "GFLOP" in said:
                said["of peak"] = said["GFLOP"] / said["network s"] / said["machine GFLOP/s"]
            for part in ("network", "file"):
                if said[f"{part} s"] != "":
                    took, ours = (each[f"{part} s"] * each["machine GFLOP/s"] for each in (said, first))
                    said[f"{part} × ours"] = took / ours
            found.setdefault(who, []).append(said)
    return [{"who": who, "size": size, **medians(lines)} for who, lines in found.items()]


def medians(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each number, and blanks where there is none."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"rounds": len(lines), "measured": lines[0]["measured"]}
    for key in COLUMNS:
        values = [line[key] for line in lines if isinstance(line.get(key), int | float)]
        if values:
            row[key] = statistics.median(values)
    return row


def child(command: list[Any]) -> dict[str, Any] | None:
    """Run a program that prints JSON in its last line; None, and a word on why, if it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        print(*command[:3], "...:", done.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def environment() -> dict[str, str]:
    """Return the variables with which every Python finds this package."""
    paths = (str(ROOT), os.environ.get("PYTHONPATH"))
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def machine_peak() -> float:
    """Return the GFLOP/s of a 3×3 convolution in the precision of our engines."""
    import torch
    from peak import convolution

    from napari_unet.infer.device import half_precision

    return convolution(half_precision(torch.device("cpu")) or torch.float32) / 1e9


def measure(path: Path, name: str, repeats: int, engine: str) -> dict[str, Any]:
    """Segment one file several times."""
    if engine == "torch":
        sys.modules["openvino"] = None  # type: ignore[assignment]  # as if it were not installed
    else:
        import openvino  # noqa: F401  # fails where it is not
    from peak import operations

    from napari_unet.exchange.files import segment_file
    from napari_unet.infer.instances import decode
    from napari_unet.infer.segment import SegmentSettings, get_ready
    from napari_unet.jobs import run
    from napari_unet.model import Model

    model, image, settings = Model.load(name), tifffile.imread(path), SegmentSettings()
    ready = run(get_ready(model, image, None, settings))
    part, _ = ready.seen.read()
    maps = run(ready.maps(part))
    with TemporaryDirectory() as folder:
        target = Path(folder) / "labels.tif"
        took = {
            "network s": timed(lambda: run(ready.maps(part)), repeats),
            "masks s": timed(lambda: decode(model, maps), repeats),
            "array s": timed(lambda: model.segment(image), repeats),
            "file s": timed(lambda: run(segment_file(model, path, target, settings)), repeats),
        }
        objects = int(tifffile.imread(target).max())
    return {
        "objects": objects,
        **took,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "measured": f"model {name}, image enlarged {ready.factor:.2f} times",
        "GFLOP": operations(model.network) * image.size * ready.factor**2 / 1e9,
    }


def timed(does: Callable[[], object], repeats: int) -> float:
    """Return the median seconds that something takes."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        does()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def commands(image: Path, chosen: Any) -> list[dict[str, Any]]:
    """Return a row for the command that segments a file, nothing loaded, and one for the import of torch."""
    output = image.with_suffix("")
    segment = ["-m", "napari_unet", "segment", image, "--output", output, "--model", chosen.model, "--overwrite"]
    rows = []
    for who, rest in (("napari-unet segment", segment), ("import torch", ["-c", "import torch"])):
        command = [sys.executable, *map(str, rest)]
        seconds = timed(
            lambda command=command: subprocess.run(command, check=True, capture_output=True, env=environment()), 3
        )
        measured = "whole process, files in the disk cache"
        rows.append(
            {
                "who": who,
                "size": chosen.sizes[0],
                **dict.fromkeys(COLUMNS, ""),
                "file s": seconds,
                "rounds": 3,
                "measured": measured,
            }
        )
    return rows


def mosaic(size: int, what: str = "images") -> np.ndarray:
    """Return a square fluorescence image of real tiles, or with "masks" its true labels."""
    folder = DATA / "nuclei" / "val"
    paths = sorted((folder / "images").glob("*.tif"))
    tiles = [path for path in paths if tifffile.imread(path).shape == (256, 256)]
    n, last = -(-size // 256), 0
    rows = []
    for i in range(n):
        rows.append([])
        for j in range(n):
            tile = tifffile.imread(folder / what / tiles[(i * n + j) % len(tiles)].name)
            if what == "masks":
                tile = np.where(tile > 0, tile + np.int32(last), 0)
                last = max(last, int(tile.max()))
            rows[-1].append(tile)
    return np.block(rows)[:size, :size]


if __name__ == "__main__":
    main()
