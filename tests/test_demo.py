"""The demonstration runs the whole loop, scores what was not learned from, and draws it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_unet import demo, sample_data
from napari_unet.cli import app
from napari_unet.jobs import run
from napari_unet.model import Model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tiny() -> Model:
    """An untrained model that looks at the sample at a quarter of its size."""
    return replace(Model.new(width=4, depth=1, name="tiny"), diameter=demo.DIAMETER / 4)


def test_scores_are_of_what_is_not_learned_from(tiny: Model) -> None:
    sample = sample_data.load(demo.SAMPLE)
    learned = np.zeros(sample.labels.shape, bool)
    for window in demo.WINDOWS:
        learned[window] = True
    assert learned.mean() == 0.75
    result = run(demo.demo_job(tiny, steps=1))
    assert result.before.objects is not None
    # objects that lie mostly in what was learned from do not count
    mostly_outside = [i for i in np.unique(sample.labels)[1:] if not learned[sample.labels == i].mean() > 0.5]
    assert result.before.objects.n_truth == len(mostly_outside)
    assert result.after.objects is not None
    assert result.after.objects.n_truth == len(mostly_outside)
    assert result.corrected > len(mostly_outside)
    assert result.model.name == demo.SAMPLE
    assert "corrections of sample cells" in result.model.provenance.data


def test_the_command_writes_picture_and_model(tmp_path: Path, tiny: Model) -> None:
    words = [
        "demo",
        "--model",
        str(tiny.save(tmp_path / "tiny.unet")),
        "--steps",
        "1",
        "--output",
        str(tmp_path / "new"),
        "--json",
        "-",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert "after" in result.stderr
    assert said["picture"] in result.stderr
    with Image.open(said["picture"]) as picture:
        assert picture.size == (2 * 1024 + 8, 1024 + 64)
    assert Model.load(said["model"]).version == said["model_version"]


def test_right_objects_are_blue_and_wrong_ones_orange() -> None:
    truth = np.zeros((300, 300), np.uint16)
    truth[20:60, 20:60], truth[100:140, 20:60] = 1, 2
    labels = np.zeros_like(truth)
    labels[20:60, 20:60], labels[100:140, 40:120] = 5, 6
    picture = demo.draw(truth, labels, truth, "caption")
    assert picture.dtype == np.uint8
    band = picture.shape[0] - 2 * 300
    assert tuple(picture[band + 40, 80]) == demo.RIGHT
    assert tuple(picture[band + 200, 160]) == demo.WRONG
    assert (picture[: band // 2] > 200).any()  # the caption
    for colour in (demo.RIGHT, demo.WRONG, demo.FRAME):  # the legend, each in its own colour
        assert (picture[band // 2 : band] == colour).all(axis=-1).any()


def test_the_legend_fits_into_the_picture_of_the_sample() -> None:
    sample = sample_data.load(demo.SAMPLE)
    picture = demo.draw(sample.image, sample.labels, sample.labels, "")
    assert not picture[: picture.shape[0] - demo.ZOOM * sample.image.shape[0], -8:].any()


def test_bad_input_leaves_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--model", "nobody", "--output", str(tmp_path / "new")])
    assert result.exit_code == 2
    assert "There is no model 'nobody'" in result.stderr
    assert not (tmp_path / "new").exists()
