"""Small objects are enlarged by models that learned them so, by few steps, and only if nobody gave a diameter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet.infer.lazy import LazyArray
from napari_unet.infer.scale import enlargement, find_scale
from napari_unet.infer.seen import see
from napari_unet.infer.segment import SegmentSettings, segment_job
from napari_unet.jobs import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.model import Model


def disks(diameter: float, side: int = 128) -> np.ndarray:
    y, x = np.mgrid[:side, :side] % round(2 * diameter) - diameter
    return (np.hypot(y, x) <= diameter / 2).astype(np.float32)


@pytest.fixture
def model(thresholding: Callable[..., Model]) -> Model:
    """A model that takes what is bright for an object, and learned nothing below 20 pixels at its own scale."""
    return replace(thresholding(), smallest=20.0, diameter=20.0)


@pytest.mark.parametrize(("true", "factor"), [(8.0, 2.0), (13.0, 1.5), (18.0, 1.0), (30.0, 1.0)])
def test_small_objects_are_enlarged(model: Model, true: float, factor: float) -> None:
    found, notes = run(find_scale(model, see(model, disks(true)), None))
    assert found == factor
    assert (f"enlarged {factor:g} times" in " ".join(notes)) == (factor > 1)
    assert enlargement(model, true) == factor


def test_whoever_gives_a_diameter_is_heeded(model: Model) -> None:
    assert run(find_scale(model, see(model, disks(8.0)), 20.0)) == (1.0, [])
    assert run(find_scale(replace(model, smallest=None), see(model, disks(8.0)), None)) == (1.0, [])


def test_one_or_two_objects_or_none_say_nothing(model: Model) -> None:
    image = disks(8.0)
    image[:, 16:] = image[24:] = 0
    assert run(find_scale(model, see(model, image), None)) == (1.0, [])
    assert run(find_scale(model, see(model, 0 * image), None)) == (1.0, [])


def test_of_a_movie_one_frame_is_read_and_of_a_large_image_nothing(model: Model) -> None:
    read: list[tuple[int, ...]] = []

    def on_disk(slices: tuple[slice, ...]) -> np.ndarray:
        read.append(tuple(s.stop - s.start for s in slices))
        y, x = (np.arange(s.start, s.stop) % 16 - 8 for s in slices[-2:])
        disk = (np.hypot(*np.meshgrid(y, x, indexing="ij")) <= 4).astype(np.float32)
        return np.broadcast_to(disk, (*read[-1][:-2], *disk.shape))

    movie = see(model, LazyArray((300, 128, 96), np.dtype(np.float32), on_disk), "TYX")
    read.clear()
    assert run(find_scale(model, movie, None))[0] == 2
    assert read == [(1, 128, 96)]
    huge = see(model, LazyArray((50_000, 60_000), np.dtype(np.float32), on_disk), "YX")
    read.clear()
    assert run(find_scale(model, huge, None)) == (1.0, [])
    assert not read


def test_the_labels_have_the_shape_of_the_image_and_say_what_was_done(model: Model) -> None:
    image = disks(8.0)
    result = run(segment_job(model, image, "YX", SegmentSettings()))
    assert result.labels.shape == image.shape
    assert result.labels.max() == 64
    assert any(note.startswith("enlarged 2 times") for note in result.notes)
