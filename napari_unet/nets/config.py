"""What a U-Net is made of, as a frozen record that needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_unet.errors import ModelFileError


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a :class:`~napari_unet.nets.unet.UNet`.

    Attributes
    ----------
    ndim : int
        Spatial dimensions, 1 to 3.
    in_channels : int
        Channels of the image.
    classes : int
        Class channels of the output, background included, at least 2.
    instance_maps : bool
        Whether two more output channels follow: boundary and distance.
    depth : int
        Number of poolings. 4 sees 107 pixels to each side, more than a large nucleus.
    width : int
        Channels of the first level; it doubles with each level.
    top : int or None
        Channels of the first level if not `width`. It has four times the pixels of the next one, and so most of the
        memory and time that a channel costs.
    max_width : int
        Widest level: the deep levels hold most of the parameters and little of the accuracy.
    halve : bool
        Whether a level hands up only as many channels as the next one has; else all of its own.
    """

    ndim: int = 2
    in_channels: int = 1
    classes: int = 2
    instance_maps: bool = True
    depth: int = 4
    width: int = 16
    max_width: int = 256
    top: int | None = None
    halve: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that no network can be built from, whether typed or read from a file."""
        bounds = {
            "ndim": (1, 3),
            "in_channels": (1, 256),
            "classes": (2, 255),
            "depth": (0, 8),
            "width": (1, 512),
            "max_width": (1, 2048),
            "top": (1, 512),
        }
        for key, (low, high) in bounds.items():
            value = getattr(self, key)
            if key == "top" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ModelFileError(f"The network's {key} is {value!r}, expected a whole number from {low} to {high}.")

    @property
    def out_channels(self) -> int:
        """Channels of the output: the classes, then boundary and distance if there are instance maps."""
        return self.classes + 2 * self.instance_maps

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, top to bottom, ``depth + 1`` numbers."""
        widths = [min(self.width * 2**level, self.max_width) for level in range(self.depth + 1)]
        return (self.top or widths[0], *widths[1:])

    @property
    def handed(self) -> tuple[int, ...]:
        """Channels that each level hands up to the one above, top to bottom; the first go to the head."""
        widths = self.widths
        return (widths[0], *widths[:-1]) if self.halve else widths

    @property
    def features(self) -> int:
        """Channels of all levels on the way down, together."""
        return sum(self.widths[:-1]) + self.handed[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain numbers for a file."""
        return asdict(self)
