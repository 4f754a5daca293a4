"""What runs a network: torch on any device, or OpenVINO, where it is installed, on a processor.

Both take a tile and the part of it that is wanted, and give maps.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_unet.infer.device import half_precision, pick_device

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from numpy.typing import NDArray

    from napari_unet.nets.unet import UNet, Window


Limits = dict[str, tuple[float, float]]  # least and most of what comes into a convolution, by the name of that


class Pending(Protocol):
    """A tile under way."""

    def ready(self, seconds: float) -> bool:
        """Wait so long at most; return whether the maps are there."""

    def maps(self) -> NDArray[np.float32]:
        """Wait for the maps ``(channel, *spatial)`` of the part that is wanted, 0 to 1, and return them."""

    def cancel(self) -> None:
        """Let go of the tile, as soon as the device allows it."""


class Engine(Protocol):
    """Runs one network on one device."""

    @property
    def place(self) -> torch.device:
        """Where it computes."""

    def start(self, x: NDArray[np.float32], keep: Window, *, often: bool = False) -> Pending:
        """Begin with a tile; the next may begin before this one has ended.

        Parameters
        ----------
        x : float32 array, ``(in_channels, *spatial)``
            Normalised; each spatial axis is a multiple of the network's stride.
        keep : tuple of (start, stop)
            The part of each spatial axis that is wanted.
        often : bool
            Whether many tiles of this size and part follow: then it pays to get ready for them.
        """

    def memory(self, often: bool) -> float:
        """Return the bytes for each pixel of the tiles under way; for `often` see :meth:`start`."""

    def release(self) -> None:
        """Let go of the memory that is only needed while tiles are under way."""


def engine_for(network: UNet, device: str = "auto", *, precise: bool = False, waited_for: bool = False) -> Engine:
    """Return the fastest engine for a network; made once, kept as long as the network.

    Parameters
    ----------
    network : UNet
        As it was trained.
    device : str
        See :func:`~napari_unet.infer.device.pick_device`.
    precise : bool
        Compute in float32, by torch, even where something else is faster.
    waited_for : bool
        Whether somebody waits for each answer. OpenVINO has one pool of threads for all, with the priority of whoever
        came first, and that is a job in the background.

    Raises
    ------
    DeviceError
        If the device is not there.
    """
    vino = not precise and not waited_for and pick_device(device).type == "cpu" and find_spec("openvino") is not None
    if not vino:
        return torch_engine(network, device, precise=precise)
    limits = _limits.get(network)
    key = "openvino int8" if limits else "openvino"
    with _lock_of(network):
        made = _made.setdefault(network, {})
        if key not in made:
            from napari_unet.infer.openvino_engine import OpenVINO

            made[key] = OpenVINO(network, limits)
        return made[key]


def pixel(network: UNet, size: int) -> int:
    """Return the bytes that a pixel takes in a network of numbers of this size, where most are held at once.

    That is in the last convolution of the finest level: what it makes and reads, the two parts of that, and the skip.
    """
    config = network.config
    return 5 * network.head.in_channels * size + 4 * (config.in_channels + config.out_channels)


def quantise(network: UNet, limits: Limits | None) -> None:
    """Let OpenVINO run a network in 8 bits from now on, or in 16 again; see :mod:`napari_unet.infer.int8`."""
    if limits is None:
        _limits.pop(network, None)
    else:
        _limits[network] = limits


def quantised(network: UNet) -> Limits | None:
    """Return the limits that :func:`quantise` was given last."""
    return _limits.get(network)


def torch_engine(network: UNet, device: str = "auto", *, precise: bool = False) -> Torch:
    """Return the torch engine for a network; for parameters and errors see :func:`engine_for`."""
    place = pick_device(device)
    key = f"{place} precise" if precise else str(place)
    with _lock_of(network):
        made = _made.setdefault(network, {})
        if key not in made:
            made[key] = Torch(network, place, precise=precise)
        return made[key]


def _lock_of(network: UNet) -> threading.Lock:
    """Return what a thread holds that makes an engine for a network: there is one for all threads."""
    with _looking:
        return _locks.setdefault(network, threading.Lock())


_looking = threading.Lock()
_locks: weakref.WeakKeyDictionary[UNet, threading.Lock] = weakref.WeakKeyDictionary()
_made: weakref.WeakKeyDictionary[UNet, dict[str, Any]] = weakref.WeakKeyDictionary()
_limits: weakref.WeakKeyDictionary[UNet, Limits] = weakref.WeakKeyDictionary()


class Torch:
    """Torch, with the norms folded, in 16 bits where the device computes in them.

    Parameters
    ----------
    network : UNet
        As it was trained.
    place : torch.device
        Where to compute.
    precise : bool
        Whether to compute in float32.
    """

    def __init__(self, network: UNet, place: torch.device, *, precise: bool = False) -> None:
        import torch

        from napari_unet.nets.unet import fold

        self.place = place
        self.dtype = (None if precise else half_precision(place)) or torch.float32
        ready = fold(network).to(place, self.dtype)
        if network.config.ndim == 2:
            ready = ready.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: UNet = ready

    def load(self, x: NDArray[np.float32]) -> torch.Tensor:
        """Bring an image ``(in_channels, *spatial)`` to the device, as a batch of one, laid out as it reads fastest."""
        import torch

        batch = torch.from_numpy(np.array(x, order="C"))[None]
        if self.place.type == "cuda":  # pinned, so that the processor goes on while it is copied
            batch = batch.pin_memory()
        batch = batch.to(self.place, non_blocking=True).to(self.dtype)
        return batch.to(memory_format=torch.channels_last) if batch.ndim == 4 else batch

    def memory(self, often: bool) -> float:
        """See :class:`Engine`; on a GPU two tiles are under way."""
        return (2.0 if self.place.type == "cuda" else 1.2) * pixel(self.network, self.dtype.itemsize)

    def release(self) -> None:
        """See :class:`Engine`; torch does so by itself on processors, and a GPU is nobody else's."""

    def start(self, x: NDArray[np.float32], keep: Window, *, often: bool = False) -> Pending:
        """See :class:`Engine`; a GPU computes while the caller goes on, a processor while it waits."""
        import torch

        from napari_unet.nets.unet import activate

        if self.place.type != "cuda":
            return _Stepwise(self, x, keep)
        with torch.inference_mode():
            maps = activate(self.network(self.load(x), keep), self.network.config.classes)[0]
            host = torch.empty(maps.shape, pin_memory=True)
            host.copy_(maps, non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(self.place))
        return _Copied(host, done)


class _Stepwise:
    """A tile that torch computes level by level while it is waited for."""

    def __init__(self, engine: Torch, x: NDArray[np.float32], keep: Window) -> None:
        self._steps = self._run(engine, x, keep)
        self._found: NDArray[np.float32] | None = None

    @staticmethod
    def _run(engine: Torch, x: NDArray[np.float32], keep: Window) -> Generator[None, None, NDArray[np.float32]]:
        from napari_unet.nets.unet import activate

        logits = yield from engine.network.steps(engine.load(x), keep)
        found: NDArray[np.float32] = activate(logits, engine.network.config.classes)[0].cpu().numpy()
        return found

    def ready(self, seconds: float) -> bool:
        import torch

        end = time.monotonic() + seconds
        with torch.inference_mode():
            while self._found is None:
                try:
                    next(self._steps)
                except StopIteration as done:
                    self._found = done.value
                if time.monotonic() > end:
                    break
        return self._found is not None

    def maps(self) -> NDArray[np.float32]:
        while self._found is None:
            self.ready(1)
        return self._found

    def cancel(self) -> None:
        self._steps.close()


@dataclass(frozen=True, eq=False)
class _Copied:
    """Maps that a GPU computes and copies; what was handed to it cannot be taken back."""

    found: torch.Tensor
    done: torch.cuda.Event

    def ready(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.done.query():
            if time.monotonic() > end:
                return False
            time.sleep(0.0005)
        return True

    def maps(self) -> NDArray[np.float32]:
        self.done.synchronize()
        found: NDArray[np.float32] = self.found.numpy()
        return found

    def cancel(self) -> None:
        pass
