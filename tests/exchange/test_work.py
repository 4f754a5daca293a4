"""What is under way: planned once, whoever begins, and gone when it is finished."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.exchange import blockwise
from napari_unet.exchange.blockwise import do_block, do_blocks, finish
from napari_unet.exchange.work import Work, begin, under_way
from napari_unet.infer import blocks
from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet import Model

SETTINGS = SegmentSettings()


@pytest.fixture
def model(thresholding: Callable[..., Model]) -> Model:
    return replace(thresholding(), diameter=8.0)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image of six blocks."""
    monkeypatch.setitem(blocks.PIXELS, 2, 64**2)
    monkeypatch.setattr("napari_unet.exchange.work.CHUNK", {2: 32})
    pixels = np.zeros((128, 192), np.uint16)
    pixels[::20, ::20] = pixels[1::20, ::20] = 4000
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    return tmp_path / "a.tif"


def done(work: Work) -> int:
    return len(work.blocks) - len(work.missing())


def test_two_that_begin_at_once_work_on_one_plan(model: Model, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "a_labels.tif"
    slow = begin(model, image, target, SETTINGS)
    next(slow)  # it has found nothing and begins to plan
    work = run(begin(model, image, target, SETTINGS))
    run(do_block(work, work.blocks[0]))
    plan = (work.folder / "plan.json").read_bytes()
    assert run(slow) == work
    assert done(Work(work.folder)) == 1
    assert (work.folder / "plan.json").read_bytes() == plan
    assert sum(each.suffix == ".parts" for each in tmp_path.iterdir()) == 1


def test_one_that_is_ended_while_it_plans_leaves_nothing(model: Model, image: Path, tmp_path: Path) -> None:
    job = begin(model, image, tmp_path / "a_labels.tif", SETTINGS)
    next(job)
    job.close()
    assert [each.name for each in tmp_path.iterdir()] == ["a.tif"]


def test_other_settings_do_not_disturb(model: Model, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "a_labels.tif"
    one = run(begin(model, image, target, SETTINGS))
    run(do_block(one, one.blocks[0]))
    other = run(begin(model, image, target, SegmentSettings(min_size=1)))
    assert (done(one), done(other)) == (1, 0)
    assert under_way(tmp_path) == [other], "what was planned last is what is wanted"
    run(do_blocks(other))
    neighbour = run(begin(model, image, tmp_path / "a_labels.tif.tif", SETTINGS))
    run(finish(other, target))
    assert under_way(tmp_path) == [one, neighbour], "somebody may be at work on it"
    os.utime(one.folder / "blocks", (0, 0))
    run(do_blocks(again := run(begin(model, image, target, SegmentSettings(min_size=1)))))
    run(finish(again, target))
    assert under_way(tmp_path) == [neighbour], "given up"


def test_a_kill_after_the_labels_are_in_place_lets_nothing_be_written_over(
    model: Model, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "a_labels.tif", "a_labels.ome.zarr":
        target = tmp_path / name
        work = run(begin(model, image, target, SETTINGS))
        run(do_blocks(work))
        with monkeypatch.context() as patch:
            patch.setattr(blockwise, "forget", lambda _: None)
            run(finish(work, target))
        assert work.folder.exists()
        assert under_way(tmp_path) == [], "nothing is to be merged over labels that may have been corrected"
        assert not work.folder.exists()


def test_what_a_killed_planner_left_is_no_work(model: Model, image: Path, tmp_path: Path) -> None:
    work = run(begin(model, image, tmp_path / "a_labels.tif", SETTINGS))
    shutil.copytree(work.folder, tmp_path / ".a_labels.tif.abcdefgh.planning")
    assert under_way(tmp_path) == [work]


def test_a_damaged_plan_is_made_anew(model: Model, image: Path, tmp_path: Path) -> None:
    work = run(begin(model, image, tmp_path / "a_labels.tif", SETTINGS))
    plan = json.loads((work.folder / "plan.json").read_text())
    (work.folder / "plan.json").write_text("{")
    assert under_way(tmp_path) == []
    assert run(begin(model, image, tmp_path / "a_labels.tif", SETTINGS)).plan == plan


def test_the_plan_alone_says_how_blocks_lie(
    model: Model, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = run(begin(model, image, tmp_path / "a_labels.tif", SETTINGS))
    assert len(work.blocks) == 6
    monkeypatch.setitem(blocks.PIXELS, 2, 4096**2)  # another program, another machine
    assert Work(work.folder).blocks == work.blocks
    assert work.target == tmp_path / "a_labels.tif"
    shutil.move(work.folder, tmp_path / "elsewhere.parts")
    assert Work(tmp_path / "elsewhere.parts").blocks == work.blocks
