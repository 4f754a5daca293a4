"""What a GPU makes of the shipped network: its own peak, the network by tile size, a whole image, a fine-tuning.

The image is the project's sample of nuclei side by side, so neither data nor a viewer is needed.

    python bench/gpu.py --json gpu.json
    python bench/gpu.py --device cpu --small      a minute on a processor, to see that it runs
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from peak import convolution, finish, median, operations, product
from report import arguments, report

from napari_unet import sample_data
from napari_unet.infer.device import half_precision, pick_device
from napari_unet.infer.engine import engine_for, torch_engine
from napari_unet.infer.instances import decode
from napari_unet.infer.predict import predict_tiles
from napari_unet.infer.seen import prepare
from napari_unet.infer.segment import SegmentSettings, get_ready
from napari_unet.jobs import run
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.targets import training_tile
from napari_unet.learn.train import train
from napari_unet.model import Model

COLUMNS = ("size", "s", "Mpx/s", "TFLOP/s", "of peak", "share", "GB", "note")


def main() -> None:
    """Measure everything and print one table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--small", action="store_true", help="small sizes and few steps, for a processor")
    chosen = parser.parse_args()
    device, model = str(pick_device(chosen.device)), Model.load(chosen.model)
    tiles, sides = ([512], [768]) if chosen.small else ([512, 1024, 1280, 2048, 4096], [2048, 8192])
    rows = peaks(device, chosen.small)
    peak = max(row["TFLOP/s"] for row in rows)
    rows += network(model, device, sides[-1], tiles, peak)
    for side in sides:
        rows += whole(model, device, side)
    rows.append(fine_tuning(model, device, 6 if chosen.small else 300))
    report(rows, chosen.json)


def row(what: str, **found: Any) -> dict[str, Any]:
    """Return a line of the table; what was not measured stays blank."""
    return {"what": what, **dict.fromkeys(COLUMNS, ""), **found}


def peaks(device: str, small: bool) -> list[dict[str, Any]]:
    """Return what the device does at best, in the 16-bit types that it computes in."""
    half = half_precision(torch.device(device)) or torch.float32
    rows = []
    for dtype in [half] if device == "cpu" else [torch.bfloat16, torch.float16]:
        name = str(dtype).removeprefix("torch.")
        side, (wide, batch) = (1024, (128, 1)) if small else (8192, (256, 16))
        rows.append(row(f"product of matrices, {name}", size=f"{side}²", **speed(product(dtype, device, side))))
        done = convolution(dtype, device, wide, 256, batch)
        rows.append(row(f"convolution 3×3, 256 channels, {name}", size=f"{batch}×{wide}²", **speed(done)))
    return rows


def speed(operations_a_second: float) -> dict[str, float]:
    """Return the cell of operations a second."""
    return {"TFLOP/s": operations_a_second / 1e12}


def network(model: Model, device: str, side: int, tiles: list[int], peak: float) -> list[dict[str, Any]]:
    """Return Mpx/s of the network alone, and with all copies and the halo, for several sizes of tiles."""
    engine, work = torch_engine(model.network, device), operations(model.network)
    image, _ = prepare(model, mosaic(side))
    rows = []

    def line(what: str, size: int, seconds: float, pixels: int, note: str) -> None:
        found = {"s": seconds, "Mpx/s": pixels / seconds / 1e6, **speed(work * pixels / seconds)}
        rows.append(row(what, size=f"{size}²", **found, **{"of peak": found["TFLOP/s"] / peak}, GB=memory(), note=note))

    for tile in tiles:
        forget()
        loaded = engine.load(np.ascontiguousarray(np.resize(image, (len(image), tile, tile))))
        with torch.inference_mode():
            seconds = median(lambda loaded=loaded: engine.network(loaded), 5)
        line("network alone, one tile", tile, seconds, tile**2, "no copies, no halo")
    for tile in tiles:
        forget()
        seconds = median(lambda tile=tile: run(predict_tiles(model, image, device, tile=tile)), 3)
        line(f"maps of {side}², tiles of", tile, seconds, side**2, type(engine_for(model.network, device)).__name__)
    return rows


def whole(model: Model, device: str, side: int) -> list[dict[str, Any]]:
    """Return Mpx/s from array to labels, and the shares of network and decoding."""
    image, settings = mosaic(side), SegmentSettings(device=device)
    forget()
    all_of_it = median(lambda: model.segment(image, device=device), 3)
    gigabytes = memory()
    ready = run(get_ready(model, image, None, settings))
    part, _ = ready.seen.read()
    maps = run(ready.maps(part))
    parts = {
        "array to labels": all_of_it,
        "of it: network": median(lambda: run(ready.maps(part)), 3),
        "of it: decoding": median(lambda: decode(model, maps), 1),
    }
    note = f"{decode(model, maps).max()} objects, enlarged {ready.factor:.2f} times"
    return [
        row(
            what,
            size=f"{side}²",
            s=seconds,
            share=seconds / all_of_it,
            GB=gigabytes,
            note=note,
            **{"Mpx/s": side**2 / seconds / 1e6},
        )
        for what, seconds in parts.items()
    ]


def fine_tuning(model: Model, device: str, steps: int) -> dict[str, Any]:
    """Return how long steps of four crops of 256² take, from one known tile of the sample."""
    sample = sample_data.load("nuclei")
    array, _ = prepare(model, sample.image)
    tile = training_tile(array, sample.labels, model.task)
    forget()
    began = time.perf_counter()
    run(train(model, [tile], [], TrainSettings(steps=steps, batch=4, crop=256, checks=0, device=device)))
    finish()
    took = time.perf_counter() - began
    note = f"{steps} steps, {1000 * took / steps:.0f} ms each, no checks"
    return row(
        "fine-tuning", size="4×256²", s=took, GB=memory(), note=note, **{"Mpx/s": steps * 4 * 256**2 / took / 1e6}
    )


def forget() -> None:
    """Begin to measure the GPU's memory anew."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory() -> float | str:
    """Return the GB of the GPU that were in use at most; blank without one."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else ""


def mosaic(side: int) -> np.ndarray:
    """Return the sample of nuclei side by side, mirrored from one to the next so that no edges appear."""
    image = sample_data.load("nuclei").image
    return np.pad(image, [(0, max(side - n, 0)) for n in image.shape], mode="symmetric")[:side, :side]


if __name__ == "__main__":
    main()
