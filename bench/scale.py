"""What size costs: file to labels by image size, maps to objects by their number, blocks by the number of workers.

``images``: a file of real nuclei tiles side by side, each size in a process of its own; peak memory is that of this
process (VmHWM), Python and torch included. Seconds are medians of the repeats, of large images one run.
``virtual``: an OME-Zarr of which only a few blocks hold nuclei; the rest was never written, as around a slide's tissue.
``decode``: maps made from known objects, so the network is left out.
``workers``: the same blocks by one and two dask workers with a thread each, and by two of which one is killed on the
way; starting them and loading the model is not counted. The labels must be the same.

    python bench/scale.py --json scale.json
    python bench/scale.py --parts images --sizes 512 16384
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from report import arguments, report
from speed import mosaic

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 3
ONCE = 4096  # pixels of side from which an image is segmented once
BLOCK = 4096
WIDE, APART = 16, 24  # pixels: the objects of `decode`, and how far it is from one to the next


def main() -> None:
    """Print a table for each part."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048], help="of images, in pixels")
    parser.add_argument("--virtual", type=int, nargs="+", default=[16384], help="of sparse images, in pixels")
    parser.add_argument("--filled", type=int, default=2, help="blocks of a sparse image that hold nuclei")
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--side", type=int, default=3072, help="of the image that workers share, in pixels")
    parser.add_argument("--block", type=int, default=512, help="of its blocks")
    parser.add_argument("--one", nargs=2, help="segment IMAGE TARGET here and print JSON")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(segment_once(chosen.model, Path(chosen.one[0]), Path(chosen.one[1]))))
        return
    found = {}
    for part in chosen.parts:
        print(f"\n{part}")
        with tempfile.TemporaryDirectory() as folder:
            found[part] = PARTS[part](chosen, Path(folder))
        report(found[part], None)
    if chosen.json:
        from report import machine

        chosen.json.write_text(json.dumps({"machine": machine(), **found}, indent=2))


# ---- images


def images(chosen: Any, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each size of a whole image."""
    import tifffile

    rows = []
    for size in chosen.sizes:
        path = folder / f"{size}.tif"
        tifffile.imwrite(path, mosaic(size), tile=(512, 512))
        rows.append({"side": size} | in_processes(chosen.model, path, 1 if size >= ONCE else REPEATS))
        path.unlink()
    return rows


def virtual(chosen: Any, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each size of a sparse image."""
    rows = []
    for size in chosen.virtual:
        path = sparse(folder / f"{size}.ome.zarr", size, chosen.filled)
        rows.append({"side": size, "filled": chosen.filled} | in_processes(chosen.model, path, 1))
    return rows


def sparse(path: Path, size: int, filled: int) -> Path:
    """Write an OME-Zarr image with nuclei in some of its blocks, along the diagonal, over the ends of blocks too."""
    array = new_zarr(path, size)
    tile = mosaic(BLOCK)
    count = max(size // BLOCK, 1)
    for i in range(min(filled, count)):
        at = i * count // min(filled, count) * BLOCK + BLOCK // 4  # a quarter lies in the next block
        side = min(BLOCK, size - at)
        array[at : at + side, at : at + side] = tile[:side, :side]
    return path


def new_zarr(path: Path, size: int) -> Any:
    """Make an empty square OME-Zarr image."""
    import zarr

    group = zarr.open_group(path, mode="w")
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    return group.create_array("0", shape=(size, size), dtype=np.uint8, chunks=(1024, 1024))


def in_processes(model: str, image: Path, repeats: int) -> dict[str, Any]:
    """Segment an image in processes of their own; return what they measured."""
    target = image.with_name(f"{image.name.partition('.')[0]}_labels{image.suffix}")
    said = []
    for _ in range(repeats):
        command = [sys.executable, __file__, "--model", model, "--one", str(image), str(target)]
        said.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
    seconds = statistics.median(each["seconds"] for each in said)
    return said[-1] | {
        "seconds": seconds,
        "s per block": seconds / said[-1]["blocks"],
        "peak GB": max(each["peak GB"] for each in said),
    }


def segment_once(name: str, image: Path, target: Path) -> dict[str, Any]:
    """Segment a file into a file; return seconds and memory."""
    from napari_unet.exchange.files import segment_file
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.jobs import run
    from napari_unet.model import Model

    model = Model.load(name)
    import torch  # so that its memory counts as what was there before

    torch.get_num_threads()
    before, blocks, began = peak(), 1, time.perf_counter()

    def count(progress: Any) -> None:
        nonlocal blocks
        if progress.message.startswith("block "):
            blocks = int(progress.message.split()[-1])

    result = run(segment_file(model, image, target, SegmentSettings()), count)
    seconds = time.perf_counter() - began
    found = {"objects": result.found["objects"], "blocks": blocks, "seconds": seconds}
    return found | {"peak GB": peak(), "before GB": before}


def peak() -> float:
    """Return the most memory that this process has held, in GB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


# ---- decode


def decode(chosen: Any, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each number of objects."""
    from napari_unet.infer.blocks import decode_parts
    from napari_unet.jobs import run
    from napari_unet.model import Model

    model, rows = Model.load(chosen.model), []
    for count in chosen.objects:
        maps = known_maps(count)
        took = []
        for _ in range(REPEATS if count <= 10_000 else 1):
            began = time.perf_counter()
            labels = run(decode_parts(model, maps, 2 * WIDE))
            took.append(time.perf_counter() - began)
        seconds, found = statistics.median(took), int(labels.max())
        row = {"objects": count, "found": found, "Mpixels": labels.size / 1e6, "seconds": seconds}
        rows.append(row | {"µs per object": 1e6 * seconds / count, "ns per pixel": 1e9 * seconds / labels.size})
    return rows


def known_maps(count: int) -> np.ndarray:
    """Return the maps of so many disks, in rows, that nearly touch: background, object, boundary, distance."""
    from napari_unet.learn.targets import inner_edge, normalised_distance

    y, x = np.indices((APART, APART)) - APART // 2
    disk = (np.hypot(y, x) <= WIDE / 2).astype(np.uint32)
    cell = np.stack([0.95 - 0.9 * disk, 0.05 + 0.9 * disk, 0.9 * inner_edge(disk), normalised_distance(disk)])
    columns = int(np.ceil(np.sqrt(count)))
    maps = np.tile(cell.astype(np.float32), (1, -(-count // columns), columns))
    for missing in range(count, columns * -(-count // columns)):  # the last row is not full
        at = missing % columns * APART
        maps[:, -APART:, at : at + APART] = cell[:, :1, :1]
    return maps


# ---- workers


def workers(chosen: Any, folder: Path) -> list[dict[str, Any]]:
    """Return a row for one worker, for two, and for two of which one is killed."""
    from napari_unet.exchange.cluster import connect, segment_blocks
    from napari_unet.exchange.work import CHUNK, begin
    from napari_unet.infer import blocks
    from napari_unet.infer.read import read_labels
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.jobs import run
    from napari_unet.model import Model

    os.environ["OMP_NUM_THREADS"] = "1"  # the share of each worker
    import torch

    torch.set_num_threads(1)
    blocks.PIXELS[2], CHUNK[2] = chosen.block**2, min(chosen.block, CHUNK[2])  # the plan hands them on to the workers
    image = folder / "image.ome.zarr"
    new_zarr(image, chosen.side)[...] = mosaic(chosen.side)
    model, rows, first = Model.load(chosen.model), [], None
    for name, count, kill in (("1", 1, False), ("2", 2, False), ("2, one killed", 2, True)):
        with connect(count) as client:
            work = run(begin(model, image, folder / f"{name}.ome.zarr", SegmentSettings()))
            client.run(warm, work)
            total = len(work.blocks)
            before, began = processor(client), time.perf_counter()
            run(segment_blocks(client, work), killer(client, f"block {total // 3} of {total}") if kill else None)
            seconds, used = time.perf_counter() - began, processor(client) - before
        labels = read_labels(work.target)
        first = (seconds, labels) if first is None else first
        row = {"workers": name, "blocks": total, "seconds": seconds, "times one": first[0] / seconds}
        row |= {
            "processor s": None if kill else used
        }  # on a busy machine the fairer measure; of the dead it is not known
        rows.append(row | {"s per block": seconds / total, "same labels": bool((labels == first[1]).all())})
    return rows


def processor(client: Any) -> float:
    """Return the seconds that processors have spent on the workers."""
    return sum(client.run(time.process_time).values())


def warm(work: Any) -> None:
    """Do in a worker what its first block would have to wait for."""
    from napari_unet.exchange.cluster import _opened, _plan_of
    from napari_unet.infer import blocks
    from napari_unet.jobs import run

    opened = _opened(work.folder, _plan_of(work))
    run(blocks.look(opened.ready, opened.blocks[0], opened.faces[opened.blocks[0].place]))


def killer(client: Any, when: str) -> Callable[[Any], None]:
    """Return what kills a worker at a message of the job."""

    def kill(progress: Any) -> None:
        if progress.message == when:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    return kill


PARTS: dict[str, Callable[[Any, Path], list[dict[str, Any]]]] = {
    "images": images,
    "virtual": virtual,
    "decode": decode,
    "workers": workers,
}

if __name__ == "__main__":
    main()
