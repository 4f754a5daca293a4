"""What came of a fine-tuning, as it stands in the recipe of the model: scores, corrections, which pixels were learned.

The file of a model is all that is known of it. The recipe is a mapping of plain values, so that earlier programs read
it too, and files of theirs are read here with what they have.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_unet.infer.image import guess_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.learn.corrections import Corrections
    from napari_unet.learn.train import TrainResult
    from napari_unet.model import Model, Provenance

Box = tuple[tuple[int, int], ...]  # first pixel, and the one after the last, along each axis of the labels

MOST = 500  # boxes that a model remembers
LOOK = 512  # pixels along each axis by which a box is known again
COUNTS = ("tiles", "objects", "strokes")


@dataclass(frozen=True)
class Outcome:
    """What came of a fine-tuning.

    Attributes
    ----------
    measure : str
        What the scores are: ``"AP.50"`` or ``"Dice"``; empty if nothing was held out to score on.
    before, after : float or None
        Scores of the model it came from and of this one, on the same held-out tiles.
    held_out, held_out_objects : int
        How many tiles that were, and objects in them.
    images, tiles, objects, strokes : int or None
        Corrected images; tiles and objects called right, and strokes, in them. None where nobody counted.
    start : str
        What the model it came from was called then.
    learned : tuple of (Box, str), or None
        Where pixels were known that this model or one before it learned from, and the fingerprint of the image there.
        None in files of earlier programs.
    """

    measure: str = ""
    before: float | None = None
    after: float | None = None
    held_out: int = 0
    held_out_objects: int = 0
    images: int | None = None
    tiles: int | None = None
    objects: int | None = None
    strokes: int | None = None
    start: str = ""
    learned: tuple[tuple[Box, str], ...] | None = None


def recorded(given: Model, corrections: Sequence[Corrections], result: TrainResult) -> dict[str, Any]:
    """Return what to add to the recipe of a fine-tuned model.

    Parameters
    ----------
    given : Model
        Where it started.
    corrections : sequence of Corrections
        What it learned from.
    result : TrainResult
        What came out.
    """
    from napari_unet.learn.evaluate import headline  # needs torch, which nobody waits for who only reads

    corrected = [each for each in corrections if each.state.any()]
    counts = {key: sum(getattr(each, key) for each in corrected) for key in COUNTS}
    new = [place for each in corrected for place in _places(each)]
    old = [place for place in outcome(given.provenance).learned or () if place not in new]
    record: dict[str, Any] = {
        "start": given.name,
        "corrections": {"images": len(corrected), **counts},
        "learned": [*new, *old][:MOST],
    }
    if result.before is not None and result.after is not None:
        objects = result.after.objects
        record["scores"] = {
            "measure": "AP.50" if objects else "Dice",
            "before": headline(result.before),
            "after": headline(result.after),
            "tiles": len(result.after.per_image),
            "objects": objects.n_truth if objects else 0,
        }
    return record


def outcome(provenance: Provenance) -> Outcome:
    """Return what the recipe of a model tells; what is missing in it, or makes no sense, is left out."""
    recipe = _mapping(provenance.recipe)
    scores, counts = _mapping(recipe.get("scores")), _mapping(recipe.get("corrections"))
    before, after = (_number(scores.get(key)) for key in ("before", "after"))
    measure = scores.get("measure")
    scored = measure in ("AP.50", "Dice") and before is not None and after is not None
    return Outcome(
        measure=str(measure) if scored else "",
        before=before if scored else None,
        after=after if scored else None,
        held_out=_count(scores.get("tiles")) or 0,
        held_out_objects=_count(scores.get("objects")) or 0,
        **{key: _count(counts.get(key)) for key in ("images", *COUNTS)},
        start=start if isinstance(start := recipe.get("start"), str) else "",
        learned=_learned(recipe.get("learned")),
    )


def learned_from(provenance: Provenance, image: Any, axes: str, region: Sequence[slice], name: str) -> bool:
    """Return whether a model, or one it came from, learned from pixels of a region of an image.

    The image is known again by its pixels, whatever it is called now. Earlier programs only wrote its name down.

    Parameters
    ----------
    provenance : Provenance
        Of the model.
    image : array
        As it was corrected.
    axes : str
        Its axes.
    region : sequence of slice
        One for each axis besides channels.
    name : str
        Of the image.
    """
    places = outcome(provenance).learned
    if places is None:
        return f"corrections of {name}" in provenance.data
    return any(
        len(box) == len(region)
        and all(start < r.stop and r.start < stop for (start, stop), r in zip(box, region, strict=True))
        and fingerprint(image, axes, box) == found
        for box, found in places
    )


def fingerprint(image: Any, axes: str, box: Box) -> str:
    """Return twelve hexadecimal digits that stand for the pixels in the middle of a box, in all channels; "" if none.

    Parameters
    ----------
    image : array
        As it is stored, maybe on disk.
    axes : str
        Its axes.
    box : Box
        One pair for each axis besides channels.
    """
    ends = iter(box)
    middles = []
    for letter, length in zip(axes, image.shape, strict=True):
        start, stop = (0, length) if letter in "CS" else next(ends)
        spare = 0 if letter in "CS" else max(0, stop - start - LOOK) // 2
        if stop > length:
            return ""
        middles.append(slice(start + spare, stop - spare))
    pixels = np.ascontiguousarray(image[tuple(middles)])
    return hashlib.sha256(f"{pixels.dtype.str}{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:12]


def _places(given: Corrections) -> list[tuple[Box, str]]:
    """Return boxes around what is known of an image, the largest first, each with its fingerprint."""
    image: Any = given.image if hasattr(given.image, "shape") else np.asarray(given.image)
    axes = given.axes or guess_axes(image.shape, image.dtype)
    known = given.state > 0
    (around,) = ndi.find_objects(known.astype(np.uint8))  # labels are 32 bits a pixel
    parts, _ = ndi.label(known[around])
    found = ndi.find_objects(parts)
    boxes: list[Box] = [
        tuple((int(a.start + p.start), int(a.start + p.stop)) for a, p in zip(around, part, strict=True))
        for part in sorted(found, key=_size, reverse=True)[:MOST]
    ]
    return [(box, fingerprint(image, axes, box)) for box in boxes]


def _size(box: tuple[slice, ...]) -> int:
    return int(np.prod([r.stop - r.start for r in box]))


# ---- what stands in a file may be anything


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None


def _learned(value: Any) -> tuple[tuple[Box, str], ...] | None:
    if not isinstance(value, list | tuple):
        return None
    try:
        return tuple((tuple((int(a), int(b)) for a, b in box), str(found)) for box, found in value[:MOST])
    except (TypeError, ValueError):
        return None
