"""What blocks find together is what the whole image holds, in any size, with the real networks' halos."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet import Model
from napari_unet.infer import blocks, predict
from napari_unet.infer.blocks import decode_parts
from napari_unet.infer.instances import decode
from napari_unet.infer.lazy import LazyArray
from napari_unet.infer.segment import SegmentSettings, get_ready, segment_job
from napari_unet.jobs import Progress, run
from napari_unet.sample_data import load

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def nuclei() -> tuple[Model, np.ndarray]:
    return Model.load("nuclei"), load("nuclei").image[:260, :300]


def same_objects(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of the objects of two arrays that are the same to the pixel."""
    numbers, counts = np.unique(np.stack((a.ravel(), b.ravel())), axis=1, return_counts=True)
    same = (np.bincount(a.ravel())[numbers[0]] == counts) & (np.bincount(b.ravel())[numbers[1]] == counts)
    return float(same[(numbers > 0).all(axis=0)].sum() / max(a.max(), b.max()))


@pytest.mark.parametrize("diameter", [None, 30.0])
def test_block_by_block_the_objects_of_the_whole_are_found(
    diameter: float | None, nuclei: tuple[Model, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = nuclei
    how = SegmentSettings(diameter=diameter, device="cpu")
    whole = run(segment_job(model, image, "YX", how)).labels
    assert whole.max() > 10
    monkeypatch.setitem(blocks.PIXELS, 2, 150**2)
    monkeypatch.setattr(predict, "tile_pixels", lambda *_, **__: 400**2)
    steps: list[Progress] = []
    found = run(segment_job(model, image, "YX", how), steps.append).labels
    assert steps[-1].total >= 4, "it was cut into blocks"
    assert same_objects(whole, found) > 0.95
    assert (np.unique(found) == np.arange(found.max() + 1)).all()


def test_a_region_is_segmented_as_in_the_whole(nuclei: tuple[Model, np.ndarray]) -> None:
    model, image = nuclei
    whole = run(segment_job(model, image, "YX")).labels
    region = (slice(60, 200), slice(90, 243))
    part = run(segment_job(model, image, "YX", region=region)).labels
    assert part.shape == (140, 153)
    assert ((part > 0) == (whole[region] > 0)).mean() > 0.999
    assert abs(int(part.max()) - (len(np.unique(whole[region])) - 1)) <= 1


def test_decoding_in_parts_changes_nothing(nuclei: tuple[Model, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = nuclei
    maps = model.predict(image)
    whole = decode(model, maps)
    monkeypatch.setitem(blocks.PART, 2, 100**2)
    steps: list[Progress] = []
    parts = run(decode_parts(model, maps, 40), steps.append)
    assert len(steps) > 1
    assert same_objects(whole, parts) == 1
    job = decode_parts(model, maps, 40)
    next(job)
    job.close()  # and no thread is left


def test_only_what_blocks_need_is_read(thresholding: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blocks.PIXELS, 2, 64**2)
    monkeypatch.setattr("napari_unet.infer.seen.percentiles", lambda *_: (0.0, 1.0))
    image, read = np.zeros((300, 300), np.float32), []
    image[::20, ::20] = 1

    def on_disk(slices: tuple[slice, ...]) -> np.ndarray:
        read.append(image[slices].size)
        return image[slices]

    model = replace(thresholding(), diameter=3.0)
    run(segment_job(model, LazyArray(image.shape, image.dtype, on_disk), "YX"))
    assert len(read) == 25
    assert max(read) <= (64 + 2 * 30) ** 2
    assert sum(read) < 3 * image.size


@pytest.mark.parametrize("value", [0, 7, 1000])
def test_an_image_of_one_value_has_no_objects_and_costs_one_look(value: int, nuclei: tuple[Model, np.ndarray]) -> None:
    model, _ = nuclei
    image = np.full((2000, 1000), value, np.uint16)
    assert not model.segment(image).any()


def test_a_device_that_computes_on_meanwhile_finds_the_same(
    thresholding: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: what one block saw is cut into objects while the next one is looked at."""
    monkeypatch.setitem(blocks.PIXELS, 2, 64**2)
    image = np.zeros((150, 200), np.uint16)
    image[::15, ::15] = image[1::15, ::15] = 4000
    ready = run(get_ready(thresholding(), image, "YX", SegmentSettings(device="cpu")))
    each = blocks.plan(ready)
    faces = blocks.faces_of(ready, each)
    expected = {block.place: run(blocks.look(ready, block, faces[block.place]))[0] for block in each}
    for overlap in (), ("cpu",):
        monkeypatch.setattr(blocks, "OVERLAP", overlap)
        steps: list[Progress] = []
        run(blocks.look_all(ready, each, faces), steps.append)
        found = [step.payload for step in steps if step.payload is not None]
        assert [block for block, _, _ in found] == each
        for block, seen, broken in found:
            assert (seen.labels == expected[block.place].labels).all()
            assert broken == 0
        done = [step.done for step in steps]
        assert done == sorted(done)
        assert done[-1] == steps[-1].total
        job = blocks.look_all(ready, each, faces)
        for _ in range(5):
            next(job)
        job.close()  # and no thread is left
