"""Many images to label files: one after the other, a share of them, and what shares have done joined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import UnetError, in_words
from napari_unet.exchange.blockwise import LARGE, Result, finish, is_large, segment_blockwise
from napari_unet.exchange.files import segment_file, title
from napari_unet.exchange.work import under_way
from napari_unet.infer.ome_zarr import fields
from napari_unet.infer.read import read_image
from napari_unet.jobs import Job, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.model import Model


@dataclass(frozen=True)
class Done:
    """What became of an image.

    Attributes
    ----------
    image, target : Path
        Image and label file.
    result : Result or None
        What was found.
    error : str
        Why nothing was, in one sentence.
    """

    image: Path
    target: Path
    result: Result | None = None
    error: str = ""


def segment_each(
    model: Model,
    work: Sequence[tuple[Path, Path]],
    settings: SegmentSettings,
    axes: str | None = None,
    shard: tuple[int, int] | None = None,
) -> Job[None]:
    """Segment images one after the other; one that fails does not stop the others.

    Parameters
    ----------
    model, settings, axes
        See :func:`segment_file`.
    work : sequence of (Path, Path)
        From :func:`plan`.
    shard : (int, int), optional
        Do only one of so many shares, from 0: of large images a share of the blocks, to be joined by
        :func:`merge_each`, of the others each n-th one.

    Yields
    ------
    Progress
        Tiles done; the payload is a :class:`Done` after each image.
    """
    for i, (image, target) in enumerate(work):
        try:
            if shard is not None and _shared(image):
                result = yield from segment_blockwise(model, image, target, settings, axes, shard)
            elif shard is None or i % shard[1] == shard[0]:
                result = yield from segment_file(model, image, target, settings, axes)
            else:
                continue
        except (UnetError, OSError, MemoryError) as error:
            done = Done(image, target, error=in_words(error))
        else:
            done = Done(image, target, result)
        yield Progress(1, 1, title(image), payload=done)


def _shared(image: Path) -> bool:
    """Return whether shards share the blocks of an image; all must say the same, and read as few images as can be."""
    return (image.is_dir() or image.stat().st_size > LARGE) and is_large(read_image(image))


def merge_each(output: Path) -> Job[None]:
    """Join the blocks that shards have done.

    Parameters
    ----------
    output : Path
        As it was given to :func:`plan`.

    Yields
    ------
    Progress
        Blocks written; the payload is a :class:`Done` after each image.
    """
    inside = [image / "labels" for image in (output, *fields(output))]
    for work in [each for folder in (output, *inside) for each in under_way(folder)]:
        image = Path(work.plan["image"])
        try:
            result = yield from finish(work, work.target)
        except (UnetError, OSError, MemoryError) as error:
            done = Done(image, work.target, error=in_words(error))
        else:
            done = Done(image, work.target, result)
        yield Progress(1, 1, title(image), payload=done)
