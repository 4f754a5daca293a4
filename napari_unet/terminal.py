"""What the commands share: options, a progress bar, settings from words, JSON, and errors as one sentence."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from tqdm import tqdm
from typer.core import TyperGroup

from napari_unet.errors import DataError, UnetError, in_words
from napari_unet.jobs import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from napari_unet.exchange.batch import Done
    from napari_unet.infer.segment import SegmentSettings
    from napari_unet.jobs import Job, Progress

T = TypeVar("T")

BAR = "{desc}{n_fmt}/{total_fmt} |{bar}| {elapsed}, {remaining} left{postfix}"
LINE_EVERY = 10.0  # seconds, at least, between two lines in a log; and a twentieth of the work

ModelOption = Annotated[str, typer.Option(help="A shipped model's name, or a .unet file.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
FlipsOption = Annotated[
    bool,
    typer.Option(
        "--flips", help="Look mirrored too and take the mean: steadier where the model is unsure, in 4 times the time."
    ),
]
ChannelOption = Annotated[
    int | None, typer.Option(help="The channel to look at, from 0. Default: all of RGB, else the first.")
]
DiameterOption = Annotated[
    float | None, typer.Option(help="Typical width of an object in pixels. Default: as the model knows them.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; a wrong name lists them all."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Segment with so many processes, which share this machine or its GPUs."),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Segment on the workers of a dask scheduler, such as tcp://host:8786."),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="For array jobs: do only the I-th of N shares, I from 1 to N; when all are done, napari-unet merge.",
    ),
]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write all figures here as JSON; - is stdout.")
]


class Commands(TyperGroup):
    """The commands; what a user can mend is one sentence on stderr and exit code 2, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except UnetError as error:
            typer.echo(f"napari-unet: {error}", err=True)
        except BrokenPipeError:  # such as `napari-unet evaluate … | head`
            raise
        except (OSError, MemoryError) as error:
            typer.echo(f"napari-unet: {in_words(error)}", err=True)
        except KeyboardInterrupt:
            typer.echo("napari-unet: stopped.", err=True)
            raise typer.Exit(130) from None
        raise typer.Exit(2)


@contextmanager
def what_stays(output: Path) -> Iterator[None]:
    """Say, if the command is ended with Ctrl+C, that what is done of large images is kept."""
    try:
        yield
    except KeyboardInterrupt:
        from napari_unet.exchange.work import under_way

        if output.is_dir() and (under_way(output) or under_way(output / "labels")):
            typer.echo("What is done of large images is kept: the same command goes on.", err=True)
        raise


def run_job(job: Job[T], also: Callable[[Progress], None] | None = None, *, silent: bool = False) -> T:
    """Run a job under a progress bar; where there is no terminal, write a line now and then.

    Parameters
    ----------
    job : Job[T]
        What to run.
    also : callable, optional
        Gets each Progress too.
    silent : bool
        Where there is no terminal, write only how far large images are.

    Returns
    -------
    T
        What the job returned.
    """
    # no smoothing: the time left counts the checks on the way too; 0: a new message is shown without a step
    with tqdm(file=sys.stderr, leave=False, disable=None, bar_format=BAR, smoothing=0, miniters=0) as bar:
        told, when = -1, -math.inf

        def report(progress: Progress) -> None:
            nonlocal told, when
            if also is not None:
                also(progress)
            if not progress.total:  # nothing is counted: it is said, on a line of its own
                if not silent or progress.message.startswith("going on"):
                    bar.write(f"{progress.message[:1].upper()}{progress.message[1:]}.", file=sys.stderr)
                return
            values = {key: f"{value:.3f}" for key, value in progress.values.items()}
            twentieth = 20 * progress.done // max(progress.total, 1)
            due = twentieth != told and time.monotonic() - when >= LINE_EVERY
            told_of = not silent or progress.message.startswith("block ")
            if bar.disable and told_of and (due or "score" in values):
                told, when = twentieth, time.monotonic()
                figures = " ".join(f"{key} {value}" for key, value in values.items())
                counted = "" if silent else f" {progress.done}/{progress.total}"
                typer.echo(f"{progress.message}{counted} {figures}".rstrip(), err=True)
            bar.set_description(progress.message, refresh=False)
            bar.set_postfix(values, refresh=False)
            if bar.total != progress.total or progress.done < bar.n:  # another kind of work: its own time left
                bar.reset(progress.total)
            bar.n = progress.done
            bar.update(0)

        return run(job, report)


class Interrupt:
    """The first Ctrl+C while steps are made ends the training early; any other ends the program."""

    def __init__(self) -> None:
        self.armed = self.asked = False

    def __call__(self) -> bool:
        """Return whether the training is to end."""
        return self.asked

    def __enter__(self) -> None:
        """Listen to Ctrl+C."""
        self._before = signal.signal(signal.SIGINT, self._on)

    def __exit__(self, *_: object) -> None:
        """Give Ctrl+C back."""
        signal.signal(signal.SIGINT, self._before)

    def _on(self, *_: object) -> None:
        if self.asked or not self.armed:
            raise KeyboardInterrupt
        self.asked = True
        typer.echo("Ending: the best weights are being scored and written. Ctrl+C again leaves at once.", err=True)


class Results:
    """What became of images: a line when one is done, and a record of each."""

    def __init__(self, json_: str | None, model: str = "") -> None:
        self.records: list[dict[str, Any]] = []
        self._quiet, self._model = json_ == "-", model

    def __call__(self, progress: Progress) -> None:
        """Tell what became of an image, if a job says so."""
        if progress.payload is not None:
            with tqdm.external_write_mode(sys.stderr):  # the bar is on the same screen
                self._tell(progress.payload)

    def _tell(self, done: Done) -> None:
        from napari_unet.exchange.files import found_in_words, title

        record: dict[str, Any] = {"image": str(done.image)}
        if done.result is None:
            record["error"] = done.error
            typer.echo(f"{title(done.image)}  FAILED: {done.error}", err=True)
        else:
            record |= {"labels": str(done.target), **done.result.found}
            record |= {"seconds": round(done.result.seconds, 3), "notes": list(done.result.notes)}
            if self._model and done.result.model != self._model:
                record["segmented_by"] = done.result.model
            words = [title(done.image), found_in_words(record), f"{done.result.seconds:.1f} s", *done.result.notes]
            typer.echo("  ".join(words), err=self._quiet)
        self.records.append(record)

    def end(self, output: Path, done: str = "segmented") -> None:
        """Say how many images were done; exit code 2 if others failed."""
        failed = sum("error" in record for record in self.records)
        count = len(self.records)
        where = f"; labels are in {output}." if failed < count else "."
        typer.echo(f"{count - failed} of {count} images are {done}{where}", err=bool(failed) or self._quiet)
        if failed:
            raise typer.Exit(2)


def read_shard(text: str | None) -> tuple[int, int] | None:
    """Return which share of how many, from 0, of words like 2/8, which count from 1."""
    if text is None:
        return None
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise DataError(f"--shard is {text!r}, expected I/N with I from 1 to N: for the second of eight jobs give 2/8.")
    return int(first) - 1, int(count)


def segment_settings(
    channel: int | None,
    diameter: float | None,
    device: str,
    words: Iterable[str] | None,
    *,
    flips: bool = False,
    elsewhere: bool = False,
) -> SegmentSettings:
    """Return how to segment; refuses a device that is not there, before any work is done, unless it is elsewhere."""
    from napari_unet.infer.device import pick_device
    from napari_unet.infer.segment import SegmentSettings

    settings = with_words(SegmentSettings(channel=channel, diameter=diameter, device=device, flips=flips), words)
    for key in ("channel", "diameter"):
        _check(f"--{key}", getattr(settings, key), _by_name(settings)[key])
    if not elsewhere:
        pick_device(settings.device)
    return settings


def with_words(settings: T, words: Iterable[str] | None) -> T:
    """Return a settings record with NAME=VALUE put in.

    Parameters
    ----------
    settings : dataclass
        One whose fields are numbers and words with their bounds in the metadata.
    words : iterable of str
        Such as ``min_size=30``.

    Raises
    ------
    DataError
        If there is no such setting, or the value does not fit it.
    """
    known = _by_name(settings)
    values: dict[str, Any] = {}
    for word in words or ():
        name, _, value = word.partition("=")
        if name not in known:
            listed = ", ".join(known)
            raise DataError(f"--set {word!r} names no setting, expected NAME=VALUE with one of {listed}.")
        try:
            values[name] = _read(value.strip(), str(known[name].type))
        except ValueError:
            raise DataError(f"--set {word!r} does not fit, expected {known[name].type}: give another.") from None
        _check(f"--set {name}", values[name], known[name])
    return replace(settings, **values) if values else settings  # type: ignore[type-var]


def _by_name(settings: Any) -> dict[str, Field[Any]]:
    return {each.name: each for each in fields(settings) if each.metadata}


def _read(value: str, kind: str) -> float | str | bool | None:
    """Turn a word into the type that a field is annotated with; ValueError if it does not fit."""
    if "None" in kind and value.lower() in ("", "none"):
        return None
    if kind.startswith("bool"):
        return bool(("false", "true").index(value.lower()))
    return int(value) if kind.startswith("int") else float(value) if kind.startswith("float") else value


def _check(name: str, value: Any, field: Field[Any]) -> None:
    """Refuse a number outside the bounds of its field; not-a-number is outside of any."""
    low, high = field.metadata.get("min", 0), field.metadata.get("max", 0)
    if high and isinstance(value, int | float) and not low <= value <= high:
        unit = f" {field.metadata['unit']}" if field.metadata.get("unit") else ""
        raise DataError(f"{name} is {value:g}, expected {low:g} to {high:g}{unit}: choose a value between.")


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that is not there and cannot be made; raises DataError as `check_folder` does."""
    from napari_unet.exchange.files import check_folder

    check_folder(next(each for each in (folder, *folder.absolute().parents) if each.exists()))


def check_file(path: Path) -> None:
    """Refuse a file that cannot be written, before any work is done; raises DataError as `check_folder` does."""
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder, expected a file: add a name to it.")
    from napari_unet.exchange.files import check_folder

    check_folder(path.parent)


def check_json(target: str | None) -> None:
    """Refuse a file for figures that cannot be written, before any work is done."""
    if target is not None and target != "-":
        check_file(Path(target).expanduser())


def write_json(target: str | None, content: Any) -> None:
    """Write figures as JSON to a file, whole or not at all, or to stdout; nowhere if not asked for."""
    if target is None:
        return
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    if target == "-":
        typer.echo(text)
        return
    from napari_unet.whole import write_whole

    write_whole(Path(target).expanduser(), f"{text}\n".encode())
