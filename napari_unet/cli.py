"""The headless door: segment, merge, train, evaluate, demo, doctor; and view, which opens napari."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_unet.errors import DataError, ImageError, UnetError
from napari_unet.model import Model
from napari_unet.model_file import check_suffix, code_version
from napari_unet.terminal import (
    ChannelOption,
    Commands,
    DeviceOption,
    DiameterOption,
    FlipsOption,
    Interrupt,
    JsonOption,
    ModelOption,
    Results,
    SchedulerOption,
    SetOption,
    ShardOption,
    WorkersOption,
    check_file,
    check_json,
    check_new_folder,
    read_shard,
    run_job,
    segment_settings,
    what_stays,
    with_words,
    write_json,
)

if TYPE_CHECKING:
    from napari_unet.jobs import Progress

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  napari-unet view cells.tif
  napari-unet segment images/ --output labels/
  napari-unet train mine/ --from nuclei --output mine.unet
  napari-unet evaluate mine/ --model mine.unet
  napari-unet COMMAND --help    says more""",
)


def main() -> None:
    """Run the command line."""
    app(prog_name="napari-unet")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"napari-unet-live {code_version()}")
        raise typer.Exit


@app.callback()
def face(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Segment microscopy images with a U-Net that learns from corrections.

    `view` opens the viewer; all other commands need no screen.
    """


@app.command(epilog="Example: napari-unet view cells.tif")
def view(
    image: Annotated[Path | None, typer.Argument(help="An image. Default: the sample of fluorescent nuclei.")] = None,
) -> None:
    """Open napari with the U-Net dock.

    Segment the image, correct what is wrong, and the model learns from it.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UnetError(
            "There is no display here (DISPLAY is not set), so napari cannot open: run `napari-unet demo`, which "
            "needs none, or log in with a display (ssh -X)."
        )
    if image is not None and not image.expanduser().exists():
        raise ImageError(f"{image} does not exist, expected an image: check the path.")
    try:
        from napari_unet.gui.launch import launch

        launch(image and image.expanduser())
    except ImportError as error:
        raise UnetError(f"napari cannot open ({error}): pip install 'napari-unet-live[all]'.") from error


@app.command(
    epilog="""\b
Examples:
  napari-unet segment cells.tif --output labels/
  napari-unet segment day1/ day2.ome.zarr --output labels/ --model mine.unet
  napari-unet segment cells.tif --output labels/ --channel 1 --diameter 40
  napari-unet segment slide.ome.zarr --output labels/ --workers 4"""
)
def segment(
    sources: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER", help="Images, or folders of images.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder for the labels; made if not there.")],
    model: ModelOption = "nuclei",
    channel: ChannelOption = None,
    diameter: DiameterOption = None,
    device: DeviceOption = "auto",
    flips: FlipsOption = False,
    axes: Annotated[
        str | None, typer.Option(help="Such as CYX, ZYX, TYX, YXS. Default: as the file says, or a guess.")
    ] = None,
    set_: SetOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace labels that may have been corrected by hand, too.")
    ] = False,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    shard: ShardOption = None,
    json_: JsonOption = None,
) -> None:
    """Segment images and write their labels.

    Each image NAME gives DIR/NAME_labels.tif, with its pixel size.

    Objects are numbered from 1 (uint32); a model of classes writes their numbers (uint8); 0 is background. An
    OME-Zarr gives DIR/NAME_labels.ome.zarr; if DIR is the OME-Zarr itself, the labels go into its labels group. A
    plate is an image for each field of its wells. Large images are done block by block; if the command is ended,
    the same one goes on.
    An image that cannot be read or segmented is reported, the others go on, and the exit code is 2; a path that is
    not there ends the command before it begins.
    """
    from napari_unet.exchange.batch import segment_each
    from napari_unet.exchange.files import plan

    share = read_shard(shard)
    if sum(each is not None for each in (workers, scheduler, shard)) > 1:
        raise DataError("--workers, --scheduler and --shard are three ways to share the work: give one of them.")
    settings = segment_settings(channel, diameter, device, set_, flips=flips, elsewhere=scheduler is not None)
    check_json(json_)
    loaded = Model.load(model)
    output = output.expanduser()
    work = plan(sources, output, loaded.name, overwrite=overwrite)
    check_new_folder(output)
    results = Results(json_, loaded.name)
    if workers is None and scheduler is None:
        with what_stays(output):
            run_job(segment_each(loaded, work, settings, axes, share), results, silent=True)
    else:
        from napari_unet.exchange import cluster

        with what_stays(output), cluster.connect(workers, scheduler) as client:
            run_job(cluster.segment_each(client, model, work, settings, axes), results, silent=True)
    write_json(json_, {"model": loaded.name, "version": loaded.version, "images": results.records})
    results.end(output, "segmented" if share is None else f"done by share {shard}")


@app.command(epilog="Example: napari-unet merge labels/")
def merge(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --output of the shards.")],
    json_: JsonOption = None,
) -> None:
    """Join what `segment --shard` has done of large images.

    If blocks are missing, the exit code is 2: let all shards end, or run those again that failed.
    """
    from napari_unet.exchange.batch import merge_each
    from napari_unet.exchange.files import check_folder

    check_folder(folder.expanduser())
    check_json(json_)
    results = Results(json_)
    run_job(merge_each(folder.expanduser()), results, silent=True)
    write_json(json_, {"images": results.records})
    if results.records:
        results.end(folder, "merged")
    else:
        typer.echo(f"Nothing in {folder} waits to be merged.", err=json_ == "-")


@app.command(
    epilog="""\b
Examples:
  napari-unet evaluate mine/
  napari-unet evaluate mine/ --model mine.unet --per-image --json scores.json"""
)
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Holds images/ and masks/ with the same file names.")],
    model: ModelOption = "nuclei",
    channel: ChannelOption = None,
    diameter: DiameterOption = None,
    device: DeviceOption = "auto",
    flips: FlipsOption = False,
    set_: SetOption = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="A line for each image too.")] = False,
    json_: JsonOption = None,
) -> None:
    """Score a model on labelled images.

    AP at IoU .50 to .95, panoptic quality and Dice. AP = TP / (TP + FP + FN), once with the counts of all images
    pooled, and once as the mean over images. Where an index.csv with the columns name and modality lies in the
    folder or beside it, each modality has a line.
    """
    from napari_unet.exchange.files import modalities, score_files
    from napari_unet.learn.evaluate import read_pairs
    from napari_unet.learn.metrics import summarise

    settings = segment_settings(channel, diameter, device, set_, flips=flips)
    check_json(json_)
    pairs = read_pairs(folder)
    loaded = Model.load(model)
    scored = run_job(score_files(loaded, pairs, settings))
    scores = summarise(scored)
    kinds = modalities(folder.expanduser())
    groups = sorted({kinds[image.name] for image in scored if image.name in kinds})
    by_modality = {kind: summarise(i for i in scored if kinds.get(i.name) == kind) for kind in groups}
    to_stderr = json_ == "-"
    typer.echo(f"{loaded.name} {loaded.version} on {folder}", err=to_stderr)
    typer.echo(scores.table(per_image=per_image), err=to_stderr)
    width = max(map(len, by_modality), default=0)
    for kind, part in by_modality.items():
        typer.echo(f"{kind:<{width}}  {part.line()}", err=to_stderr)
    write_json(
        json_,
        {
            "model": loaded.name,
            "version": loaded.version,
            "folder": str(folder),
            **scores.to_dict(),
            "by_modality": {kind: part.to_dict() for kind, part in by_modality.items()},
        },
    )


@app.command(
    epilog="""\b
Examples:
  napari-unet train mine/ --from nuclei --output mine.unet
  napari-unet train mine/ --output mine.unet --steps 5000 --set crop=128
  napari-unet train axons/ --task classes --output axons.unet
  napari-unet train recipe.toml --output model.unet"""
)
def train(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|RECIPE",
            help="Holds images/ and masks/ with the same file names; or a recipe .toml.",
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The model to write, such as mine.unet.")],
    task: Annotated[
        str | None,
        typer.Option(help="instances (default): masks number objects. classes: masks name classes."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Go on from this model. Default: from nothing."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Batches to learn from. Default: 500 with --from, else 5000.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same model on the same machine.")
    ] = None,
    device: DeviceOption = "auto",
    half: Annotated[bool, typer.Option("--half", help="Write the weights in half precision: half the size.")] = False,
    set_: SetOption = None,
    json_: JsonOption = None,
) -> None:
    """Train a model on labelled images.

    It starts from nothing, or from another model. A tenth of the images is held out; they choose the best weights
    and give the scores. The best model so far is written at each check. Ctrl+C ends the training early and keeps
    what is best; a second one leaves at once.
    """
    from napari_unet.exchange.files import folder_recipe
    from napari_unet.infer.device import pick_device
    from napari_unet.learn.evaluate import quality
    from napari_unet.learn.recipe import read_recipe, train_recipe

    output, source = output.expanduser(), source.expanduser()
    check_suffix(output)
    check_file(output)
    check_json(json_)
    by_recipe = source.suffix == ".toml"
    if by_recipe and (task or start):
        raise DataError("--task and --from stand in the recipe itself: leave them out, or change the recipe.")
    recipe = read_recipe(source) if by_recipe else folder_recipe(source, output.stem, task, start)
    own = {key: value for key, value in (("steps", steps), ("seed", seed)) if value is not None}
    settings = with_words(replace(recipe.train, device=device, **own), set_)  # type: ignore[arg-type]
    pick_device(settings.device)
    recipe = replace(recipe, train=settings)
    interrupt = Interrupt()

    def keep(progress: Progress) -> None:
        interrupt.armed |= progress.message == "steps"
        if isinstance(progress.payload, Model):
            progress.payload.save(output, half=half)

    with interrupt:
        result = run_job(train_recipe(recipe, None if by_recipe else source.resolve().parent, interrupt), keep)
    if not result.steps:
        raise DataError(result.ended or "No step was made, so nothing was learned and nothing is written.")
    written = Model.load(result.model.save(output, half=half))  # half precision makes other weights, so another version
    to_stderr = json_ == "-"
    if result.ended:
        typer.echo(result.ended, err=to_stderr)
    if result.after is not None:
        typer.echo(f"On the held-out images, which also chose the weights:\n{result.after.table()}", err=to_stderr)
        if recipe.start and result.before is not None and quality(result.before) > quality(result.after):
            typer.echo(
                f"{output} holds the new model, but {recipe.start} itself is better on these images: go on with "
                f"{recipe.start}, or train again with more images.",
                err=to_stderr,
            )
    typer.echo(f"Model {written.version} is in {output}.", err=to_stderr)
    scores = {key: each and each.to_dict() for key, each in (("before", result.before), ("after", result.after))}
    about = {"name": result.model.name, "version": written.version, "steps": result.steps}
    write_json(json_, {"model": about | {"file": str(output)}, "ended": result.ended, **scores})


@app.command(epilog="Example: napari-unet demo --output demo/")
def demo(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder for the picture and the model; made if not there.")
    ] = Path("napari-unet-demo"),
    model: ModelOption = "nuclei",
    steps: Annotated[int | None, typer.Option(min=1, help="Batches to learn from.")] = None,
    device: DeviceOption = "auto",
    json_: JsonOption = None,
) -> None:
    """Run the whole loop without a screen.

    Segment a sample, learn from corrections, segment again. The sample is of cells that the model has never seen.
    What a user would do in the viewer is replayed: three parts of the image are corrected and confirmed. Scores
    are of the rest, which is never learned from.
    """
    from napari_unet.demo import STEPS, demo_job, write_demo

    output = output.expanduser()
    check_new_folder(output)
    check_json(json_)
    segment_settings(None, None, device, None)
    result = run_job(demo_job(Model.load(model), steps=steps or STEPS, device=device))
    output.mkdir(parents=True, exist_ok=True)
    picture, learned = write_demo(result, output)
    to_stderr = json_ == "-"
    typer.echo(result.report(), err=to_stderr)
    typer.echo(f"The picture is {picture}, the model {learned}. With a display: napari-unet view", err=to_stderr)
    write_json(json_, {**result.to_dict(), "picture": str(picture), "model": str(learned)})


@app.command(epilog="Example: napari-unet doctor")
def doctor(json_: JsonOption = None) -> None:
    """Say what is here and what to mend.

    Versions, devices, memory, display, models; and what to do about each problem. The exit code is 0 if images
    can be segmented here, else 1.
    """
    from napari_unet.doctor import examine, report

    check_json(json_)
    findings = examine()
    typer.echo(report(findings), err=json_ == "-")
    write_json(json_, [finding.to_dict() for finding in findings])
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)
