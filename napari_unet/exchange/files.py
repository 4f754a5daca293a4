"""Files in and out: images to labels, images and masks to scores and to what a training needs."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError, UnetError
from napari_unet.exchange.blockwise import Result, is_large, segment_blockwise
from napari_unet.exchange.labels import ENDING, stem_of, target_of, write_tiff, written_here
from napari_unet.exchange.ome_zarr import write_zarr
from napari_unet.infer.image import check_axes
from napari_unet.infer.ome_zarr import plate_of
from napari_unet.infer.read import list_images, read_image, read_labels
from napari_unet.infer.segment import segment_job
from napari_unet.jobs import Job, Progress, run
from napari_unet.model import Model
from napari_unet.whole import put_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.infer.image import Image
    from napari_unet.infer.segment import Segmentation, SegmentSettings
    from napari_unet.learn.metrics import ImageScore
    from napari_unet.learn.recipe import Recipe


@dataclass(frozen=True)
class Planned:
    """An image and the labels that it is to give.

    Attributes
    ----------
    image, target : Path
        Image and label file.
    twin : Path or None
        An image before it that gives the same file.
    kept : bool
        Whether labels are there that may have been corrected by hand, so that nothing is to be written.
    """

    image: Path
    target: Path
    twin: Path | None
    kept: bool


def plan(sources: Iterable[Path], output: Path, name: str, *, overwrite: bool = False) -> list[tuple[Path, Path]]:
    """Say which label file each image gives; no labels are written.

    Parameters
    ----------
    sources : iterable of Path
        Images, and folders of images, of which all are taken but the labels beside them.
    output : Path
        The folder for the label files. An OME-Zarr that is its own output gets a label image inside; of a plate each
        of its fields.
    name : str
        Of a label image inside an OME-Zarr.
    overwrite : bool
        Replace labels that a hand may have changed, too.

    Returns
    -------
    list of (Path, Path)
        Image and label file.

    Raises
    ------
    ImageError
        If an image or folder is not there, or a folder has no images.
    DataError
        If two images would give the same file, or a file is in the way.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"{str(output)!r} is a file, expected a folder for the labels: choose another.")
    images = {image.resolve(): image for source in sources for image in images_of(source)}
    work = look_ahead(((image, output) for image in images.values()), name, overwrite=overwrite)
    for each in work:
        if each.twin is not None:
            raise DataError(
                f"{str(each.twin)!r} and {str(each.image)!r} would both give {str(each.target)!r}: segment them into "
                "different folders, or rename one."
            )
        if each.kept:
            raise DataError(
                f"{str(each.target)!r} is there and may have been corrected by hand: move it, choose another "
                "--output, or say --overwrite."
            )
    return [(each.image, each.target) for each in work]


def look_ahead(images: Iterable[tuple[Path, Path]], name: str, *, overwrite: bool = False) -> list[Planned]:
    """Say which label file each image gives, and what is in the way; no labels are written.

    A folder of labels that a program was replacing when it was killed is put back: it may hold corrections.

    Parameters
    ----------
    images : iterable of (Path, Path)
        Image, and the folder for its labels. An OME-Zarr that is its own folder gets a label image inside.
    name, overwrite
        See :func:`plan`.
    """
    found: dict[Path, Path] = {}
    planned: list[Planned] = []
    for image, output in images:
        target = target_of(image, output, name)
        place = Path(str(target).casefold())  # on many disks A.tif and a.tif are the same file
        put_back(target)
        kept = not overwrite and may_be_corrected(target)
        planned.append(Planned(image, target, found.get(place), kept))
        found.setdefault(place, image)
    return planned


def may_be_corrected(target: Path) -> bool:
    """Return whether labels are there that a hand may have changed."""
    return target.exists() and not (target.is_file() and written_here(target))


def segment_file(
    model: Model, image: Path, target: Path, settings: SegmentSettings, axes: str | None = None
) -> Job[Result]:
    """Read an image, segment it and write its labels, whole or not at all; a large one block by block.

    Parameters
    ----------
    model : Model
        What to segment with.
    image, target : Path
        From :func:`plan`.
    settings : SegmentSettings
        How.
    axes : str, optional
        Of the image, where its file is silent or wrong.

    Yields
    ------
    Progress
        Tiles done.

    Raises
    ------
    ImageError
        If the image cannot be read or does not fit the model.
    """
    yield Progress(0, 1, f"reading {title(image)}")
    picture = read_image(image)
    if is_large(picture):
        return (yield from segment_blockwise(model, image, target, settings, axes))
    return (yield from segment_picture(model, picture, target, settings, axes))


def segment_picture(
    model: Model, picture: Image, target: Path, settings: SegmentSettings, axes: str | None = None
) -> Job[Result]:
    """Segment an image that was read and write its labels; see :func:`segment_file`."""
    named = check_axes(axes, picture.data.shape, Path(picture.source).name) if axes else picture.axes
    result = yield from segment_job(model, picture.data, named, settings)
    write_labels(target, result, model, named, picture.scale, picture.name)
    return Result(found(model, result.labels), result.notes, result.seconds, (result.model or model).name)


def write_labels(
    target: Path, result: Segmentation, model: Model, axes: str, scale: Mapping[str, float], name: str
) -> None:
    """Write the labels of an image, whole or not at all.

    Parameters
    ----------
    target : Path
        From :func:`plan`; its folder is made if it is not there.
    result : Segmentation
        The labels, and which model made them.
    model : Model
        The one that was asked.
    axes, scale, name
        Of the image; ``scale`` is µm by axis letter, where it is known.
    """
    spatial = "".join(letter for letter in axes if letter not in "CS")
    scale = {letter: size for letter, size in scale.items() if letter in spatial}
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".tif":
        write_tiff(target, result.labels, spatial, scale, f"{name}{ENDING}")
    else:
        used = result.model or model
        write_zarr(target, result.labels, spatial, scale, {"model": used.name, "version": used.version})


def found(model: Model, labels: NDArray[Any]) -> dict[str, Any]:
    """Return how many ``objects`` there are, or the ``shares`` of the pixels that each class has."""
    if model.task == "instances":
        return {"objects": int(labels.max(initial=0))}  # numbered from 1 without gaps
    counts = np.bincount(labels.ravel(), minlength=len(model.classes)).tolist()
    return {"shares": {name: n / labels.size for name, n in zip(model.classes, counts, strict=True)}}


def found_in_words(record: Mapping[str, Any]) -> str:
    """Return what :func:`found` found as a person would say it."""
    if "blocks" in record:
        return f"{record['blocks']} block{'s' if record['blocks'] != 1 else ''} done, to be merged"
    if "objects" in record:
        return f"{record['objects']} object{'s' if record['objects'] != 1 else ''}"
    return ", ".join(f"{name} {share:.1%}" for name, share in record["shares"].items() if share)


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before any work is done.

    Raises
    ------
    DataError
        If it is not there, is a file, or may not be written to.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"The folder {str(folder)!r} {what}: make it first, or choose another.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"Nothing can be written to {str(folder)!r} ({error.strerror}): choose another.") from error


def score_files(model: Model, pairs: Sequence[tuple[Path, Path]], settings: SegmentSettings) -> Job[list[ImageScore]]:
    """Score a model on pairs of image and mask, one after the other, so that one image is in memory at a time.

    Yields
    ------
    Progress
        Images done.

    Raises
    ------
    UnetError
        If an image or mask cannot be read, or they do not fit together; it names the image.
    """
    from napari_unet.learn.evaluate import evaluate_job  # here, so that segmenting a file does not wait for learning

    scored: list[ImageScore] = []
    for i, (image, mask) in enumerate(pairs):
        yield Progress(i, len(pairs), f"scoring {image.name}")
        picture, truth = read_image(image), read_labels(mask)
        try:
            result = run(
                evaluate_job(
                    model,
                    [picture.data],
                    [truth],
                    axes=[picture.axes],
                    names=[stem_of(image)],
                    settings=settings,
                )
            )
        except UnetError as error:
            raise type(error)(f"{image.name}: {error}") from error
        scored += result.per_image
    return scored


def modalities(folder: Path) -> dict[str, str]:
    """Return the modality of each image by its name, from an index.csv in or beside the folder; {} without one."""
    for index in (folder / "index.csv", folder.resolve().parent / "index.csv"):
        if index.is_file():
            with index.open(newline="", encoding="utf-8-sig", errors="replace") as file:
                rows = csv.DictReader(file)
                if {"name", "modality"} <= set(rows.fieldnames or ()):
                    return {row["name"]: row["modality"] for row in rows}
    return {}


def folder_recipe(folder: Path, name: str, task: str | None = None, start: str | None = None) -> Recipe:
    """Say in a recipe what a bare folder of images and masks needs.

    Parameters
    ----------
    folder : Path
        With images/ and masks/.
    name : str
        Of the model.
    task : {"instances", "classes"}, optional
        What the masks mean; the default is that of `start`, else instances. Another one than that of `start` gives it
        a new head.
    start : str, optional
        The model to start from.

    Raises
    ------
    DataError
        If there is no such task, or the masks do not fit it.
    """
    from napari_unet.learn.evaluate import read_pairs
    from napari_unet.learn.recipe import Recipe, Source
    from napari_unet.learn.settings import SCRATCH, TrainSettings

    if task not in (None, "instances", "classes"):
        raise DataError(f"--task is {task!r}, expected instances or classes: choose one of them.")
    pairs = read_pairs(folder)
    source = Source(folder.resolve().name, name=folder.resolve().name)
    recipe = Recipe(name, (source,), held_out=0.1 if len(pairs) >= 3 else 0.0)
    if start:
        recipe = replace(recipe, start=start, train=TrainSettings(steps=500), carry=True)
        if task in (None, Model.load(start).task):
            return recipe
    axes = read_image(pairs[0][0]).axes
    classes: tuple[str, ...] = ("background", "object")
    if task == "classes":
        count = max(2, 1 + max(int(np.max(read_labels(mask), initial=0)) for _, mask in pairs))
        if count > 255:
            raise DataError(f"The masks number {count - 1} classes, expected at most 254: are they instances?")
        classes = ("background", *(f"class {i}" for i in range(1, count)))
    return replace(
        recipe,
        task="classes" if task == "classes" else "instances",
        classes=classes,
        channels="rgb" if "S" in axes else "grey",
        network={"ndim": 3} if "Z" in axes else {},
        train=recipe.train if start else SCRATCH,
    )


def title(image: Path) -> str:
    """Return what to call an image: its file's name, of a field of a plate its plate and well too."""
    plate = plate_of(image)
    return image.name if plate is None else f"{plate.name}/{image.resolve().relative_to(plate).as_posix()}"


def images_of(source: Path) -> list[Path]:
    """Return the images of a folder without the labels that lie beside them, or the one image."""
    images = list_images(source if source.name else source.resolve())
    stems = {stem_of(image) for image in images}
    return [image for image in images if stem_of(image).removesuffix(ENDING) not in stems - {stem_of(image)}]
