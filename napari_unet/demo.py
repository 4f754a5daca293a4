"""The whole loop on a sample without a screen: segment, replay corrections, learn, segment again, compare."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet import sample_data
from napari_unet.infer.segment import SegmentSettings, segment_job
from napari_unet.learn.corrections import Corrections, State
from napari_unet.learn.finetune import fine_tune
from napari_unet.learn.matching import match_objects
from napari_unet.learn.metrics import ImageScore, score_instances
from napari_unet.learn.settings import TrainSettings
from napari_unet.whole import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.jobs import Job
    from napari_unet.model import Model

    Labels = NDArray[np.integer[Any]]

SAMPLE = "cells"
DIAMETER = 43.0  # px, what a user measures on a cell of the sample
# What is confirmed: three corners of the sample. The rest is what is scored.
WINDOWS = ((slice(0, 256), slice(0, 256)), (slice(0, 256), slice(256, 512)), (slice(256, 512), slice(0, 256)))
STEPS = 200  # about a minute on two cores
CROP = 128

ZOOM = 2  # pixels of the picture for one of the sample, so that outlines hide little
RIGHT, WRONG, FRAME = (0, 200, 255), (255, 130, 0), (255, 255, 255)
LEGEND = (
    ("blue: right (IoU .50 and up)", RIGHT),
    ("orange: wrong", WRONG),
    ("white frames: corrected and learned from", FRAME),
)


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demonstration came to.

    Attributes
    ----------
    before, after : ImageScore
        Of the part of the sample that is never learned from.
    picture : uint8 array, ``(Y, X, 3)``
        Both segmentations side by side.
    model : Model
        The one that has learned.
    corrected : int
        Objects in the confirmed parts.
    seconds : float
        How long the learning took.
    ended : str
        Why the learning ended before its time, or empty.
    """

    before: ImageScore
    after: ImageScore
    picture: NDArray[np.uint8]
    model: Model
    corrected: int
    seconds: float
    ended: str = ""

    def report(self) -> str:
        """Return the scores in a few lines."""
        lines = [f"{'':7}AP.50  PQ     Dice"]
        for name, score in (("before", self.before), ("after", self.after)):
            lines.append(f"{name:7}{score.ap50:.3f}  {score.pq:.3f}  {score.dice:.3f}")
        objects = self.before.objects.n_truth if self.before.objects else 0
        lines.append(
            f"It learned from {self.corrected} corrected cells for {self.seconds:.0f} s. "
            f"The scores are of {objects} other cells, which it has not learned from."
        )
        return "\n".join([*lines, self.ended] if self.ended else lines)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures in a form that JSON can hold."""
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "corrected": self.corrected,
            "seconds": round(self.seconds, 1),
            "model_version": self.model.version,
        }


def demo_job(model: Model, *, steps: int = STEPS, device: str = "auto") -> Job[Demo]:
    """Run the loop that a user goes through in the viewer.

    Parameters
    ----------
    model : Model
        One of objects, such as the shipped one; it is not changed.
    steps : int
        Batches to learn from.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Yields
    ------
    Progress
        Of segmenting, learning, and segmenting again.
    """
    sample = sample_data.load(SAMPLE)
    how = SegmentSettings(diameter=DIAMETER, device=device)
    state = np.full(sample.labels.shape, State.UNKNOWN, np.uint8)
    for window in WINDOWS:
        state[window] = State.CONFIRMED
    rest = state == State.UNKNOWN
    first = yield from segment_job(model, sample.image, sample.axes, how)
    # What a hand would have made of the confirmed parts: the exact labels.
    corrected = np.where(rest, first.labels, sample.labels).astype(np.uint32)
    corrections = Corrections(
        sample.image, corrected, state, axes=sample.axes, diameter=DIAMETER, name=f"sample {SAMPLE}"
    )
    began = time.perf_counter()
    # One image: crops of a few cells are quick.
    settings = TrainSettings(steps=steps, crop=CROP, device=device)
    result = yield from fine_tune(model, [corrections], settings)
    result = replace(result, model=replace(result.model, name=SAMPLE))
    seconds = time.perf_counter() - began
    second = yield from segment_job(result.model, sample.image, sample.axes, how)
    scores = [
        score_instances(sample.labels, each.labels, valid=rest, name=name)
        for name, each in (("before", first), ("after", second))
    ]
    panels = [
        draw(sample.image, each.labels, sample.labels, f"{score.name}: AP.50 {score.ap50:.2f} outside the frames")
        for score, each in zip(scores, (first, second), strict=True)
    ]
    gap = np.full((len(panels[0]), 8, 3), 255, np.uint8)
    learned = len(np.setdiff1d(sample.labels[~rest], [0]))
    picture = np.concatenate([panels[0], gap, panels[1]], axis=1)
    return Demo(scores[0], scores[1], picture, result.model, learned, seconds, result.ended)


def draw(image: NDArray[Any], labels: Labels, truth: Labels, caption: str) -> NDArray[np.uint8]:
    """Draw the outlines of objects on an image: blue where an object is right, orange where it is wrong.

    Parameters
    ----------
    image : array, ``(Y, X)``
        Any numeric dtype.
    labels, truth : integer array, ``(Y, X)``
        The objects to draw; those to compare them with, at an IoU of .50.
    caption : str
        Written above.

    Returns
    -------
    uint8 array, ``(Y, X, 3)``
        Enlarged, with the caption and a legend above, and white frames around what was learned from.
    """
    from PIL import Image, ImageDraw, ImageFont
    from skimage.segmentation import find_boundaries

    low, high = np.percentile(image, (0.5, 99.5))
    grey = (255 * np.clip((image - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
    large = [np.kron(each, np.ones((ZOOM, ZOOM), each.dtype)) for each in (grey, labels)]
    picture = np.stack([large[0]] * 3, axis=-1)
    right = np.isin(large[1], match_objects(truth, labels).prediction)
    edge = find_boundaries(large[1], mode="inner")
    picture[edge & right], picture[edge & ~right] = RIGHT, WRONG
    line = 16 * ZOOM
    band = 2 * line
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + band), (0, 0, 0))
    canvas.paste(Image.fromarray(picture), (0, band))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(10 * ZOOM)
    pen.text((4 * ZOOM, 2 * ZOOM), caption, fill=FRAME, font=font)
    x = 4.0 * ZOOM
    for words, colour in LEGEND:
        pen.text((x, line + 2 * ZOOM), words, fill=colour, font=font)
        x += pen.textlength(words, font=font) + 12 * ZOOM
    for rows, columns in WINDOWS:
        corners = (columns.start * ZOOM, rows.start * ZOOM + band, columns.stop * ZOOM - 1, rows.stop * ZOOM - 1 + band)
        pen.rectangle(corners, outline=FRAME, width=ZOOM)
    return np.asarray(canvas)


def write_demo(demo: Demo, folder: Path) -> tuple[Path, Path]:
    """Write the picture and the model into a folder, and return both files."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(demo.picture).save(file, "PNG", optimize=True)
    picture = folder / "before_and_after.png"
    write_whole(picture, file.getvalue())
    return picture, demo.model.save(folder / f"{SAMPLE}.unet")
