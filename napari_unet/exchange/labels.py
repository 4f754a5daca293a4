"""Labels to OME-TIFF, which other programs read, at once or tile by tile."""

from __future__ import annotations

import io
import os
import re
import tempfile
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_unet.infer.ome_zarr import plate_of
from napari_unet.model_file import code_version
from napari_unet.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.exchange.ome_zarr import LabelImage

    Labels = NDArray[np.uint8] | NDArray[np.uint32]

SOFTWARE = "napari-unet"  # in TIFF's tag of this name: nobody has saved the file again since
ENDING = "_labels"  # of the names of label files; an image NAME gives NAME_labels
TILE = 1024  # side in pixels of the pieces of a label image on disk


def write_tiff(path: Path, labels: Labels, axes: str, scale: Mapping[str, float], name: str = "") -> None:
    """Write labels as OME-TIFF, packed, whole or not at all; an older file is replaced.

    Parameters
    ----------
    path : Path
        Where to; the folder must exist.
    labels : uint8 or uint32 array
        0 = background. uint32 is OME's, not ImageJ's: Fiji opens it with Bio-Formats.
    axes : str
        A letter of ``TZYX`` for each axis.
    scale : mapping from axis letter to float
        Pixel size in µm, for those of Z, Y and X where it is known.
    name : str
        Of the labels.
    """
    if axes == "X":  # a profile is an image of one row
        labels, axes = labels[np.newaxis], "YX"
    file = io.BytesIO()  # packed labels are small
    tifffile.imwrite(file, labels, **_described(labels.shape, labels.dtype, axes, scale, name))
    write_whole(path, file.getvalue())


def _described(
    shape: Sequence[int], dtype: np.dtype[Any], axes: str, scale: Mapping[str, float], name: str
) -> dict[str, Any]:
    """Return what tifffile writes beside the labels."""
    metadata: dict[str, Any] = {"axes": axes}
    ordered = axes in ("YX", "ZYX", "TYX", "TZYX", "ZTYX")
    if ordered:
        metadata["Name"] = name
        for letter in scale:
            metadata |= {f"PhysicalSize{letter}": scale[letter], f"PhysicalSize{letter}Unit": "µm"}
    resolution: dict[str, Any] = {}
    if {"X", "Y"} <= set(scale):
        resolution = {"resolution": (1e4 / scale["X"], 1e4 / scale["Y"]), "resolutionunit": "CENTIMETER"}
    return {
        "ome": ordered,
        "bigtiff": prod(shape) * dtype.itemsize > 2**32 - 2**25,
        "photometric": "minisblack",
        "compression": "zlib",
        "software": f"{SOFTWARE} {code_version()}",
        "metadata": metadata,
        **resolution,
    }


def stream_tiff(path: Path, image: LabelImage, name: str = "") -> None:
    """Write a label image as tiled OME-TIFF, whole or not at all, with a tile in memory at a time."""
    array: Any = image.array()
    shape = array.shape if array.ndim > 1 else (1, *array.shape)
    axes = image.axes if array.ndim > 1 else "YX"
    side = [min(TILE, -(-n // 16) * 16) for n in shape[-2:]]

    def tiles() -> Iterator[NDArray[Any]]:
        for place in np.ndindex(*shape[:-2], *(-(-n // s) for n, s in zip(shape[-2:], side, strict=True))):
            at = [slice(i * s, (i + 1) * s) for i, s in zip(place[-2:], side, strict=True)]
            part = array[(*place[:-2], *at)] if array.ndim > 1 else array[at[-1]][np.newaxis]
            whole = np.zeros(side, array.dtype)
            whole[: part.shape[0], : part.shape[1]] = part
            yield whole

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)  # tifffile asks a file for its name
    try:
        with open(temporary, "wb") as file:
            described = _described(shape, array.dtype, axes, image.scale, name)
            tifffile.imwrite(file, tiles(), shape=shape, dtype=array.dtype, tile=side, maxworkers=1, **described)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def written_here(path: Path) -> bool:
    """Return whether a file is labels that :func:`write_tiff` wrote and no other program has saved since."""
    try:
        with tifffile.TiffFile(path) as tif:
            return str(tif.pages.first.tags.valueof("Software", default="")).startswith(SOFTWARE)
    except (OSError, ValueError):  # tifffile's own error is a ValueError
        return False


def stem_of(image: Path) -> str:
    """Return a file's name without its suffix, and without OME's second one; of a field PLATE_ROW_COLUMN_FIELD."""
    plate = plate_of(image) if image.is_dir() else None
    if plate is not None:
        return "_".join((stem_of(plate), *image.resolve().relative_to(plate).parts))
    stem = image.name.removesuffix(image.suffix)
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def target_of(image: Path, output: Path, name: str) -> Path:
    """Return the label file that an image gives in a folder; an OME-Zarr that is its own folder gets it inside."""
    if not image.is_dir():
        return output / f"{stem_of(image)}{ENDING}.tif"
    if output.resolve() in (image.resolve(), plate_of(image)):
        return image / "labels" / (re.sub(r"[^\w.-]+", "_", name).strip("._") or "labels")
    return output / f"{stem_of(image)}{ENDING}.ome.zarr"
