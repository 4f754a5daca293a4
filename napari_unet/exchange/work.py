"""What is under way for a large image: planned once, in a hidden folder beside the target.

The folder holds the plan, the model, and a file for each block that is done, so several programs can work on one image,
on one machine or on many that share a disk. The plan holds all that is measured or chosen: who did a block makes no
difference, as long as all compute in the same precision.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import UnetError
from napari_unet.infer import blocks
from napari_unet.infer.engine import quantise, quantised
from napari_unet.infer.image import Image, check_axes
from napari_unet.infer.lazy import sampled
from napari_unet.infer.read import read_image
from napari_unet.infer.seen import see
from napari_unet.infer.segment import Ready, SegmentSettings, get_ready, with_thresholds
from napari_unet.infer.tiles import plan_blocks
from napari_unet.jobs import Job, Progress
from napari_unet.model import Model
from napari_unet.model_file import code_version
from napari_unet.whole import write_whole

if TYPE_CHECKING:
    from napari_unet.infer.tiles import Block

IDLE = 3600  # seconds without a new block, after which what was planned with other settings is taken for given up
CHUNK = {1: 2**18, 2: 1024, 3: 64}  # side of the pieces that a block consists of on disk


@dataclass(frozen=True)
class Work:
    """An image that is being segmented block by block.

    Attributes
    ----------
    folder : Path
        Where all that is done lies.
    given : Image or None
        The image, if it is not read from its file.
    """

    folder: Path
    given: Image | None = None

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What was decided before the first block."""
        plan: dict[str, Any] = json.loads((self.folder / "plan.json").read_text())
        return plan

    @property
    def target(self) -> Path:
        """Where the labels are to lie."""
        return self.folder.parent / str(self.plan["target"])

    @cached_property
    def image(self) -> Image:
        """The image, on disk."""
        return self.given or read_image(self.plan["image"])

    @cached_property
    def ready(self) -> Ready:
        """The image and how it is looked at, as planned: nothing is measured again."""
        plan = self.plan
        if plan["asked"]["program"] != code_version():
            raise UnetError(
                f"The image was planned by napari-unet {plan['asked']['program']}, and this is {code_version()}: "
                "install the same version on all machines."
            )
        used = Model.load(self.folder / "model.unet")
        settings = SegmentSettings(**plan["settings"])
        quantise(used.network, plan["limits"] and {name: (low, high) for name, (low, high) in plan["limits"].items()})
        seen = see(used, self.image.data, plan["axes"], settings.channel, (plan["low"], plan["high"]))
        return Ready(used, with_thresholds(used, settings), seen, plan["factor"], settings, tuple(plan["notes"]))

    @cached_property
    def blocks(self) -> list[Block]:
        """All of them."""
        return plan_blocks(self.ready.seen.shape, self.plan["sides"], self.plan["margins"])

    @cached_property
    def faces(self) -> dict[Any, dict[tuple[int, int], int]]:
        """See :func:`~napari_unet.infer.stitch.shared_faces`."""
        return blocks.faces_of(self.ready, self.blocks)

    def file(self, block: Block) -> Path:
        """Where a block lies once it is done."""
        return self.folder / "blocks" / f"{'_'.join(map(str, block.place))}.npz"

    @property
    def placed(self) -> bool:
        """Whether the labels are in place, and the program was killed before it could remove the folder."""
        try:
            before = json.loads((self.folder / "placing.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(before != _identity(self.target))

    def about_to_place(self) -> None:
        """Remember what lies where the labels are to go, so that `placed` can tell."""
        write_whole(self.folder / "placing.json", json.dumps(_identity(self.target)).encode())

    @cached_property
    def order(self) -> dict[tuple[int, ...], int]:
        """Which of the blocks stands at each place."""
        return {block.place: i for i, block in enumerate(self.blocks)}

    def missing(self) -> list[Block]:
        """Return the blocks that are not done."""
        there = {path.name for path in (self.folder / "blocks").iterdir()}
        # a list that comes over a network may be some seconds old
        return [b for b in self.blocks if self.file(b).name not in there and not self.file(b).exists()]


def begin(
    model: Model,
    image: Path | Image,
    target: Path,
    settings: SegmentSettings,
    axes: str | None = None,
    first: tuple[slice, ...] | None = None,
) -> Job[Work]:
    """Plan the segmentation of an image, or go on with what was begun.

    Parameters
    ----------
    model : Model
        What to segment with.
    image : Path or Image
        Its file, or itself.
    target : Path
        Where its labels are to lie: OME-Zarr, or .tif.
    settings : SegmentSettings
        How.
    axes : str, optional
        Of the image, where its file is silent or wrong.
    first : tuple of slice, optional
        See :func:`~napari_unet.infer.segment.segment_job`.

    Yields
    ------
    Progress
        What is looked at.

    Raises
    ------
    ImageError
        If the image cannot be read or does not fit the model.
    """
    given = image if isinstance(image, Image) else None
    asked = {
        "image": image.name if isinstance(image, Image) else str(image.resolve()),
        "changed": _changed(image),
        "axes": axes,
        "settings": asdict(replace(settings, device="auto")),
        "model": model.version,
        "program": code_version(),
    }
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    work = Work(target.parent / f".{target.name}.{key}.parts", given)
    if _is_whole(work):
        if not work.placed:
            return work
        forget(work)
    yield Progress(0, 1, f"reading {image.name}")
    picture = image if isinstance(image, Image) else read_image(image)
    named = check_axes(axes, picture.data.shape, image.name) if axes else picture.axes
    ready = yield from get_ready(model, picture.data, named, settings, first)
    lead, chunk = len(ready.seen.shape) - ready.model.ndim, CHUNK[ready.model.ndim]
    each = blocks.plan(ready, multiple=chunk)
    plan = {
        "asked": asked,
        "image": asked["image"],
        "target": target.name,
        "axes": named,
        "scale": dict(picture.scale),
        "name": picture.name,
        "settings": asdict(replace(settings, device="auto")),  # each machine has its own
        "low": ready.seen.low,
        "high": ready.seen.high,
        "factor": ready.factor,
        "limits": quantised(ready.used.network),
        "notes": [*ready.notes],
        "sides": [max(b.write[axis].stop - b.write[axis].start for b in each) for axis in range(len(each[0].write))],
        "margins": [0] * lead + [blocks.margin_of(ready)] * ready.model.ndim,
        "chunks": [1] * lead + [chunk] * ready.model.ndim,
    }
    _put(work, plan, ready.used)
    return work


def _put(work: Work, plan: dict[str, Any], model: Model) -> None:
    """Put a planned folder in place, whole; if another program was quicker, its plan is the one that counts."""
    work.folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=work.folder.parent, prefix=f".{plan['target']}.", suffix=".planning"))
    try:
        (beside / "blocks").mkdir()
        model.save(beside / "model.unet")
        write_whole(beside / "plan.json", json.dumps(plan, indent=1).encode())
        beside.chmod(0o755)  # mkdtemp makes folders that only their owner may open
        try:
            os.rename(beside, work.folder)
        except OSError:  # no system renames a folder to one that is there and holds something
            if not _is_whole(work):  # damaged
                os.rename(work.folder, beside / "damaged")
                os.rename(beside, work.folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _is_whole(work: Work) -> bool:
    """Return whether a plan is there and can be read."""
    try:
        return "asked" in json.loads((work.folder / "plan.json").read_text())
    except (OSError, ValueError):
        return False


def under_way(folder: Path) -> list[Work]:
    """Return what was begun in a folder for image files and not finished: for each target what was planned last."""
    begun: list[tuple[float, Work]] = []
    for each in folder.glob(".*.parts"):
        work = Work(each)
        with suppress(OSError):  # finished meanwhile
            if _is_whole(work) and Path(work.plan["image"]).is_absolute():
                if work.placed:
                    forget(work)
                else:
                    begun.append(((each / "plan.json").stat().st_mtime, work))
    begun.sort(key=lambda each: each[0])
    return [*{work.target: work for _, work in begun}.values()]


def forget(work: Work) -> None:
    """Remove what was under way, and what was begun for the same target with other settings and given up."""
    target = work.target
    ours = re.compile(re.escape(f".{target.name}.") + r"\w{8}\.parts")
    for folder in [each for each in target.parent.iterdir() if ours.fullmatch(each.name)]:
        with suppress(OSError):
            if folder == work.folder or time.time() - (folder / "blocks").stat().st_mtime > IDLE:
                (folder / "plan.json").unlink(missing_ok=True)  # first: without it the folder counts for nothing
                shutil.rmtree(folder, ignore_errors=True)


def _identity(target: Path) -> list[int] | None:
    """Return what tells a file or folder from another one of its name; None if there is none."""
    try:
        stat = target.stat()
    except OSError:
        return None
    return [stat.st_ino, stat.st_ctime_ns]


def _changed(image: Path | Image) -> list[int]:
    """Return what tells that an image is another one than before."""
    if isinstance(image, Image):
        return [*image.data.shape, zlib.crc32(sampled(image.data, 2**20).tobytes())]
    file = next((image / name for name in ("zarr.json", ".zattrs", ".zarray") if (image / name).is_file()), image)
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]
