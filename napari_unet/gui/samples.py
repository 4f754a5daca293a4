"""Sample images for napari's File > Open Sample: the project's own, and real ones from scikit-image.

Each function returns layer data tuples: images only, so that there is something left to segment. The labels
of the project's own samples are in `napari_unet.sample_data`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet import sample_data
from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    LayerData = tuple[NDArray[Any], dict[str, Any], str]


def nuclei() -> list[LayerData]:
    """Fluorescent nuclei in clumps, YX, uint16."""
    return _own("nuclei")


def cells() -> list[LayerData]:
    """Touching cells in phase contrast, YX, uint8."""
    return _own("cells")


def nuclei_3d() -> list[LayerData]:
    """Stack of nuclei with voxels longer than wide, ZYX, uint8."""
    return _own("nuclei_3d")


def movie() -> list[LayerData]:
    """Nuclei that move, grow and divide, TYX, uint16."""
    return _own("movie")


def cell() -> list[LayerData]:
    """One cell in quantitative phase, YX, uint8 (CC0, Müller et al. 2018)."""
    from skimage import data

    return [_layer(data.cell(), "cell", "YX", {"Y": 0.107, "X": 0.107})]


def immunohistochemistry() -> list[LayerData]:
    """Colon glands, stained brown and blue, YXS, uint8 (no known copyright)."""
    from skimage import data

    pixels, settings, kind = _layer(data.immunohistochemistry(), "immunohistochemistry", "YX", {})
    return [(pixels, settings | {"rgb": True}, kind)]


def human_mitosis() -> list[LayerData]:
    """Human nuclei, many dividing, YX, uint8; downloaded once (CC0, Moffat et al. 2006)."""
    return [_layer(_download("human_mitosis"), "human mitosis", "YX", {})]


def cells3d() -> list[LayerData]:
    """Membranes and nuclei, two stacks ZYX, uint16; downloaded once (Allen Institute for Cell Science)."""
    pixels = _download("cells3d")
    scale = {"Z": 0.29, "Y": 0.26, "X": 0.26}
    layers = []
    for channel, (name, colour) in enumerate((("membranes", "magenta"), ("nuclei", "green"))):
        stack, settings, kind = _layer(pixels[:, channel], f"cells3d {name}", "ZYX", scale)
        layers.append((stack, settings | {"colormap": colour, "blending": "additive"}, kind))
    return layers


def _own(name: str) -> list[LayerData]:
    sample = sample_data.load(name)
    return [_layer(sample.image, name, sample.axes, sample.scale)]


def _layer(pixels: NDArray[Any], name: str, axes: str, scale: Mapping[str, float]) -> LayerData:
    """Layer data tuple with what is known of the pixel size; an axis without one counts in pixels."""
    settings = {
        "name": name,
        "axis_labels": tuple(axes.lower()),
        "scale": tuple(scale.get(axis, 1.0) for axis in axes),
        "units": tuple("um" if axis in scale else "pixel" for axis in axes),
    }
    return pixels, settings, "image"


def _download(name: str) -> NDArray[Any]:
    """Get an image that scikit-image downloads when it is first asked for.

    Raises
    ------
    ImageError
        If it is not there yet and cannot be downloaded.
    """
    from skimage import data

    try:
        return getattr(data, name)()
    except (ImportError, OSError, ValueError) as error:  # no pooch; no network, no room; a broken download
        raise ImageError(
            f"The sample {name!r} needs pooch/internet: it is downloaded when first opened; that ended in "
            f"{type(error).__name__}, so connect and open it again, or take {', '.join(sample_data.names())}."
        ) from error
