"""Files to images and labels: TIFF, PNG, JPEG, BMP, NPY, OME-Zarr, and what installed napari readers open."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.infer.image import Image, check_axes, check_pixels, guess_axes
from napari_unet.infer.lazy import LazyArray, Pixels, as_pixels, view
from napari_unet.infer.ome_zarr import fields, is_zarr, read_zarr
from napari_unet.infer.tiff import LAZY_ABOVE, known, micrometres, read_tiff
from napari_unet.whole import put_back

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

TIFF = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk", ".svs", ".ndpi", ".scn", ".qptiff")
# Read through installed napari readers; only needed to find images in a folder.
MICROSCOPES = (
    ".czi",
    ".nd2",
    ".lif",
    ".oib",
    ".oif",
    ".oir",
    ".vsi",
    ".ims",
    ".dv",
    ".mrc",
    ".nrrd",
    ".webp",
)
SUFFIXES = (*TIFF, ".png", ".jpg", ".jpeg", ".bmp", ".npy", ".zarr", *MICROSCOPES)

# What decoders raise for a file that is truncated or is not what its name says.
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    ImportError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    struct.error,
    zlib.error,
)
_Found = tuple[Any, str, dict[str, float], tuple[str, ...]]  # data, axes, µm per pixel, channel names


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read an image with what its file says about axes, channels and pixel size.

    Parameters
    ----------
    path : path
        A file, or an OME-Zarr folder.

    Returns
    -------
    Image
        Bool, integer or float in this machine's byte order; T, C, Z and S of length 1 and transparency are
        dropped. OME-Zarr and TIFFs above 256 MB stay on disk (LazyArray).

    Raises
    ------
    ImageError
        If it is not there, cannot be read, or is not an image.
    """
    where = _existing(path)
    return _image(where, *_load(where, labels=False))


def read_labels(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read a mask: the number of an object, or class, in each pixel.

    Parameters
    ----------
    path : path
        A file, or an OME-Zarr folder; of an OME-Zarr image its labels, if there is one group of them.

    Returns
    -------
    integer array, ``(*spatial)``
        0 = background. Numbers as stored; bool becomes uint8, whole floats become uint32.

    Raises
    ------
    ImageError
        If it cannot be read, is in colours, or holds negative or broken numbers.
    """
    where = _existing(path)
    found = _image(where, *_load(where, labels=True))
    if "S" in found.axes:
        raise ImageError(
            f"{where.name} is in colours, expected one whole number for each pixel (0 = background): "
            "save the labels themselves, not a picture of them."
        )
    labels = np.asarray(found.data)
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    least, most = labels.min(), labels.max()
    whole = labels.dtype.kind != "f" or bool(np.isfinite(labels).all() and (labels == np.floor(labels)).all())
    if not whole or least < 0 or most > np.iinfo(np.uint32).max:
        raise ImageError(
            f"{where.name} holds {'' if whole else 'broken '}numbers from {least:g} to {most:g}, expected 0 "
            "(background) and whole numbers up to 4294967295 for objects: save the labels as uint16 or uint32."
        )
    return labels.astype(np.uint32) if labels.dtype.kind == "f" else labels


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images in a folder, in the order in which people count (2 before 10).

    Parameters
    ----------
    folder : path
        A folder, or one image, which is then the only one.

    Returns
    -------
    list of Path
        Files with a known suffix and OME-Zarr folders, of an OME-Zarr plate the fields of its wells; hidden ones and
        folders inside are left out.

    Raises
    ------
    ImageError
        If the folder is not there or holds no image.
    """
    where = _existing(folder)
    if not where.is_dir() or is_zarr(where):
        return fields(where) or [where]
    found = [
        entry
        for entry in where.iterdir()
        if not entry.name.startswith(".") and (is_zarr(entry) if entry.is_dir() else entry.suffix.lower() in SUFFIXES)
    ]
    if not found:
        raise ImageError(
            f"{where} holds no images, expected TIFF, PNG, JPEG, NPY or OME-Zarr: give the folder with them."
        )
    found.sort(key=lambda entry: _counted(entry.name))
    return [image for entry in found for image in fields(entry) or [entry]]


def _counted(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers inside names by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name.lower()) if part]


def _existing(path: str | os.PathLike[str]) -> Path:
    where = Path(path).expanduser()
    put_back(where)
    if not where.exists():
        raise ImageError(f"{where} does not exist, expected an image or a folder of images: check the path.")
    return where


def _load(path: Path, labels: bool) -> _Found:
    """Read with the reader for the suffix; whatever goes wrong becomes an ImageError."""
    suffix = path.suffix.lower()
    try:
        if is_zarr(path):
            return read_zarr(path, labels)
        if path.is_dir():
            raise ImageError(f"{path} is a folder, expected one image: give a file, or an OME-Zarr folder.")
        if suffix in TIFF:
            return read_tiff(path)
        if suffix in (".png", ".jpg", ".jpeg", ".bmp"):
            picture = _read_picture(path, labels)
            return picture, "YXS"[: picture.ndim], {}, ()
        if suffix == ".npy":
            large = path.stat().st_size > LAZY_ABOVE
            array = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
            check_pixels(array, path.name)
            return array, guess_axes(array.shape, array.dtype), {}, ()
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    return _read_with_napari(path, labels)


def _unreadable(path: Path, error: Exception) -> ImageError:
    first_line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return ImageError(
        f"{path} could not be read ({first_line}), expected a whole image: "
        "copy it again, or open it elsewhere and save it as TIFF."
    )


def _image(path: Path, data: Any, axes: str, scale: Mapping[str, float], names: Iterable[str]) -> Image:
    """Check what was read; drop axes of length 1 and transparency."""
    pixels = as_pixels(data)
    check_pixels(pixels, path.name)
    axes = check_axes(axes, pixels.shape, path.name)
    if not isinstance(pixels, np.ndarray):
        pixels = _guarded(pixels, path)
    index: list[int | slice] = []
    for letter, length in zip(axes, pixels.shape, strict=True):
        alone = letter not in "YX" and length <= (2 if letter == "S" else 1)
        index.append(0 if alone else slice(0, 3) if letter == "S" else slice(None))
    kept = "".join(letter for letter, item in zip(axes, index, strict=True) if isinstance(item, slice))
    name = path.name.removesuffix(path.suffix)
    return Image(
        data=view(pixels, tuple(index)),
        axes=kept,
        scale={letter: size for letter, size in scale.items() if letter in kept},
        name=name[:-4] if name.lower().endswith(".ome") else name,
        channel_names=tuple(names),
        source=str(path),
    )


def _guarded(pixels: Pixels, path: Path) -> LazyArray:
    """Return a lazy array that raises ImageError where its file turns out to be damaged."""

    def read(slices: tuple[slice, ...]) -> NDArray[Any]:
        try:
            return np.asarray(pixels[slices])
        except _DAMAGED as error:
            raise _unreadable(path, error) from error

    return LazyArray(pixels.shape, pixels.dtype, read)


def _read_picture(path: Path, labels: bool) -> NDArray[Any]:
    """Read PNG, JPEG or BMP (YX or YXS); of a palette the colours, or the indices if labels are wanted."""
    if path.suffix.lower() == ".png" and not labels:
        import imagecodecs  # Pillow makes 8 bits of 16-bit colours

        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    from PIL import Image as Pillow  # imagecodecs fills the missing end of a JPEG with grey

    with Pillow.open(path) as picture:
        if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV") or (picture.mode == "P" and not labels):
            return np.asarray(picture.convert("RGB"))
        return np.asarray(picture)


# ---- napari readers


def _read_with_napari(path: Path, labels: bool) -> _Found:
    """Read through the reader that an installed napari plugin offers; needs neither Qt nor a viewer."""
    try:
        import npe2
    except ImportError as error:
        raise _no_reader(path) from error
    npe2.PluginManager.instance().discover()
    if not any(npe2.PluginManager.instance().iter_compatible_readers([str(path)])):
        raise _no_reader(path)
    try:
        layers: list[Any] = [
            (*layer, *({}, "image")[len(layer) - 1 :]) for layer in npe2.read([str(path)], stack=False)
        ]
    except Exception as error:  # another project's code may raise anything
        raise ImageError(
            f"{path} could not be read by a napari reader ({error}), expected an image: save it as OME-TIFF."
        ) from error
    layers = [layer for layer in layers if layer[2] == ("labels" if labels else "image")] or layers
    if not layers or layers[0][0] is None or layers[0][2] not in ("image", "labels"):
        raise ImageError(f"{path} holds no image layer, expected one: open it in napari and save the image as TIFF.")
    arrays = [layer[0][0] if isinstance(layer[0], list | tuple) else layer[0] for layer in layers]
    said: dict[str, Any] = dict(layers[0][1])
    data, channel_axis = as_pixels(arrays[0]), said.get("channel_axis")
    same = len({(tuple(array.shape), array.dtype) for array in arrays}) == 1
    if len(arrays) > 1 and same and layers[0][2] == "image" and not said.get("rgb"):  # a layer for each channel
        data, channel_axis = np.stack([np.asarray(array) for array in arrays]), 0
    return data, *_napari_metadata(said, data, channel_axis), ()


def _napari_metadata(said: Mapping[str, Any], data: Pixels, channel_axis: int | None) -> tuple[str, dict[str, float]]:
    """Return axes and µm per pixel from the keyword arguments that a reader gives for a layer."""
    shape = list(data.shape)
    if channel_axis is not None:
        shape.pop(channel_axis)
    rgb = said.get("rgb") if channel_axis is None else False
    labels = [str(label).upper() for label in said.get("axis_labels") or ()]
    axes = guess_axes(shape, data.dtype, rgb)
    stack = axes.removesuffix("S")
    if channel_axis is not None and "C" in stack:
        stack = stack.replace("C", "Z" if "Z" not in stack else "T")
    if len(labels) == len(stack) and set(labels) <= set("TCZYX") and len(set(labels)) == len(labels):
        stack = "".join(labels)
    units = said.get("units")
    units = [units] * len(stack) if units is None or isinstance(units, str) else [str(unit) for unit in units]
    pairs = zip(stack, said.get("scale") or (), units, strict=False)
    scale = known({letter: size * (micrometres(unit) or 0) for letter, size, unit in pairs if letter in "ZYX"})
    axes = stack + "S" * axes.endswith("S")
    return (axes if channel_axis is None else axes[:channel_axis] + "C" + axes[channel_axis:]), scale


def _no_reader(path: Path) -> ImageError:
    return ImageError(
        f"{path.name} has the suffix {path.suffix!r}, which nothing installed here reads, expected TIFF, "
        "PNG, JPEG, NPY or OME-Zarr: save it as OME-TIFF, or install a napari reader for it."
    )
