"""A device is found by its name, and one that is not there is told in one sentence."""

from __future__ import annotations

import pytest
import torch

from napari_unet import DeviceError
from napari_unet.infer.device import describe_device, half_precision, out_of_memory, pick_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there are two CUDA GPUs and no Apple GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_processor_is_always_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device() == pick_device("auto")


@pytest.mark.usefixtures("machine")
def test_auto_takes_the_gpu() -> None:
    assert pick_device("auto").type == "cuda"
    assert pick_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mps", "'mps' was not found"),
        ("cuda:2", "'cuda:2' was not found"),
        ("gpu", "no device 'gpu': choose one of auto, cpu, cuda, mps"),
        ("cuda:x", "no device 'cuda:x'"),
        ("cuda:-1", "no device"),
        ("", "no device ''"),
    ],
)
def test_what_is_not_there_is_told(name: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        pick_device(name)


def test_sixteen_bits_only_where_they_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert half_precision(torch.device("mps")) == torch.float16
    assert half_precision(torch.device("cpu")) in (None, torch.bfloat16)
    for native, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, it=native: it)
        assert half_precision(torch.device("cuda")) == dtype


def test_memory_is_told_from_other_errors() -> None:
    assert out_of_memory(torch.OutOfMemoryError("no more"))
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    assert not out_of_memory(RuntimeError("size mismatch"))


def test_a_device_is_described_in_a_users_words() -> None:
    assert describe_device(torch.device("cpu")).startswith("processor, ")
    assert describe_device(torch.device("mps")) == "Apple GPU"
