"""Images larger than memory to labels on disk, block by block; what is done stays done if the program is ended."""

from __future__ import annotations

import io
import time
from contextlib import closing
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError
from napari_unet.exchange.labels import stream_tiff
from napari_unet.exchange.ome_zarr import LabelImage
from napari_unet.exchange.work import Work, begin, forget
from napari_unet.infer import blocks
from napari_unet.infer.seen import said
from napari_unet.infer.segment import each_alone
from napari_unet.infer.stitch import Found, Stitching
from napari_unet.jobs import Job, Progress, as_part
from napari_unet.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.infer.image import Image
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.infer.stitch import Numbers
    from napari_unet.infer.tiles import Block
    from napari_unet.model import Model

LARGE = 2**26  # pixels: smaller images are segmented in memory, in less than 2 GB (bench/scale.py)


def is_large(image: Image, above: int | None = None) -> bool:
    """Return whether an image is better segmented block by block: that of more pixels than `LARGE`, or than `above`."""
    pixels = prod(n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter not in "CS")
    return pixels > (LARGE if above is None else above)


def do_block(work: Work, block: Block, device: str = "auto") -> Job[None]:
    """Find the objects of a block and write them; nothing happens if that was done.

    Yields
    ------
    Progress
        Thousandths of it.
    """
    if not work.file(block).exists():
        yield from do_each(work, [block], device)


def do_each(work: Work, each: Sequence[Block], device: str = "auto") -> Job[None]:
    """Find the objects of some blocks and write them, in this order.

    Yields
    ------
    Progress
        Thousandths of these blocks; once one is written it is the payload.
    """
    ready = replace(work.ready, settings=replace(work.ready.settings, device=device))
    with closing(blocks.look_all(ready, each, work.faces)) as looks:
        for p in looks:
            if p.payload is not None:
                _keep(work, *p.payload)
            yield Progress(p.done, p.total, p.message, payload=None if p.payload is None else p.payload[0])


def _keep(work: Work, block: Block, found: Found, broken: int) -> None:
    """Write what was found in a block."""
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
    left = [block for block in mine if not work.file(block).exists()]
    there, total = len(mine) - len(left), len(mine)
    if there and left:
        yield Progress(0, 0, f"going on: {there} of {total} blocks were done before")

    def counted(p: Progress) -> Progress:
        done = 1000 * there + p.done
        return Progress(done, 1000 * total, f"block {min(done // 1000 + 1, total)} of {total}")

    yield from as_part(do_each(work, left, device), counted)


@dataclass(frozen=True)
class Result:
    """What was written.

    Attributes
    ----------
    found : dict
        ``objects``, or ``shares`` of the pixels of each class; of a shard how many ``blocks`` are done.
    notes : tuple of str
        What was chosen or mended on the way.
    seconds : float
        How long it took.
    model : str
        The name of what found them.
    """

    found: dict[str, Any]
    notes: tuple[str, ...]
    seconds: float
    model: str


def number(work: Work) -> Job[tuple[dict[Any, Numbers], int, int]]:
    """Return the final numbers of the objects of each block, how many there are, and how many pixels were broken.

    Yields
    ------
    Progress
        Blocks read.

    Raises
    ------
    DataError
        If blocks are missing.
    """
    missing, each = work.missing(), work.blocks
    if missing:
        raise DataError(
            f"{len(missing)} of {len(each)} blocks are not done yet, the first is {missing[0].place}: let all shards "
            "end first, or run those again that failed."
        )
    stitching, broken = Stitching([block.place for block in each]), 0
    for done, block in enumerate(each):
        yield Progress(done, len(each), "joining blocks")
        found, bad = _read_block(work, block, whole=False)
        stitching.add(block.place, found)
        broken += bad
    numbers = stitching.numbers()
    return numbers, max(each.last for each in numbers.values()), broken


def label_image(work: Work, target: Path) -> LabelImage:
    """Return the label image that the blocks are written into, in the folder of what is under way."""
    plan, ready = work.plan, work.ready
    scale = {letter: size for letter, size in plan["scale"].items() if letter in ready.seen.axes}
    return LabelImage(
        work.folder / "labels.ome.zarr",
        target,
        ready.seen.shape,
        np.uint8 if ready.model.task == "classes" else np.uint32,
        ready.seen.axes,
        scale,
        chunks=plan["chunks"],
        blocks=plan["sides"],
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
    labels = blocks.apart(found.labels, work.order[block.place] + 1)
    image.write(block.write, labels)
    return labels


def write_here(work: Work, image: LabelImage, numbers: Mapping[Any, Numbers]) -> Iterable[Any]:
    """Write all blocks one after the other; yield what :func:`write_block` returns."""
    return (write_block(work, image, block, numbers[block.place]) for block in work.blocks)


def finish(
    work: Work,
    target: Path,
    write: Callable[[Work, LabelImage, Mapping[Any, Numbers]], Iterable[Any]] = write_here,
) -> Job[Result]:
    """Join what the blocks found and put the labels in place, whole or not at all.

    Parameters
    ----------
    work : Work
        Of which all blocks are done.
    target : Path
        Where the labels are to lie.
    write : callable
        Who writes the blocks, in any order, each with its numbers only; like :func:`write_here`.

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
    numbers, objects, broken = yield from number(work)
    image, each, counts = label_image(work, target), work.blocks, np.zeros(len(work.ready.model.classes), np.int64)
    image.create()
    for done, here in enumerate(write(work, image, numbers), 1):
        counts += 0 if here is None else here
        yield Progress(done, len(each), "writing blocks")
    ready = work.ready
    yield Progress(len(each), len(each), "writing")
    work.about_to_place()
    if target.suffix == ".tif":
        stream_tiff(target, image, f"{work.plan['name']}_labels")
    else:
        image.put_in_place({"model": ready.used.name, "version": ready.used.version, "largest": objects})
    forget(work)
    found: dict[str, Any] = {"objects": objects}
    if ready.model.task == "classes":
        pixels = prod(ready.seen.shape)
        counts[0] += pixels - counts.sum()  # of empty blocks nothing was written
        found = {"shares": {name: int(n) / pixels for name, n in zip(ready.model.classes, counts, strict=True)}}
    everything = [slice(0, n) for n in ready.seen.shape]
    notes = (*ready.seen.notes, *ready.notes, *each_alone(ready, everything), *said(broken))
    return Result(found, notes, time.perf_counter() - began, ready.used.name)


def segment_blockwise(
    model: Model,
    image: Path,
    target: Path,
    settings: SegmentSettings,
    axes: str | None = None,
    shard: tuple[int, int] | None = None,
) -> Job[Result]:
    """Segment an image of any size and write its labels; with `shard`, only do that share of its blocks.

    For parameters and errors see :func:`begin` and :func:`do_blocks`.
    """
    began = time.perf_counter()
    work = yield from begin(model, image, target, settings, axes)
    yield from do_blocks(work, settings.device, shard or (0, 1))
    if shard is not None:
        found = {"blocks": len(work.blocks[shard[0] :: shard[1]])}
        return Result(found, work.ready.notes, time.perf_counter() - began, work.ready.used.name)
    result = yield from finish(work, target)
    return replace(result, seconds=time.perf_counter() - began)
