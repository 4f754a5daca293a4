"""Axes, channels and brightness of images in memory."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_unet.errors import ImageError
from napari_unet.infer import lazy
from napari_unet.infer.image import (
    check_axes,
    check_pixels,
    estimate_diameter,
    guess_axes,
    normalise,
    percentiles,
    rescale,
    resize,
    select_channels,
)
from napari_unet.infer.lazy import LazyArray

few = settings(max_examples=60, deadline=None)
images = arrays.arrays(
    np.uint16, arrays.array_shapes(min_dims=2, max_dims=3, max_side=12), elements=st.integers(0, 4095)
)


def test_core_imports_without_viewer_or_zarr() -> None:
    code = (
        "import sys, napari_unet.infer.image, napari_unet.infer.read;"
        "late = {'napari', 'qtpy', 'zarr', 'dask', 'torch', 'npe2'};"
        "print(*({m.split('.')[0] for m in sys.modules} & late))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ---- axes


@pytest.mark.parametrize(
    ("shape", "dtype", "rgb", "axes"),
    [
        ((7,), "u1", None, "X"),
        ((1, 1), "u1", None, "YX"),
        ((512, 512), "u2", None, "YX"),
        ((512, 512, 3), "u1", None, "YXS"),
        ((512, 512, 4), "u2", None, "YXS"),
        ((512, 512, 3), "f4", None, "YXS"),
        ((512, 512, 3), "i8", None, "ZYX"),
        ((512, 512, 3), "?", None, "ZYX"),
        ((512, 512, 3), None, None, "YXS"),
        ((512, 512, 3), "u1", False, "ZYX"),
        ((4, 4, 3), "u1", None, "ZYX"),
        ((4, 4, 3), "u1", True, "YXS"),
        ((3, 512, 512), "u1", None, "CYX"),
        ((1, 512, 512), "u1", None, "CYX"),
        ((5, 512, 512), "u1", None, "ZYX"),
        ((3, 3, 3), "u1", None, "ZYX"),
        ((9, 64, 64, 3), "u1", None, "ZYXS"),
        ((2, 64, 64, 3), "u1", None, "ZYXS"),
        ((2, 17, 64, 64), "u2", None, "CZYX"),
        ((17, 2, 64, 64), "u2", None, "ZCYX"),
        ((17, 12, 64, 64), "u2", None, "TZYX"),
        ((8, 2, 17, 64, 64), "u2", None, "TCZYX"),
        ((8, 17, 2, 64, 64), "u2", None, "TZCYX"),
        ((8, 17, 12, 64, 64), "u2", None, "TCZYX"),
    ],
)
def test_guess_axes(shape: tuple[int, ...], dtype: str | None, rgb: bool | None, axes: str) -> None:
    assert guess_axes(shape, dtype, rgb) == axes


@pytest.mark.parametrize("shape", [(), (2, 2, 2, 2, 9, 9)])
def test_guess_axes_refuses(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="expected one to five"):
        guess_axes(shape)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.sampled_from(["u1", "f4", "i4", "?"]))
def test_guessed_axes_always_fit(shape: list[int], dtype: str) -> None:
    assert check_axes(guess_axes(shape, dtype), shape)


@pytest.mark.parametrize("axes", ["YXQ", "YYX", "YX", "CYZ", ""])
def test_check_axes_refuses(axes: str) -> None:
    with pytest.raises(ImageError):
        check_axes(axes, (3, 8, 8))


def test_check_pixels() -> None:
    for good in (np.zeros((1, 1), bool), np.zeros((2, 2), ">f4"), np.zeros((2, 2), np.float16)):
        check_pixels(good)
    for bad in (np.zeros((2, 2), complex), np.zeros((2, 2), object), np.full((2, 2), "a"), np.zeros((0, 5))):
        with pytest.raises(ImageError):
            check_pixels(bad)


# ---- channels


def stack(*shape: int, dtype: str = "u2") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def both(array: np.ndarray) -> list:
    """Return an array and its lazy twin."""
    return [array, LazyArray(array.shape, array.dtype, lambda slices: array[slices])]


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize(
    ("shape", "axes", "channel", "want", "result", "rest", "note"),
    [
        ((6, 7), "YX", None, "grey", lambda a: a[None], "YX", ""),
        ((6, 7), "YX", 0, "grey", lambda a: a[None], "YX", ""),
        ((6, 7), "yx", None, "rgb", lambda a: np.stack([a] * 3), "YX", ""),
        ((1, 6, 7), "CYX", None, "grey", lambda a: a, "YX", ""),
        ((3, 6, 7), "CYX", None, "grey", lambda a: a[:1], "YX", r"channel 0 \(DAPI\) of 3 was used: choose"),
        ((3, 6, 7), "CYX", 2, "grey", lambda a: a[2:], "YX", r"^channel 2 of 3$"),
        (
            (3, 6, 7),
            "CYX",
            1,
            "rgb",
            lambda a: np.stack([a[1]] * 3),
            "YX",
            r"^channel 1 \(GFP\) of 3$",
        ),
        ((4, 2, 6, 7), "ZCYX", 1, "grey", lambda a: a[:, 1][None], "ZYX", "channel 1"),
        ((6, 7, 3), "YXS", None, "rgb", lambda a: np.moveaxis(a, -1, 0), "YX", ""),
        ((3, 6, 7), "SYX", None, "rgb", lambda a: a, "YX", ""),
        ((6, 7, 4), "YXS", None, "rgb", lambda a: np.moveaxis(a[..., :3], -1, 0), "YX", ""),
        ((6, 7, 3), "YXS", 1, "grey", lambda a: a[..., 1][None], "YX", r"channel 1 \(green\) of 3"),
        ((6, 7, 2), "YXS", None, "grey", lambda a: a[..., 0][None], "YX", ""),
        ((6, 7, 5), "YXS", 4, "grey", lambda a: a[..., 4][None], "YX", "channel 4 of 5"),
        ((2, 6, 7, 3), "CYXS", 1, "rgb", lambda a: np.moveaxis(a[1], -1, 0), "YX", r"channel 1 \(GFP\) of 2"),
        ((2, 3, 6, 7), "TZYX", None, "grey", lambda a: a[None], "TZYX", ""),
    ],
)
def test_select_channels(shape, axes, channel, want, result, rest, note, lazily) -> None:  # type: ignore[no-untyped-def]
    array = stack(*shape)
    before = array.copy()
    chosen, left, said = select_channels(both(array)[lazily], axes, channel, want, ("DAPI", "GFP"))
    expected = result(array)
    assert left == rest
    assert isinstance(chosen, LazyArray) == lazily
    assert chosen.shape == expected.shape
    assert chosen.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(chosen), expected)
    np.testing.assert_array_equal(chosen[:, ..., 1:4, 2], expected[:, ..., 1:4, 2])
    np.testing.assert_array_equal(array, before)
    if note:
        assert re.search(note, said)
    else:
        assert said == ""


@pytest.mark.parametrize("dtype", ["u1", ">u2", "f8"])
def test_luminance(dtype: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (9, 8, 4)).astype(dtype)
    for array in both(rgb):
        grey, rest, note = select_channels(array, "YXS", None, "grey")
        assert (rest, note, grey.shape, grey.dtype) == (
            "YX",
            "RGB converted to luminance",
            (1, 9, 8),
            np.float32,
        )
        np.testing.assert_allclose(np.asarray(grey)[0], rgb[..., :3] @ [0.299, 0.587, 0.114], rtol=1e-6)


def test_luminance_of_one_colour_is_constant() -> None:
    grey, _, _ = select_channels(np.full((37, 41, 3), 100, np.uint8), "YXS", None, "grey")
    assert np.ptp(grey) == 0


@pytest.mark.parametrize(
    ("shape", "axes", "channel", "said"),
    [
        ((3, 9, 9), "CYX", 7, r"Channel 7 asked for, but the image has 3 \(0-2\): choose one of these"),
        ((3, 9, 9), "CYX", -1, "Channel -1"),
        ((9, 9), "YX", 1, r"has 1 \(0\)"),
        ((9, 9, 4), "YXS", 3, r"has 3 \(0-2\)"),
        ((9, 9), "CYX", None, "'CYX' names 3"),
        ((0, 9), "YX", None, "no pixels"),
    ],
)
def test_select_channels_refuses(shape: tuple[int, ...], axes: str, channel: int | None, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        select_channels(np.zeros(shape), axes, channel, "grey")


def test_select_channels_reads_only_what_is_needed() -> None:
    asked = []
    array = LazyArray((4, 100, 100), np.dtype("u1"), lambda s: asked.append(s) or np.zeros((4, 100, 100))[s])
    chosen, _, _ = select_channels(array, "CYX", 2, "grey")
    assert asked == []
    assert chosen[0, 10:20, 5].shape == (10,)
    assert asked == [(slice(2, 3, 1), slice(10, 20, 1), slice(5, 6, 1))]


def test_dask_and_zarr_arrays_stay_lazy() -> None:
    dask = pytest.importorskip("dask.array")
    zarr = pytest.importorskip("zarr")
    array = np.random.default_rng(0).integers(0, 999, (3, 40, 50)).astype("u2")
    stored = zarr.create_array({}, shape=array.shape, dtype=array.dtype, chunks=(1, 16, 16))
    stored[:] = array
    for kind in (dask.from_array(array, chunks=16), stored):
        chosen, _, _ = select_channels(kind, "CYX", 1, "grey")
        assert isinstance(chosen, LazyArray)
        assert percentiles(chosen) == percentiles(array[1])
        assert percentiles(kind, sample=500) == percentiles(array, sample=500)
        np.testing.assert_array_equal(normalise(chosen, 0, 99), normalise(array[1:2], 0, 99))


# ---- brightness


@few
@given(images)
def test_normalised_range_and_shape(image: np.ndarray) -> None:
    lo, hi = percentiles(image)
    result = normalise(image, lo, hi)
    assert result.dtype == np.float32
    assert result.shape == image.shape
    assert image.min() <= lo <= hi <= image.max()
    assert np.abs(result).max() <= 10


@few
@given(images)
def test_normalise_is_monotone(image: np.ndarray) -> None:
    flat = np.sort(image, axis=None)
    assert (np.diff(normalise(flat, *percentiles(image))) >= 0).all()


@few
@given(images, st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_affine_change_of_the_image_changes_nothing(image: np.ndarray, gain: float, offset: float) -> None:
    changed = image.astype(np.float64) * gain + offset
    expected = normalise(image, *percentiles(image))
    np.testing.assert_allclose(normalise(changed, *percentiles(changed)), expected, atol=1e-3)


@few
@given(images)
def test_dtypes_agree(image: np.ndarray) -> None:
    expected = normalise(image, *percentiles(image))
    for dtype in ("u4", "i8", "f4", "f8", ">u2", ">f4"):
        same = image.astype(dtype)
        assert percentiles(same) == percentiles(image)
        np.testing.assert_allclose(normalise(same, *percentiles(same)), expected, atol=1e-5)


@few
@given(
    arrays.arrays(
        st.sampled_from(["f2", "f4", "f8", "u1", "i2", "i8", "u8", "?"]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    )
)
def test_any_pixels_give_finite_numbers(image: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        result = normalise(image, *percentiles(image))
    assert np.isfinite(result).all()
    assert np.abs(result).max() <= 10


@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "f4", "f8"])
def test_constant_image_becomes_zero(dtype: str) -> None:
    image = np.full((9, 9), 77, dtype)
    assert percentiles(image) == (77, 77)
    assert not normalise(image, *percentiles(image)).any()


def test_bool_becomes_zero_and_one() -> None:
    image = np.zeros((50, 50), bool)
    image[3, 3] = True
    np.testing.assert_array_equal(normalise(image, *percentiles(image)), image.astype(np.float32))


def test_broken_pixels_are_left_out_and_become_zero() -> None:
    image = np.random.default_rng(0).normal(100, 5, (60, 60)).astype(np.float32)
    expected = percentiles(image[1:])
    image[0, ::3], image[0, 1::3], image[0, 2::3] = np.nan, np.inf, -np.inf
    assert percentiles(image) == expected
    result = normalise(image, *expected)
    assert not result[0].any()
    assert result[1:].any()
    assert percentiles(np.full((3, 3), np.nan)) == (0, 0)


def test_few_bright_pixels_are_not_lost() -> None:
    image = np.zeros((100, 100), np.uint8)
    image[5, 5:8] = 200
    assert percentiles(image) == (0, 200)


def test_hot_pixel_is_bounded() -> None:
    image = np.random.default_rng(0).integers(100, 200, (200, 200)).astype(np.uint16)
    image[0, 0] = 65535
    assert normalise(image, *percentiles(image)).max() == 10


def test_what_is_given_is_not_changed() -> None:
    image = np.random.default_rng(0).random((9, 9)).astype(np.float32)
    image.flags.writeable = False
    normalise(image, *percentiles(image))


@pytest.mark.parametrize("low_high", [(50, 50), (99, 1), (-1, 99), (1, 101), (float("nan"), 99)])
def test_percentiles_refuses(low_high: tuple[float, float]) -> None:
    with pytest.raises(ImageError, match="have to rise"):
        percentiles(np.zeros((3, 3)), low_high)


def test_sample_is_close_to_the_whole_and_the_same_each_time() -> None:
    generator = np.random.default_rng(0)
    image = np.stack([generator.normal(mean, 3, (700, 900)) for mean in (10, 50, 90)])
    some = percentiles(image, sample=100_000)
    assert some == percentiles(image, sample=100_000)
    np.testing.assert_allclose(some, percentiles(image), atol=0.3)


def test_sample_keeps_short_axes_and_sees_both_rows_of_an_interlaced_image() -> None:
    image = np.zeros((2, 1000, 1000), np.uint8)
    image[:, ::2] = 100
    image[1] += 50
    assert set(np.unique(lazy.sampled(image, 5000))) == {0, 50, 100, 150}


def test_huge_lazy_image_is_sampled_in_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).gamma(2, 50, (3, 2000, 1500))
    read = []
    array = LazyArray(image.shape, image.dtype, lambda s: read.append(image[s].size) or image[s])
    monkeypatch.setattr(lazy, "PATCHES_ABOVE", 1000)
    lo, hi = percentiles(array, sample=500_000)
    assert sum(read) <= 500_000
    np.testing.assert_allclose((lo, hi), percentiles(image), rtol=0.05)


# ---- sizes


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_diameter_of_balls(ndim: int) -> None:
    grid = np.indices((40,) * ndim) - 19.5
    ball = (grid**2).sum(0) <= 100
    assert estimate_diameter(ball.astype(np.uint32) * 4_000_000_000) == pytest.approx(20, rel=0.03)


def test_diameter_slice_by_slice_and_without_objects() -> None:
    labels = np.zeros((5, 30, 30), np.int32)
    labels[:, :10, :10] = 1
    labels[:, 15:25, 15:25] = 2
    assert estimate_diameter(labels, ndim=2) == pytest.approx(2 * np.sqrt(100 / np.pi))
    assert estimate_diameter(labels) == pytest.approx((6 * 500 / np.pi) ** (1 / 3))
    assert estimate_diameter(np.zeros((9, 9), int)) is None


def test_rescale() -> None:
    y, x = np.mgrid[:60, :80].astype(np.float32)
    image = np.stack([y, x])
    assert rescale(image, 1.0) is image
    assert rescale(image, 1e-6).shape == (2, 1, 1)
    for factor in (0.5, 2.0):
        result = rescale(image, factor)
        assert result.shape == (2, 60 * factor, 80 * factor)
        assert result.dtype == np.float32
        middle = (np.arange(result.shape[1]) + 0.5) / factor - 0.5
        np.testing.assert_allclose(result[0, 8:-8, 30], middle[8:-8], atol=0.02)
    assert rescale(np.zeros((1, 4, 9, 9), np.float32), (1, 2, 2)).shape == (1, 4, 18, 18)
    assert resize(image, (17, 91)).shape == (2, 17, 91)
    np.testing.assert_array_equal(rescale(np.full((1, 9, 9), 3, np.float32), 1.7), 3)


def test_shrinking_does_not_alias() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (1, 400, 400)).astype(np.float32)
    assert rescale(noise, 0.25).std() < 0.35


def test_lazy_array_indexes_like_numpy() -> None:
    array, twin = both(stack(4, 5, 6, dtype=">u2"))
    for key in (
        np.s_[...],
        2,
        -1,
        *np.s_[1:3, 3:1, 9:],
        *(np.s_[..., 0], np.s_[0, ..., -2:], np.s_[::2, 1, ::3]),
    ):
        np.testing.assert_array_equal(twin[key], array[key])
        assert twin[key].shape == array[key].shape
        assert twin[key].dtype.isnative
    assert (twin.ndim, twin.size, len(twin), repr(twin)) == (
        3,
        120,
        4,
        "LazyArray(shape=(4, 5, 6), dtype=uint16)",
    )
    for key in (4, -5, np.s_[0, 0, 0, 0], np.s_[::-1]):
        with pytest.raises(IndexError):
            twin[key]
