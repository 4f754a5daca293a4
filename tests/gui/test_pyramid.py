"""A pyramid shows what there is of it, and takes little memory."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.exchange.ome_zarr import HELD, shapes_of_levels
from napari_unet.gui.pyramid import Pyramid, read_whole


def test_an_empty_one_of_a_tall_stack_takes_little_memory() -> None:
    pyramid = Pyramid.empty((100_000, 2000, 2000), np.uint32)
    held = [each for each in pyramid.shown if isinstance(each, np.ndarray)]
    assert held
    assert all(each.size <= HELD for each in held)
    assert not pyramid.shown[0][70_000, :5, :5].any()


def test_levels_are_halves_of_one_another_down_to_a_screen() -> None:
    assert shapes_of_levels((8192, 5001)) == [(8192, 5001), (4096, 2501), (2048, 1251)]
    assert shapes_of_levels((300, 200)) == [(300, 200)]


def test_what_is_seen_early_is_over_all_and_goes_without_a_trace() -> None:
    stored = [np.zeros((4096, 4096), np.uint8), np.zeros((2048, 2048), np.uint8)]
    pyramid = Pyramid.empty((4096, 4096), np.uint8)
    where = (slice(100, 110), slice(201, 211))
    pyramid.take_early(where, np.full((10, 10), 7, np.uint8))
    pyramid.read_again(stored)
    assert pyramid.early
    assert (np.asarray(pyramid.shown[0][where]) == 7).all()
    assert (pyramid.shown[-1] == 7).sum() == 25
    pyramid.forget_early()
    assert not pyramid.early
    assert not np.asarray(pyramid.shown[0][where]).any()
    assert not pyramid.shown[-1].any()


def test_what_is_being_written_is_read_again() -> None:
    class Replaced:
        tries = 0

        def __getitem__(self, at: object) -> np.ndarray:
            self.tries += 1
            if self.tries < 3:
                raise RuntimeError("Zstd decompression error: invalid input data")
            return np.ones(4)

    assert read_whole(Replaced(), (slice(0, 4),)).sum() == 4
    broken = Replaced()
    broken.tries = -100
    with pytest.raises(RuntimeError):
        read_whole(broken, (slice(0, 4),))
