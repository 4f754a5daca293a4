"""Make the sample images: ``python -m napari_unet.sample_data.make [FOLDER]``.

All four are drawn from models, with a fixed seed each, by numpy and scipy alone; no pixel comes from a
microscope. The labels are not drawn afterwards: they are the model's own answer to which object a pixel is
deepest inside of, so they are exact.

=========== ============================== ==============================================================
sample      objects                        imaging
=========== ============================== ==============================================================
nuclei      bent, bumpy ellipses with      widefield: light summed along the path, focus that differs
            chromatin and nucleoli, in     from nucleus to nucleus, stray light, uneven illumination,
            clumps; few in mitosis         shot and read noise, 12 bit camera
cells       bodies with tapering arms,     phase contrast: phase by thickness, less its blurred
            joined smoothly; some round    surroundings (halo, shade-off); meniscus, debris, noise
nuclei_3d   the same nuclei in space       confocal: blur along the axis, attenuation with depth, haze
movie       the same nuclei; they walk,    widefield, bleaching
            grow, push, and two divide
=========== ============================== ==============================================================

`scene` places objects and decides on the labels, `fluorescence` and `phase_contrast` hold the models.
The same seed gives the same arrays (on another processor a few pixels may differ by one grey value, where
the last bit of a floating-point number decides on a rounding).
"""

from __future__ import annotations

import argparse
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tifffile

from napari_unet import sample_data
from napari_unet.sample_data import fluorescence, phase_contrast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Generator = Callable[[int], tuple[NDArray[Any], NDArray[Any]]]

FRAME_MINUTES = 10.0  #: time between two frames of the movie

GENERATORS: dict[str, tuple[Generator, int]] = {
    "nuclei": (fluorescence.nuclei, 10),
    "cells": (phase_contrast.cells, 8),
    "nuclei_3d": (fluorescence.nuclei_3d, 6),
    "movie": (fluorescence.movie, 6),
}


def make(name: str) -> sample_data.Sample:
    """Make one sample from its seed; raises ImageError for an unknown name, as `sample_data.path` does."""
    sample_data.path(name)
    generate, seed = GENERATORS[name]
    image, labels = generate(seed)
    return sample_data.Sample(name, image, labels, sample_data.AXES[name], sample_data.SCALES[name])


def write(sample: sample_data.Sample, folder: Path) -> list[Path]:
    """Write image and labels as OME-TIFF with axes and pixel size; the same arrays give the same bytes."""
    metadata: dict[str, Any] = {"axes": sample.axes}
    for axis, size in sample.scale.items():
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    if "T" in sample.axes:
        metadata |= {"TimeIncrement": FRAME_MINUTES, "TimeIncrementUnit": "min"}
    written = []
    for stem, array in ((sample.name, sample.image), (f"{sample.name}_labels", sample.labels)):
        target = folder / f"{stem}.tif"
        tifffile.imwrite(
            target,
            array,
            ome=True,
            photometric="minisblack",
            compression="zlib",
            compressionargs={"level": 9},
            predictor=True,
            resolution=(1e4 / sample.scale["X"], 1e4 / sample.scale["Y"]),
            resolutionunit="CENTIMETER",
            metadata=metadata | {"Name": stem, "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, stem)}"},
        )
        written.append(target)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all samples and write them, by default over those of the package."""
    parser = argparse.ArgumentParser(description="Make the sample images.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(sample_data.__file__).parent)
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in sample_data.names():
        sample = make(name)
        for file in write(sample, folder):
            sys.stdout.write(f"{file}: {file.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
