"""The five lines of the public face: any image in, labels out; no torch before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

import napari_unet
from napari_unet import DataError, ImageError, Model
from napari_unet.infer.read import read_image

if TYPE_CHECKING:
    from collections.abc import Callable

RANDOM = np.random.default_rng(0)


def test_the_public_names_are_there_and_come_without_torch() -> None:
    assert all(hasattr(napari_unet, name) for name in napari_unet.__all__)
    program = "import sys, napari_unet; napari_unet.shipped(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_five_lines(tmp_path: Path) -> None:
    y, x = np.indices((48, 48))
    masks = [((y - c) ** 2 + (x - 24) ** 2 < 80).astype(np.uint16) for c in (14, 30)]
    images = [(mask * 200 + RANDOM.integers(0, 20, mask.shape)).astype(np.uint8) for mask in masks]

    model = Model.new(width=8, depth=1)
    labels = model.segment(images[0])
    better = model.fit(images, masks, steps=60, crop=32, batch=2)
    scores = better.evaluate(images, masks)
    loaded = Model.load(better.save(tmp_path / "mine.unet"))

    assert labels.shape == (48, 48)
    assert scores.dice > 0.9
    assert scores.dice > model.evaluate(images, masks).dice
    assert loaded.version == better.version != model.version
    assert (loaded.segment(images[1]) == better.segment(images[1])).all()


@pytest.fixture(scope="module")
def tiny() -> Model:
    return Model.new(width=2, depth=2)


# The zoo


def labelled(model: Model, image: Any, shape: tuple[int, ...], **how: Any) -> np.ndarray:
    labels = model.segment(image, **how)
    assert isinstance(labels, np.ndarray)
    assert labels.shape == shape
    assert labels.dtype == np.uint32
    return labels


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 40), (40, 1), (2, 3), (17, 31), (64, 64), (3, 100), (1, 1500), (1300, 5)]
)
def test_any_size(shape: tuple[int, int], tiny: Model) -> None:
    labelled(tiny, RANDOM.random(shape), shape, axes="YX")


DTYPES = [
    "?",
    "i1",
    "u1",
    "i2",
    "u2",
    "i4",
    "u4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    ">i2",
    ">u2",
    ">i4",
    ">u4",
    ">i8",
    ">u8",
    ">f4",
    ">f8",
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_dtype(dtype: str, thresholding: Callable[..., Model]) -> None:
    disk = np.hypot(*np.mgrid[-12:12, -12:12]) < 8
    image = disk.astype(dtype) if dtype == "?" else np.where(disk, 100, -20 if "i" in dtype else 3).astype(dtype)
    assert (labelled(thresholding(), image, image.shape) == disk).all()


@pytest.mark.parametrize("dtype", ["u8", "i8", "f4", "f8"])
def test_the_ends_of_a_range(dtype: str, thresholding: Callable[..., Model]) -> None:
    kind = np.dtype(dtype)
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    disk = np.hypot(*np.mgrid[-12:12, -12:12]) < 8
    part = 4 if kind.kind == "f" else 1  # the whole range of float64 is longer than float64 can say
    image = np.where(disk, np.array(limits.max // part, kind), np.array(limits.min // part, kind))
    assert (labelled(thresholding(), image, image.shape) == disk).all()


@pytest.mark.parametrize(
    ("axes", "shape", "out"),
    [
        ("YX", (20, 30), (20, 30)),
        ("CYX", (2, 20, 30), (20, 30)),
        ("YXC", (20, 30, 2), (20, 30)),
        ("YXS", (20, 30, 3), (20, 30)),
        ("YXS", (20, 30, 4), (20, 30)),
        ("ZYX", (3, 20, 30), (3, 20, 30)),
        ("TYX", (3, 20, 30), (3, 20, 30)),
        ("TCYX", (3, 2, 20, 30), (3, 20, 30)),
        ("TZCYX", (2, 3, 2, 20, 30), (2, 3, 20, 30)),
        ("TCZYX", (1, 1, 1, 20, 30), (1, 1, 20, 30)),
        ("zyx", (3, 20, 30), (3, 20, 30)),
        (None, (20, 30), (20, 30)),
        (None, (20, 30, 3), (20, 30)),
        (None, (2, 20, 30), (20, 30)),
        (None, (7, 20, 30), (7, 20, 30)),
    ],
)
def test_any_axes(axes: str | None, shape: tuple[int, ...], out: tuple[int, ...], tiny: Model) -> None:
    labelled(tiny, RANDOM.integers(0, 255, shape, np.uint8), out, axes=axes)


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf, -np.inf])
def test_nothing_to_see(value: float, tiny: Model) -> None:
    labelled(tiny, np.full((20, 30), value), (20, 30))


def test_an_image_is_not_changed_and_may_be_read_only(tiny: Model) -> None:
    image = RANDOM.random((20, 30)).astype(np.float32)
    image[0, 0] = np.nan
    before = image.copy()
    image.flags.writeable = False
    labelled(tiny, image, (20, 30))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("turn", [np.s_[::2, ::3], np.s_[::-1, ::-1], np.s_[5:, :20]])
def test_views_of_all_kinds(turn: Any, thresholding: Callable[..., Model]) -> None:
    image = RANDOM.random((60, 80))
    expected = labelled(thresholding(), image[turn].copy(), image[turn].shape)
    assert (labelled(thresholding(), image[turn], image[turn].shape) == expected).all()
    assert (thresholding().segment(np.asfortranarray(image[turn])) == expected).all()


def test_lists_dask_and_zarr(thresholding: Callable[..., Model], tmp_path: Path) -> None:
    model = thresholding()
    stack = RANDOM.integers(0, 255, (3, 40, 50), np.uint8)
    expected = labelled(model, stack, stack.shape, axes="ZYX")
    assert (model.segment(stack.tolist(), axes="ZYX") == expected).all()

    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(tmp_path / "stack.zarr", shape=stack.shape, chunks=(1, 16, 16), dtype="u1")
    stored[:] = stack
    assert (labelled(model, stored, stack.shape, axes="ZYX") == expected).all()

    dask = pytest.importorskip("dask.array")
    assert (labelled(model, dask.from_array(stack, chunks=(1, 16, 50)), stack.shape, axes="ZYX") == expected).all()


@pytest.mark.parametrize("call", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([], "1 images and 0 masks"),
        ([np.zeros((20, 30), int)] * 2, "1 images and 2 masks"),
        ([np.zeros((20, 31), int)], r"\(20, 31\) pixels and its image \(20, 30\)"),
        ([np.zeros((20, 30))], "of type float64"),
        ([np.full((20, 30), -1)], "-1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(call: str, masks: list[np.ndarray], said: str, tiny: Model) -> None:
    with pytest.raises(DataError, match=said):
        getattr(tiny, call)([RANDOM.random((20, 30))], masks)


# First stumbles: one sentence says what to do instead

IMAGE = RANDOM.random((20, 30))
MASK = np.pad(np.ones((5, 5), int), ((3, 12), (4, 21)))


@pytest.mark.parametrize("path", ["cells.tif", Path("cells.tif")])
def test_a_path_is_no_image(path: str | Path, tiny: Model) -> None:
    for call in (tiny.segment, tiny.predict, lambda it: tiny.fit([it], [MASK]), lambda it: tiny.evaluate([it], [MASK])):
        with pytest.raises(ImageError, match=r"is the path 'cells.tif', expected an array: .*read_image\(path\).data"):
            call(path)
    for call in (tiny.fit, tiny.evaluate):
        with pytest.raises(DataError, match=r"The images are the path 'cells.tif', expected a list of arrays"):
            call(path, path)


def test_what_the_sentence_says_works(tiny: Model, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cells.tif", IMAGE.astype(np.float32))
    labelled(tiny, read_image(tmp_path / "cells.tif").data, (20, 30))


@pytest.mark.parametrize("call", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        (IMAGE, MASK, r"The images are one array of shape \(20, 30\)"),
        ([IMAGE], MASK, r"The masks are one array of shape \(20, 30\)"),
        (np.stack([IMAGE] * 3, axis=-1), MASK, r"The masks are one array"),
    ],
)
def test_a_bare_array_is_no_list(call: str, images: Any, masks: Any, said: str, tiny: Model) -> None:
    with pytest.raises(DataError, match=said + r".* give \[image\] and \[mask\]"):
        getattr(tiny, call)(images, masks)


def test_a_setting_that_there_is_not_is_named_and_the_others_are_listed(tiny: Model) -> None:
    with pytest.raises(DataError, match=r"no setting 'diametre': choose among axes, channel, diameter, "):
        tiny.segment(IMAGE, diametre=20)
    with pytest.raises(DataError, match=r"no setting 'epoch': choose among epochs, .*held_out, .*steps, batch, "):
        tiny.fit([IMAGE], [MASK], epoch=3)


def test_a_diameter_of_nothing_is_refused(tiny: Model) -> None:
    with pytest.raises(ImageError, match="The diameter is 0, expected"):
        tiny.segment(IMAGE, diameter=0)


def test_masks_that_tell_objects_from_background_only_are_refused() -> None:
    images, masks = [np.zeros((24, 24))] * 2, [np.zeros((24, 24), bool) for _ in range(2)]
    masks[0][2:6, 2:6] = masks[0][12:16, 2:6] = masks[1][3:5, 3:5] = True
    model = Model.new(width=1, depth=0)
    for call in (model.fit, model.evaluate):
        with pytest.raises(DataError, match=r"single number \(1\) in up to 2 separate pieces"):
            call(images, masks)
    one = [
        (mask & (np.arange(24) < 8)[:, None]).astype(np.uint8) for mask in masks
    ]  # a single object in each image is one
    assert model.evaluate(images, one).objects.n_truth == 2


@pytest.mark.parametrize("task", ["instances", "classes"])
def test_masks_that_are_all_empty_teach_nothing(task: Any) -> None:
    model, nothing = Model.new(width=2, depth=1, task=task), np.zeros_like(MASK)
    with pytest.raises(DataError, match="All masks to learn from are 0 everywhere"):
        model.fit([IMAGE] * 2, [nothing] * 2, steps=1)
    with pytest.raises(DataError, match="All masks to learn from are 0 everywhere"):
        model.fit([IMAGE] * 2, [nothing, MASK], steps=1, held_out=0.5)
    assert model.fit([IMAGE] * 2, [nothing, MASK], steps=1, crop=16, batch=2).version != model.version


def test_scores_print_as_a_few_lines(tiny: Model) -> None:
    scores = tiny.evaluate([IMAGE] * 3, [MASK] * 3)
    assert str(scores) == repr(scores) == scores.table()
    assert 3 < len(str(scores).splitlines()) < 10
