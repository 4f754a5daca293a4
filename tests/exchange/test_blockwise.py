"""Block by block, ended at any time and gone on with, by one program or several: the labels are those of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr

from napari_unet import DataError, Model
from napari_unet.exchange import blockwise
from napari_unet.exchange.blockwise import (
    begin,
    do_block,
    do_blocks,
    finish,
    label_image,
    segment_blockwise,
    show_block,
)
from napari_unet.exchange.files import segment_file
from napari_unet.exchange.ome_zarr import SMALLEST
from napari_unet.exchange.work import CHUNK
from napari_unet.infer import blocks
from napari_unet.infer.read import read_image, read_labels
from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import Progress, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS = SegmentSettings()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blocks.PIXELS, 2, 64**2)
    monkeypatch.setitem(CHUNK, 2, 32)
    monkeypatch.setattr(blocks, "WIDE", 8.0)


@pytest.fixture
def model(thresholding: Callable[..., Model]) -> Model:
    return thresholding()


def disks(shape: tuple[int, int], count: int = 60, seed: int = 0) -> np.ndarray:
    """Return bright disks, 8 wide, that do not touch; some lie over the ends of blocks."""
    random, image = np.random.default_rng(seed), np.zeros(shape, np.uint16)
    y, x = np.indices(shape)
    taken = np.zeros(shape, bool)
    for cy, cx in zip(random.integers(0, shape[0], count), random.integers(0, shape[1], count), strict=True):
        disk = (y - cy) ** 2 + (x - cx) ** 2 <= 16
        if not (taken & ((y - cy) ** 2 + (x - cx) ** 2 <= 64)).any():
            image[disk], taken = 4000, taken | disk
    return image


def same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays of labels differ in numbers only."""
    pairs = np.unique(np.stack((a.ravel(), b.ravel())), axis=1)
    return a.max() == b.max() and pairs.shape[1] == len(np.unique(a)) == len(np.unique(b))


def write_image(path: Path, image: np.ndarray) -> Path:
    if path.suffix == ".tif":
        tifffile.imwrite(path, image, metadata={"axes": "TYX"[-image.ndim :]})
        return path
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("0", data=image, chunks=(*[1] * (image.ndim - 2), 32, 32))
    axes = [{"name": n, "type": "time" if n == "t" else "space"} for n in "tyx"[-image.ndim :]]
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * image.ndim}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    return path


@pytest.mark.parametrize("kind", ["tif", "zarr", "inside"])
@pytest.mark.parametrize("frames", [None, 2])
def test_labels_on_disk_are_those_of_the_whole(kind: str, frames: int | None, model: Model, tmp_path: Path) -> None:
    image = disks((150, 200))
    if frames:
        image = np.stack([disks((150, 200), seed=i) for i in range(frames)])
    whole = model.segment(image, axes="TYX"[-image.ndim :])
    assert whole.max() > 30
    path = write_image(tmp_path / ("image.tif" if kind == "tif" else "image.ome.zarr"), image)
    target = {
        "tif": tmp_path / "labels.tif",
        "zarr": tmp_path / "labels.ome.zarr",
        "inside": path / "labels" / "nuclei",
    }[kind]
    steps: list[Progress] = []
    result = run(segment_blockwise(model, path, target, SETTINGS), steps.append)
    labels = read_labels(target)
    assert labels.dtype == np.uint32
    assert same_objects(labels, whole)
    assert result.found == {"objects": int(whole.max())}
    assert (np.unique(labels) == np.arange(whole.max() + 1)).all()
    if kind == "inside":
        assert same_objects(read_labels(path), whole)
    if kind != "tif":
        yaozarrs.validate_zarr_store(str(target))
    before = {path.name, "labels.tif", "labels.ome.zarr"}
    assert {each.name for each in tmp_path.iterdir()} <= before, "nothing is left of what was under way"
    done = [step.done / step.total for step in steps if step.message.startswith("block")]
    assert done == sorted(done)


def test_classes_are_written_and_counted(thresholding: Callable[..., Model], tmp_path: Path) -> None:
    model, image = thresholding(task="classes", classes=("background", "dim", "bright")), disks((100, 150))
    path, target = write_image(tmp_path / "a.tif", image), tmp_path / "a_labels.tif"
    result = run(segment_blockwise(model, path, target, SETTINGS))
    whole = model.segment(image)
    assert (read_labels(target) == whole).all()
    shares = np.bincount(whole.ravel(), minlength=3) / whole.size
    assert list(result.found["shares"].values()) == pytest.approx(shares.tolist())


def test_a_large_image_is_segmented_block_by_block(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = write_image(tmp_path / "a.tif", disks((150, 200))), tmp_path / "a_labels.tif"
    small = run(segment_file(model, path, target, SETTINGS))
    monkeypatch.setattr(blockwise, "LARGE", 1000)
    steps: list[Progress] = []
    large = run(segment_file(model, path, target, SETTINGS), steps.append)
    assert any("of 12" in step.message for step in steps)
    assert large.found == small.found


def test_what_was_done_is_not_done_again(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, target = write_image(tmp_path / "a.tif", disks((150, 200))), tmp_path / "a_labels.tif"
    job = segment_blockwise(model, path, target, SETTINGS)
    while next(job).message != "block 3 of 12":
        pass
    job.close()
    assert not target.exists()
    looked, real = [], blocks._maps

    def maps(ready, block):
        looked.append(block.place)
        return real(ready, block)

    monkeypatch.setattr(blocks, "_maps", maps)
    run(segment_blockwise(model, path, target, SETTINGS))
    assert 9 <= len(looked) <= 10
    assert same_objects(read_labels(target), model.segment(disks((150, 200))))


def test_other_settings_or_another_image_begin_anew(model: Model, tmp_path: Path) -> None:
    path, target = write_image(tmp_path / "a.tif", disks((150, 200))), tmp_path / "a_labels.tif"

    def done(settings: SegmentSettings) -> int:
        work = run(begin(model, path, target, settings))
        return len(work.blocks) - len(work.missing())

    work = run(begin(model, path, target, SETTINGS))
    run(do_block(work, work.blocks[5]))
    assert done(SETTINGS) == 1
    assert done(SegmentSettings(device="cpu")) == 1
    assert done(SegmentSettings(min_size=3)) == 0
    run(do_block(run(begin(model, path, target, SETTINGS)), work.blocks[5]))
    write_image(path, disks((150, 201), seed=1))
    assert done(SETTINGS) == 0


def test_shares_of_the_blocks_are_done_apart_and_joined(model: Model, tmp_path: Path) -> None:
    image = disks((150, 200))
    path, target = write_image(tmp_path / "a.ome.zarr", image), tmp_path / "labels.ome.zarr"
    for i in (2, 0):
        run(do_blocks(run(begin(model, path, target, SETTINGS)), shard=(i, 3)))
    work = run(begin(model, path, target, SETTINGS))
    with pytest.raises(DataError, match="4 of 12 blocks are not done yet"):
        run(finish(work, target))
    assert not target.exists()
    run(do_blocks(work, shard=(1, 3)))
    run(finish(work, target))
    assert same_objects(read_labels(target), model.segment(image))


def test_a_large_label_image_has_smaller_levels(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_unet.exchange.ome_zarr.SMALLEST", 20)
    assert SMALLEST > 20
    image = disks((150, 203))
    path, target = write_image(tmp_path / "a.tif", image), tmp_path / "labels.ome.zarr"
    run(segment_blockwise(model, path, target, SETTINGS))
    group = zarr.open_group(target, mode="r")
    full = group["0"][...]
    assert same_objects(full, model.segment(image))
    for level in range(5):
        assert (group[str(level)][...] == full[:: 2**level, :: 2**level]).all()
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert [each["coordinateTransformations"][0]["scale"] for each in datasets] == [[2**i] * 2 for i in range(5)]
    yaozarrs.validate_zarr_store(str(target))


def test_blocks_are_seen_before_all_are_done(model: Model, tmp_path: Path) -> None:
    image = disks((150, 200))
    path, target = write_image(tmp_path / "a.tif", image), tmp_path / "labels.ome.zarr"
    work = run(begin(model, path, target, SETTINGS))
    shown = label_image(work, target)
    shown.create()
    for block in work.blocks[5], work.blocks[6]:
        run(do_block(work, block))
        show_block(work, shown, block)
    seen, whole = shown.array()[...], model.segment(image)
    for block in work.blocks:
        there = block in work.blocks[5:7]
        assert ((seen[block.write] > 0) == ((whole[block.write] > 0) & there)).all()
    numbers = [set(np.unique(seen[block.write])) - {0} for block in work.blocks[5:7]]
    assert not numbers[0] & numbers[1]
    run(do_blocks(work))
    run(finish(work, target))
    assert same_objects(read_labels(target), whole)


def test_each_block_is_one_file_on_disk(model: Model, tmp_path: Path) -> None:
    path, target = write_image(tmp_path / "a.tif", disks((128, 192))), tmp_path / "labels.ome.zarr"
    run(segment_blockwise(model, path, target, SETTINGS))
    assert sum(1 for file in (target / "0" / "c").rglob("*") if file.is_file()) == 6


def test_an_empty_block_costs_no_network(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((200, 300), np.uint16)
    image[10:18, 10:18] = 4000
    path, target = write_image(tmp_path / "a.tif", image), tmp_path / "labels.ome.zarr"
    seen = []
    monkeypatch.setattr(blocks, "decode_parts", lambda *a, real=blocks.decode_parts: seen.append(1) or real(*a))
    result = run(segment_blockwise(model, path, target, SETTINGS))
    assert result.found == {"objects": 1}
    assert len(seen) <= 4
    assert (read_image(target).data[...] > 0).sum() == 64
