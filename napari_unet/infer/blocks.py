"""One block of an image to its objects: read, look at, cut apart; the same for a slide, a stack and a cluster."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.infer.device import free_memory, pick_device
from napari_unet.infer.image import resize
from napari_unet.infer.instances import decode_classes, decode_instances
from napari_unet.infer.predict import flat_maps, longest_side, predict_tiles
from napari_unet.infer.scale import as_fraction
from napari_unet.infer.stitch import Found, Stitching, found_in, shared_faces
from napari_unet.infer.tiles import Block, plan_blocks, within
from napari_unet.jobs import Job, Progress, as_part, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future
    from fractions import Fraction

    from numpy.typing import NDArray

    from napari_unet.infer.segment import Ready
    from napari_unet.model import Model

# Pixels that a block writes. Its maps and labels are held at once, about 25 bytes for each; larger ones look at less
# margin, and 4096 is four pieces of a label image on disk.
PIXELS = {1: 2**24, 2: 4096**2, 3: 256**3}
# Pixels that are cut into objects at once, by one thread, and how many bytes each takes where all is foreground. In
# stacks the margins of smaller ones would be more than what they hold.
PART = {1: 2**20, 2: 1024**2, 3: 256**3}
BYTES = 120
WIDE = 30.0  # pixels: a typical object, where neither user nor model says
SEEN = 2  # widths of an object: one that crosses the end of a block is seen whole, and so are those that touch it
OVERLAP = ("cuda",)  # devices that compute on while the processor cuts objects apart; others would only share it
POLL = 0.1  # seconds between two chances to end the job


def plan(ready: Ready, region: Sequence[slice] | None = None, multiple: int = 1) -> list[Block]:
    """Cut an image, or a region of it, into blocks; slices that a model sees one by one are blocks of their own.

    Parameters
    ----------
    ready : Ready
        The image and how it is looked at.
    region : sequence of slice, optional
        One for each axis besides channels, start and stop given.
    multiple : int
        Sides are multiples of it, the side of the pieces on disk.
    """
    shape, ndim = ready.seen.shape, ready.model.ndim
    wanted = region or [slice(0, n) for n in shape]
    lead, extent = len(shape) - ndim, [w.stop - w.start for w in wanted][-ndim:]
    side = longest_side(extent, round(PIXELS[ndim] / max(1.0, ready.factor) ** ndim))
    # one block, wherever it lies; else pieces on disk are whole
    side = max(w.stop for w in wanted[-ndim:]) if side >= max(extent) else max(side // multiple, 1) * multiple
    return plan_blocks(shape, [1] * lead + [side] * ndim, [0] * lead + [margin_of(ready)] * ndim, wanted)


def nearest_first(blocks: Sequence[Block], to: Sequence[slice]) -> list[Block]:
    """Return blocks in the order of their distance to the middle of a part of the image."""

    def distance(block: Block) -> float:
        pairs = zip(block.write, to, strict=True)
        return sum(max(w.start - (t.start + t.stop) / 2, (t.start + t.stop) / 2 - w.stop, 0) ** 2 for w, t in pairs)

    return sorted(blocks, key=distance)


def apart(labels: NDArray[Any], number: int) -> NDArray[Any]:
    """Return the objects of one of many blocks with numbers that its neighbours hardly have too; classes stay."""
    if labels.dtype == np.uint8:
        return labels
    return np.where(labels > 0, labels + np.uint32(number % 2**12 << 20), 0).astype(np.uint32)


def margin_of(ready: Ready) -> int:
    """Return how many pixels of its neighbours a block sees: the objects that cross its ends; none for classes.

    No more than a quarter of a block, so that memory does not grow with the objects.
    """
    if ready.model.task == "classes":
        return 0
    width = ready.settings.diameter or (ready.model.diameter or WIDE) / ready.factor
    most = round(PIXELS[ready.model.ndim] ** (1 / ready.model.ndim)) // 4
    return 2 * ceil(min(SEEN * width, most) / 2)


def faces_of(ready: Ready, blocks: Sequence[Block]) -> dict[Any, dict[tuple[int, int], int]]:
    """Return the faces over which objects go on, see :func:`~napari_unet.infer.stitch.shared_faces`."""
    axes = range(len(ready.seen.shape) - ready.model.ndim, len(ready.seen.shape))
    return shared_faces(blocks, axes if ready.model.task == "instances" else ())


def look(
    ready: Ready, block: Block, faces: Mapping[tuple[int, int], int], *, once: bool = False
) -> Job[tuple[Found, int]]:
    """Return what is in a block, and how many of its pixels were not numbers.

    Parameters
    ----------
    ready : Ready
        The image and how it is looked at.
    block : Block
        From :func:`plan`.
    faces : dict
        Of the block, from :func:`faces_of`.
    once : bool
        Whether no blocks like it follow: then it does not pay to get ready for them.

    Yields
    ------
    Progress
        Tiles done.
    """
    maps, broken = yield from _maps(ready, block, once=once)
    return (yield from as_part(_found(ready, block, faces, maps), lambda p: Progress(1, 1, p.message))), broken


def look_all(ready: Ready, blocks: Sequence[Block], faces: Mapping[Any, Mapping[tuple[int, int], int]]) -> Job[None]:
    """Look at blocks, one after the other; a GPU goes on to the next one while what it saw is cut into objects.

    Parameters
    ----------
    ready : Ready
        The image and how it is looked at.
    blocks : sequence of Block
        In this order.
    faces : dict
        Of all blocks, from :func:`faces_of`.

    Yields
    ------
    Progress
        Thousandths of blocks; where one is done, `payload` is the block, what was found, and how many of its pixels
        were not numbers.
    """
    ahead = 1 if pick_device(ready.settings.device).type in OVERLAP else 0
    total, closed = 1000 * len(blocks), threading.Event()
    decoding: deque[tuple[Block, int, Future[Found]]] = deque()

    def unless_closed(_: Progress) -> None:
        if closed.is_set():
            raise CancelledError

    with ThreadPoolExecutor(1) as pool:
        try:
            for done in range(len(blocks) + ahead):
                if done < len(blocks):
                    block = blocks[done]
                    looking = as_part(_maps(ready, block), lambda p, done=done: _share(p, done - ahead, total))  # type: ignore[misc]
                    maps, broken = yield from looking
                    finding = _found(ready, block, faces[block.place], maps)
                    decoding.append((block, broken, pool.submit(run, finding, unless_closed)))
                    del maps, finding
                if done >= ahead:
                    block, broken, future = decoding.popleft()
                    while not wait([future], POLL).done:
                        yield Progress(1000 * (done - ahead) + 990, total, "blocks")
                    yield Progress(1000 * (done - ahead + 1), total, "blocks", payload=(block, future.result(), broken))
        finally:
            closed.set()


def _share(p: Progress, done: int, total: int) -> Progress:
    """Count the tiles of a block among all blocks."""
    return Progress(max(1000 * done + 990 * p.done // max(p.total, 1), 0), total, "blocks")


def _maps(ready: Ready, block: Block, *, once: bool = False) -> Job[tuple[NDArray[np.float32] | None, int]]:
    """Return the maps of a block's view, None where there is nothing to see, and how many pixels were not numbers."""
    model, shape = ready.model, ready.seen.shape
    lead = len(shape) - model.ndim
    view = block.view[lead:]
    factor = as_fraction(ready.factor)
    reach, grid = ceil((model.network.halo + 4) / factor) + 2 * factor.denominator, ready.grid
    read = [
        slice(max(v.start - reach, 0) // grid * grid, min(v.stop + reach, n))
        for v, n in zip(view, shape[lead:], strict=True)
    ]
    part, broken = ready.seen.read([*(w.start for w in block.write[:lead]), *read])
    if part.min() == part.max() and _nothing(model, float(part.flat[0]), ready.settings.device):
        yield Progress(1, 1, "tiles")
        return None, broken
    many = not once and any(v.stop - v.start < n for v, n in zip(view, shape[lead:], strict=True))
    return (yield from ready.maps(part, within(view, read), many=many)), broken


def _found(
    ready: Ready, block: Block, faces: Mapping[tuple[int, int], int], maps: NDArray[np.float32] | None
) -> Job[Found]:
    """Return what a block holds by the maps of its view."""
    model, lead = ready.model, len(block.view) - ready.model.ndim
    shape = [v.stop - v.start for v in block.view]
    if maps is None:
        labels: NDArray[Any] = np.zeros(shape, np.uint8 if model.task == "classes" else np.uint32)
    else:
        cut = [(v.start > 0, v.stop < n) for v, n in zip(block.view[lead:], ready.seen.shape[lead:], strict=True)]
        labels = (yield from decode_parts(model, maps, margin_of(ready), cut)).reshape(shape)
    return Found(labels[block.inner]) if model.task == "classes" else found_in(block, labels, faces)


def decode_parts(
    model: Model, maps: NDArray[np.float32], margin: int, cut: Sequence[tuple[bool, bool]] = ()
) -> Job[NDArray[np.uint8] | NDArray[np.uint32]]:
    """Turn maps into labels, in several threads if they are large.

    Parameters
    ----------
    model : Model
        With the thresholds.
    maps : float32 array, ``(channel, *spatial)``
        0 to 1. Of the classes of instances, background is enough.
    margin : int
        How many pixels of its neighbours each part sees.
    cut : sequence of (bool, bool)
        See :func:`~napari_unet.infer.instances.decode_instances`.

    Yields
    ------
    Progress
        Parts done.

    Returns
    -------
    uint32 or uint8 array, ``spatial``
        Objects 1 to n, or classes.
    """
    shape = maps.shape[1:]
    if model.task == "classes":
        return decode_classes(maps, len(maps))
    classes = len(maps) - 2
    cut = cut or [(False, False)] * len(shape)
    side = longest_side(shape, PART[len(shape)])
    if np.prod(shape) <= 2 * PART[len(shape)]:
        return decode_instances(maps, classes, model.decode, cut)
    blocks = plan_blocks(shape, [side] * len(shape), [margin] * len(shape))
    faces = shared_faces(blocks, range(len(shape)))
    stitching = Stitching([block.place for block in blocks])
    labels = np.zeros(shape, np.uint32)

    def one(block: Block) -> Found:
        ends = [
            (v.start > 0 or before, v.stop < n or after)
            for v, n, (before, after) in zip(block.view, shape, cut, strict=True)
        ]
        return found_in(
            block, decode_instances(maps[(slice(None), *block.view)], classes, model.decode, ends), faces[block.place]
        )

    largest = max(prod(v.stop - v.start for v in block.view) for block in blocks)
    with ThreadPoolExecutor(_threads(largest)) as pool:
        under_way: dict[Future[Found], Block] = {pool.submit(one, block): block for block in blocks}
        try:
            while under_way:
                for future in wait(under_way, POLL, return_when="FIRST_COMPLETED").done:
                    block, found = under_way.pop(future), future.result()
                    labels[block.write] = found.labels
                    stitching.add(block.place, found)
                yield Progress(len(blocks) - len(under_way), len(blocks), "cutting objects apart")
        finally:
            pool.shutdown(cancel_futures=True)
    numbers = stitching.numbers()
    for block in blocks:
        labels[block.write] = numbers[block.place].lookup()[labels[block.write]]
    return labels


def _threads(pixels: int) -> int:
    """Return how many threads may cut parts of so many pixels into objects: a quarter of the free memory is theirs."""
    import torch

    free = free_memory()
    most = torch.get_num_threads()  # what a user has set by OMP_NUM_THREADS
    return most if free is None else max(min(most, free // (4 * BYTES * pixels)), 1)


def _nothing(model: Model, value: float, device: str) -> bool:
    """Return whether a model sees only background where all pixels have this value."""
    maps = flat_maps(model, value, device)
    if model.task == "classes":
        return int(maps[: len(model.classes)].argmax()) == 0
    return bool(maps[0] >= 1 - model.decode.foreground)


def at_scale(
    model: Model, part: NDArray[np.float32], keep: Sequence[slice], factor: Fraction, device: str, **how: Any
) -> Job[NDArray[np.float32]]:
    """Return the maps of a part of an image that is looked at in another size, in its own size.

    Parameters
    ----------
    model : Model
        The model.
    part : float32 array, ``(in_channels, *spatial)``
        Normalised; it begins at a multiple of the denominator, so that pixels lie as in the whole image.
    keep : sequence of slice
        What is wanted of it.
    factor : Fraction
        Above 1 enlarges.
    device, **how
        See :func:`~napari_unet.infer.predict.predict_tiles`.
    """
    if factor == 1:
        return (yield from predict_tiles(model, part, device, region=keep, **how))
    up, down = factor.numerator, factor.denominator
    whole = np.pad(part, [(0, 0), *((0, -n % down) for n in part.shape[1:])], mode="edge")
    cells = [n // down for n in whole.shape[1:]]
    wide = [
        slice(max(k.start // down - 1, 0), min(-(-k.stop // down) + 1, n)) for k, n in zip(keep, cells, strict=True)
    ]
    region = [slice(w.start * up, w.stop * up) for w in wide]
    large = resize(whole, [n * up for n in cells])
    maps = yield from predict_tiles(model, large, device, region=region, **how)
    back = resize(maps, [(w.stop - w.start) * down for w in wide])
    inner = within(keep, [slice(w.start * down, w.stop * down) for w in wide])
    return back[(slice(None), *inner)]
