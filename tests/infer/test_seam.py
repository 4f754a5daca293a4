"""The boundary that a model sees in an object, wherever the object lies and however large it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.infer import seam
from napari_unet.infer.familiar import planes_of
from napari_unet.jobs import Progress, run
from napari_unet.learn.objects import split_at
from napari_unet.model import Model


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A network that takes what is bright for foreground, and what is very bright for a boundary; what it was shown."""
    shown: list[tuple[int, ...]] = []

    def predict(model: Model, image: np.ndarray, device: str):
        shown.append(image.shape)
        yield Progress(0, 1, "tiles")
        front = (image[0] > 0.2).astype(np.float32)
        return np.stack((1 - front, front, (image[0] > 0.8).astype(np.float32), front))

    monkeypatch.setattr(seam, "predict_tiles", predict)
    return shown


def scene(row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with a bar of 20 x 60 pixels, and a very bright band across it at a third; and where the bar is."""
    image = np.zeros((1, 300, 400), np.float32)
    image[0, row : row + 20, column : column + 60] = 0.5
    image[0, row : row + 20, column + 18 : column + 22] = 1
    return image, image[0] > 0


@pytest.mark.parametrize("diameter", [None, 10.0, 40.0])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (140, 171), (280, 340)])
def test_an_object_is_parted_where_the_boundary_runs(bright, row: int, column: int, diameter: float | None) -> None:
    image, mask = scene(row, column)
    box = slice(row, row + 20), slice(column, column + 60)
    model = replace(Model.new(width=2, depth=1), diameter=20.0)
    relief = run(seam.seam_job(model, planes_of([image])[0], mask[box], (row, column), diameter))
    assert relief is not None
    assert relief.shape == (20, 60)
    labels = mask[box].astype(np.uint32)
    after = split_at(labels, 1, [(10, 14), (10, 40)], 2, relief).values
    assert len(np.unique(after[:, :17])) == len(np.unique(after[:, 23:])) == 1
    assert after[0, 0] != after[0, -1]
    assert bright[0][1] < 300 or diameter == 10.0, "a crop, not the image"


def test_a_model_that_sees_no_object_or_names_classes_has_nothing_to_say(bright) -> None:
    image, mask = scene(140, 170)
    box, dark = (slice(140, 160), slice(170, 230)), planes_of([np.zeros_like(image)])[0]
    model, classes = Model.new(width=2, depth=1), Model.new(width=2, depth=1, task="classes")
    assert run(seam.seam_job(model, dark, mask[box], (140, 170))) is None
    assert run(seam.seam_job(classes, planes_of([image])[0], mask[box], (140, 170))) is None
