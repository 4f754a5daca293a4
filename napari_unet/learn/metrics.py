"""Scores of a segmentation against the truth: AP, panoptic quality, Dice and IoU, per image and over a set.

Conventions, the same everywhere in this file:

- Objects may match at a threshold ``t`` if their IoU is at least ``t``; panoptic quality wants more than 0.5.
- 0 is background. Ids need not be consecutive, and which id an object has never changes a score.
- Nothing to find and nothing found (0/0) scores 1.0: an image without objects counts as 1.0 in a mean over
  images and adds nothing to a pooled score; a set made only of such images scores 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import nan
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError
from napari_unet.learn.matching import match_runs, read_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike

THRESHOLDS: tuple[float, ...] = tuple(step / 20 for step in range(10, 20))
"""The IoU thresholds .50, .55 … .95, each the float nearest to it, so that an IoU of 3/5 reaches 0.60."""


@dataclass(frozen=True)
class ObjectScore:
    """Counts of objects, of one image or summed over several; the tuples go along `THRESHOLDS`."""

    n_truth: int
    n_prediction: int
    tp: tuple[int, ...]  # matched pairs
    iou_sum: tuple[float, ...]  # the sum of their IoU
    halves: int  # pairs with an IoU of exactly 0.5: in tp[0], but not in the panoptic quality

    def __add__(self, other: ObjectScore) -> ObjectScore:
        """Pool the counts."""
        return ObjectScore(
            self.n_truth + other.n_truth,
            self.n_prediction + other.n_prediction,
            tuple(map(add, self.tp, other.tp)),
            tuple(map(add, self.iou_sum, other.iou_sum)),
            self.halves + other.halves,
        )

    @property
    def fp(self) -> tuple[int, ...]:
        """Objects of the prediction without a partner."""
        return tuple(self.n_prediction - tp for tp in self.tp)

    @property
    def fn(self) -> tuple[int, ...]:
        """Objects of the truth without a partner."""
        return tuple(self.n_truth - tp for tp in self.tp)

    @property
    def ap(self) -> tuple[float, ...]:
        """TP / (TP + FP + FN)."""
        return tuple(_ratio(tp, self.n_truth + self.n_prediction - tp) for tp in self.tp)

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the pairs above 0.5; 0.0 if there are objects but no pair."""
        pairs = self.tp[0] - self.halves
        if pairs:
            return (self.iou_sum[0] - self.halves / 2) / pairs
        return 0.0 if self.n_truth + self.n_prediction else 1.0

    @property
    def rq(self) -> float:
        """Recognition quality: TP / (TP + FP/2 + FN/2) at an IoU above 0.5."""
        return _ratio(2 * (self.tp[0] - self.halves), self.n_truth + self.n_prediction)

    @property
    def pq(self) -> float:
        """Panoptic quality, ``sq * rq``."""
        return self.sq * self.rq


@dataclass(frozen=True)
class ClassScore:
    """Pixels of one class, of one image or summed over several."""

    name: str  # "foreground" for instances
    both: int  # pixels of this class in truth and prediction alike
    truth: int
    prediction: int

    def __add__(self, other: ClassScore) -> ClassScore:
        """Pool the pixels."""
        if self.name != other.name:
            raise ValueError(f"the class {self.name!r} cannot be pooled with the class {other.name!r}")
        truth, prediction = self.truth + other.truth, self.prediction + other.prediction
        return ClassScore(self.name, self.both + other.both, truth, prediction)

    @property
    def dice(self) -> float:
        """2 * both / (truth + prediction)."""
        return _ratio(2 * self.both, self.truth + self.prediction)

    @property
    def iou(self) -> float:
        """Both / (truth or prediction)."""
        return _ratio(self.both, self.truth + self.prediction - self.both)


@dataclass(frozen=True)
class ImageScore:
    """How well one image was segmented."""

    name: str
    classes: tuple[ClassScore, ...]  # all but the background; for instances a single one, "foreground"
    objects: ObjectScore | None = None  # None for classes
    base: str = ""  # the base of the model, if that segmented it

    @property
    def ap(self) -> tuple[float, ...]:
        """AP at each of `THRESHOLDS`; empty for classes."""
        return self.objects.ap if self.objects else ()

    @property
    def ap50(self) -> float:
        """AP at IoU 0.5; NaN for classes."""
        return self.objects.ap[0] if self.objects else nan

    @property
    def pq(self) -> float:
        """Panoptic quality; NaN for classes."""
        return self.objects.pq if self.objects else nan

    @property
    def dice(self) -> float:
        """Dice of the foreground, or mean over the classes that occur in truth or prediction."""
        return _mean([score.dice for score in self.classes if score.truth or score.prediction])

    @property
    def iou(self) -> float:
        """IoU of the foreground, or mean over the classes that occur in truth or prediction."""
        return _mean([score.iou for score in self.classes if score.truth or score.prediction])

    def to_dict(self) -> dict[str, Any]:
        """Give all numbers in a form that JSON can hold; those at a threshold are keyed by it, ``"0.50"``."""
        result: dict[str, Any] = {"name": self.name, "dice": self.dice, "iou": self.iou}
        if self.base:
            result["segmented_by"] = self.base
        if self.objects is None:
            classes = {score.name: {"dice": score.dice, "iou": score.iou} for score in self.classes}
            return result | {"classes": classes}
        counts = self.objects
        result |= {"pq": counts.pq, "sq": counts.sq, "rq": counts.rq}
        result |= {"objects_truth": counts.n_truth, "objects_prediction": counts.n_prediction}
        return result | {key: _keyed(getattr(counts, key)) for key in ("ap", "tp", "fp", "fn", "iou_sum")}


@dataclass(frozen=True, repr=False)
class Scores(ImageScore):
    """How well a set of images was segmented.

    `ap`, `pq`, `dice` and `iou` are pooled: pixels and counts are summed over the images (StarDist's way).
    """

    per_image: tuple[ImageScore, ...] = ()  # in the order given
    mean_ap: tuple[float, ...] = ()  # mean of the images' AP (Cellpose's way); empty for classes
    ap50_interval: tuple[float, float] | None = None  # bootstrap 95 % of pooled AP.50; None for classes

    def __repr__(self) -> str:
        """Write the table: what one would ask of scores at a prompt."""
        return self.table()

    @property
    def mean_dice(self) -> float:
        """Mean over the images of their Dice."""
        return _mean([image.dice for image in self.per_image])

    def to_dict(self) -> dict[str, Any]:
        """Give all numbers in a form that JSON can hold, each image's own under ``"per_image"``."""
        result = super().to_dict() | {"images": len(self.per_image), "mean_dice": self.mean_dice}
        if self.ap50_interval is not None:
            result |= {"mean_ap": _keyed(self.mean_ap), "ap50_interval": list(self.ap50_interval)}
        return result | {"per_image": [image.to_dict() for image in self.per_image]}

    def line(self) -> str:
        """Write the most important scores as one line of text."""
        n = f"{len(self.per_image):4d} image{'s' if len(self.per_image) != 1 else ' '}"
        if not self.ap:
            return f"{n}  Dice {self.dice:.3f}  IoU {self.iou:.3f}"
        ap = f"AP.50 {self.ap[0]:.3f}  .75 {self.ap[5]:.3f}  .90 {self.ap[8]:.3f}"
        return f"{n}  {ap}  mean AP.50 {self.mean_ap[0]:.3f}  PQ {self.pq:.3f}  Dice {self.dice:.3f}"

    def table(self, *, per_image: bool = False) -> str:
        """Write the scores as a few lines of text, and with `per_image` one more line for each image."""
        n_images = f"{len(self.per_image)} image{'s' if len(self.per_image) != 1 else ''}"
        if self.objects is None or self.ap50_interval is None:
            rows = [(score.name, score.dice, score.iou) for score in self.classes]
            rows.append(("mean", self.dice, self.iou))
            width = max(len(name) for name, _, _ in rows)
            lines = [n_images, f"{'':<{width}}   Dice    IoU"]
            lines += [f"{name:<{width}}  {dice:.3f}  {iou:.3f}" for name, dice, iou in rows]
        else:
            counts, (low, high) = self.objects, self.ap50_interval
            lines = [
                f"{n_images}, {counts.n_truth} objects in the truth, {counts.n_prediction} in the prediction",
                "IoU        " + " ".join(f"{threshold:5.2f}" for threshold in THRESHOLDS),
                "AP pooled  " + " ".join(f"{ap:.3f}" for ap in self.ap),
                "AP mean    " + " ".join(f"{ap:.3f}" for ap in self.mean_ap),
                f"AP.50 {self.ap50:.3f} pooled (95 % interval {low:.3f} to {high:.3f})",
                f"PQ {counts.pq:.3f} (SQ {counts.sq:.3f}, RQ {counts.rq:.3f})",
                f"Dice {self.dice:.3f} pooled, {self.mean_dice:.3f} mean",
            ]
        if len(self.per_image) == 1:  # an interval of one image is none
            lines = [line.split(" (95 %")[0] for line in lines]
        others = [image.base for image in self.per_image if image.base]
        if others:
            lines.append(
                f"{len(others)} of them segmented by {others[0]!r}, which the model came from: "
                "choose base=false to score the model itself"
            )
        if per_image:
            width = max(len(image.name) for image in self.per_image)
            lines += [f"{image.name:<{width}}  {_one_line(image)}" for image in self.per_image]
        return "\n".join(lines)


def score_instances(
    truth: ArrayLike, prediction: ArrayLike, *, valid: ArrayLike | None = None, name: str = ""
) -> ImageScore:
    """Score the objects of one image.

    Parameters
    ----------
    truth, prediction
        Labels of any integer dtype and any number of axes, the same shape; 0 is background.
    valid
        Bool, the shape of `truth`: where the truth is known (everywhere, if None). An object with more than
        half of its pixels outside is ignored, that is taken for background; the others are cropped. Dice is
        that of all valid pixels, those of ignored objects too.
    name
        The image, for tables.

    Raises
    ------
    DataError
        If the shapes differ, or the labels are not whole numbers from 0 up.
    """
    runs = read_runs(truth, prediction, valid)
    matching = match_runs(runs, THRESHOLDS[0])
    # Pairs above 0.5 have no rivals, so what matches at a higher threshold is what reaches it here.
    reached = matching.iou >= np.array(THRESHOLDS)[:, None]
    objects = ObjectScore(
        n_truth=len(matching.truth) + len(matching.missed),
        n_prediction=len(matching.prediction) + len(matching.spurious),
        tp=tuple(reached.sum(axis=1).tolist()),
        iou_sum=tuple((reached @ matching.iou).tolist()),
        halves=int(np.count_nonzero(matching.iou == THRESHOLDS[0])),
    )
    in_truth, in_prediction = runs.truth > 0, runs.prediction > 0
    pixels = [int(runs.inside[where].sum()) for where in (in_truth & in_prediction, in_truth, in_prediction)]
    return ImageScore(name, (ClassScore("foreground", *pixels),), objects)


def score_classes(
    truth: ArrayLike,
    prediction: ArrayLike,
    classes: Sequence[str],
    *,
    valid: ArrayLike | None = None,
    name: str = "",
) -> ImageScore:
    """Score the classes of the pixels of one image.

    Parameters
    ----------
    truth, prediction
        Class numbers of any integer dtype, or bool, and any number of axes, the same shape.
    classes
        The name of each number; ``classes[0]`` is the background, which gets no score of its own.
    valid
        Bool, the shape of `truth`: the pixels that count (all, if None).
    name
        The image, for tables.

    Raises
    ------
    DataError
        If the shapes differ, or a pixel that counts has a number that `classes` does not name.
    """
    runs = read_runs(truth, prediction, valid, kinds="iub")
    n, counted = len(classes), runs.inside > 0
    in_truth, in_prediction = runs.truth[counted], runs.prediction[counted]
    for what, numbers in (("truth", in_truth), ("prediction", in_prediction)):
        if numbers.size and numbers.max() >= n:
            raise DataError(
                f"The {what} has a pixel of class {int(numbers.max())}, but the classes are 0 to {n - 1} "
                f"({', '.join(classes)}): renumber the masks, or name the other classes too."
            )
    pairs = in_truth.astype(np.intp) * n + in_prediction.astype(np.intp)
    # bincount adds up in float64, which is exact up to 2**53 pixels
    table = np.bincount(pairs, weights=runs.inside[counted], minlength=n * n).astype(np.int64).reshape(n, n)
    counts = np.stack([table.diagonal(), table.sum(axis=1), table.sum(axis=0)], axis=1).tolist()
    return ImageScore(name, tuple(ClassScore(each, *counts[i]) for i, each in enumerate(classes) if i > 0))


def summarise(images: Iterable[ImageScore], *, seed: int = 0, resamples: int = 1000) -> Scores:
    """Pool the scores of a set of images: all by `score_instances`, or all by `score_classes` alike.

    The bootstrap draws the images anew `resamples` times, with a generator of its own from `seed`; a single
    image gives an interval without width. Raises `DataError` if there is no image.
    """
    per_image = tuple(images)
    if not per_image:
        raise DataError("There are 0 images to score, but at least 1 is needed: give images that have masks.")
    by_class = zip(*(image.classes for image in per_image), strict=True)
    classes = tuple(reduce(add, scores) for scores in by_class)
    counts = [image.objects for image in per_image if image.objects is not None]
    if not counts:
        return Scores("all images", classes, per_image=per_image)
    if len(counts) < len(per_image):
        raise ValueError("scores of instances and of classes cannot be pooled")
    mean_ap = tuple(np.mean([count.ap for count in counts], axis=0).tolist())
    interval = _bootstrap_ap50(counts, seed, resamples)
    pooled = reduce(add, counts)
    return Scores("all images", classes, pooled, per_image=per_image, mean_ap=mean_ap, ap50_interval=interval)


def _bootstrap_ap50(counts: Sequence[ObjectScore], seed: int, resamples: int) -> tuple[float, float]:
    n = len(counts)
    pairs = np.array([count.tp[0] for count in counts])
    union = np.array([count.n_truth + count.n_prediction for count in counts]) - pairs
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    found, there = drawn @ pairs, drawn @ union
    low, high = np.quantile(np.where(there > 0, found / np.maximum(there, 1), 1.0), (0.025, 0.975)).tolist()
    return low, high


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _mean(values: Sequence[float]) -> float:
    return _ratio(sum(values), len(values))


def _keyed(values: Sequence[float]) -> dict[str, float]:
    return {f"{threshold:.2f}": value for threshold, value in zip(THRESHOLDS, values, strict=True)}


def _one_line(image: ImageScore) -> str:
    if image.objects is None:
        return f"Dice {image.dice:.3f}  IoU {image.iou:.3f}"
    tp, fp, fn = image.objects.tp[0], image.objects.fp[0], image.objects.fn[0]
    return f"AP.50 {image.ap50:.3f}  PQ {image.pq:.3f}  Dice {image.dice:.3f}  TP {tp}  FP {fp}  FN {fn}"
