"""Which processor computes, and in which precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import DeviceError

if TYPE_CHECKING:
    import torch

CGROUP = "/sys/fs/cgroup/memory"
DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``"auto"`` takes CUDA, then Apple's MPS, then the processor.

    Raises
    ------
    DeviceError
        If the device is unknown or not in this machine.
    """
    import torch

    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        name = next(kind for kind, count in there.items() if count)
    kind, _, number = name.partition(":")  # cuda:1 is the second GPU
    if kind not in there or not (number or "0").isdecimal():
        raise DeviceError(f"There is no device {name!r}: choose one of {', '.join(DEVICES)}.")
    if int(number or 0) >= there[kind]:
        raise DeviceError(f"The device {name!r} was not found by torch on this machine: choose 'auto' or 'cpu'.")
    return torch.device(name)


def out_of_memory(error: RuntimeError) -> bool:
    """Tell whether torch ran out of memory: only CUDA has an exception of its own for that."""
    import torch

    said = ("out of memory", "allocate memory")  # MPS; processors
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


def free_memory(device: torch.device | None = None) -> int | None:
    """Return the free memory in bytes of a device, or of the machine; None where nothing tells.

    An Apple GPU shares the machine's. A container's own limit is observed.
    """
    if device is not None and device.type == "cuda":
        import torch

        # what torch keeps for itself is as good as free
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    try:
        import psutil  # type: ignore[import-untyped]  # comes with napari

        free = int(psutil.virtual_memory().available)
    except ImportError:
        found = [line.split()[1] for line in system_lines("/proc/meminfo") if line.startswith("MemAvailable")]
        if not found:
            return None
        free = 1024 * int(found[0])
    limit, used = (system_lines(f"{CGROUP}.{name}") for name in ("max", "current"))
    if limit and used and limit[0].isdecimal():
        # files that were read count as used until something else wants the room
        cached = [int(n) for n in (line.split()[1] for line in system_lines(f"{CGROUP}.stat") if "active_file" in line)]
        free = min(free, max(int(limit[0]) - int(used[0]) + sum(cached), 0))
    return free


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit type that is computed in hardware and faster than float32, or None.

    bfloat16 on processors only where they have instructions for it: where it is emulated it is slower.
    """
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else None


def describe_device(device: torch.device) -> str:
    """Return a device in a user's words, such as ``"processor, 8 threads"``."""
    import torch

    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "Apple GPU"
    return f"processor, {torch.get_num_threads()} threads"


def system_lines(path: str) -> list[str]:
    """Return the lines of one of the system's files, [] where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
