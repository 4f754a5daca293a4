"""TIFF files, with their axes, channel names and pixel size: OME, ImageJ, LSM and plain."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_unet.infer.image import AXES, MOST_CHANNELS, guess_axes
from napari_unet.infer.lazy import LazyArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# A larger image (in bytes, unpacked) stays in its file; unless that is one large piece, which is unpacked at each read.
LAZY_ABOVE = 2**28
PIECE = 2**26
# Resolutions, in dots per inch, that say how to print and not how large a pixel is.
PRINT_DPI = (1, 72, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 400, 600, 1200)
# TIFF's ResolutionUnit: inch, centimetre, and tifffile's millimetre and micrometre.
RESOLUTION_UNITS = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}
# TIFF's PhotometricInterpretation: RGB, and YCbCr, which its codecs turn into RGB.
COLOURED = (2, 6)

_MICROMETRES = {
    **dict.fromkeys(("m", "meter"), 1e6),
    **dict.fromkeys(("cm", "centimeter"), 1e4),
    **dict.fromkeys(("mm", "millimeter"), 1e3),
    **dict.fromkeys(("µm", "um", "micron", "micrometer"), 1.0),
    **dict.fromkeys(("nm", "nanometer"), 1e-3),
    **dict.fromkeys(("å", "angstrom", "ångström"), 1e-4),
    **dict.fromkeys(("pm", "picometer"), 1e-6),
    **dict.fromkeys(("in", "inch", "inches"), 25400.0),
}


def read_tiff(path: Path) -> tuple[Any, str, dict[str, float], tuple[str, ...]]:
    """Read the first image of a TIFF file, of a pyramid its full size.

    Parameters
    ----------
    path : Path
        TIFF, BigTIFF, OME-TIFF, ImageJ, LSM and what else tifffile knows.

    Returns
    -------
    data : array
        A NumPy array; above 256 MB, unless it is one large piece in its file, a LazyArray. As stored.
    axes : str
        Letters of ``TCZYXS`` for each axis; guessed where the file does not say.
    scale : dict
        µm per pixel of Z, Y, X, where the file says it.
    channel_names : tuple of str
        One for each channel, or empty.

    Raises
    ------
    Exception
        Whatever tifffile and its codecs raise for a damaged file.
    """
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        shape, axes = tuple(series.shape), _letters(series)
        ome = _ome_pixels(tif)
        scale = _ome_scale(ome) if ome is not None else _scale(tif, series)
        channels = shape[axes.index("C")] if "C" in axes else 1
        names = _channel_names(tif, ome, channels, series)
        dtype, start = np.dtype(series.dtype), series.dataoffset
        piece = math.prod(series.keyframe.chunks) * dtype.itemsize
        if series.size * dtype.itemsize <= LAZY_ABOVE or (start is None and piece > PIECE):
            return series.asarray(), axes, scale, names
        stored = dtype.newbyteorder(tif.byteorder)
    data = _open_lazily(path) if start is None else _mapped(path, stored, start, shape)
    return data, axes, scale, names


def complete_axes(axes: str, shape: Sequence[int], dtype: np.dtype[Any]) -> str:
    """Replace letters that are not ours (tifffile's I and Q, "?") by a guess.

    Parameters
    ----------
    axes : str
        One letter for each axis; those of ``TCZYXS`` are believed.
    shape : sequence of int
        Length of each axis.
    dtype : numpy.dtype
        Type of a pixel.

    Returns
    -------
    str
        Letters of ``TCZYXS``; "?" remains where there is none left.
    """
    if set(axes) <= set(AXES):
        return axes
    if len(shape) - ("S" in axes) <= len(AXES) - 1:
        guess = guess_axes(shape, dtype, rgb="S" in axes if set(axes) & set("YX") else None)
        if all(letter in (guessed, *(set(axes) - set(AXES))) for letter, guessed in zip(axes, guess, strict=True)):
            return guess
    free = iter([letter for letter in "ZTC" if letter not in axes])
    return "".join(letter if letter in AXES else next(free, "?") for letter in axes)


def micrometres(unit: object) -> float | None:
    """Return how many µm a unit of length has, None for pixels and unknown units.

    Parameters
    ----------
    unit : object
        A name or symbol in OME's, NGFF's or ImageJ's spelling.

    Returns
    -------
    float or None
        Micrometres in one unit.
    """
    name = str(unit).strip().replace("\\u00B5", "µ").replace("\u03bc", "µ").lower().replace("metre", "meter")
    return _MICROMETRES.get(name, _MICROMETRES.get(name.removesuffix("s")))


def _letters(series: tifffile.TiffPageSeries) -> str:
    """Return the axes of a series; samples are colours only where the file says that they are."""
    axes, shape = series.axes, series.shape
    page = series.keyframe
    if "S" in axes and "C" not in axes:
        coloured = page.photometric in COLOURED
        if not coloured or shape[axes.index("S")] > MOST_CHANNELS:
            axes = axes.replace("S", "C")
    return complete_axes(axes, shape, np.dtype(series.dtype))


def _mapped(path: Path, dtype: np.dtype[Any], start: int, shape: tuple[int, ...]) -> LazyArray:
    """Return an image that lies in its file as it is in memory; mapped anew at each read, so that no page stays."""
    return LazyArray(
        shape, dtype, lambda slices: np.array(np.memmap(path, dtype, mode="r", offset=start, shape=shape)[slices])
    )


def _open_lazily(path: Path) -> Any:
    """Return the first image as an array that is read tile by tile, or in memory without zarr."""
    try:
        import zarr
    except ImportError:
        return tifffile.imread(path, series=0, level=0)
    store = tifffile.imread(path, series=0, level=0, aszarr=True)
    array: Any = zarr.open(store, mode="r")
    lazy = LazyArray(array.shape, array.dtype, lambda slices: np.asarray(array[slices]))
    weakref.finalize(lazy, store.close)
    return lazy


def _ome_pixels(tif: tifffile.TiffFile) -> ElementTree.Element | None:
    """Return the description of the first image of an OME-TIFF."""
    if not tif.is_ome or not tif.ome_metadata:
        return None
    try:
        return ElementTree.fromstring(tif.ome_metadata).find("{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None


def _ome_scale(pixels: ElementTree.Element) -> dict[str, float]:
    """Return µm per pixel from OME's PhysicalSize attributes."""
    sizes = {}
    for letter in "ZYX":
        unit = micrometres(pixels.get(f"PhysicalSize{letter}Unit", "µm"))
        sizes[letter] = _number(pixels.get(f"PhysicalSize{letter}")) * (unit or 0)
    return known(sizes)


def _scale(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> dict[str, float]:
    """Return µm per pixel from LSM or ImageJ metadata, or from resolution tags with a real unit."""
    if tif.lsm_metadata:
        return known({letter: _number(tif.lsm_metadata.get(f"VoxelSize{letter}")) * 1e6 for letter in "ZYX"})
    tags = series.keyframe.tags
    said: Mapping[str, Any] = tif.imagej_metadata or next(iter(tif.shaped_metadata or ()), {})
    unit = micrometres(said.get("unit"))
    sizes = {"Z": _number(said.get("spacing")) * (unit or 0)}
    unit = unit or RESOLUTION_UNITS.get(int(tags.valueof("ResolutionUnit", default=1)), 0)
    for letter in "YX":
        parts, whole = tags.valueof(f"{letter}Resolution", default=(0, 1))
        sizes[letter] = unit * whole / parts if parts else 0
    dpi = 25400 / sizes["X"] if sizes["X"] else 0
    if unit >= RESOLUTION_UNITS[3] and any(abs(dpi - usual) < 0.005 * usual for usual in PRINT_DPI):
        return {}
    return known(sizes)


def known(sizes: Mapping[str, float]) -> dict[str, float]:
    """Keep the sizes that are positive, finite numbers.

    Parameters
    ----------
    sizes : mapping from axis letter to float
        µm per pixel.

    Returns
    -------
    dict
        Those that can be true.
    """
    return {letter: float(size) for letter, size in sizes.items() if 0 < size < math.inf}


def _number(text: object) -> float:
    """Return a number from metadata, 0 if it is none."""
    try:
        return float(str(text))
    except ValueError:
        return 0.0


def _channel_names(
    tif: tifffile.TiffFile, ome: ElementTree.Element | None, channels: int, series: tifffile.TiffPageSeries
) -> tuple[str, ...]:
    """Return the channels' names, from OME, or from ImageJ's labels where each slice is a channel."""
    names: list[str] = []
    if ome is not None:
        names = [channel.get("Name", "") for channel in ome.findall("{*}Channel")]
    elif tif.imagej_metadata and math.prod(series.shape[:-2]) == channels:
        names = [str(label) for label in tif.imagej_metadata.get("Labels", ())]
    return tuple(names) if len(names) == channels and any(names) else ()
