"""OME-Zarr of any version is read with its axes, channels, pixel size and labels."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from napari_unet.errors import ImageError
from napari_unet.infer.lazy import LazyArray
from napari_unet.infer.read import read_image, read_labels

if TYPE_CHECKING:
    from pathlib import Path


def noise(*shape: int, dtype: str = "u2") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def write_zarr(path: Path, array: np.ndarray, axes: str, version: str, **more: Any) -> zarr.Group:
    """Write two levels as each version of NGFF has it."""
    new = version == "0.5"
    group = zarr.open_group(path, mode="w", zarr_format=3 if new else 2)
    units = {letter: {"type": "space", "unit": "nanometer"} for letter in "zyx"}
    kinds = {**units, "c": {"type": "channel"}, "t": {"type": "time", "unit": "second"}}
    factors = {"t": 3.0, "z": 500.0, "y": 100.0, "x": 100.0}
    datasets = []
    for level in (0, 1):
        step = 2**level
        part = array[..., ::step, ::step]
        stored = group.create_array(
            f"s{level}", shape=part.shape, dtype=part.dtype, chunks=(1,) * (part.ndim - 2) + (16, 16)
        )
        stored[...] = part
        scale = [factors.get(axis, 1.0) * (step if axis in "yx" else 1) for axis in axes]
        datasets.append({"path": f"s{level}", "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    said: dict[str, Any] = {
        "multiscales": [
            {
                "axes": [{"name": axis, **kinds[axis]} for axis in axes],
                "datasets": datasets,
                "coordinateTransformations": [{"type": "scale", "scale": [2.0] * len(axes)}],
            }
        ],
        **more,
    }
    group.attrs.update({"ome": {"version": "0.5", **said}} if new else said)
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    array = noise(1, 2, 5, 40, 50)
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    write_zarr(tmp_path / "cells.ome.zarr", array, "tczyx", version, omero=omero)
    image = read_image(tmp_path / "cells.ome.zarr")
    assert (image.axes, image.name, image.channel_names) == ("CZYX", "cells", ("DAPI", "GFP"))
    assert image.scale == pytest.approx({"Z": 1, "Y": 0.2, "X": 0.2})
    assert isinstance(image.data, LazyArray)
    assert image.data.shape == (2, 5, 40, 50)
    np.testing.assert_array_equal(image.data[1, 2:4, ::3, 7], array[0, 1, 2:4, ::3, 7])
    np.testing.assert_array_equal(image.data, array[0])


def test_old_ome_zarr(tmp_path: Path) -> None:
    for axes in (None, ["t", "c", "z", "y", "x"]):
        group = write_zarr(tmp_path / "a.zarr", noise(5, 6, 2, 20, 20), "tczyx", "0.4")
        multiscale = dict(group.attrs.asdict()["multiscales"][0], axes=axes)
        group.attrs["multiscales"] = [{key: value for key, value in multiscale.items() if value is not None}]
        image = read_image(tmp_path / "a.zarr")
        assert (image.axes, image.scale) == ("TCZYX", {})


def test_yaozarrs_writes_what_we_read(tmp_path: Path) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    from yaozarrs.write.v05 import write_image

    v05 = yaozarrs.v05
    scale = v05.ScaleTransformation(scale=[1, 0.5, 0.5])
    image = v05.Image(
        multiscales=[
            v05.Multiscale(
                name="a",
                axes=[v05.ChannelAxis(name="c"), *(v05.SpaceAxis(name=n, unit="micrometer") for n in "yx")],
                datasets=[v05.Dataset(path="0", coordinateTransformations=[scale])],
            )
        ]
    )
    array = noise(2, 40, 50)
    write_image(tmp_path / "a.ome.zarr", image, array, writer="zarr")
    found = read_image(tmp_path / "a.ome.zarr")
    assert (found.axes, found.scale) == ("CYX", {"Y": 0.5, "X": 0.5})
    np.testing.assert_array_equal(found.data, array)


def test_plain_zarr_array(tmp_path: Path) -> None:
    array = noise(3, 40, 50)
    zarr.save_array(tmp_path / "a.zarr", array)
    assert read_image(tmp_path / "a.zarr").axes == "CYX"
    named = zarr.create_array(tmp_path / "b.zarr", data=array, dimension_names=["z", "y", "x"])
    assert named.shape == array.shape
    assert read_image(tmp_path / "b.zarr").axes == "ZYX"


def test_zarr_layouts(tmp_path: Path) -> None:
    write_zarr(tmp_path / "many.zarr" / "0", noise(40, 50), "yx", "0.5")
    outer = zarr.open_group(tmp_path / "many.zarr", mode="a")
    outer.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    assert read_image(tmp_path / "many.zarr").axes == "YX"
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}]}
    with pytest.raises(ImageError, match=r"plate.zarr/A/1/0"):
        read_image(tmp_path / "plate.zarr")
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    with pytest.raises(ImageError, match="give the group of an image"):
        read_image(tmp_path / "empty.zarr")


def test_labels_of_an_ome_zarr_image(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    group = write_zarr(path, noise(2, 40, 50), "cyx", "0.5")
    labels = noise(40, 50, dtype="u4") + 70_000
    write_zarr(path / "labels" / "cells", labels, "yx", "0.5", **{"image-label": {}})
    group.require_group("labels").attrs["ome"] = {"version": "0.5", "labels": ["cells"]}
    for asked in (path, path / "labels" / "cells"):
        np.testing.assert_array_equal(read_labels(asked), labels)
    assert read_image(path).axes == "CYX"
    with pytest.raises(ImageError, match="labels/cells"):
        read_image(path / "labels")
    group["labels"].attrs["ome"] = {"version": "0.5", "labels": ["cells", "nuclei"]}
    with pytest.raises(ImageError, match=r"several labels \(cells, nuclei\)"):
        read_labels(path)


def test_damaged_zarr(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", noise(40, 50), "yx", "0.5")
    for chunk in (tmp_path / "a.zarr" / "s0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    image = read_image(tmp_path / "a.zarr")
    with pytest.raises(ImageError, match="could not be read"):
        image.data[:3, :3]
    (tmp_path / "a.zarr" / "zarr.json").write_text("{broken")
    with pytest.raises(ImageError, match="could not be read"):
        read_image(tmp_path / "a.zarr")


def test_zarr_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImageError, match="pip install"):
        read_image(tmp_path / "a.zarr")
