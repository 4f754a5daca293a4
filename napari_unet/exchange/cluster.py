"""Images on dask workers, on this machine or on many: one task for an image, or for each block of a large one.

A worker is a process that does one task at a time, with as many threads as it was started with, or on a GPU of its own.
Tasks are small: a folder or file that all workers see, and which part of it. The blocks that are done lie on disk, so a
worker that is killed costs its block only, and a program that is ended goes on where it was.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache, partial, wraps
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from napari_unet.errors import UnetError, in_words
from napari_unet.exchange import blockwise
from napari_unet.exchange.batch import Done
from napari_unet.exchange.blockwise import Result, do_block, is_large, write_block
from napari_unet.exchange.files import segment_picture, title
from napari_unet.exchange.work import Work, begin
from napari_unet.infer.read import read_image
from napari_unet.jobs import Job, Progress, as_part, run
from napari_unet.model import SHIPPED, Model, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from distributed import Client

    from napari_unet.exchange.ome_zarr import LabelImage
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.infer.stitch import Numbers
    from napari_unet.infer.tiles import Block

RETRIES = 2  # after an error of disk or memory; a worker that dies is given three more chances by dask itself
AHEAD = 2  # tasks for each worker: the next one is there when one is done
POLL = 0.02  # seconds between two looks at what is done
RECOUNT = 1.0  # seconds between two counts of the workers: they come and go
# A terminal's Ctrl+C goes to all processes: the workers leave it to this one, which ends them.
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
ANSWER = 20  # seconds that a scheduler has to answer


@contextmanager
def connect(workers: int | None = None, scheduler: str | None = None) -> Iterator[Client]:
    """Connect to dask workers that are there, or start some on this machine and end them afterwards.

    Parameters
    ----------
    workers : int, optional
        How many processes to start; they share the processor.
    scheduler : str, optional
        The address of a scheduler with workers, such as ``tcp://host:8786``; then none are started.

    Raises
    ------
    UnetError
        If dask's `distributed` is not installed, or no scheduler answers.
    """
    if find_spec("distributed") is None:
        raise UnetError(
            "Several workers need the package distributed, which is not installed: pip install "
            "'napari-unet-live[cluster]'."
        )
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            if "://" not in scheduler:  # dask would take it for a name on this machine, and tell of it for a long time
                raise ValueError(scheduler)
            client = Client(scheduler, timeout=ANSWER, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UnetError(
                f"No dask scheduler answers at {scheduler!r}: give the address that it says when it starts, such as "
                "tcp://host:8786."
            ) from error
        with client:
            yield client
        return
    with (
        tempfile.TemporaryDirectory(prefix="napari-unet-") as scratch,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=_share(workers or 1),
            memory_limit=0,  # a block needs what it needs: dask would pause the worker, or kill it
            dashboard_address="127.0.0.1:0",  # a port that is free
            local_directory=scratch,
            silence_logs=logging.CRITICAL,
            preload=[_DEAF],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _share(workers: int) -> int:
    """Return how many threads each of so many processes may have; never more than the user has set for one."""
    import torch
    from dask.system import CPU_COUNT

    return max(1, min(CPU_COUNT // workers, torch.get_num_threads()))


def segment_each(
    client: Client, model: str, work: Sequence[tuple[Path, Path]], settings: SegmentSettings, axes: str | None = None
) -> Job[None]:
    """Segment images on workers: small ones first, whole, then the large ones block by block.

    Parameters
    ----------
    client : distributed.Client
        From :func:`connect`.
    model : str
        A shipped model's name, or a file that all workers see.
    work, settings, axes
        See :func:`~napari_unet.exchange.batch.segment_each`.

    Yields
    ------
    Progress
        Images, then blocks done; the payload is a :class:`~napari_unet.exchange.batch.Done` after each image.
    """
    file = find(model)
    which = (model if file.parent == SHIPPED else str(file.resolve()), Model.load(file).version)
    calls = {(a, b): (*which, a.absolute(), b.absolute(), settings, axes, blockwise.LARGE) for a, b in work}
    large: list[tuple[Path, Path, Work]] = []
    yield Progress(0, len(work), "images")
    for done, ((image, target), what) in enumerate(_results(client, _image, calls), 1):
        if isinstance(what, Work):
            large.append((image, target, what))
            yield Progress(done, len(work), "images")
        else:
            yield Progress(done, len(work), "images", payload=_done(image, target, what))
    for image, target, begun in large:
        try:
            what = yield from as_part(segment_blocks(client, begun, settings.device), partial(_named, title(image)))
        except (UnetError, OSError, MemoryError) as error:
            what = error
        yield Progress(1, 1, title(image), payload=_done(image, target, what))


def _named(name: str, p: Progress) -> Progress:
    return Progress(p.done, p.total, f"{name}: {p.message}")


def segment_blocks(client: Client, work: Work, device: str = "auto") -> Job[Result]:
    """Do the blocks of a large image that are missing, and join them; see `blockwise` for the errors.

    Yields
    ------
    Progress
        Blocks done, then blocks written.
    """
    began = time.perf_counter()
    missing, total = work.missing(), len(work.blocks)
    calls = {block.place: (work.folder, _plan_of(work), block, device) for block in missing}
    yield Progress(0, len(missing), "blocks")
    for done, (_, what) in enumerate(_results(client, _block, calls), 1):
        if isinstance(what, Exception):
            raise what
        yield Progress(done, len(missing), f"block {total - len(missing) + done} of {total}")
    result = yield from blockwise.finish(work, work.target, partial(_write_there, client))
    return replace(result, seconds=time.perf_counter() - began)


def _write_there(client: Client, work: Work, image: LabelImage, numbers: Mapping[Any, Numbers]) -> Iterator[Any]:
    """Write all blocks on workers, each with its numbers only; like :func:`~…blockwise.write_here`."""
    plan = _plan_of(work)
    calls = {block.place: (work.folder, plan, image, block, numbers[block.place]) for block in work.blocks}
    for _, what in _results(client, _write, calls):
        if isinstance(what, Exception):
            raise what
        yield what


def _done(image: Path, target: Path, what: Result | UnetError | OSError | MemoryError) -> Done:
    return Done(image, target, what) if isinstance(what, Result) else Done(image, target, error=in_words(what))


def _results(client: Client, task: Callable[..., Any], calls: Mapping[Any, Iterable[Any]]) -> Iterator[tuple[Any, Any]]:
    """Run a task with each of several arguments; yield what comes back, or what a user can mend, as it comes.

    What is not done is cancelled when it is closed.
    """
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.comm import CommClosedError

    under_way: dict[Any, Any] = {}
    waiting, counted, room = iter(calls.items()), -math.inf, 0
    finished = as_completed(loop=client.loop)
    try:
        while True:
            if time.monotonic() - counted > RECOUNT:
                room, counted = AHEAD * max(len(client.nthreads()), 1), time.monotonic()
            for key, words in islice(waiting, room - len(under_way) if room > len(under_way) else 0):
                future = client.submit(task, *words, pure=False, retries=RETRIES)
                under_way[future] = key
                finished.add(future)
            if not under_way:
                return
            for future in finished.next_batch(block=False):
                try:
                    what = future.result()
                except (UnetError, OSError, MemoryError) as error:
                    what = error
                except KilledWorker:
                    what = UnetError(
                        "Each worker that began with it was killed, most likely for lack of memory: take fewer workers "
                        "on a machine, or give them more. What is done stays done: the same command goes on."
                    )
                yield under_way.pop(future), what
            time.sleep(POLL)
    except (CancelledError, CommClosedError):
        raise UnetError(
            "The scheduler ended before the work was done: start it again. What is done stays done: the same command "
            "goes on."
        ) from None
    finally:
        client.cancel([*under_way])


def _plan_of(work: Work) -> str:
    """Return what stands for a plan, and so for the model in it."""
    return hashlib.sha256((work.folder / "plan.json").read_bytes()).hexdigest()


# ---- in the worker


_turn = threading.Lock()  # dask starts a task for each thread of a worker: one has them all, the others wait


def _told(task: Callable[..., Any]) -> Callable[..., Any]:
    """Return a task that gives back what its user can mend, for trying it again would change nothing."""

    @wraps(task)
    def told(*words: Any) -> Any:
        with _turn:
            _settle()
            try:
                return task(*words)
            except UnetError as error:
                return error

    return told


@_told
def _image(
    model: str,
    version: str,
    image: Path,
    target: Path,
    settings: SegmentSettings,
    axes: str | None,
    large: int,
) -> Result | Work:
    """Segment an image; of one of more than `large` pixels return the plan."""
    loaded, picture = _model(model, version), read_image(image)
    if is_large(picture, large):
        return Work(run(begin(loaded, image, target, settings, axes)).folder)
    return run(segment_picture(loaded, picture, target, settings, axes))


@_told
def _block(folder: Path, plan: str, block: Block, device: str) -> None:
    run(do_block(_opened(folder, plan), block, device))


@_told
def _write(folder: Path, plan: str, image: LabelImage, block: Block, numbers: Numbers) -> Any:
    return write_block(_opened(folder, plan), image, block, numbers)


@lru_cache(maxsize=2)
def _model(name: str, version: str) -> Model:
    """Return a model, read once; `version` stands for its weights."""
    loaded = Model.load(name)
    if loaded.version != version:
        raise UnetError(
            f"The model {name!r} is {loaded.version} on a worker and {version} here: install the same version of "
            "napari-unet on all machines, or give a file that all of them see."
        )
    return loaded


@lru_cache(maxsize=2)
def _opened(folder: Path, plan: str) -> Work:
    """Return what is under way, read once; `plan` stands for its plan and model."""
    work = Work(folder)
    if not folder.is_dir() or _plan_of(work) != plan:
        raise UnetError(
            f"A worker does not see {str(folder)!r} as it is here: image and --output must lie on a disk that all "
            "machines share, under the same path."
        )
    return work


def _settle() -> None:
    """Take this worker's share of the machine: its threads, and of several GPUs the one of its number."""
    import torch

    threads, number = _place()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(number % torch.cuda.device_count())  # of this thread: each task may have another


@cache
def _place() -> tuple[int, int]:
    """Return a worker's threads and the number in its name."""
    from distributed import get_worker

    worker = get_worker()
    numbers = re.findall(r"\d+", str(worker.name))
    return cast("int", worker.state.nthreads), int(numbers[-1]) if numbers else 0
