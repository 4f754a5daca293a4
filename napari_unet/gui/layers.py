"""What a napari layer is to the model: array, axes, place in the world."""

from __future__ import annotations

import gc
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.gui.regions import whole
from napari_unet.infer.image import AXES, guess_axes, percentiles
from napari_unet.infer.lazy import Cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_unet.gui.regions import Region

# Pixels of a plane, and of an image, that the viewer holds labels of in memory. Of a larger one it holds a window.
PLANE, LARGEST = 2**25, 2**28
ONLY_SEEN = "napari-unet: only seen"  # in the metadata of a layer: a picture of ours, nothing to segment or correct
KNOWN_AXES = {
    1: ("X",),
    2: ("YX",),
    3: ("ZYX", "TYX", "CYX", "YXC"),
    4: ("TZYX", "CZYX", "ZCYX", "CTYX", "TCYX"),
    5: ("TZCYX", "TCZYX", "CTZYX"),
}
GLANCE = 2**18  # pixels that a look at a channel takes in: a few milliseconds


@contextmanager
def keep_active(viewer: Viewer) -> Iterator[None]:
    """Add layers in this context while the active one stays so, and with it the tool that is in hand."""
    selection = viewer.layers.selection
    active = selection.active
    if active is None:
        yield
        return
    with selection.events.active.blocker():
        yield
        selection.active = active


def remove(viewer: Viewer, layer: Layer | None) -> None:
    """Remove a layer if it is there, at once: napari looks for garbage then, in all that there is for 0.3 s."""
    if layer is not None and layer in viewer.layers:
        gc.freeze()
        try:
            viewer.layers.remove(layer)
        finally:
            gc.unfreeze()


@dataclass(frozen=True, eq=False)
class Source:
    """An image layer as it was when it was looked at.

    Attributes
    ----------
    layer : napari Image layer
        Where it comes from.
    data : array
        Its pixels; of a pyramid one level.
    axes : str
        One letter for each axis of `data`.
    level : int
        Of a pyramid.
    window : tuple of slice or None
        Of an image too large to hold all of its labels: the part that `data` is, in pixels of the labels of its level.
    """

    layer: Image
    data: Any
    axes: str
    level: int = 0
    window: Region | None = None

    @property
    def name(self) -> str:
        """What it is called in the journal: the image, and of a window its place."""
        if self.window is None:
            return str(self.layer.name)
        return f"{self.layer.name} [{', '.join(f'{w.start}:{w.stop}' for w in self.window)}]"

    @property
    def large(self) -> bool:
        """Whether this is all of an image too large to hold all of its labels: there is no layer of labels for it."""
        return self.window is None and isinstance(self.data, Cut)

    @property
    def entire(self) -> Any:
        """The pixels of all of the image at this level."""
        return Cut(self.data.whole, None, self.data.measured) if isinstance(self.data, Cut) else self.data

    def within(self, region: Region) -> Region:
        """Return a region, in pixels of the labels, in pixels of those of all of the image."""
        window = self.window or tuple(slice(0, 0) for _ in region)
        return tuple(slice(w.start + r.start, w.start + r.stop) for w, r in zip(window, region, strict=True))

    def named(self, name: str) -> Source | None:
        """Return the window of this name, if it is one of this image at full size."""
        place = name.removeprefix(self.layer.name)
        found = [tuple(map(int, pair)) for pair in re.findall(r"(\d+):(\d+)", place)]
        if len(found) != len(self.shape) or any(stop > n for (_, stop), n in zip(found, self.shape, strict=True)):
            return None
        window = self.cut(0, tuple(slice(start, stop) for start, stop in found))
        return window if window.name == name else None

    def cut(self, level: int, window: Region) -> Source:
        """Return a window of a large image."""
        whole = level_of(self.layer, level)
        at = dict(zip(self.kept, window, strict=True))
        region = [at.get(i, slice(0, n)) for i, n in enumerate(whole.shape)]
        for i, letter in enumerate(self.axes):
            if letter == "C":
                region[i] = slice(0, whole.shape[i])
        measured = self.data.measured if level == self.level else self.data.measured.setdefault(level, {})
        return Source(self.layer, Cut(whole, region, measured), self.axes, level, window)

    @property
    def kept(self) -> list[int]:
        """The axes of the layer that the labels have too: all but channels, if these come first.

        napari lays layers over each other from the last axis on: without channels in the middle, the slices of the
        labels would lie over the channels of the image. There the labels have one pixel, as wide as all channels.
        """
        return [i for i, letter in enumerate(self.axes.replace("S", "")) if i or letter != "C"]

    @property
    def letters(self) -> str:
        """What the axes of the labels are."""
        return "".join(self.axes[i] for i in self.kept)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels: the image's without channels, or with one pixel in their place."""
        return tuple(1 if self.axes[i] == "C" else int(self.data.shape[i]) for i in self.kept)

    @property
    def step(self) -> tuple[float, ...]:
        """Pixels of the layer per pixel of the labels, for each of their axes."""
        full, mine = level_of(self.layer, 0).shape, level_of(self.layer, self.level).shape
        return tuple(full[i] / (1 if self.axes[i] == "C" else mine[i]) for i in self.kept)

    def plain(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the labels' axes without that of channels: the core knows none in labels."""
        return array.squeeze(tuple(axis for axis, letter in enumerate(self.letters) if letter == "C"))

    @property
    def channels(self) -> int:
        """How many channels there are to choose from; 0 if there is no such axis."""
        return int(self.data.shape[self.axes.index("C")]) if "C" in self.axes else 0

    def is_current(self) -> bool:
        """Return whether the layer still shows these data."""
        return level_of(self.layer, self.level) is (self.data.whole if isinstance(self.data, Cut) else self.data)


def choices_of_axes(layer: Image) -> list[str]:
    """Return the axes that a layer may have, the likely ones first.

    Raises
    ------
    ImageError
        If the layer has too many axes.
    """
    ndim = layer.ndim
    rgb = bool(layer.rgb)
    said = "".join(str(label).upper() for label in layer.axis_labels)
    known = set(AXES) - {"S"}  # which axis holds red, green, blue napari knows itself
    named = len(said) == ndim and set(said) <= known and len(set(said)) == ndim and said.endswith(("X", "XC"))
    guess = said + "S" * rgb if named else guess_axes(level_of(layer, 0).shape, layer.dtype, rgb)
    others = [axes + "S" * rgb for axes in KNOWN_AXES.get(ndim, ()) if not (rgb and "C" in axes)]
    return list(dict.fromkeys([guess, *others]))


def is_image(layer: Any) -> bool:
    """Return whether a layer is an image to work on."""
    from napari.layers import Image

    return isinstance(layer, Image) and ONLY_SEEN not in layer.metadata


def look_at(layer: Image, axes: str | None = None) -> Source:
    """Return what a layer shows.

    Raises
    ------
    ImageError
        If it has too many axes, or its channels do not come before its rows.
    """
    axes = axes or choices_of_axes(layer)[0]
    if channels_within(axes) is not None:
        raise ImageError(
            f"The channels of {layer.name!r} do not come before its rows ({axes}), so that napari cannot show its "
            "planes: split them into layers, or choose other axes."
        )
    source = Source(layer, level_of(layer, 0), axes)
    if math.prod(source.shape[-2:]) <= PLANE and math.prod(source.shape) <= LARGEST:
        return source
    return replace(source, data=Cut(source.data))


def channels_within(axes: str) -> int | None:
    """Return where the axis of channels is, if rows or columns come before it."""
    letters = axes.replace("S", "")
    at = letters.find("C")
    return at if at > 0 and at >= len(letters) - 2 else None


def split_channels(viewer: Viewer, layer: Image, axes: str) -> list[Image]:
    """Replace a layer by one for each channel, in the same place; the pixels are not copied."""
    at = axes.index("C")
    kept = [i for i in range(layer.ndim) if i != at]
    layers: list[Image] = viewer.add_image(
        layer.data,
        channel_axis=at,
        multiscale=layer.multiscale,
        name=[f"{layer.name} channel {i}" for i in range(level_of(layer, 0).shape[at])],
        **_transforms(layer, kept),
    )
    viewer.layers.remove(layer)
    viewer.layers.selection.active = layers[0]
    return layers


def level_of(layer: Image, level: int) -> Any:
    """Return the array of a level of a pyramid; of any other image its only one."""
    return layer.data[level] if layer.multiscale else layer.data


def lay_over(labels: Labels, source: Source) -> None:
    """Put labels that know no place, as those read from a plain TIFF file, over their image."""
    plain = np.allclose(labels.scale, 1) and not np.any(labels.translate)
    if plain and str(labels.units[-1]) == "pixel":
        for name, value in placement(source).items():
            setattr(labels, name, value)


def placement(source: Source, region: Region | None = None) -> dict[str, Any]:
    """Return the keyword arguments that put a labels layer exactly over its image, or over a region of it."""
    step = np.asarray(source.step)
    settings = _transforms(source.layer, source.kept)
    middle = settings["scale"] * (step - 1) / 2  # of the pixels that one of the labels stands for
    settings |= {"scale": settings["scale"] * step, "translate": settings["translate"] + middle}
    if region is not None or source.window is not None:
        from napari.utils.transforms import Affine

        region = source.within(region or whole(source.shape))

        how = {key: settings[key] for key in ("scale", "rotate", "shear", "translate")}
        settings["translate"] = Affine(**how)([r.start for r in region])
    return settings


def _transforms(layer: Image, kept: list[int]) -> dict[str, Any]:
    """Return where some axes of a layer lie in the world, as keyword arguments for another layer."""
    n = layer.ndim
    settings: dict[str, Any] = {
        "scale": np.asarray(layer.scale)[kept],
        "translate": np.asarray(layer.translate)[kept],
        "axis_labels": tuple(layer.axis_labels[i] for i in kept),
        "units": tuple(layer.units[i] for i in kept),
        "rotate": np.asarray(layer.rotate)[np.ix_(kept, kept)],
        "affine": layer.affine if len(kept) == n else layer.affine.set_slice(kept),
    }
    shear = np.asarray(layer.shear)
    if shear.ndim == 1:
        pairs = zip(*np.triu_indices(n, 1), strict=True)
        shear = np.array([angle for angle, (i, j) in zip(shear, pairs, strict=True) if i in kept and j in kept])
    else:
        shear = shear[np.ix_(kept, kept)]
    return settings | {"shear": shear}


def looks_empty(source: Source, channel: int) -> bool:
    """Return whether a channel seems to be the same everywhere; False where a look would have to read a file."""
    data = source.data
    if "C" not in source.axes or not isinstance(data, np.ndarray) or isinstance(data, np.memmap):
        return False
    low, high = percentiles(np.moveaxis(data, source.axes.index("C"), 0)[channel], sample=GLANCE)
    return not high > low


def pixel_size(source: Source) -> float | None:
    """Return the width in µm of a pixel of the labels, if the layer knows it."""
    return scale_of(source).get("X")


def scale_of(source: Source) -> dict[str, float]:
    """Return the size in µm of a pixel of the labels, by axis letter, where the layer knows it."""
    from napari_unet.infer.tiff import micrometres

    layer, found = source.layer, {}
    for i, letter, step in zip(source.kept, source.letters, source.step, strict=True):
        unit = micrometres(str(layer.units[i]))
        if letter in "ZYX" and unit:
            found[letter] = float(layer.scale[i]) * step * unit
    return found


def may_paint(labels: Labels, source: Source | None) -> bool:
    """Return whether a labels layer has the shape of an image, and can be painted."""
    if source is None or labels.multiscale or not labels.editable or ONLY_SEEN in labels.metadata:
        return False
    return tuple(labels.data.shape) == source.shape and _is_writable(labels.data)


def _is_writable(data: Any) -> bool:
    """Return whether pixels can be set, one by one and in boxes; dask's arrays, for one, only seem to allow it."""
    if isinstance(data, np.ndarray):
        return bool(data.flags.writeable)
    return type(data).__module__.startswith("zarr") and not data.read_only
