"""Each engine gives the maps of the network, of a part as of the whole, and lets go of networks that are gone."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_unet import DeviceError, Model
from napari_unet.infer import engine
from napari_unet.infer.engine import Torch, engine_for, torch_engine
from napari_unet.infer.openvino_engine import OpenVINO
from napari_unet.infer.predict import predict_tiles
from napari_unet.jobs import run
from napari_unet.nets.config import UNetConfig
from napari_unet.nets.unet import UNet, activate

if TYPE_CHECKING:
    from napari_unet.infer.engine import Engine

SHAPES = {1: (96,), 2: (48, 64), 3: (16, 24, 32)}


def lived(**config: int) -> UNet:
    """Return a network whose norms have seen something and whose maps are not flat."""
    network = UNet(UNetConfig(**{"width": 4, "depth": 2, **config}))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.uniform_(-0.5, 0.5, generator=random)
                module.running_var.uniform_(0.5, 2, generator=random)
        network.head.weight.normal_(generator=random)
    return network.eval()


def maps(network: UNet, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return activate(network(torch.from_numpy(x)[None]), network.config.classes)[0].numpy()


def engines(network: UNet) -> list[Engine]:
    cpu = torch.device("cpu")
    return [Torch(network, cpu, precise=True), Torch(network, cpu), OpenVINO(network)]


@pytest.mark.parametrize(
    "config",
    [
        {"ndim": 1},
        {"ndim": 2},
        {"ndim": 3},
        {"depth": 0},
        {"depth": 3, "max_width": 8, "top": 2},
        {"in_channels": 3, "classes": 4, "instance_maps": False},
        {"halve": False},
    ],
    ids=str,
)
def test_engines_agree(config: dict[str, int]) -> None:
    network = lived(**config)
    shape = SHAPES[network.config.ndim]
    x = np.random.default_rng(0).random((network.config.in_channels, *shape), np.float32)
    expected = maps(network, x)
    assert np.ptp(expected[0]) > 0.1, "flat maps would prove nothing"
    for each, tolerance in zip(engines(network), (1e-5, 0.05, 0.05), strict=True):
        found = each.start(x, tuple((0, n) for n in shape)).maps()
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < tolerance, type(each)


windows = st.tuples(st.integers(0, 95), st.integers(1, 96)).map(lambda w: (w[0], min(w[0] + w[1], 96)))


@settings(max_examples=30)
@given(st.integers(0, 4), windows, windows)
def test_a_part_is_what_the_whole_has_there(depth: int, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    network = lived(depth=depth)
    x = np.random.default_rng(0).random((1, 96, 96), np.float32)
    expected = maps(network, x)[:, slice(*rows), slice(*columns)]
    exact, _, vino = engines(network)
    assert np.abs(exact.start(x, (rows, columns)).maps() - expected).max() < 1e-5
    whole = vino.start(x, ((0, 96), (0, 96))).maps()[:, slice(*rows), slice(*columns)]
    assert np.abs(vino.start(x, (rows, columns)).maps() - whole).max() < 1e-5


def test_several_tiles_may_be_under_way() -> None:
    network = lived()
    tiles = np.random.default_rng(0).random((3, 1, 32, 32), np.float32)
    for each in engines(network):
        waiting = [each.start(x, ((0, 32), (0, 32))) for x in tiles]
        for x, pending in zip(tiles, waiting, strict=True):
            assert np.abs(pending.maps() - maps(network, x)).max() < 0.05


def test_a_tile_that_is_cancelled_leaves_the_engine_as_it_was() -> None:
    network = lived(width=16, depth=3)
    x = np.random.default_rng(0).random((1, 512, 512), np.float32)
    everything = ((0, 512), (0, 512))
    for each in engines(network):
        expected = each.start(x, everything).maps()
        for pending in [each.start(x, everything) for _ in range(3)]:
            pending.cancel()
        pending = each.start(x, everything)
        while not pending.ready(0.01):
            pass
        np.testing.assert_array_equal(pending.maps(), expected)


def test_the_fastest_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lived()
    assert isinstance(engine_for(network, "cpu"), OpenVINO)
    assert engine_for(network, "cpu") is engine_for(network, "cpu"), "it is made once"
    assert isinstance(engine_for(network, "cpu", precise=True), Torch)
    assert isinstance(engine_for(network, "cpu", waited_for=True), Torch)
    assert torch_engine(network, "cpu", precise=True).dtype == torch.float32
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert isinstance(engine_for(network, "cpu"), Torch), "without OpenVINO"
    with pytest.raises(DeviceError, match="no device 'tpu'"):
        engine_for(network, "tpu")


def test_signals_are_heard_after_engines_that_went_in_any_order() -> None:
    program = """
import gc, signal
from napari_unet.infer.openvino_engine import OpenVINO
from napari_unet.infer.predict import predict_tiles
from napari_unet.jobs import run
from napari_unet.nets.config import UNetConfig
from napari_unet.nets.unet import UNet

first, second = (OpenVINO(UNet(UNetConfig(width=2, depth=1))) for _ in range(2))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background does not hear it
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_an_engine_goes_with_its_network() -> None:
    network = lived()
    gone = weakref.ref(engine_for(network, "cpu"))
    assert gone() is not None
    del network
    gc.collect()
    assert gone() is None


def test_two_threads_may_use_one_model() -> None:
    """One ends its run, and gives memory back, while the other is at work."""
    model = Model.new(width=4, depth=2, seed=1)
    image = np.random.default_rng(0).random((1, 300, 300)).astype(np.float32)

    def maps(_: int) -> np.ndarray:
        return run(predict_tiles(model, image, "cpu", tile=80, many=True))

    alone = maps(0)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(maps, range(6)):
            np.testing.assert_array_equal(found, alone)
