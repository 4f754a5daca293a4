"""The part of a large image that is worked on: which one is in view, and whether anything is to be seen in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.errors import ImageError
from napari_unet.gui.layers import level_of
from napari_unet.gui.regions import clamp, region_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_unet.gui.layers import Source
    from napari_unet.gui.regions import Region

WINDOW = 4096  # side in pixels of what is worked on at most: its labels are drawn at once in a tenth of a second
# Windows begin and end at multiples of it, and so far beyond what is in view: objects that cross its edge are seen
# whole, and parts of the image lie on the network's grid.
CELL = 256
TINY = 4  # pixels: narrower objects are not to be told from noise


def in_view(viewer: Viewer, whole: Source, level: int) -> tuple[Source, Region]:
    """Return a window of a large image around what is in view, and what is in view, in its pixels.

    Of more than a window the middle is taken.

    Parameters
    ----------
    viewer : Viewer
        Says what is in view.
    whole : Source
        All of the image.
    level : int
        Of the pyramid; 0 is the finest.

    Raises
    ------
    ImageError
        If no plane of the image is in view.
    """
    if viewer.dims.ndisplay != 2:
        raise ImageError("The viewer shows the image in 3-D: switch to 2-D, so that it is clear what is in view.")
    shape = level_of(whole.layer, level).shape
    size = tuple(1 if whole.axes[i] == "C" else int(shape[i]) for i in whole.kept)
    everything = whole.cut(level, tuple(slice(0, n) for n in size))
    view = clamp(region_of(viewer, everything, "view"), WINDOW)
    sides = zip(view[-2:], size[-2:], strict=True)
    plane = [slice(max(v.start // CELL - 1, 0) * CELL, min((-(-v.stop // CELL) + 1) * CELL, n)) for v, n in sides]
    window = (*view[:-2], *plane)
    region = tuple(slice(v.start - w.start, v.stop - w.start) for v, w in zip(view, window, strict=True))
    return whole.cut(level, window), region


def level_in_view(whole: Source) -> int:
    """Return the level of a pyramid that napari shows."""
    return int(whole.layer.data_level) if whole.layer.multiscale else 0


def diameter_at(source: Source, diameter: float | None, usual: float | None) -> float | None:
    """Return how wide objects are at the level of a window; None: as the model says.

    Parameters
    ----------
    source : Source
        The window.
    diameter, usual : float or None
        In pixels of the image: as the user said, and as the model knows them.

    Raises
    ------
    ImageError
        If they are too small to be seen.
    """
    coarser = source.step[-1]
    width = diameter or usual
    if coarser <= 1 or width is None:
        return diameter
    if width / coarser < TINY:
        raise ImageError(
            f"At this zoom objects of {width:.0f} pixels are only {width / coarser:.1g} wide, expected {TINY} or more: "
            "zoom in, or choose the whole image, to disk."
        )
    return width / coarser
