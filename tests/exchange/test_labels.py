"""Label files: axes, pixel sizes and numbers survive, and others can read them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr

from napari_unet.errors import DataError
from napari_unet.exchange.files import plan
from napari_unet.exchange.labels import write_tiff, written_here
from napari_unet.exchange.ome_zarr import write_zarr
from napari_unet.infer.read import read_image, read_labels

if TYPE_CHECKING:
    from pathlib import Path


def numbers(axes: str, dtype: type = np.uint32) -> np.ndarray:
    shape = tuple({"T": 2, "Z": 3, "Y": 20, "X": 30}[letter] for letter in axes)
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "TZYX", "ZTYX"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_tiff(tmp_path: Path, axes: str, dtype: type) -> None:
    labels = numbers(axes, dtype)
    scale = {letter: size for letter, size in {"Z": 2.0, "Y": 0.5, "X": 0.25}.items() if letter in axes}
    path = tmp_path / "cells_labels.tif"
    write_tiff(path, labels, axes, scale, "cells")
    read = read_image(path)
    assert (read.axes, dict(read.scale), read.data.dtype) == (axes, scale, dtype)
    np.testing.assert_array_equal(read.data, labels)
    assert list(tmp_path.iterdir()) == [path]


def test_tiff_of_a_profile_and_of_odd_axes(tmp_path: Path) -> None:
    write_tiff(tmp_path / "x.tif", numbers("X"), "X", {}, "")
    np.testing.assert_array_equal(read_labels(tmp_path / "x.tif"), numbers("X")[np.newaxis])
    write_tiff(tmp_path / "yxz.tif", numbers("YXZ"), "YXZ", {"Y": 0.5, "X": 0.5}, "")
    assert read_image(tmp_path / "yxz.tif").axes == "YXZ"


def test_numbers_beyond_16_bits(tmp_path: Path) -> None:
    labels = numbers("YX") + np.uint32(70_000)
    write_tiff(tmp_path / "many.tif", labels, "YX", {})
    np.testing.assert_array_equal(read_labels(tmp_path / "many.tif"), labels)


def test_who_wrote_a_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    write_tiff(path, numbers("YX"), "YX", {})
    assert written_here(path)
    tifffile.imwrite(path, numbers("YX"))
    assert not written_here(path)
    path.write_text("text", encoding="utf-8")
    assert not written_here(path)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "TZYX"])
def test_zarr_alone(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "cells_labels.ome.zarr"
    scale = {letter: 0.5 for letter in axes if letter in "ZYX"}
    for _ in range(2):  # the second replaces the first
        write_zarr(path, numbers(axes), axes, scale, {"model": "nuclei"})
    yaozarrs.validate_zarr_store(str(path))
    read = read_image(path)
    assert (read.axes, dict(read.scale), read.data.dtype) == (axes, scale, np.uint32)
    np.testing.assert_array_equal(read_labels(path), numbers(axes))
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from napari_unet.exchange.ome_zarr import write_zarr
rename = os.rename
def until_the_old_is_away(source, target):
    rename(source, target)
    os._exit(9)
os.rename = until_the_old_is_away
write_zarr(Path(sys.argv[1]), np.ones((20, 30), np.uint32), "YX", {}, {})
"""


def test_a_kill_between_the_renames_loses_no_labels(tmp_path: Path) -> None:
    image, alone = tmp_path / "cells.ome.zarr", tmp_path / "cells_labels.ome.zarr"
    zarr.create_group(image).create_array("0", data=numbers("YX"))
    for path in (image / "labels" / "nuclei", alone):
        write_zarr(path, numbers("YX"), "YX", {}, {})
        assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == 9
        assert not path.exists()
    np.testing.assert_array_equal(read_labels(image), numbers("YX"))
    # what a hand may have corrected is found before it is written over
    with pytest.raises(DataError, match="may have been corrected by hand"):
        plan([image], tmp_path, "nuclei")
    np.testing.assert_array_equal(read_labels(alone), numbers("YX"))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_zarr_inside_an_image(tmp_path: Path, version: int, consolidated: bool) -> None:
    image = tmp_path / "cells.ome.zarr"
    write_zarr(image, numbers("YX"), "YX", {}, {})
    said = zarr.open_group(image, mode="r").attrs.asdict()["ome"]
    said.pop("image-label")
    group = zarr.open_group(image, mode="w", zarr_format=version)  # type: ignore[arg-type]
    group.create_array("0", data=numbers("YX"))
    group.attrs.update({"ome": said} if version == 3 else said)
    if consolidated:
        zarr.consolidate_metadata(image)
    write_zarr(image / "labels" / "cells", numbers("YX") + 1, "YX", {}, {"model": "nuclei"})
    np.testing.assert_array_equal(read_labels(image), numbers("YX") + 1)
    np.testing.assert_array_equal(np.asarray(read_image(image).data), numbers("YX"))
    write_zarr(image / "labels" / "nuclei", numbers("YX"), "YX", {}, {})
    attributes = zarr.open_group(image / "labels", mode="r").attrs.asdict()
    assert attributes.get("ome", attributes)["labels"] == ["cells", "nuclei"]
    inside = zarr.open_group(image / "labels" / "cells", mode="r")
    assert inside.metadata.zarr_format == version
    if version == 3:
        yaozarrs.validate_zarr_store(str(image / "labels" / "cells"))
