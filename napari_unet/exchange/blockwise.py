"""Images larger than memory to labels on disk, block by block; what is done stays done if the program is ended.

All that is under way lies in a hidden folder beside the target: the plan, the model, and a file for each block that is
done. So several programs can work on one image, on one machine or on many that share a disk.
"""

from __future__ import annotations

import io
import json
import shutil
import time
import zlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError
from napari_unet.exchange.labels import stream_tiff
from napari_unet.exchange.ome_zarr import LabelImage
from napari_unet.infer import blocks
from napari_unet.infer.engine import quantise, quantised
from napari_unet.infer.image import Image, check_axes
from napari_unet.infer.lazy import sampled
from napari_unet.infer.read import read_image
from napari_unet.infer.segment import Ready, SegmentSettings, get_ready, said, see, with_thresholds
from napari_unet.infer.stitch import Found, Stitching
from napari_unet.jobs import Job, Progress, as_part
from napari_unet.model import Model
from napari_unet.model_file import code_version
from napari_unet.whole import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.infer.stitch import Numbers
    from napari_unet.infer.tiles import Block

LARGE = 2**26  # pixels: smaller images are segmented in memory, in less than 1.5 GB (bench/memory.py)
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

    @cached_property
    def image(self) -> Image:
        """The image, on disk."""
        return self.given or read_image(self.plan["image"])

    @cached_property
    def ready(self) -> Ready:
        """The image and how it is looked at, as planned: nothing is measured again."""
        plan = self.plan
        used = Model.load(self.folder / "model.unet")
        settings = SegmentSettings(**plan["settings"])
        quantise(used.network, plan["limits"] and {name: (low, high) for name, (low, high) in plan["limits"].items()})
        seen = see(used, self.image.data, plan["axes"], settings.channel, (plan["low"], plan["high"]))
        return Ready(used, with_thresholds(used, settings), seen, plan["factor"], settings, tuple(plan["notes"]))

    @cached_property
    def blocks(self) -> list[Block]:
        """All of them."""
        return blocks.plan(self.ready, multiple=CHUNK[self.ready.model.ndim])

    @cached_property
    def faces(self) -> dict[Any, dict[tuple[int, int], int]]:
        """See :func:`~napari_unet.infer.stitch.shared_faces`."""
        return blocks.faces_of(self.ready, self.blocks)

    def file(self, block: Block) -> Path:
        """Where a block lies once it is done."""
        return self.folder / "blocks" / f"{'_'.join(map(str, block.place))}.npz"

    def missing(self) -> list[Block]:
        """Return the blocks that are not done."""
        there = {path.name for path in (self.folder / "blocks").iterdir()}
        return [block for block in self.blocks if self.file(block).name not in there]


def is_large(image: Image) -> bool:
    """Return whether an image is better segmented block by block."""
    return prod(n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter not in "CS") > LARGE


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
    work = Work(target.parent / f".{target.name}.parts", given)
    asked = {
        "image": image.name if isinstance(image, Image) else str(image.resolve()),
        "changed": _changed(image),
        "axes": axes,
        "settings": asdict(replace(settings, device="auto")),
        "model": model.version,
        "program": code_version(),
    }
    try:
        if json.loads((work.folder / "plan.json").read_text())["asked"] == asked:
            return work
    except (OSError, ValueError, KeyError):  # there is none, or a damaged one
        pass
    shutil.rmtree(work.folder, ignore_errors=True)
    yield Progress(0, 1, f"reading {image.name}")
    picture = image if isinstance(image, Image) else read_image(image)
    named = check_axes(axes, picture.data.shape, image.name) if axes else picture.axes
    ready = yield from get_ready(model, picture.data, named, settings, first)
    plan = {
        "asked": asked,
        "image": asked["image"],
        "axes": named,
        "scale": dict(picture.scale),
        "name": picture.name,
        "settings": asdict(replace(settings, device="auto")),  # each machine has its own
        "low": ready.seen.low,
        "high": ready.seen.high,
        "factor": ready.factor,
        "limits": quantised(ready.used.network),
        "notes": [*ready.notes],
    }
    (work.folder / "blocks").mkdir(parents=True, exist_ok=True)
    ready.used.save(work.folder / "model.unet")
    write_whole(work.folder / "plan.json", json.dumps(plan, indent=1).encode())  # last: with it the folder is complete
    return work


def _changed(image: Path | Image) -> list[int]:
    """Return what tells that an image is another one than before."""
    if isinstance(image, Image):
        return [*image.data.shape, zlib.crc32(sampled(image.data, 2**16).tobytes())]
    file = next((image / name for name in ("zarr.json", ".zattrs", ".zarray") if (image / name).is_file()), image)
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


def do_block(work: Work, block: Block, device: str = "auto") -> Job[None]:
    """Find the objects of a block and write them; nothing happens if that was done.

    Yields
    ------
    Progress
        Tiles done.
    """
    if work.file(block).exists():
        return
    ready = replace(work.ready, settings=replace(work.ready.settings, device=device))
    found, broken = yield from blocks.look(ready, block, work.faces[block.place])
    empty = not found.labels.any()
    strips = {f"strip {axis} {side}": strip for (axis, side), strip in found.strips.items()}
    data: dict[str, Any] = strips if empty else strips | {"labels": found.labels}
    file = io.BytesIO()
    np.savez_compressed(file, count=found.count, broken=broken, **data)
    write_whole(work.file(block), file.getvalue())


def _read_block(work: Work, block: Block, *, whole: bool) -> tuple[Found, int]:
    """Return what was found in a block, its labels only if they are asked for, and how many pixels were broken."""
    with np.load(work.file(block)) as file:
        strips = {}
        for name in file.files:
            if name.startswith("strip"):
                _, axis, side = name.split()
                strips[int(axis), int(side)] = file[name]
        labels = file["labels"] if whole and "labels" in file.files else np.zeros(0, np.uint32)
        return Found(labels, int(file["count"]), strips), int(file["broken"])


def do_blocks(work: Work, device: str = "auto", shard: tuple[int, int] = (0, 1)) -> Job[None]:
    """Do all blocks that are missing, or each n-th of them.

    Parameters
    ----------
    work : Work
        From :func:`begin`.
    device : str
        Where to compute.
    shard : (int, int)
        Which of how many shares of the blocks, from 0.

    Yields
    ------
    Progress
        Blocks done.
    """
    mine = work.blocks[shard[0] :: shard[1]]
    for done, block in enumerate(mine):
        yield from as_part(do_block(work, block, device), lambda p, done=done: _of_blocks(p, done, len(mine)))  # type: ignore[misc]
        yield Progress(1000 * (done + 1), 1000 * len(mine), f"block {done + 1} of {len(mine)}")


def _of_blocks(p: Progress, done: int, total: int) -> Progress:
    """Count the tiles of a block among all blocks."""
    return Progress(1000 * done + 1000 * p.done // max(p.total, 1), 1000 * total, f"block {done + 1} of {total}")


@dataclass(frozen=True)
class Result:
    """What was written.

    Attributes
    ----------
    found : dict
        ``objects``, or ``shares`` of the pixels of each class.
    notes : tuple of str
        What was chosen or mended on the way.
    seconds : float
        How long it took.
    model : Model
        What found them.
    """

    found: dict[str, Any]
    notes: tuple[str, ...]
    seconds: float
    model: Model


def number(work: Work) -> tuple[dict[Any, Numbers], int, int]:
    """Return the final numbers of the objects of each block, how many there are, and how many pixels were broken.

    Raises
    ------
    DataError
        If blocks are missing.
    """
    missing = work.missing()
    if missing:
        raise DataError(
            f"{len(missing)} of {len(work.blocks)} blocks are not done yet, the first is {missing[0].place}: let all "
            "shards end first, or run the one again that failed."
        )
    stitching, broken = Stitching([block.place for block in work.blocks]), 0
    for block in work.blocks:
        found, bad = _read_block(work, block, whole=False)
        stitching.add(block.place, found)
        broken += bad
    numbers = stitching.numbers()
    return numbers, max(each.last for each in numbers.values()), broken


def label_image(work: Work, target: Path) -> LabelImage:
    """Return the label image that the blocks are written into, in the folder of what is under way."""
    plan, ready = work.plan, work.ready
    scale = {letter: size for letter, size in plan["scale"].items() if letter in ready.seen.axes}
    sides = [
        max(b.write[axis].stop - b.write[axis].start for b in work.blocks) for axis in range(len(ready.seen.shape))
    ]
    lead = len(sides) - ready.model.ndim
    return LabelImage(
        work.folder / "labels.ome.zarr",
        target,
        ready.seen.shape,
        np.uint8 if ready.model.task == "classes" else np.uint32,
        ready.seen.axes,
        scale,
        chunks=[1] * lead + [CHUNK[ready.model.ndim]] * ready.model.ndim,
        blocks=sides,
    )


def write_block(work: Work, image: LabelImage, block: Block, numbers: Numbers) -> Any:
    """Write a block with its final numbers; return how often each class is there."""
    found, _ = _read_block(work, block, whole=True)
    if not found.labels.size:
        return None
    if work.ready.model.task == "classes":
        image.write(block.write, found.labels)
        return np.bincount(found.labels.ravel(), minlength=len(work.ready.model.classes))
    image.write(block.write, numbers.lookup()[found.labels])
    return None


def show_block(work: Work, image: LabelImage, block: Block) -> NDArray[Any] | None:
    """Write a block that is done with numbers of its own, so that it is seen before all are done; return these."""
    found, _ = _read_block(work, block, whole=True)
    if not found.labels.size:
        return None
    labels = blocks.apart(found.labels, work.blocks.index(block) + 1)
    image.write(block.write, labels)
    return labels


def finish(work: Work, target: Path) -> Job[Result]:
    """Join what the blocks found and put the labels in place, whole or not at all.

    Yields
    ------
    Progress
        Blocks written.

    Raises
    ------
    DataError
        If blocks are missing.
    """
    began = time.perf_counter()
    numbers, objects, broken = number(work)
    image, each, counts = label_image(work, target), work.blocks, np.zeros(len(work.ready.model.classes), np.int64)
    image.create()
    for done, block in enumerate(each):
        yield Progress(done, len(each), "joining blocks")
        here = write_block(work, image, block, numbers[block.place])
        counts += 0 if here is None else here
    ready = work.ready
    yield Progress(len(each), len(each), "writing")
    if target.suffix == ".tif":
        stream_tiff(target, image, f"{work.plan['name']}_labels")
    else:
        image.put_in_place({"model": ready.used.name, "version": ready.used.version, "largest": objects})
    shutil.rmtree(work.folder, ignore_errors=True)
    found: dict[str, Any] = {"objects": objects}
    if ready.model.task == "classes":
        pixels = prod(ready.seen.shape)
        counts[0] += pixels - counts.sum()  # of empty blocks nothing was written
        found = {"shares": {name: int(n) / pixels for name, n in zip(ready.model.classes, counts, strict=True)}}
    notes = (*ready.seen.notes, *ready.notes, *said(broken))
    return Result(found, notes, time.perf_counter() - began, ready.used)


def segment_blockwise(
    model: Model, image: Path, target: Path, settings: SegmentSettings, axes: str | None = None
) -> Job[Result]:
    """Segment an image of any size and write its labels; for parameters and errors see :func:`begin`."""
    began = time.perf_counter()
    work = yield from begin(model, image, target, settings, axes)
    yield from do_blocks(work, settings.device)
    result = yield from finish(work, target)
    return replace(result, seconds=time.perf_counter() - began)
