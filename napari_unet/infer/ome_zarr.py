"""OME-Zarr to images and labels: groups of any version, plates with their fields, plain zarr arrays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.infer.tiff import complete_axes, known, micrometres
from napari_unet.whole import put_back

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_unet.infer.lazy import Pixels

ZARR_FILES = (".zgroup", ".zarray", "zarr.json")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr group or array, or is named as one."""
    return path.is_dir() and (path.suffix.lower() == ".zarr" or any((path / name).exists() for name in ZARR_FILES))


def read_zarr(path: Path, labels: bool) -> tuple[Any, str, dict[str, float], tuple[str, ...]]:
    """Read the first image of an OME-Zarr group (0.1 to 0.5) at full size, or a plain zarr array, lazily."""
    try:
        import zarr
    except ImportError as error:
        raise ImageError(f"{path} needs the package zarr to be read: pip install 'zarr>=3.1.3'.") from error
    node: Any = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        names = getattr(node.metadata, "dimension_names", None) or ()
        return node, _axis_letters(names, node), {}, ()
    said = _ome(node)
    if said.get("bioformats2raw.layout"):
        return read_zarr(path / "0", labels)
    if labels and "image-label" not in said and "labels" in node:
        choices = _ome(node["labels"]).get("labels", ())
        if len(choices) > 1:
            listed = ", ".join(choices)
            raise ImageError(f"{path} holds several labels ({listed}), expected one: give {path}/labels/{choices[0]}.")
        if choices:
            put_back(path / "labels" / choices[0])
            node = node[f"labels/{choices[0]}"]
            said = _ome(node)
    if "multiscales" not in said:
        inside = [well["path"] + "/0" for well in said.get("plate", {}).get("wells", ())]
        inside += [image["path"] for image in said.get("well", {}).get("images", ())]
        inside += [str(name) for name in said.get("labels", ())] or sorted(node.keys())
        mend = f"give one image inside it, such as {path}/{inside[0]}" if inside else "give the group of an image"
        raise ImageError(f"{path} is a zarr group without an image of its own, expected OME-Zarr multiscales: {mend}.")
    multiscale = said["multiscales"][0]
    level = multiscale["datasets"][0]
    array = node[level["path"]]
    # a letter each up to version 0.3, nothing but tczyx up to 0.2
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscale.get("axes", "tczyx")]
    letters = _axis_letters([axis["name"] for axis in axes], array)
    steps = [*level.get("coordinateTransformations", ()), *multiscale.get("coordinateTransformations", ())]
    factors = np.prod([step["scale"] for step in steps if "scale" in step] or [[0.0] * array.ndim], axis=0)
    units = [micrometres(axis.get("unit")) or 0 for axis in axes]
    sizes = {letter: f * u for letter, f, u in zip(letters, factors, units, strict=True) if letter in "ZYX"}
    names = [channel.get("label", "") for channel in said.get("omero", {}).get("channels", ())]
    return array, letters, known(sizes), tuple(names) if any(names) else ()


def _ome(group: Any) -> dict[str, Any]:
    """Return the OME metadata of a zarr group: its attributes up to version 0.4, one of them in 0.5."""
    attributes = group.attrs.asdict()
    said: dict[str, Any] = attributes.get("ome", attributes)
    return said


def _axis_letters(names: Iterable[str | None], array: Pixels) -> str:
    """Return our letters for the axis names of a zarr array."""
    axes = "".join(name.upper() if name and len(name) == 1 else "?" for name in names) or "?" * len(array.shape)
    return complete_axes(axes, array.shape, array.dtype)


def fields(plate: Path) -> list[Path]:
    """Return the images of an OME-Zarr plate, well by well; [] of anything else."""
    wells = [plate / well["path"] for well in _said(plate).get("plate", {}).get("wells", ())]
    return [well / image["path"] for well in wells for image in _said(well).get("well", {}).get("images", ())]


def plate_of(image: Path) -> Path | None:
    """Return the OME-Zarr plate that an image is a field of, if it is one."""
    plate = image.resolve().parent.parent.parent
    return plate if _said(image.resolve().parent).get("well") and _said(plate).get("plate") else None


def _said(folder: Path) -> dict[str, Any]:
    """Return what the metadata file of a zarr group says about OME; {} without one."""
    for name in ("zarr.json", ".zattrs"):
        if (folder / name).is_file():
            try:
                attributes = json.loads((folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError):  # whoever reads the image says what is wrong
                return {}
            attributes = attributes.get("attributes", {}) if name == "zarr.json" else attributes
            said: dict[str, Any] = attributes.get("ome", attributes)
            return said
    return {}
