"""Labels to files that other programs read: OME-TIFF, and OME-Zarr label images."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_unet.model_file import code_version
from napari_unet.whole import replace_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Labels = NDArray[np.uint8] | NDArray[np.uint32]

SOFTWARE = "napari-unet"  # in TIFF's tag of this name: nobody has saved the file again since
CHUNK = 1024  # side in pixels of the pieces of a label image on disk


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
    metadata: dict[str, Any] = {"axes": axes}
    if axes == "X":  # a profile is an image of one row
        labels, metadata["axes"] = labels[np.newaxis], "YX"
    ordered = axes in ("X", "YX", "ZYX", "TYX", "TZYX", "ZTYX")
    if ordered:
        metadata["Name"] = name
        for letter in scale:
            metadata |= {f"PhysicalSize{letter}": scale[letter], f"PhysicalSize{letter}Unit": "µm"}
    resolution: dict[str, Any] = {}
    if {"X", "Y"} <= set(scale):
        resolution = {
            "resolution": (1e4 / scale["X"], 1e4 / scale["Y"]),
            "resolutionunit": "CENTIMETER",
        }
    file = io.BytesIO()  # packed labels are small
    tifffile.imwrite(
        file,
        labels,
        ome=ordered,
        bigtiff=labels.nbytes > 2**32 - 2**25,
        photometric="minisblack",
        compression="zlib",
        software=f"{SOFTWARE} {code_version()}",
        metadata=metadata,
        **resolution,
    )
    write_whole(path, file.getvalue())


def written_here(path: Path) -> bool:
    """Return whether a file is labels that :func:`write_tiff` wrote and no other program has saved since."""
    try:
        with tifffile.TiffFile(path) as tif:
            return str(tif.pages.first.tags.valueof("Software", default="")).startswith(SOFTWARE)
    except (OSError, ValueError):  # tifffile's own error is a ValueError
        return False


def write_zarr(path: Path, labels: Labels, axes: str, scale: Mapping[str, float], origin: Mapping[str, str]) -> None:
    """Write labels as an OME-Zarr label image, whole or not at all; an older one is replaced.

    One level of resolution: napari can paint on such a layer and not on a pyramid.

    Parameters
    ----------
    path : Path
        The label image. In the ``labels`` group of an OME-Zarr image it is entered into the list there, and has
        that image's version; anywhere else it stands alone, as OME-Zarr 0.5.
    labels : uint8 or uint32 array
        0 = background.
    axes : str
        A letter of ``TZYX`` for each axis.
    scale : mapping from axis letter to float
        Pixel size in µm, for those of Z, Y and X where it is known.
    origin : mapping from str to str
        Which model made them, kept beside the labels.
    """
    import zarr

    inside = path.parent.name == "labels" and _is_group(path.parent.parent)
    version2 = inside and not (path.parent.parent / "zarr.json").exists()
    if inside:
        zarr.open_group(path.parent, mode="a", zarr_format=2 if version2 else 3)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        group = zarr.open_group(temporary, mode="w", zarr_format=2 if version2 else 3)
        array = group.create_array(
            "0",
            shape=labels.shape,
            dtype=labels.dtype,
            chunks=tuple(min(n, CHUNK if i >= labels.ndim - 2 else 1) for i, n in enumerate(labels.shape)),
            chunk_key_encoding={"name": "v2" if version2 else "default", "separator": "/"},
            dimension_names=None if version2 else list(axes.lower()),
        )
        array[...] = labels
        said = _metadata(axes, scale, "0.4" if version2 else "0.5")
        group.attrs.update((said if version2 else {"ome": said}) | {SOFTWARE: dict(origin)})
        temporary.chmod(0o755)  # mkdtemp makes folders that only their owner may open
        replace_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if inside:
        _enter(path)


def _metadata(axes: str, scale: Mapping[str, float], version: str) -> dict[str, Any]:
    """Return what NGFF says about a label image."""
    kinds = {"T": "time"}
    described: list[dict[str, str]] = []
    for letter in axes:
        unit = {"unit": "micrometer"} if letter in scale else {}
        described.append({"name": letter.lower(), "type": kinds.get(letter, "space"), **unit})
    steps = [{"type": "scale", "scale": [float(scale.get(letter, 1)) for letter in axes]}]
    level = {"path": "0", "coordinateTransformations": steps}
    multiscale: dict[str, Any] = {"name": "labels", "axes": described, "datasets": [level]}
    if version == "0.4":
        multiscale["version"] = version
        return {"multiscales": [multiscale], "image-label": {"version": version}}
    return {"version": version, "multiscales": [multiscale], "image-label": {}}


def _enter(path: Path) -> None:
    """List a label image in the ``labels`` group that it lies in, and in consolidated metadata if there are any."""
    import zarr

    group = zarr.open_group(path.parent, mode="a", use_consolidated=False)
    said: dict[str, Any] = dict(group.attrs.asdict())
    listed = said.setdefault("ome", {"version": "0.5"}) if group.metadata.zarr_format == 3 else said
    listed["labels"] = list(dict.fromkeys([*listed.get("labels", ()), path.name]))
    group.attrs.update(said)
    image = path.parent.parent
    if zarr.open_group(image, mode="r").metadata.consolidated_metadata is not None:
        zarr.consolidate_metadata(image)


def _is_group(folder: Path) -> bool:
    return (folder / "zarr.json").exists() or (folder / ".zgroup").exists()
