"""The file of a model: what stands in its header, how it is written, and what is checked before any weight is read."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.errors import ModelFileError
from napari_unet.nets.config import UNetConfig

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_unet.nets.unet import UNet

# 2: decode has `middle`; 3: the network has `top` and `halve`, the model `smallest`; 4: there may be `familiar` and a
# base; 5: there are models for clicks. An older file is read with what there was before.
SCHEMA = 5
SUFFIX = ".unet"
Task = Literal["instances", "classes", "clicks"]
TASKS: tuple[Task, ...] = ("instances", "classes", "clicks")
IN_CHANNELS = {"grey": 1, "rgb": 3}
PROMPTS = 3  # input channels of a model for clicks beside the image: the mask so far, clicks inside, clicks outside

_KEY = "napari_unet"
_MAX_HEADER = 1_000_000  # bytes; ours are a few thousand
_MAX_WINDOWS = 4_096  # of images that a model remembers; ours are 2,048, of stacks 4,096
_DTYPES = {"F16", "BF16", "F32"}
_BASE = "base."  # before the names of the weights of a model's base
_FAMILIAR = "familiar"
_TOLD = ("name", "task", "classes", "channels", "normalisation", "decode", "provenance")  # and checked together


@dataclass(frozen=True)
class DecodeSettings:
    """How maps become instances; tuned on held-out images and kept in the model.

    Attributes
    ----------
    foreground : float
        A pixel belongs to an object above this probability, 0 to 1.
    seed : float
        How far the distance must rise above the saddle to a neighbour for an object of its own, 0 to 1.
    boundary : float
        How much the boundary counts against the distance, 0 to 1.
    middle : float
        An object whose distance nowhere reaches this has no middle: it is a smear, and dropped; 0 to 1. Around
        the default AP hardly changes, and far below it smears are kept (docs/science.md).
    min_size : int
        Objects with fewer pixels are dropped.
    """

    foreground: float = 0.5
    seed: float = 0.15
    boundary: float = 1.0
    middle: float = 0.4
    min_size: int = 12

    def __post_init__(self) -> None:
        """Refuse thresholds outside their range."""
        for key in ("foreground", "seed", "boundary", "middle"):
            value = getattr(self, key)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ModelFileError(f"The decode threshold {key} is {value!r}, expected a number from 0 to 1.")
        if not isinstance(self.min_size, int) or self.min_size < 0:
            raise ModelFileError(f"The smallest object is {self.min_size!r} pixels, expected a whole number from 0 up.")


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from: enough to cite it and to train it again.

    Attributes
    ----------
    data : tuple of str
        Names of the data it learned from.
    notices : tuple of str
        Licence notices that go with the weights.
    recipe : mapping
        The training settings, as plain values; of a fine-tuned model also what came of it, see
        :mod:`napari_unet.learn.outcome`.
    code_version : str
        Version of napari-unet-live that trained it.
    date : str
        UTC, ISO 8601.
    parent : str or None
        `Model.version` of the model it started from.
    """

    data: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    code_version: str = ""
    date: str = ""
    parent: str | None = None

    @classmethod
    def now(cls, **known: Any) -> Provenance:
        """Return a record with the present date and code version."""
        return cls(code_version=code_version(), date=datetime.now(UTC).isoformat(timespec="seconds"), **known)


@dataclass(frozen=True)
class Head:
    """What a model file says of itself before its weights are read.

    Attributes
    ----------
    ndim : int
        Spatial dimensions that the network sees at once.
    task, classes
        As in :class:`~napari_unet.model.Model`.
    provenance : Provenance
        Where the model comes from.
    version : str
        `Model.version`; empty in files of earlier programs.
    """

    ndim: int
    task: Task
    classes: tuple[str, ...]
    provenance: Provenance
    version: str = ""


def code_version() -> str:
    """Return the version of the installed distribution, or ``"unknown"`` when run from a bare folder."""
    try:
        return metadata.version("napari-unet-live")
    except metadata.PackageNotFoundError:
        return "unknown"


def check_suffix(path: Path) -> None:
    """Refuse a name that says that the file is something else than a model; one without a suffix may be."""
    if path.suffix.lower() not in ("", SUFFIX):
        raise ModelFileError(f"A model cannot be written to {path.name!r}: choose a name that ends in {SUFFIX}.")


def weights_of(network: UNet) -> dict[str, Tensor]:
    """Return what is kept of a network: all but the norms' batch counters, which nothing reads."""
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def digest(weights: Mapping[str, Tensor]) -> str:
    """Return twelve hexadecimal digits that stand for weights."""
    found = hashlib.sha256()
    for name, tensor in weights.items():
        found.update(name.encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()[:12]


def packed(records: Sequence[Mapping[str, Any]], *, half: bool) -> bytes:
    """Return a model file: weights, and headers that say their architecture and all else.

    Parameters
    ----------
    records : sequence of mapping
        The fields of the model, and then those of its base, if it has one: ``network``, ``familiar``, and the others as
        plain values.
    half : bool
        Convolutions in float16; statistics of norms may lie outside its range and stay float32.
    """
    import torch
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    headers: dict[str, str] = {}
    for prefix, record in zip(("", _BASE)[: len(records)], records, strict=True):
        header = dict(record)
        network, familiar = header.pop("network"), header.pop(_FAMILIAR)
        weights = weights_of(network)
        kept = {key: value.half() if half and value.ndim > 1 else value for key, value in weights.items()}
        tensors |= {prefix + key: value.clone() for key, value in kept.items()}  # the base may share it
        if familiar is not None:
            tensors[prefix + _FAMILIAR] = torch.from_numpy(familiar).half()
        version = digest({key: value.float() for key, value in kept.items()})  # as they will be read
        head = {"schema": SCHEMA, "config": network.config.to_dict(), "version": version}
        headers[prefix + _KEY] = json.dumps(head | header)
    return save(tensors, metadata=headers)


def read(path: Path, keys: Collection[str]) -> list[dict[str, Any]]:
    """Return what a model file holds; ModelFileError if it is unsound.

    Parameters
    ----------
    path : Path
        The file.
    keys : collection of str
        What stands in a header.

    Returns
    -------
    list of dict
        The fields of the model, and of its base if it has one.
    """
    with _opened(path, "pt") as file:
        headers, names = file.metadata() or {}, set(file.keys())
        parts = [_read_part(path.name, file, headers.get(_KEY), names, "", keys)]
        if _BASE + _KEY in headers:
            parts.append(_read_part(path.name, file, headers[_BASE + _KEY], names, _BASE, keys))
    kinds = {(part["network"].config, part["task"], part["channels"]) for part in parts}
    if len(kinds) > 1:  # a base that sees or says something else
        raise ModelFileError(f"The header of {path.name!r} contradicts itself: export the model again.")
    if names:
        raise ModelFileError(
            f"The weights in {path.name!r} do not fit its architecture ({min(names)!r}): export the model again."
        )
    return parts


def read_head(path: Path) -> Head:
    """Return what a model file says of itself, in milliseconds and without torch; ModelFileError if it is unsound."""
    with _opened(path, "numpy") as file:
        text = (file.metadata() or {}).get(_KEY)
    config, record = _checked_header(path.name, text, _TOLD)
    version = json.loads(text or "{}").get("version", "")
    return Head(config.ndim, record["task"], record["classes"], record["provenance"], str(version))


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    """Open a safetensors file whose header is not larger than one of ours can be."""
    from safetensors import SafetensorError, safe_open

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            declared = int.from_bytes(file.read(8), "little")
        if size < 8 or declared > min(size - 8, _MAX_HEADER):
            raise ModelFileError(f"{path.name!r} is not a whole model file: copy it again, or export it again.")
        with safe_open(path, framework=framework) as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path.name!r} is not a whole model file ({error}): copy it again.") from error


def _read_part(
    name: str, file: Any, header: str | None, names: set[str], prefix: str, keys: Collection[str]
) -> dict[str, Any]:
    """Return the fields of a model or of its base, and take its tensors from the `names`."""
    import torch

    from napari_unet.nets.unet import UNet

    config, record = _checked_header(name, header, keys)
    with torch.device("meta"):
        expected = {prefix + key: list(v.shape) for key, v in weights_of(UNet(config)).items()}
    if prefix + _FAMILIAR in names:
        shape = file.get_slice(prefix + _FAMILIAR).get_shape()
        if len(shape) != 3 or not 0 < shape[0] * shape[1] <= _MAX_WINDOWS:
            raise ModelFileError(f"What {name!r} says of its images cannot be ({shape}): export the model again.")
        expected[prefix + _FAMILIAR] = [*shape[:2], config.features]
    _check_tensors(name, expected, names, file)
    names.difference_update(expected)
    tensors = {key.removeprefix(prefix): file.get_tensor(key).to(torch.float32) for key in expected}
    if not all(part.isfinite().all() for part in tensors.values()):
        raise ModelFileError(f"{name!r} has weights that are not numbers: copy it again.")
    familiar = tensors.pop(_FAMILIAR, None)
    network = UNet(config)
    network.load_state_dict(tensors, strict=False)  # names were compared; batch counters are not kept
    return {"network": network.eval(), _FAMILIAR: None if familiar is None else familiar.numpy(), **record}


def _checked_header(name: str, text: str | None, keys: Collection[str]) -> tuple[UNetConfig, dict[str, Any]]:
    """Return the architecture, and the other fields of a model, if they make sense together."""
    if text is None:
        raise ModelFileError(f"{name!r} is a safetensors file but not a napari-unet model: choose a {SUFFIX} file.")
    try:
        header = json.loads(text)
        if header["schema"] > SCHEMA:
            raise ModelFileError(
                f"{name!r} was written by a newer napari-unet (file schema {header['schema']}, "
                f"this one reads up to {SCHEMA}): update napari-unet-live."
            )
        config = UNetConfig(**{"halve": False} | header["config"] if header["schema"] < 3 else header["config"])
        record = {key: header[key] for key in keys if key != "smallest" or header["schema"] >= 3}
        record["name"] = str(record["name"])
        low, high = map(float, record["normalisation"])
        record["normalisation"] = (low, high)
        record["classes"] = tuple(map(str, record["classes"]))
        record["decode"] = DecodeSettings(**record["decode"])
        origin = record["provenance"]
        record["provenance"] = replace(
            Provenance(**origin), data=tuple(origin["data"]), notices=tuple(origin["notices"])
        )
        for key in ("diameter", "pixel_size", "smallest"):
            if record.get(key) is not None:
                record[key] = float(record[key])
                if not 0 < record[key] < 1e6:
                    raise ValueError(f"{key} is {record[key]}")
        consistent = (
            config.classes == len(record["classes"])
            and record["task"] in TASKS
            and config.instance_maps == (record["task"] == "instances")
            and IN_CHANNELS[record["channels"]] + PROMPTS * (record["task"] == "clicks") == config.in_channels
            and 0 <= low < high <= 100
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelFileError(
            f"The header of {name!r} cannot be understood ({error!r}): export the model again."
        ) from error
    if not consistent:
        raise ModelFileError(f"The header of {name!r} contradicts itself: export the model again.")
    return config, record


def _check_tensors(name: str, expected: Mapping[str, list[int]], names: set[str], file: Any) -> None:
    """Compare names, shapes and dtypes with the architecture before any tensor is read."""
    if missing := expected.keys() - names:
        raise ModelFileError(
            f"The weights in {name!r} do not fit its architecture ({min(missing)!r}): export the model again."
        )
    for key, shape in expected.items():
        part = file.get_slice(key)
        if part.get_shape() != shape or part.get_dtype() not in _DTYPES:
            raise ModelFileError(
                f"In {name!r} the weights {key!r} are {part.get_dtype()} {part.get_shape()}, expected "
                f"floating point {shape}: export the model again."
            )
