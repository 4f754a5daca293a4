"""The labelled images that benches learn from and score on, and where they are parted.

A model that is scored on a part of a folder must not have learned from it; its recipe leaves the part out by the same
pattern. `nuclei` has learned from all tissue nuclei, so that test says nothing about it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from report import DATA

from napari_unet.infer.read import read_image, read_labels
from napari_unet.learn.evaluate import read_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Set:
    """Some of the images of a folder: those whose names fit a pattern and, with an index, of a modality."""

    folder: str
    names: tuple[str, ...] = ("*",)
    modality: tuple[str, ...] = ()
    index: str = ""


@dataclass(frozen=True)
class Labelled:
    """An image, its axes and its mask."""

    name: str
    image: NDArray[Any]
    axes: str
    mask: NDArray[np.integer[Any]]


def _dsb(*modality: str) -> Set:
    return Set("nuclei/val", modality=modality, index="nuclei/index.csv")


TESTS = {
    "nuclei": _dsb(),
    "nuclei: fluorescence": _dsb("fluo"),
    "nuclei: histology": _dsb("rgb_purple_on_white", "rgb_other"),
    "nuclei: brightfield": _dsb("brightfield_gray"),
    "tissue nuclei: kidney": Set("tissue_nuclei", ("kidney*",)),
    "phase cells": Set("phase_cells", ("train_2[5-9]", "train_3*")),
    "axons": Set("axons", ("rat5*", "rat6*")),
}
LEARNED = {  # what may be learned from, of the folders that have a test part
    "tissue nuclei": Set("tissue_nuclei", ("bone*", "heart*", "liver*", "muscle*")),
    "phase cells": Set("phase_cells", ("train_0*", "train_1*", "train_2[0-4]")),
    "axons": Set("axons", ("rat1*", "rat2*", "rat3*", "rat4*")),
}


def read(which: Set) -> list[Labelled]:
    """Read the images of a set, by name."""
    modality = {}
    if which.index:
        with (DATA / which.index).open(newline="", encoding="utf-8") as file:
            modality = {row["name"]: row["modality"] for row in csv.DictReader(file)}
    found = []
    for image_path, mask_path in read_pairs(DATA / which.folder):
        name = image_path.stem
        fits = any(fnmatch(name, pattern) for pattern in which.names)
        if fits and (not which.modality or modality[name] in which.modality):
            image = read_image(image_path)
            found.append(Labelled(name, image.data, image.axes, read_labels(mask_path)))
    return found
