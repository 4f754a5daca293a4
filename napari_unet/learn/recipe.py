"""Recipe: a text file that says on which data and how a model is trained, so that anyone can do it again."""

from __future__ import annotations

import csv
import os
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_unet.errors import DataError
from napari_unet.infer.familiar import memory_after, planes_of, signatures
from napari_unet.infer.read import read_image, read_labels
from napari_unet.infer.seen import prepare
from napari_unet.jobs import Job, Progress
from napari_unet.learn.clicks import ClickTrainer
from napari_unet.learn.evaluate import quietly, read_pairs, score_tiles, tune
from napari_unet.learn.settings import SCRATCH, Augmentation, TrainSettings
from napari_unet.learn.targets import ENLARGED, check_objects, training_tile, typical_diameter, with_enlarged
from napari_unet.learn.train import train
from napari_unet.model import Model, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.learn.targets import TrainingTile
    from napari_unet.learn.train import TrainResult
    from napari_unet.model_file import Task

NETWORK = ("ndim", "depth", "width", "max_width", "top")  # what a recipe may say of the network
# Tiles that thresholds are chosen on. Those held out are too few: 50 of them told ways of decoding apart by chance.
TUNED = 150
DATA = "NAPARI_UNET_DATA"  # environment variable: the folder that recipes' data folders are in


@dataclass(frozen=True)
class Source:
    """One folder of training data.

    Attributes
    ----------
    folder : str
        With images/ and masks/, relative to the data folder.
    name : str
        How it is cited.
    share : float
        How often its images are drawn, relative to the other sources.
    index : str
        A CSV file with columns ``name`` and ``group``, relative to the data folder: images of one group show
        the same field, so they are never parted between training and held-out.
    where : mapping
        Only images whose column in `index` has one of these values.
    leave_out : tuple of str
        Patterns such as ``kidney*`` of the names of images that are neither learned from nor scored on.
    pieces : int or None
        The masks name classes; the connected pieces of this one are the objects.
    notice : str
        Licence notice that goes with the weights.
    """

    folder: str
    name: str = ""
    share: float = 1.0
    index: str = ""
    where: Mapping[str, list[str]] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    pieces: int | None = None
    notice: str = ""

    def __post_init__(self) -> None:
        """Refuse a share that nothing can be drawn by."""
        if not 0 < self.share < np.inf:
            raise DataError(f"The share of {self.folder!r} is {self.share}, expected a number above 0.")


@dataclass(frozen=True)
class Recipe:
    """Which model, on which data, how.

    Attributes
    ----------
    name, task, classes, channels, network
        What :meth:`Model.new` is given.
    start : str
        A model to start from instead: a shipped name or a path. Where task or classes are not its own, it gets a new
        head; where they are not given, they stay.
    held_out : float
        Share of the groups, 0 to 0.5, that is not learned from but scored on.
    smallest : float or None
        Images whose objects are smaller than this many pixels are learned enlarged to it too, up to twice their size:
        of objects a few pixels wide a network sees too little at their own scale.
    data : tuple of Source
        The training data.
    train : TrainSettings
        How to train.
    carry : bool
        Whether the model carries the one that it starts from, for images that only that one knows; see
        :mod:`napari_unet.infer.familiar`.
    """

    name: str
    data: tuple[Source, ...]
    task: Task | None = None
    classes: tuple[str, ...] | None = None
    channels: Literal["grey", "rgb"] = "grey"
    network: Mapping[str, int] = field(default_factory=dict)
    start: str = ""
    held_out: float = 0.1
    smallest: float | None = None
    train: TrainSettings = SCRATCH
    carry: bool = False

    def __post_init__(self) -> None:
        """Refuse what no model can be made of, before any image is read."""
        if self.smallest is not None and not (isinstance(self.smallest, int | float) and 0 < self.smallest < 1e6):
            raise DataError(f"The smallest diameter is {self.smallest!r}, expected pixels from 1 up.")
        if not 0 <= self.held_out <= 0.5:
            raise DataError(f"The share to hold out is {self.held_out}, expected 0 to 0.5.")
        if unknown := self.network.keys() - NETWORK:
            raise DataError(f"The network has no setting {min(unknown)!r}: choose among {', '.join(NETWORK)}.")


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file.

    Raises
    ------
    DataError
        If the file is missing, is not TOML, or has unknown or unfitting entries.
    """
    path = Path(path).expanduser()
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        base = {f.name: getattr(SCRATCH, f.name) for f in fields(TrainSettings)}
        train = {**base, **values.pop("train", {})}
        if isinstance(train["augmentation"], dict):
            train["augmentation"] = Augmentation(**train["augmentation"])
        data = tuple(Source(**entry) for entry in values.pop("data", []))
        classes = tuple(values.pop("classes", ())) or None
        return Recipe(data=data, classes=classes, train=TrainSettings(**train), **values)
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"The recipe {path.name!r} cannot be read ({error}): compare it with recipes/nuclei.toml."
        ) from error


def load_tiles(
    model: Model,
    sources: tuple[Source, ...],
    held_out: float,
    root: Path | None = None,
    smallest: float | None = None,
) -> Job[tuple[list[TrainingTile], list[TrainingTile]]]:
    """Read all images and masks of the sources as tiles, and part them by group.

    Parameters
    ----------
    model : Model
        Says how images are normalised and what masks mean.
    sources : tuple of Source
        Where from.
    held_out : float
        Share of the groups that is held out; at least one group if there are three or more, none if 0.
    root : Path, optional
        What the folders are relative to; default: the environment variable ``NAPARI_UNET_DATA``, else here.
    smallest : float, optional
        See :class:`Recipe`.

    Yields
    ------
    Progress
        Images read.

    Returns
    -------
    tiles, held_out : list of TrainingTile
        To learn from; to score on.

    Raises
    ------
    DataError
        If a folder or mask is missing, or a mask does not fit its image.
    """
    root = root or Path(os.environ.get(DATA, "."))
    found = [(source, *entry) for source in sources for entry in _entries(root, source)]
    if not found:
        raise DataError("There are no training images: name at least one folder with images/ and masks/.")
    if model.task == "classes" and any(source.pieces is not None for source in sources):
        raise DataError("The recipe asks for the pieces of a class, but its task is classes: leave `pieces` out.")
    outside = _held_out_groups(sorted({group for *_, group in found}), held_out)
    mass = {id(source): sum(1 / size**0.5 for s, *_, size, _ in found if s is source) for source in sources}
    tiles: tuple[list[TrainingTile], list[TrainingTile]] = ([], [])
    for i, (source, image_path, mask_path, size, group) in enumerate(found):
        yield Progress(i, len(found), f"reading {image_path.name}")
        share = source.share / size**0.5 / mass[id(source)]  # a field cut into many tiles is not seen more often
        for tile in _read_tiles(model, image_path, mask_path, source.pieces, share):
            tiles[group in outside].extend(with_enlarged(tile, model.task, smallest))
    return tiles


def _entries(root: Path, source: Source) -> list[tuple[Path, Path, int, str]]:
    """Return image, mask, size of its group and name of its group for each image of a source."""
    pairs = read_pairs(root / source.folder)
    for pattern in source.leave_out:
        kept = [pair for pair in pairs if not fnmatch(pair[0].stem, pattern)]
        if len(kept) == len(pairs):
            raise DataError(
                f"No image of {source.folder!r} is called like {pattern!r}, to be left out: mend the recipe."
            )
        pairs = kept
    rows = _read_index(root / source.index) if source.index else {}
    for column, allowed in source.where.items():
        pairs = [pair for pair in pairs if rows.get(pair[0].stem, {}).get(column) in allowed]
        if not pairs:
            raise DataError(f"No image of {source.folder!r} has {column} {allowed} in its index: mend the recipe.")
    groups = [rows.get(image.stem, {}).get("group", image.stem) for image, _ in pairs]
    sizes = Counter(groups)
    return [
        (image, mask, sizes[group], f"{source.folder}/{group}")
        for (image, mask), group in zip(pairs, groups, strict=True)
    ]


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of an index by name."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["name"]: row for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(
            f"The index {str(path)!r} cannot be read ({error!r}): expected a CSV file with a column 'name'."
        ) from error


def _held_out_groups(groups: list[str], share: float) -> set[str]:
    """Choose groups at random, always the same ones."""
    count = round(share * len(groups))
    if share > 0 and len(groups) >= 3:
        count = max(count, 1)
    return set(np.random.default_rng(0).permutation(groups)[:count].tolist())


def _read_tiles(
    model: Model, image_path: Path, mask_path: Path, pieces: int | None, share: float
) -> list[TrainingTile]:
    """Return a tile of an image, or one of each slice where the model has fewer axes than the image."""
    from skimage.measure import label

    image, labels = read_image(image_path), read_labels(mask_path)
    array, _ = prepare(model, image.data, image.axes)
    if array.shape[1:] != labels.shape:
        raise DataError(
            f"The mask {mask_path.name!r} is {labels.shape} pixels and its image {array.shape[1:]}: give "
            "masks of the same size as the images."
        )
    if len(array) == 3 and (array[0] == array[1]).all() and (array[0] == array[2]).all():
        array = array[:1]  # grey: kept once, repeated in the batch
    if model.task == "classes" and labels.size and labels.max() >= len(model.classes):
        raise DataError(
            f"The mask {mask_path.name!r} has class {labels.max()}, but the classes are 0 to "
            f"{len(model.classes) - 1}: renumber it, or name the other classes too."
        )
    if pieces is not None:
        labels = np.where(labels == pieces, labels, 0)
    slices = list(np.ndindex(labels.shape[: labels.ndim - model.ndim]))
    own = pieces is not None or len(slices) > 1  # what is one object in a stack may be several in a slice
    return [
        training_tile(
            array[:, *at],
            label(labels[at], connectivity=1) if own and model.task != "classes" else labels[at],
            model.task,
            share=share / len(slices),
            name=image_path.stem,
        )
        for at in slices
    ]


def train_recipe(recipe: Recipe, root: Path | None = None, stop: Callable[[], bool] = bool) -> Job[TrainResult]:
    """Train a model by a recipe: read, learn, choose the decode thresholds on what was learned from.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    root : Path, optional
        See :func:`load_tiles`.
    stop : callable
        See :func:`napari_unet.learn.train.train`.
    """
    model = _beginning(recipe)
    tiles, held_out = yield from load_tiles(model, recipe.data, recipe.held_out, root, model.smallest)
    check_objects(tiles)
    model = replace(model, diameter=typical_diameter(tiles) or model.diameter)
    provenance = Provenance.now(
        data=tuple(dict.fromkeys((*model.provenance.data, *(source.name or source.folder for source in recipe.data)))),
        notices=tuple(dict.fromkeys((*model.provenance.notices, *(s.notice for s in recipe.data if s.notice)))),
        recipe=asdict(recipe),
        parent=Model.load(recipe.start).version if recipe.start else None,
    )
    if model.task == "clicks":
        every, how = [*tiles, *held_out], recipe.train  # nothing is scored on the way
        return (yield from train(model, every, [], how, provenance=provenance, stop=stop, trainer=ClickTrainer))
    result = yield from train(model, tiles, held_out, recipe.train, provenance=provenance, stop=stop)
    tuned = yield from tune(result.model, _some(tiles), recipe.train.device)
    own = [tile for tile in tiles if not tile.name.endswith(ENLARGED)]
    planes, shares = planes_of(tile.image for tile in own), [tile.share for tile in own]
    memory: dict[str, Any] = {}
    if recipe.carry and result.steps:
        start = Model.load(recipe.start)
        if (start.task, start.classes) == (tuned.task, tuned.classes):
            memory = yield from quietly(memory_after(start, planes, recipe.train.device), 0, 1)
    if not memory:
        known = yield from quietly(signatures(tuned, planes, shares, recipe.train.device), 0, 1)
        memory = {"familiar": known}
    tuned = replace(tuned, **memory)
    if not held_out:
        return replace(result, model=tuned)
    after = yield from score_tiles(tuned, held_out, recipe.train.device)
    return replace(result, model=tuned, after=after)


def _some(tiles: list[TrainingTile]) -> list[TrainingTile]:
    """Return some tiles, always the same, drawn as often as in training."""
    if len(tiles) <= TUNED:
        return tiles
    shares = np.array([tile.share for tile in tiles])
    return [
        tiles[i] for i in np.random.default_rng(0).choice(len(tiles), TUNED, replace=False, p=shares / shares.sum())
    ]


def _beginning(recipe: Recipe) -> Model:
    """Return the model that a recipe begins with, with a new head if the recipe says something else than it."""
    if recipe.start:
        model = Model.load(recipe.start)
        model = replace(model, name=recipe.name, smallest=recipe.smallest, familiar=None, base=None)
        task, classes = recipe.task or model.task, recipe.classes or model.classes
        if task == "clicks":
            return model if model.task == "clicks" else model.with_clicks()
        if (task, len(classes)) == (model.task, len(model.classes)):
            return replace(model, classes=classes)
        return model.with_classes(classes, task)
    if recipe.task == "clicks":
        raise DataError(f"The recipe {recipe.name!r} is for clicks but starts from nothing: name a model as its start.")
    model = Model.new(
        task=recipe.task or "instances",
        classes=recipe.classes or ("background", "object"),
        channels=recipe.channels,
        name=recipe.name,
        seed=recipe.train.seed,
        **recipe.network,
    )
    return replace(model, smallest=recipe.smallest)
