"""The settings of training: one record makes the form, the command line and the saved file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from napari_unet.errors import DataError

CROP = {1: 1024, 2: 256, 3: 64}  # side of a training crop in pixels: a few objects and what is around them


def _setting(default: Any, low: float, high: float, unit: str, help: str) -> Any:
    return field(default=default, metadata={"min": low, "max": high, "unit": unit, "help": help})


@dataclass(frozen=True)
class Augmentation:
    """How much training images are varied; each number is the end of a range from no change.

    Attributes
    ----------
    scale : float
        Objects become up to this many times larger or smaller: what the model will tolerate.
    rotation : bool
        Turn by any angle (in the plane of the last two axes) and flip every axis.
    elastic : float
        Largest typical shift in pixels of a smooth random deformation.
    contrast : float
        Exponent for gain and gamma: 0.3 is from 1/1.35 to 1.35.
    colour : float
        As contrast, for the colour of RGB images; grey ones stay grey.
    noise : float
        Standard deviation, where the image goes from 0 to 1.
    blur : float
        Gaussian sigma in pixels.
    blank : float
        Share of the images, 0 to 1, of which a part turns as dark as where there is no sample: it is background.
    """

    scale: float = 1.5
    rotation: bool = True
    elastic: float = 4.0
    contrast: float = 0.4
    colour: float = 0.4
    noise: float = 0.06
    blur: float = 1.2
    blank: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that no image can be varied by."""
        for key, value in asdict(self).items():
            low = 1 if key == "scale" else 0
            if not low <= value <= 100:
                raise DataError(f"The augmentation {key} is {value}, expected {low} to 100.")


@dataclass(frozen=True)
class TrainSettings:
    """How to train, from scratch or on corrections; a field's metadata has its bounds, unit and help."""

    steps: int | None = _setting(
        None, 1, 1_000_000, "steps", "How many batches to learn from; empty: 150, and more if much is corrected."
    )
    batch: int = _setting(4, 1, 256, "crops", "Crops in a batch.")
    crop: int | None = _setting(None, 16, 4096, "px", "Side of a crop; empty: 256 in images, 64 in stacks.")
    learning_rate: float = _setting(1e-2, 1e-7, 1.0, "", "Size of the steps. Lower it if the loss jumps.")
    weight_decay: float = _setting(1e-4, 0.0, 1.0, "", "Pull of the weights towards zero.")
    ema: float = _setting(0.995, 0.0, 0.99999, "", "Averaging of the weights over steps, which evens out noise.")
    freeze_norms: bool = _setting(False, 0, 1, "", "Keep the base model's statistics: for images like its own.")
    keep_best: bool = _setting(
        False, 0, 1, "", "Keep the weights that scored best, not the last; their score then flatters them."
    )
    checks: int = _setting(8, 0, 1000, "", "How often the held-out part is scored on the way.")
    seed: int = _setting(0, 0, 2**31 - 1, "", "The same seed gives the same model on the same machine.")
    device: str = _setting("auto", 0, 0, "", "auto, cpu, cuda or mps.")
    augmentation: Augmentation = Augmentation()

    def __post_init__(self) -> None:
        """Refuse numbers out of bounds, and fractions of what is counted."""
        for info in fields(self):
            value, low, high = getattr(self, info.name), info.metadata.get("min"), info.metadata.get("max")
            if not high or value is None:
                continue
            whole = not isinstance(info.default, float)
            if not low <= value <= high or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                raise DataError(f"The training setting {info.name} is {value}, expected {kind} from {low} to {high}.")


SCRATCH = TrainSettings(steps=5000, learning_rate=5e-3, ema=0.999, checks=20, keep_best=True)
