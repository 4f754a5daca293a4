"""OpenVINO as an engine, on processors: the same network from the same folded weights.

`convert_model` is not used, for it imports a tracer, takes longer, and sends figures on its use.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.infer.device import half_precision
from napari_unet.infer.engine import pixel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.infer.engine import Limits, Pending
    from napari_unet.nets.unet import UNet, Window


class OpenVINO:
    """OpenVINO on a processor, in bfloat16 where it has instructions for it; tiles of any size.

    Parameters
    ----------
    network : UNet
        As it was trained.
    limits : dict, optional
        Of the convolutions that compute in 8 bits.
    """

    def __init__(self, network: UNet, limits: Limits | None = None) -> None:
        import torch

        from napari_unet.nets.unet import fold

        self.place = torch.device("cpu")
        self._network, self._limits = fold(network), limits or {}
        self._depth, self._ndim = network.config.depth, network.config.ndim
        self._any = self._compile(_graph(self._network, self._limits))  # tiles of any size
        self._lock, self._running = threading.RLock(), 0  # tiles under way
        self._last: Any = None  # tile under way, or done
        self._one: tuple[Any, Any] = (None, None)  # the size and part that came last, and the graph for it alone

    def _compile(self, graph: Any) -> Any:
        import torch

        precision = "bf16" if half_precision(self.place) == torch.bfloat16 else "f32"
        return _core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),  # what a user has set by OMP_NUM_THREADS
                "ENABLE_CPU_PINNING": False,  # several programs would be pinned to the same cores
            },
        )

    def start(self, x: NDArray[np.float32], keep: Window, *, often: bool = False) -> Pending:
        """See :class:`Engine`; it computes in threads of its own while the caller goes on.

        A graph for one size and part takes a moment to make, and less memory.
        """
        tile, cuts = np.ascontiguousarray(x)[None], self._cuts(x.shape[1:], keep)
        given: tuple[NDArray[Any], ...]
        with self._lock:
            if often:
                request, given = self._alone(tile.shape, keep, cuts).create_infer_request(), (tile,)
                self._last = request
            else:
                request, given = self._any.create_infer_request(), (tile, cuts)
            self._running += 1
            request.start_async([*given])
        return _Requested(request, self._ended)

    def _alone(self, shape: tuple[int, ...], keep: Window, cuts: NDArray[np.int64]) -> Any:
        """Return the graph for tiles of one size and part."""
        if self._one[0] != (shape, keep):
            if self._last is not None:
                self._last.wait()
            self._one, self._last = (None, None), None  # first, so that its memory is free
            self._one = ((shape, keep), self._compile(_graph(self._network, self._limits, shape, cuts)))
        return self._one[1]

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1

    def memory(self, often: bool) -> float:
        """See :class:`Engine`; a graph for one size needs just what is held at once."""
        size = 2 if half_precision(self.place) is not None else 4
        return (1.0 if often else 1.7) * pixel(self._network, size)

    def release(self) -> None:
        """See :class:`Engine`; nothing happens while another thread has a tile under way."""
        with self._lock:
            if not self._running:
                for compiled in (self._any, self._one[1]):
                    if compiled is not None:
                        compiled.release_memory()

    def _cuts(self, shape: tuple[int, ...], keep: Window) -> NDArray[np.int64]:
        """Return where the graph cuts: ``(depth + 1, [skip, below], [start, stop], axis)``, the output's level last."""
        from napari_unet.nets.unet import way_up

        windows = way_up(keep, [[n >> level for n in shape] for level in range(self._depth)])
        held = [*windows[1:], tuple((0, n >> self._depth) for n in shape)]
        cuts = np.zeros((self._depth + 1, 2, 2, self._ndim), np.int64)
        for level, (window, below) in enumerate(zip(windows, held, strict=False)):
            cuts[level, 0] = np.transpose(window)
            cuts[level, 1] = cuts[level, 0] - 2 * np.array([start for start, _ in below])
        cuts[-1, 0] = np.transpose(keep) - np.array([start for start, _ in (windows or held)[0]])
        return cuts


@cache
def _core() -> Any:
    """Return OpenVINO's core, one for the whole program and never let go.

    Each sets up a stack for signals and, when it goes, brings back the one before it: of two that do not go in the
    opposite order of their coming, that one is gone already, and the next Ctrl+C ends the program by SIGSEGV.
    """
    import openvino

    return openvino.Core()


class _Requested:
    """A tile that OpenVINO computes; `ended` is called once, when it is over."""

    def __init__(self, request: Any, ended: Callable[[], None]) -> None:
        self._request, self._ended = request, weakref.finalize(self, ended)

    def ready(self, seconds: float) -> bool:
        return bool(self._request.wait_for(round(1000 * seconds)))

    def maps(self) -> NDArray[np.float32]:
        self._request.wait()
        found = np.array(self._request.get_output_tensor(0).data[0])
        self._ended()
        return found

    def cancel(self) -> None:
        self._request.cancel()
        with suppress(RuntimeError):  # that it was cancelled
            self._request.wait()
        self._ended()


def _graph(network: UNet, limits: Limits, shape: Sequence[int] = (), known: NDArray[np.int64] | None = None) -> Any:
    """Return a folded network as an OpenVINO model: a tile and its cuts to maps; the same steps as `UNet.forward`.

    With a shape and known cuts, of a tile alone.

    A convolution with limits is marked for 8 bits, as OpenVINO's own tools do: what comes in is rounded to 256 steps
    between them, each of its filters to 255 between minus and plus its largest weight.
    """
    import openvino
    from openvino import opset13 as op

    config, spatial = network.config, list(range(2, 2 + network.config.ndim))
    ones, twos, zeros = ([n] * config.ndim for n in (1, 2, 0))
    tile = op.parameter([*shape] or [1, config.in_channels, *[-1] * config.ndim], np.float32)
    if known is None:
        cuts = op.parameter([config.depth + 1, 2, 2, config.ndim], np.int64)
    else:
        cuts = op.constant(known)

    names = {layer: name for name, layer in network.named_modules()}

    def convolution(x: Any, layer: Any) -> Any:
        weight, bias = (each.detach().float().numpy() for each in (layer.weight, layer.bias))
        pad = [n // 2 for n in weight.shape[2:]]
        if names[layer] in limits:
            low, high = (np.float32(limit) for limit in limits[names[layer]])
            most = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
            x = op.fake_quantize(x, low, high, low, high, 256)
            weight = op.fake_quantize(op.constant(weight), -most, most, -most, most, 255)
        return op.add(op.convolution(x, weight, ones, pad, pad, ones), bias.reshape(1, -1, *ones))

    def double(x: Any, block: Any) -> Any:
        for layer in block[::3]:  # between them a norm, folded away, and a ReLU
            x = op.relu(convolution(x, layer))
        return x

    def part(x: Any, level: int, which: int) -> Any:
        start, stop = (
            op.squeeze(
                op.slice(cuts, [level, which, i], [level + 1, which + 1, i + 1], [1, 1, 1], [0, 1, 2]), [0, 1, 2]
            )
            for i in range(2)
        )
        return op.slice(x, start, stop, ones, spatial)

    levels = [double(tile, network.down[0])]
    for block in network.down[1:]:
        levels.append(double(op.max_pool(levels[-1], twos, ones, zeros, zeros, twos).output(0), block))
    x = levels.pop()
    for level, block in zip(reversed(range(config.depth)), network.up, strict=True):
        x = op.interpolate(
            x,
            np.array(twos, np.float32),
            "nearest",
            "scales",
            axes=np.array(spatial),
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        x = double(op.concat([part(levels.pop(), level, 0), part(x, level, 1)], 1), block)
    logits = convolution(part(x, config.depth, 0), network.head)
    classes = op.softmax(op.slice(logits, [0], [config.classes], [1], [1]), 1)
    if config.instance_maps:
        rest = op.sigmoid(op.slice(logits, [config.classes], [config.out_channels], [1], [1]))
        classes = op.concat([classes, rest], 1)
    return openvino.Model([classes], [tile, cuts] if known is None else [tile], "unet")
