"""The sample images: exact labels, true metadata, and made again from their seeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_unet import sample_data
from napari_unet.errors import ImageError
from napari_unet.sample_data import fluorescence, make, scene

NAMES = sample_data.names()
SHAPES = {"nuclei": (512, 512), "cells": (512, 512), "nuclei_3d": (24, 128, 128), "movie": (12, 192, 192)}
COUNTS = {"nuclei": (100, 140), "cells": (45, 75), "nuclei_3d": (33, 47), "movie": (12, 20)}
DIAMETERS = {"nuclei": (17, 36), "cells": (18, 75), "nuclei_3d": (13, 30), "movie": (11, 28)}  # whole objects


def frames(sample: sample_data.Sample) -> list[np.ndarray]:
    """Return the arrays in which an object is one piece: all frames of the movie, else the whole."""
    return list(sample.labels) if sample.axes == "TYX" else [sample.labels]


@pytest.mark.parametrize("name", NAMES)
def test_image_and_labels_fit(name: str) -> None:
    sample = sample_data.load(name)
    assert sample.image.shape == sample.labels.shape == SHAPES[name]
    assert sample.image.dtype in (np.uint8, np.uint16)
    assert sample.labels.dtype == np.uint16
    assert len(sample.axes) == sample.image.ndim
    assert set(sample.scale) == set(sample.axes) - {"T"}


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_exact(name: str) -> None:
    sample = sample_data.load(name)
    ids = np.unique(sample.labels)
    assert ids.tolist() == list(range(len(ids)))
    low, high = COUNTS[name]
    assert low <= len(ids) - 1 <= high
    for labels in frames(sample):
        for number, where in enumerate(ndimage.find_objects(labels), 1):
            if where is not None:
                assert ndimage.label(labels[where] == number)[1] == 1, number


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name: str) -> None:
    """Objects that the border does not cut have the sizes that the README promises."""
    sample = sample_data.load(name)
    low, high = DIAMETERS[name]
    for labels in frames(sample):
        inner = np.zeros(labels.shape, bool)
        inner[(slice(1, -1),) * labels.ndim] = True
        whole = np.setdiff1d(np.unique(labels), np.unique(labels[~inner]))
        voxel = sample.scale.get("Z", sample.scale["X"]) / sample.scale["X"]
        sizes = np.bincount(labels.ravel())[whole[whole > 0]] * voxel
        diameters = (6 * sizes / np.pi) ** (1 / 3) if labels.ndim == 3 else np.sqrt(4 * sizes / np.pi)
        assert diameters.min() >= low
        assert diameters.max() <= high


def test_objects_touch() -> None:
    """Touching objects are what the samples are for."""
    for name in ("nuclei", "cells"):
        labels = sample_data.load(name).labels
        left, right = labels[:, :-1], labels[:, 1:]
        touching = np.unique(left[(left != right) & (left > 0) & (right > 0)])
        assert len(touching) > labels.max() / 3


def test_nuclei_are_brighter_than_their_surroundings() -> None:
    for name in ("nuclei", "nuclei_3d", "movie"):
        sample = sample_data.load(name)
        assert sample.image[sample.labels > 0].mean() > 1.5 * sample.image[sample.labels == 0].mean()


def test_tracks() -> None:
    """A nucleus keeps its id and its place; a mother ends where her two daughters begin."""
    labels = sample_data.load("movie").labels
    present = np.array([[(frame == n).any() for n in range(1, labels.max() + 1)] for frame in labels])
    founders = int(present[0].sum())
    for births, (mother, birth) in enumerate(fluorescence.DIVISIONS):
        daughters = [founders + 2 * births, founders + 2 * births + 1]
        assert present[:birth, mother - 1].all()
        assert not present[birth:, mother - 1].any()
        assert not present[:birth, daughters].any()
        assert present[birth:, daughters].all()
        before = ndimage.center_of_mass(labels[birth - 1] == mother)
        after = np.mean([ndimage.center_of_mass(labels[birth] == d + 1) for d in daughters], axis=0)
        assert np.linalg.norm(after - before) < 8
    for track in range(founders):
        seen = [ndimage.center_of_mass(f == track + 1) for f, p in zip(labels, present[:, track], strict=True) if p]
        assert np.linalg.norm(np.diff(seen, axis=0), axis=1).max() < 8


@pytest.mark.parametrize("name", NAMES)
def test_files_tell_axes_and_pixel_size(name: str) -> None:
    sample = sample_data.load(name)
    for path in (sample_data.path(name), sample_data.labels_path(name)):
        with tifffile.TiffFile(path) as file:
            assert file.series[0].axes == sample.axes
            assert file.ome_metadata is not None
            pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
            for axis, size in sample.scale.items():
                assert pixels[f"PhysicalSize{axis}"] == pytest.approx(size)
                assert pixels[f"PhysicalSize{axis}Unit"] == "µm"
            x, unit = file.pages[0].tags["XResolution"].value, file.pages[0].tags["ResolutionUnit"].value
            assert unit == tifffile.RESUNIT.CENTIMETER
            assert 1e4 * x[1] / x[0] == pytest.approx(sample.scale["X"], rel=1e-4)
            if "T" in sample.axes:
                assert pixels["TimeIncrement"] == make.FRAME_MINUTES


def test_small_enough_to_ship() -> None:
    files = [find(name) for name in NAMES for find in (sample_data.path, sample_data.labels_path)]
    assert sum(file.stat().st_size for file in files) < 1_500_000


def test_made_again(tmp_path: Path) -> None:
    """The movie's seed gives the file that is there; on other processors a few roundings may differ."""
    stored, again = sample_data.load("movie"), make.make("movie")
    assert np.mean(stored.labels != again.labels) < 1e-4
    assert np.mean(stored.image != again.image) < 1e-3
    first, second = (
        make.write(stored, tmp_path),
        [sample_data.path("movie"), sample_data.labels_path("movie")],
    )
    assert [tifffile.imread(f).tobytes() for f in first] == [tifffile.imread(f).tobytes() for f in second]


def test_unknown_name() -> None:
    for ask in (sample_data.load, sample_data.path, sample_data.labels_path, make.make):
        with pytest.raises(ImageError, match="no sample 'mouse'; take one of nuclei, cells"):
            ask("mouse")


def test_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_data, "path", lambda name: Path("gone") / f"{name}.tif")
    with pytest.raises(ImageError, match=r"gone.*missing"):
        sample_data.load("cells")


def test_is_whole() -> None:
    mask = np.zeros((6, 6), bool)
    mask[1:3, 1:3] = True
    assert scene.is_whole(mask, 4)
    assert not scene.is_whole(mask, 5)
    mask[3, 3] = True  # touches by a corner only
    assert not scene.is_whole(mask, 4)


def test_reading_needs_no_generator() -> None:
    code = (
        "import sys, napari_unet.sample_data as s; s.load('cells'); "
        "sys.exit(bool({'torch', 'napari', 'napari_unet.sample_data.make'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
