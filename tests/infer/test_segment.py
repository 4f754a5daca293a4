"""From any image to labels: channels, stacks, scale, brightness and thresholds, with a model that is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_unet import DeviceError, ImageError, Model, ModelFileError, sample_data
from napari_unet.infer import seen
from napari_unet.infer.lazy import LazyArray
from napari_unet.infer.scale import scale_factor
from napari_unet.infer.seen import prepare
from napari_unet.infer.segment import SegmentSettings, segment_job
from napari_unet.jobs import Progress, run
from napari_unet.learn.metrics import THRESHOLDS, score_instances, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def spots(*centres: tuple[int, int], shape: tuple[int, int] = (48, 64), radius: int = 5) -> np.ndarray:
    """Return a dark image with bright disks, uint16."""
    y, x = np.indices(shape)
    image = np.full(shape, 100, np.uint16)
    for row, column in centres:
        image[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = 4000
    return image


IMAGE = spots((10, 10), (30, 20), (20, 50))


def test_objects_are_numbered_from_one(thresholding: Callable[..., Model]) -> None:
    labels = thresholding().segment(IMAGE)
    assert labels.dtype == np.uint32
    assert sorted(np.unique(labels)) == [0, 1, 2, 3]
    assert ((labels > 0) == (IMAGE > 1000)).all()


def test_a_model_of_classes_gives_class_numbers(thresholding: Callable[..., Model]) -> None:
    image = np.repeat(np.array([[0, 0.5, 1]], np.float32), 50, axis=0)
    labels = thresholding(task="classes", classes=("background", "dim", "bright")).segment(image, axes="YX")
    assert labels.dtype == np.uint8
    assert (labels == [[0, 1, 2]]).all()


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_a_stack_is_segmented_slice_by_slice_with_numbers_that_go_on(
    axes: str, thresholding: Callable[..., Model]
) -> None:
    stack = np.stack([spots((10, 10)), spots(), spots((10, 10), (30, 30)), spots((5, 60))])
    steps: list[Progress] = []
    result = run(segment_job(thresholding(), stack, axes), steps.append)
    assert [np.unique(part[part > 0]).tolist() for part in result.labels] == [[1], [], [2, 3], [4]]
    done = [step.done / step.total for step in steps]
    assert done == sorted(done)
    assert steps[-1].done == steps[-1].total == 4000, "thousandths of slices"
    each = {"ZYX": "each slice by itself", "TYX": "each frame by itself"}[axes]
    assert result.notes[0].startswith(each)
    one = run(segment_job(thresholding(), stack, axes, region=(slice(2, 3), slice(0, 48), slice(0, 64))))
    assert one.notes == ()


def test_of_a_stack_no_more_than_a_slice_is_read_at_once(
    thresholding: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = np.stack([spots((10, 10))] * 6)
    read: list[int] = []

    def on_disk(slices: tuple[slice, ...]) -> np.ndarray:
        read.append(stack[slices].size)
        return stack[slices]

    monkeypatch.setattr(seen, "percentiles", lambda *_: (100.0, 4000.0))
    lazy = LazyArray(stack.shape, stack.dtype, on_disk)
    region = (slice(1, 5), slice(0, 48), slice(2, 60))
    labels = run(segment_job(thresholding(), lazy, "ZYX", region=region)).labels
    assert labels.shape == (4, 48, 58)
    assert labels.max() == 4
    assert max(read) <= stack[0].size


def test_a_model_of_three_dimensions_joins_slices(thresholding: Callable[..., Model]) -> None:
    stack = np.stack([spots((10, 10), (30, 30)), spots((10, 10)), spots((10, 10))])
    movie = np.stack([stack, stack])
    model = thresholding(ndim=3)
    assert model.segment(stack, axes="ZYX").max() == 2
    assert model.segment(movie, axes="TZYX").max() == 4


def test_a_model_of_one_dimension_goes_line_by_line(thresholding: Callable[..., Model]) -> None:
    labels = thresholding(ndim=1).segment(IMAGE)
    lines = [len(np.unique(line[line > 0])) for line in labels]
    assert sum(lines) == labels.max()
    assert ((labels > 0) == (IMAGE > 1000))[20].all()


@pytest.mark.parametrize(
    ("ndim", "axes", "shape"),
    [(3, "YX", (8, 8)), (2, "X", (8,)), (3, "TYX", (3, 8, 8)), (2, "YXZ", (8, 8, 3)), (2, "TX", (8, 8))],
)
def test_axes_that_the_model_cannot_look_at_are_refused(
    ndim: int, axes: str, shape: tuple[int, ...], thresholding: Callable[..., Model]
) -> None:
    with pytest.raises(ImageError, match=r"the model 'untrained' (needs|would look at)"):
        thresholding(ndim=ndim).segment(np.zeros(shape), axes=axes)


def test_a_channel_is_chosen_and_told(thresholding: Callable[..., Model]) -> None:
    both = np.stack([spots((10, 10)), spots((10, 10), (30, 40))])
    model = thresholding()
    first = run(segment_job(model, both, "CYX"))
    second = run(segment_job(model, both, "CYX", SegmentSettings(channel=1)))
    assert (first.labels.max(), second.labels.max()) == (1, 2)
    assert "channel 0 of 2" in first.notes[0]
    assert "channel 1 of 2" in second.notes[0]
    assert len(first.notes) == len(second.notes) == 1
    with pytest.raises(ImageError, match=r"(?i)channel 2"):
        model.segment(both, channel=2)


@pytest.mark.parametrize("channel", [None, 0])
def test_a_channel_in_which_nothing_can_be_seen_is_told(
    channel: int | None, thresholding: Callable[..., Model]
) -> None:
    dark = np.stack([np.full(IMAGE.shape, 7, np.uint16), IMAGE])
    result = run(segment_job(thresholding(), dark, "CYX", SegmentSettings(channel=channel)))
    assert not result.labels.any()
    assert result.notes[1].startswith("all its pixels are the same: choose another")
    assert run(segment_job(thresholding(), dark[0])).notes == ("all its pixels are the same",)


def test_grey_and_colour_meet_either_model(thresholding: Callable[..., Model]) -> None:
    grey = (IMAGE // 16).astype(np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=-1)
    expected = IMAGE > 1000
    for channels in ("grey", "rgb"):
        model = thresholding(channels=channels)
        for image, axes in ((grey, "YX"), (colour, "YXS"), (colour, None)):
            assert ((model.segment(image, axes=axes) > 0) == expected).all()
    assert prepare(thresholding(channels="rgb"), grey)[0].shape == (3, 48, 64)


def test_brightness_does_not_matter(thresholding: Callable[..., Model]) -> None:
    model = thresholding()
    expected = model.segment(IMAGE)
    for image in (IMAGE * 16, IMAGE / 1e6, IMAGE.astype(np.int32) - 5000, IMAGE.astype(">u2"), IMAGE * 1e30):
        assert (model.segment(image) == expected).all()


def test_a_constant_image_has_no_objects(thresholding: Callable[..., Model]) -> None:
    for value in (0, 1, 255):
        assert not thresholding().segment(np.full((20, 30), value, np.uint8)).any()


def test_what_is_no_number_is_dark_and_told(thresholding: Callable[..., Model]) -> None:
    image = IMAGE.astype(np.float32)
    image[:2, :3] = np.nan
    image[40, 60] = np.inf
    result = run(segment_job(thresholding(), image))
    assert ((result.labels > 0) == (IMAGE > 1000)).all()
    assert any("7 pixels were not numbers" in note for note in result.notes)
    assert not thresholding().segment(np.full((9, 9), np.nan)).any()


@pytest.mark.parametrize("diameter", [5.0, 10.0, 17.7])
def test_the_image_is_scaled_to_the_size_that_the_model_knows(
    diameter: float, thresholding: Callable[..., Model]
) -> None:
    model = replace(thresholding(), diameter=10.0)
    labels = model.segment(IMAGE, diameter=diameter)
    assert labels.shape == IMAGE.shape
    assert labels.max() == 3
    inside = IMAGE > 1000
    assert 2 * (inside & (labels > 0)).sum() / (inside.sum() + (labels > 0).sum()) > 0.8
    tiny = model.segment(IMAGE[:1, :1], diameter=1000)
    assert tiny.shape == (1, 1)


def test_the_scale_is_within_reason(thresholding: Callable[..., Model]) -> None:
    model = replace(thresholding(), diameter=20.0)
    assert [scale_factor(model, d) for d in (None, 20, 10, 1e9, 1e-9)] == [1, 1, 2, 0.05, 8]
    assert scale_factor(replace(model, diameter=None), 10) == 1
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ImageError, match="The diameter is"):
            model.segment(IMAGE, diameter=wrong)


def test_thresholds_of_the_user_go_before_those_of_the_model(thresholding: Callable[..., Model]) -> None:
    model = thresholding()
    assert not model.segment(IMAGE, foreground=1.0).any()
    assert not model.segment(IMAGE, min_size=1000).any()
    assert model.decode.foreground == 0.5
    with pytest.raises(ModelFileError, match="foreground is 2"):
        model.segment(IMAGE, foreground=2)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_flips_change_nothing_for_a_model_that_sees_each_pixel_for_itself(
    ndim: int, thresholding: Callable[..., Model]
) -> None:
    stack = np.stack([IMAGE, spots((10, 10)), spots((30, 40))])
    classes = ("background", "dim", "bright")
    for model in (thresholding(ndim=ndim), thresholding(ndim=ndim, task="classes", classes=classes)):
        once: list[Progress] = []
        steps: list[Progress] = []
        expected = run(segment_job(model, stack, "ZYX"), once.append).labels
        found = run(segment_job(model, stack, "ZYX", SegmentSettings(flips=True)), steps.append).labels
        assert (found == expected).all()
        assert found.any()
        assert steps[-1].done == steps[-1].total
        assert len(steps) > len(once)
        done = [step.done / step.total for step in steps]
        assert done == sorted(done)
    assert (model.segment(stack, axes="ZYX", flips=True) == expected).all()


def test_a_device_that_is_not_there_is_told(thresholding: Callable[..., Model]) -> None:
    with pytest.raises(DeviceError, match="no device 'abacus'"):
        thresholding().segment(IMAGE, device="abacus")


def test_maps_are_for_images_of_the_models_own_axes(thresholding: Callable[..., Model]) -> None:
    model = thresholding()
    maps = model.predict(IMAGE)
    assert maps.shape == (4, *IMAGE.shape)
    assert maps.dtype == np.float32
    assert maps[:2].sum(axis=0) == pytest.approx(1, abs=1e-2)
    with pytest.raises(ImageError, match="slice by slice"):
        model.predict(np.stack([IMAGE] * 9), axes="ZYX")


@pytest.mark.parametrize("image", [np.zeros((0, 5)), np.zeros((3, 3), complex), np.array([["a"]]), np.zeros(())])
def test_what_is_no_image_is_refused(image: Any, thresholding: Callable[..., Model]) -> None:
    with pytest.raises(ImageError):
        thresholding().segment(image)


def test_each_setting_says_what_it_is() -> None:
    for field in SegmentSettings.__dataclass_fields__.values():
        assert field.metadata["help"].endswith("."), field.name


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set how many threads torch computes with; afterwards it is as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_same_image_gives_the_same_labels_and_nearly_so_on_other_threads_and_devices(
    threads: Callable[[int], None],
) -> None:
    model, sample = Model.load("nuclei"), sample_data.load("nuclei")

    def labels(device: str = "cpu") -> np.ndarray:
        return model.segment(sample.image[:256, :256], axes="YX", device=device)

    first = labels()
    assert first.max() > 5
    np.testing.assert_array_equal(first, labels())
    others = []
    for count in (1, 2):
        threads(count)
        others.append(labels())
        np.testing.assert_array_equal(others[-1], labels())
    if torch.cuda.is_available():
        others.append(labels("cuda"))
    for other in others:
        assert summarise([score_instances(first, other)]).ap[THRESHOLDS.index(0.9)] >= 0.99
