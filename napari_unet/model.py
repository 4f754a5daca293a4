"""Model: a network and all that is needed to use it right, in one file on disk."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.errors import ModelFileError
from napari_unet.nets.config import UNetConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from napari_unet.learn.metrics import Scores
    from napari_unet.nets.unet import UNet

SCHEMA = 1
SHIPPED = Path(__file__).parent / "models"
SUFFIX = ".unet"

# In stacks a halo costs its third power: the 112 pixels of depth 4 would be thousands of times the work.
DEPTH = {1: 4, 2: 4, 3: 2}

_KEY = "napari_unet"
_TASKS = ("instances", "classes")
_IN_CHANNELS = {"grey": 1, "rgb": 3}
_MIN_SIZE = {1: 4, 2: 12, 3: 32}  # pixels of an object four wide
_MAX_HEADER = 1_000_000  # bytes; ours are a few thousand
_DTYPES = {"F16", "BF16", "F32"}


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
    min_size : int
        Objects with fewer pixels are dropped.
    """

    foreground: float = 0.5
    seed: float = 0.15
    boundary: float = 1.0
    min_size: int = 12

    def __post_init__(self) -> None:
        """Refuse thresholds outside their range."""
        for key in ("foreground", "seed", "boundary"):
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
        The training settings, as plain values.
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


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network with the settings it needs; never changed, training returns a new one.

    Attributes
    ----------
    network : UNet
        In eval mode, float32, on the CPU.
    name : str
        What to call it.
    task : {"instances", "classes"}
        Whether the labels count objects or name classes.
    classes : tuple of str
        Names of the class channels; the first is ``"background"``.
    channels : {"grey", "rgb"}
        ``"rgb"``: three input channels, a grey image is repeated in all three.
        ``"grey"``: one input channel, an RGB image is turned into its luminance.
    normalisation : (float, float)
        Percentiles of the whole image that become 0 and 1.
    diameter : float or None
        Typical object diameter in pixels of the images it learned from.
    pixel_size : float or None
        Their pixel size in µm, where it is one.
    decode : DecodeSettings
        Thresholds from maps to instances.
    provenance : Provenance
        Where it comes from.
    """

    network: UNet
    name: str = "untrained"
    task: Literal["instances", "classes"] = "instances"
    classes: tuple[str, ...] = ("background", "object")
    channels: Literal["grey", "rgb"] = "grey"
    normalisation: tuple[float, float] = (1.0, 99.8)
    diameter: float | None = None
    pixel_size: float | None = None
    decode: DecodeSettings = DecodeSettings()
    provenance: Provenance = Provenance()

    def __repr__(self) -> str:
        """Say what one would ask of a model at a prompt, not its layers."""
        width = f", objects about {self.diameter:.0f} px wide" if self.diameter else ""
        return f"Model({self.name!r}: {', '.join(self.classes)}; {self.ndim}-D, {self.channels}{width}; {self.version})"

    @property
    def config(self) -> UNetConfig:
        """The network's architecture."""
        return self.network.config

    @property
    def ndim(self) -> int:
        """Spatial dimensions the network sees at once, 1 to 3."""
        return self.config.ndim

    @property
    def version(self) -> str:
        """Twelve hexadecimal digits that stand for the weights."""
        digest = hashlib.sha256()
        for name, tensor in _weights(self.network).items():
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:12]

    @classmethod
    def new(
        cls,
        *,
        ndim: int = 2,
        channels: Literal["grey", "rgb"] = "grey",
        classes: Sequence[str] = ("background", "object"),
        task: Literal["instances", "classes"] = "instances",
        width: int = 16,
        depth: int | None = None,
        max_width: int = 256,
        seed: int = 0,
        name: str = "untrained",
    ) -> Model:
        """Return an untrained model.

        Parameters
        ----------
        ndim : int
            1 for profiles, 2 for images, 3 for stacks.
        channels : {"grey", "rgb"}
            Whether the colour of RGB images matters.
        classes : sequence of str
            Background first.
        task : {"instances", "classes"}
            What the labels mean.
        width, depth, max_width : int
            See :class:`~napari_unet.nets.config.UNetConfig`; depth is 4, in stacks 2.
        seed : int
            The same seed gives the same weights.
        name : str
            What to call it.

        Raises
        ------
        ModelFileError
            If no model can be made of that.
        """
        if task not in _TASKS or channels not in _IN_CHANNELS:
            raise ModelFileError(
                f"A model with task {task!r} and channels {channels!r} was asked for, expected one of "
                f"{', '.join(_TASKS)} and one of {', '.join(_IN_CHANNELS)}."
            )
        from napari_unet.nets.unet import UNet

        config = UNetConfig(
            ndim=ndim,
            in_channels=_IN_CHANNELS[channels],
            classes=len(classes),
            instance_maps=task == "instances",
            depth=DEPTH.get(ndim, 4) if depth is None else depth,
            width=width,
            max_width=max_width,
        )
        network = UNet(config, seed=seed).eval()
        decode = DecodeSettings(min_size=_MIN_SIZE[ndim])
        return cls(network, name=name, task=task, classes=tuple(classes), channels=channels, decode=decode)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Model:
        """Read a model, after its names, shapes and dtypes were held against the architecture.

        Parameters
        ----------
        name_or_path : str or path
            A shipped model (see :func:`shipped`) or a ``.unet`` file.

        Raises
        ------
        ModelFileError
            If there is no such model, or the file is truncated, foreign, hostile or newer than this version.
        """
        path = find(name_or_path)
        header, weights = _read(path)
        from napari_unet.nets.unet import UNet

        network = UNet(UNetConfig(**header.pop("config")))
        network.load_state_dict(weights, strict=False)  # names were compared; batch counters are not kept
        return cls(network=network.eval(), **header)

    def save(self, path: str | os.PathLike[str], *, half: bool = False) -> Path:
        """Write the model to one file, whole or not at all.

        Parameters
        ----------
        path : str or path
            Where to; the folder must exist.
        half : bool
            Store the convolutions in half precision: half the size, the same labels but for a few pixels.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ModelFileError
            If it cannot be written; a file that was there before stays as it was.
        """
        from safetensors.torch import save

        target = Path(path).expanduser()
        if not target.parent.is_dir():
            raise ModelFileError(f"The folder {str(target.parent)!r} does not exist: make it first or choose another.")
        weights = _weights(self.network)
        if half:
            weights = {k: v.half() if v.ndim > 1 else v for k, v in weights.items()}
        try:
            write_whole(target, save(weights, metadata={_KEY: json.dumps(self._header())}))
        except OSError as error:
            raise ModelFileError(
                f"{str(target)!r} cannot be written ({error}): choose another place, or make room."
            ) from error
        return target

    def predict(self, image: ArrayLike, **how: Any) -> NDArray[np.float32]:
        """Return the maps ``float32 (channel, *spatial)``; see :func:`napari_unet.infer.segment.predict`."""
        from napari_unet.infer.segment import predict

        return predict(self, image, **how)

    def segment(self, image: ArrayLike, **how: Any) -> NDArray[np.uint8 | np.uint32]:
        """Return the labels of one image, 0 = background; see :func:`napari_unet.infer.segment.segment`."""
        from napari_unet.infer.segment import segment

        return segment(self, image, **how)

    def fit(self, images: Sequence[ArrayLike], masks: Sequence[ArrayLike], **how: Any) -> Model:
        """Return a new model that has learned from these; see :func:`napari_unet.learn.train.fit`."""
        from napari_unet.learn.train import fit

        return fit(self, images, masks, **how)

    def evaluate(self, images: Sequence[ArrayLike], masks: Sequence[ArrayLike], **how: Any) -> Scores:
        """Return the scores on labelled images; see :func:`napari_unet.learn.evaluate.evaluate`."""
        from napari_unet.learn.evaluate import evaluate

        return evaluate(self, images, masks, **how)

    def _header(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "network"}
        own["decode"], own["provenance"] = asdict(self.decode), asdict(self.provenance)
        return {"schema": SCHEMA, "config": self.config.to_dict(), **own}


def shipped() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(p.stem for p in SHIPPED.glob(f"*{SUFFIX}"))


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a shipped model's name or of a path; raise ModelFileError if there is none."""
    path = SHIPPED / f"{name_or_path}{SUFFIX}"
    if os.fspath(name_or_path) in shipped():
        return path
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        names = ", ".join(shipped()) or "none"
        raise ModelFileError(
            f"There is no model {str(name_or_path)!r}: give a shipped name ({names}) or a {SUFFIX} file."
        )
    return path


def code_version() -> str:
    """Return the version of the installed distribution, or ``"unknown"`` when run from a bare folder."""
    try:
        return metadata.version("napari-unet-live")
    except metadata.PackageNotFoundError:
        return "unknown"


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place whole or not at all: a temporary file beside it, fsync, replace."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _weights(network: UNet) -> dict[str, Tensor]:
    """Return what is kept of a network: all but the norms' batch counters, which nothing reads."""
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header as the fields of Model plus ``config``, and the weights in float32."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            declared = int.from_bytes(file.read(8), "little")
        if size < 8 or declared > min(size - 8, _MAX_HEADER):
            raise ModelFileError(f"{path.name!r} is not a whole model file: copy it again, or export it again.")
        with safe_open(path, framework="pt") as file:
            header = _checked_header(path.name, (file.metadata() or {}).get(_KEY))
            _check_tensors(path.name, UNetConfig(**header["config"]), file)
            weights = {key: file.get_tensor(key).to(torch.float32) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path.name!r} is not a whole model file ({error}): copy it again.") from error
    if not all(part.isfinite().all() for part in weights.values()):
        raise ModelFileError(f"{path.name!r} has weights that are not numbers: copy it again.")
    return header, weights


def _checked_header(name: str, text: str | None) -> dict[str, Any]:
    if text is None:
        raise ModelFileError(f"{name!r} is a safetensors file but not a napari-unet model: choose a {SUFFIX} file.")
    try:
        header = json.loads(text)
        if header["schema"] > SCHEMA:
            raise ModelFileError(
                f"{name!r} was written by a newer napari-unet (file schema {header['schema']}, "
                f"this one reads up to {SCHEMA}): update napari-unet-live."
            )
        known = {f.name for f in fields(Model)} - {"network"}
        record = {key: header[key] for key in known | {"config"}}
        record["name"] = str(record["name"])
        low, high = map(float, record["normalisation"])
        record["normalisation"] = (low, high)
        record["classes"] = tuple(map(str, record["classes"]))
        record["decode"] = DecodeSettings(**record["decode"])
        origin = record["provenance"]
        record["provenance"] = replace(
            Provenance(**origin), data=tuple(origin["data"]), notices=tuple(origin["notices"])
        )
        for key in ("diameter", "pixel_size"):
            if record[key] is not None:
                record[key] = float(record[key])
                if not 0 < record[key] < 1e6:
                    raise ValueError(f"{key} is {record[key]}")
        config = UNetConfig(**record["config"])
        consistent = (
            config.classes == len(record["classes"])
            and record["task"] in _TASKS
            and config.instance_maps == (record["task"] == "instances")
            and _IN_CHANNELS.get(record["channels"]) == config.in_channels
            and 0 <= low < high <= 100
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelFileError(
            f"The header of {name!r} cannot be understood ({error!r}): export the model again."
        ) from error
    if not consistent:
        raise ModelFileError(f"The header of {name!r} contradicts itself: export the model again.")
    return record


def _check_tensors(name: str, config: UNetConfig, file: Any) -> None:
    """Compare names, shapes and dtypes with the architecture before any tensor is read."""
    import torch

    from napari_unet.nets.unet import UNet

    with torch.device("meta"):
        expected = {key: list(v.shape) for key, v in _weights(UNet(config)).items()}
    found = set(file.keys())
    if found != set(expected):
        odd = sorted(found ^ set(expected))[0]
        raise ModelFileError(f"The weights in {name!r} do not fit its architecture ({odd!r}): export the model again.")
    for key, shape in expected.items():
        part = file.get_slice(key)
        if part.get_shape() != shape or part.get_dtype() not in _DTYPES:
            raise ModelFileError(
                f"In {name!r} the weights {key!r} are {part.get_dtype()} {part.get_shape()}, expected "
                f"floating point {shape}: export the model again."
            )
