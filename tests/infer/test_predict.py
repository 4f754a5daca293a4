"""Maps do not depend on how an image is cut into tiles, and memory that runs out is met with smaller tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet import DeviceError, Model
from napari_unet.infer import predict
from napari_unet.infer.engine import engine_for
from napari_unet.infer.predict import longest_side, predict_tiles, tile_pixels
from napari_unet.jobs import Progress, run

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = {1: (501,), 2: (83, 70), 3: (21, 34, 30)}
TILES = {1: 100, 2: 36, 3: 20}


def lived(ndim: int, depth: int) -> Model:
    """Return a model whose norms have seen something and whose maps are not flat."""
    model = Model.new(ndim=ndim, width=4, depth=depth)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.uniform_(-0.5, 0.5, generator=random)
                module.running_var.uniform_(0.5, 2, generator=random)
        model.network.head.weight.normal_(generator=random)
    return model


def picture(ndim: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, *SHAPES[ndim]), np.float32)


@pytest.mark.parametrize(("ndim", "depth"), [(1, 2), (2, 0), (2, 1), (2, 2), (3, 1)])
def test_tiles_give_the_maps_of_the_whole(ndim: int, depth: int) -> None:
    model, image = lived(ndim, depth), picture(ndim)
    whole = run(predict_tiles(model, image, "cpu", tile=10_000, precise=True))
    steps: list[Progress] = []
    tiled = run(predict_tiles(model, image, "cpu", tile=TILES[ndim], precise=True), steps.append)
    assert whole.shape == (4, *SHAPES[ndim])
    assert whole.dtype == np.float32
    assert np.ptp(whole[0]) > 0.1, "flat maps would prove nothing"
    assert np.abs(tiled - whole).max() < 1e-5
    assert steps[-1].total > 2 * ndim
    assert [step.done for step in steps] == list(range(steps[-1].total + 1))


@pytest.mark.parametrize(("ndim", "depth", "looks"), [(1, 2, 2), (2, 0, 4), (2, 2, 4), (3, 1, 8)])
def test_tiles_give_the_maps_of_the_whole_with_flips_too(ndim: int, depth: int, looks: int) -> None:
    model, image = lived(ndim, depth), picture(ndim)
    steps: list[Progress] = []
    whole = run(predict_tiles(model, image, "cpu", tile=10_000, precise=True, flips=True), steps.append)
    assert [(step.done, step.total) for step in steps] == [(done, looks) for done in range(looks + 1)]
    assert np.abs(whole - run(predict_tiles(model, image, "cpu", precise=True))).max() > 0.01, "it would prove nothing"
    tiled = run(predict_tiles(model, image, "cpu", tile=TILES[ndim], precise=True, flips=True))
    assert np.abs(tiled - whole).max() < 1e-5
    assert tiled.min() >= 0
    np.testing.assert_allclose(tiled[:2].sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("tile", [10_000, 36])
def test_with_flips_the_maps_of_a_mirrored_image_are_the_mirrored_maps(tile: int) -> None:
    model, image = lived(2, 2), np.random.default_rng(0).random((1, 84, 64), np.float32)  # whole cells of the grid

    def maps(image: np.ndarray, *, flips: bool = True) -> np.ndarray:
        return run(predict_tiles(model, image, "cpu", tile=tile, precise=True, flips=flips))

    expected = maps(image)
    for axes in ((1,), (2,), (1, 2)):
        mirrored = np.flip(image, axes)
        assert np.abs(np.flip(maps(mirrored), axes) - expected).max() < 1e-5
        assert np.abs(np.flip(maps(mirrored, flips=False), axes) - maps(image, flips=False)).max() > 0.01
    looks = [np.flip(maps(np.flip(image, axes), flips=False), axes) for axes in ((), (1,), (2,), (1, 2))]
    assert np.abs(np.mean(looks, axis=0) - expected).max() < 1e-5, "the mean of what is seen, not of logits"


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_network_that_is_symmetric_sees_the_same_with_flips(ndim: int) -> None:
    model, image = lived(ndim, 1), picture(ndim)
    with torch.no_grad():
        for weight in model.network.parameters():
            if weight.ndim > 2:
                for axis in range(2, weight.ndim):
                    weight.copy_((weight + weight.flip(axis)) / 2)
    once = run(predict_tiles(model, image, "cpu", precise=True))
    assert np.ptp(once[0]) > 0.1, "flat maps would prove nothing"
    assert np.abs(run(predict_tiles(model, image, "cpu", precise=True, flips=True)) - once).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_flips_of_an_image_smaller_than_the_grid(shape: tuple[int, int]) -> None:
    maps = run(predict_tiles(lived(2, 2), np.ones((1, *shape), np.float32), "cpu", precise=True, flips=True))
    assert maps.shape == (4, *shape)
    assert np.isfinite(maps).all()


@pytest.mark.parametrize(
    ("shape", "pixels", "side"),
    [
        ((50,), 100, 50),
        ((500,), 100, 100),
        ((500, 500), 100, 10),
        ((4, 500), 100, 25),
        ((4, 7), 100, 7),
        ((9, 512, 512), 512 * 9 * 512, 512),
        ((64, 600, 700), 160**3, 252),
        ((500, 600, 700), 160**3, 160),
    ],
)
def test_a_tile_uses_what_short_axes_leave(shape: tuple[int, ...], pixels: int, side: int) -> None:
    assert longest_side(shape, pixels) == side
    assert np.prod(np.minimum(shape, side)) <= pixels


def test_the_fast_precision_is_close_to_the_exact_one() -> None:
    model, image = lived(2, 2), picture(2)
    exact = run(predict_tiles(model, image, "cpu", precise=True))
    assert np.abs(run(predict_tiles(model, image, "cpu")) - exact).max() < 0.05


def test_what_is_given_stays_as_it_was() -> None:
    model, image = Model.new(width=4, depth=1), picture(2)
    image.flags.writeable = False
    before, version = image.copy(), model.version
    run(predict_tiles(model, image, "cpu"))
    assert (image == before).all()
    assert model.version == version
    assert all(weight.requires_grad for weight in model.network.parameters())


@pytest.mark.parametrize("flips", [False, True])
def test_a_job_that_is_closed_can_be_run_again(flips: bool) -> None:
    model, image = lived(2, 1), picture(2)
    job = predict_tiles(model, image, "cpu", tile=36, precise=True, flips=flips)
    next(job)
    next(job)
    job.close()
    again = run(predict_tiles(model, image, "cpu", tile=36, precise=True, flips=flips))
    assert np.abs(again - run(predict_tiles(model, image, "cpu", precise=True, flips=flips))).max() < 1e-5


def test_tiles_under_way_are_cancelled_with_their_job(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = []

    class Slow:
        place = torch.device("cpu")

        def start(self, x: Any, keep: Any, *, often: bool) -> Any:
            return self

        def ready(self, seconds: float) -> bool:
            return False

        def cancel(self) -> None:
            cancelled.append(self)

    monkeypatch.setattr(predict, "engine_for", lambda *_, **__: Slow())
    job = predict_tiles(lived(2, 1), picture(2), "cpu", tile=36)
    first = [next(job) for _ in range(5)]
    assert {step.done for step in first} == {0}, "it goes on to tell that it waits"
    assert not cancelled
    job.close()
    assert len(cancelled) == 1 + predict.AHEAD


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_tiles_become_smaller_until_memory_suffices(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = lived(2, 0), picture(2)
    whole = run(predict_tiles(model, image, "cpu", precise=True))
    tried, real = [], predict._run

    def poor(engine: Any, network: Any, image: Any, side: int, *rest: Any) -> Iterator[Progress]:
        tried.append(side)
        if side > 40:
            raise error
        return (yield from real(engine, network, image, side, *rest))

    monkeypatch.setattr(predict, "_run", poor)
    assert np.abs(run(predict_tiles(model, image, "cpu", precise=True)) - whole).max() < 1e-5
    assert tried == [83, 41, 20]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_memory_for_no_tile_at_all_is_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def poor(*_: Any) -> Iterator[Progress]:
        yield Progress(0, 1)
        raise error

    monkeypatch.setattr(predict, "_run", poor)
    with pytest.raises(DeviceError, match="memory of cpu is too small"):
        run(predict_tiles(lived(2, 1), picture(2), "cpu"))


def test_another_error_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Iterator[Progress]:
        yield Progress(0, 1)
        raise RuntimeError("expected 4D input")

    monkeypatch.setattr(predict, "_run", broken)
    with pytest.raises(RuntimeError, match="expected 4D"):
        run(predict_tiles(lived(2, 1), picture(2), "cpu"))


def test_tiles_are_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(Model.new(width=8).network, "cpu")
    free = iter([None, 2**40, 2**30, 2**24])
    monkeypatch.setattr(predict, "free_memory", lambda _: next(free))
    most, plenty, little, least = (tile_pixels(engine) for _ in range(4))
    assert most == plenty == int(predict.MOST["cpu"] / engine.memory(False)) > little > least == predict.LEAST
    assert engine.memory(True) <= engine.memory(False)
    wide = engine_for(Model.new(width=32).network, "cpu")
    assert wide.memory(False) > 2 * engine.memory(False)
