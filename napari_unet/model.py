"""Model: a network and all that is needed to use it right; the shipped models."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.errors import ModelFileError
from napari_unet.model_file import (
    IN_CHANNELS,
    PROMPTS,
    SUFFIX,
    TASKS,
    DecodeSettings,
    Provenance,
    Task,
    check_suffix,
    digest,
    packed,
    read,
    weights_of,
)
from napari_unet.nets.config import UNetConfig
from napari_unet.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from napari_unet.learn.metrics import Scores
    from napari_unet.nets.unet import UNet

__all__ = ["SUFFIX", "DecodeSettings", "Model", "Provenance", "find", "shipped"]

SHIPPED = Path(__file__).parent / "models"

# In stacks a halo costs its third power: the 112 pixels of depth 4 would be thousands of times the work.
DEPTH = {1: 4, 2: 4, 3: 2}
FIRST = "nuclei"  # the model to begin with
CLICKS = "clicks"  # the one that outlines what is clicked; it segments no image by itself
_MIN_SIZE = {1: 4, 2: 12, 3: 32}  # pixels of an object four wide


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network with the settings it needs; never changed, training returns a new one.

    Attributes
    ----------
    network : UNet
        In eval mode, float32, on the CPU.
    name : str
        What to call it.
    task : {"instances", "classes", "clicks"}
        Whether the labels count objects or name classes; or whether it outlines what is clicked.
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
    smallest : float or None
        Images whose objects are smaller than this many pixels are segmented enlarged, as they were learned.
    decode : DecodeSettings
        Thresholds from maps to instances.
    provenance : Provenance
        Where it comes from.
    familiar : float32 array, ``(images, windows, channels)``, or None
        What images that it learned from look like, to its base if it has one, else to itself; see
        :mod:`napari_unet.infer.familiar`.
    base : Model or None
        The one it came from by fine-tuning, which segments images that only that one knows.
    """

    network: UNet
    name: str = "untrained"
    task: Task = "instances"
    classes: tuple[str, ...] = ("background", "object")
    channels: Literal["grey", "rgb"] = "grey"
    normalisation: tuple[float, float] = (1.0, 99.8)
    diameter: float | None = None
    pixel_size: float | None = None
    smallest: float | None = None
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    provenance: Provenance = field(default_factory=Provenance)
    familiar: NDArray[np.float32] | None = None
    base: Model | None = None

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
        return digest(weights_of(self.network))

    @classmethod
    def new(
        cls,
        *,
        ndim: int = 2,
        channels: Literal["grey", "rgb"] = "grey",
        classes: Sequence[str] = ("background", "object"),
        task: Task = "instances",
        width: int = 16,
        depth: int | None = None,
        max_width: int = 256,
        top: int | None = None,
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
        width, depth, max_width, top : int
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
        if task not in TASKS[:2] or channels not in IN_CHANNELS:
            raise ModelFileError(
                f"A model with task {task!r} and channels {channels!r} was asked for, expected one of "
                f"{', '.join(TASKS[:2])} and one of {', '.join(IN_CHANNELS)}."
            )
        from napari_unet.nets.unet import UNet

        config = UNetConfig(
            ndim=ndim,
            in_channels=IN_CHANNELS[channels],
            classes=len(classes),
            instance_maps=task == "instances",
            depth=DEPTH.get(ndim, 4) if depth is None else depth,
            width=width,
            max_width=max_width,
            top=top,
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
        own, *base = read(find(name_or_path), _in_header())
        return cls(**own, base=cls(**base[0]) if base else None)

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
        target = Path(path).expanduser()
        check_suffix(target)
        if not target.parent.is_dir():
            raise ModelFileError(f"The folder {str(target.parent)!r} does not exist: make it first or choose another.")
        try:
            write_whole(target, packed([each._record() for each in (self, self.base) if each], half=half))
        except OSError as error:
            raise ModelFileError(
                f"{str(target)!r} cannot be written ({error}): choose another place, or make room."
            ) from error
        return target

    def _record(self) -> dict[str, Any]:
        """Return what stands in a file of this model: all fields but the base."""
        plain = {"decode": asdict(self.decode), "provenance": asdict(self.provenance)}
        return {key: getattr(self, key) for key in ("network", "familiar", *_in_header())} | plain

    def with_classes(self, classes: Sequence[str], task: Task = "classes") -> Model:
        """Return a model that sees as this one does and says something else: the same body, an untrained head.

        Parameters
        ----------
        classes : sequence of str
            Background first.
        task : {"instances", "classes"}
            What the labels will mean.

        Raises
        ------
        ModelFileError
            If no model can be made of that.
        """
        if task not in TASKS[:2]:
            raise ModelFileError(f"A model with task {task!r} was asked for, expected one of {', '.join(TASKS[:2])}.")
        if self.task == "clicks":
            raise ModelFileError(f"{self!r} outlines what is clicked: start from a model that segments images.")
        from napari_unet.nets.unet import UNet

        network = UNet(replace(self.config, classes=len(classes), instance_maps=task == "instances")).eval()
        body = {key: value for key, value in self.network.state_dict().items() if not key.startswith("head.")}
        network.load_state_dict(body, strict=False)
        decode = DecodeSettings(min_size=_MIN_SIZE[self.ndim])
        origin = replace(self.provenance, recipe={})  # of what it will say it has learned nothing yet
        new = replace(self, network=network, task=task, classes=tuple(classes), decode=decode, provenance=origin)
        new = replace(new, familiar=None, base=None)
        return new if task == "instances" else replace(new, diameter=None, smallest=None)  # classes have no width

    def with_clicks(self) -> Model:
        """Return a model that sees as this one does and is to outline what is clicked, with an untrained head.

        It is given more than the image: see :mod:`napari_unet.infer.clicks`.

        Raises
        ------
        ModelFileError
            If this model is for clicks already, or not for images of two axes.
        """
        if self.task == "clicks" or self.ndim != 2:
            raise ModelFileError(f"{self!r} was to learn from clicks: start from a 2-D model that segments images.")
        from napari_unet.nets.unet import UNet

        config = replace(self.config, in_channels=self.config.in_channels + PROMPTS, classes=2, instance_maps=False)
        network = UNet(config).eval()
        body = {key: value for key, value in self.network.state_dict().items() if not key.startswith("head.")}
        first = next(iter(body))  # sees the image as before, and what is clicked as nothing
        new = network.state_dict()[first].clone()
        new[:, : body[first].shape[1]], new[:, body[first].shape[1] :] = body[first], 0
        network.load_state_dict(body | {first: new}, strict=False)
        new_model = replace(self, network=network, task="clicks", classes=("background", "object"))
        return replace(new_model, familiar=None, base=None, smallest=None, diameter=None)

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


def shipped() -> list[str]:
    """Return the names of the models that come with the package and segment, the one to begin with first."""
    names = {p.stem for p in SHIPPED.glob(f"*{SUFFIX}")} - {CLICKS}
    return sorted(names, key=lambda name: (name != FIRST, name))


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a shipped model's name or of a path; raise ModelFileError if there is none."""
    if isinstance(name_or_path, str | os.PathLike):
        within = SHIPPED / f"{os.fspath(name_or_path)}{SUFFIX}"
        if within.name in (f"{name}{SUFFIX}" for name in (*shipped(), CLICKS)) and within.is_file():
            return within
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
        name_or_path = os.fspath(name_or_path)
    names = ", ".join(shipped()) or "none"
    raise ModelFileError(f"There is no model {name_or_path!r}: give a shipped name ({names}) or a {SUFFIX} file.")


def _in_header() -> list[str]:
    """Return the fields of a model that stand in its file's header: all that are plain values."""
    return [each.name for each in fields(Model) if each.name not in ("network", "familiar", "base")]
