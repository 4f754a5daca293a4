"""Shares of the work: each does its own, all together give the labels of one, and what is missing is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import zarr

from napari_unet.exchange.batch import Done, merge_each, segment_each
from napari_unet.exchange.files import plan, title
from napari_unet.exchange.work import CHUNK
from napari_unet.infer import blocks
from napari_unet.infer.read import read_labels
from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import Job, Progress, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet import Model

SETTINGS = SegmentSettings()


@pytest.fixture
def model(thresholding: Callable[..., Model]) -> Model:
    return thresholding(name="bright")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 100² pixels are large, and are cut into blocks of 64²."""
    monkeypatch.setattr("napari_unet.exchange.blockwise.LARGE", 100**2)
    monkeypatch.setattr("napari_unet.exchange.batch.LARGE", 100**2)
    monkeypatch.setitem(blocks.PIXELS, 2, 64**2)
    monkeypatch.setattr(blocks, "WIDE", 8.0)
    monkeypatch.setitem(CHUNK, 2, 32)


def pixels(side: int) -> np.ndarray:
    image = np.zeros((side, side), np.uint16)
    for y in range(4, side - 8, 13):
        for x in range(4, side - 8, 13):
            image[y : y + 8, x : x + 8] = 4000
    return image


def write_field(path: Path, image: np.ndarray) -> None:
    group = zarr.open_group(path, mode="w")
    group.create_array("0", data=image, chunks=(32, 32))
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small images and a large one."""
    (tmp_path / "images").mkdir()
    for i, side in enumerate((40, 150, 45, 50)):
        tifffile.imwrite(tmp_path / "images" / f"f{i}.tif", pixels(side))
    return tmp_path / "images"


def told(job: Job[None]) -> list[Done]:
    found: list[Done] = []

    def keep(progress: Progress) -> None:
        if progress.payload is not None:
            found.append(progress.payload)

    run(job, keep)
    return found


def test_shares_and_merge(model: Model, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    work = plan([folder], output, "bright")
    did = [told(segment_each(model, work, SETTINGS, shard=(i, 3))) for i in (2, 0)]
    assert [[each.image.name for each in part] for part in did] == [
        ["f1.tif", "f2.tif"],
        ["f0.tif", "f1.tif", "f3.tif"],
    ]
    assert did[0][0].result is not None
    assert did[0][0].result.found == {"blocks": 3}
    (missing,) = told(merge_each(output))
    assert "3 of 9 blocks are not done yet" in missing.error
    assert not missing.target.exists()
    told(segment_each(model, work, SETTINGS, shard=(1, 3)))
    (merged,) = told(merge_each(output))
    assert merged.result is not None
    assert merged.result.found == {"objects": 121}
    for i, side in enumerate((40, 150, 45, 50)):
        labels = read_labels(output / f"f{i}_labels.tif")
        assert labels.max() == model.segment(pixels(side)).max()
        np.testing.assert_array_equal(labels > 0, pixels(side) > 0)
    assert sorted(each.name for each in output.iterdir()) == [f"f{i}_labels.tif" for i in range(4)]
    assert told(merge_each(output)) == []


def test_shares_of_a_plate_in_its_own_labels(model: Model, tmp_path: Path) -> None:
    plate = tmp_path / "plate.zarr"
    zarr.open_group(plate, mode="w").attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "C/12"}]}}
    well = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
    zarr.open_group(plate / "C" / "12", mode="w").attrs["ome"] = well
    for i, side in enumerate((150, 40)):
        write_field(plate / "C" / "12" / str(i), pixels(side))
    work = plan([plate], plate, "bright")
    assert [title(image) for image, _ in work] == ["plate.zarr/C/12/0", "plate.zarr/C/12/1"]
    for i in range(2):
        assert not any(each.error for each in told(segment_each(model, work, SETTINGS, shard=(i, 2))))
    assert len(told(merge_each(plate))) == 1
    for i, side in enumerate((150, 40)):
        np.testing.assert_array_equal(read_labels(plate / "C" / "12" / str(i)) > 0, pixels(side) > 0)


def test_two_plates_give_names_of_their_own(tmp_path: Path) -> None:
    for name in ("one.ome.zarr", "two.zarr"):
        said = {"plate": {"wells": [{"path": "A/1"}]}, "version": "0.4"}
        zarr.open_group(tmp_path / "plates" / name, mode="w", zarr_format=2).attrs.update(said)
        well = zarr.open_group(tmp_path / "plates" / name / "A" / "1", mode="w", zarr_format=2)
        well.attrs.update({"well": {"images": [{"path": "0"}]}})
        well.create_group("0")
    names = [target.name for _, target in plan([tmp_path / "plates"], tmp_path / "out", "bright")]
    assert names == ["one_A_1_0_labels.ome.zarr", "two_A_1_0_labels.ome.zarr"]
