"""A recipe says all that is needed to train a model again, and what is wrong with it is told before it runs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_unet import DataError, Model, ModelFileError, UnetError, shipped
from napari_unet.jobs import run
from napari_unet.learn.recipe import Recipe, Source, load_tiles, read_recipe, train_recipe
from napari_unet.learn.settings import SCRATCH, TrainSettings
from napari_unet.model import CLICKS

if TYPE_CHECKING:
    from pathlib import Path

MODEL = Model.new(width=1, depth=0)
GOOD = 'name = "mine"\n[[data]]\nfolder = "cells"\n'


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


# The text


RECIPES = sorted(path.name for path in (files("napari_unet") / "recipes").iterdir() if path.name.endswith(".toml"))


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_of_the_shipped_models_can_be_read(name: str) -> None:
    recipe = read_recipe(str(files("napari_unet") / "recipes" / name))
    assert recipe.name == name.removesuffix(".toml").removesuffix("-first")
    assert recipe.classes or recipe.task == "clicks"
    assert sum(source.share for source in recipe.data) == pytest.approx(1)
    assert all(source.name for source in recipe.data)
    assert json.loads(json.dumps(asdict(recipe)))["train"]["steps"] == recipe.train.steps
    if recipe.start:
        assert recipe.start in shipped() or recipe.start.replace(".unet", ".toml") in RECIPES
    else:
        model = Model.new(task=recipe.task, classes=recipe.classes, channels=recipe.channels, **recipe.network)
        assert model.classes == recipe.classes


@pytest.mark.parametrize("name", [*shipped(), CLICKS])
def test_a_shipped_model_has_a_recipe_and_a_card_that_carries_its_notices(name: str) -> None:
    assert f"{name}.toml" in RECIPES
    card = (files("napari_unet") / "models" / f"{name}.md").read_text("utf-8")
    model = Model.load(name)
    assert model.provenance.data
    assert all(notice in " ".join(card.split()) for notice in model.provenance.notices)


def test_what_a_recipe_leaves_out_has_its_default(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path / "r.toml", GOOD))
    assert recipe == Recipe("mine", (Source("cells"),))
    assert recipe.train == SCRATCH
    text = GOOD + "[train]\nsteps = 7\n[train.augmentation]\nscale = 2\n"
    train = read_recipe(write(tmp_path / "r.toml", text)).train
    assert (train.steps, train.augmentation.scale, train.batch) == (7, 2, SCRATCH.batch)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "cannot be read"),
        ("\0", "cannot be read"),
        ("", "cannot be read .*name"),
        (GOOD.replace("folder", "foldr"), "cannot be read .*foldr"),
        ('colour = "red"\n' + GOOD, "cannot be read .*colour"),
        ('data = "cells"\nname = "mine"', "cannot be read"),
        ('train = 3\nname = "mine"', "cannot be read"),
        (GOOD + "[train]\nstep = 7", "cannot be read .*step"),
        (GOOD + "[train]\nsteps = 0", "steps is 0"),
        (GOOD + "[train]\nsteps = 2.5", "steps is 2.5, expected a whole number"),
        (GOOD + '[train]\nsteps = "many"', "cannot be read"),
        (GOOD + "[train.augmentation]\nscale = 0.1", "augmentation scale is 0.1"),
        (GOOD + "[train.augmentation]\nturns = 1", "cannot be read .*turns"),
        (GOOD + "share = 0", "share of 'cells' is 0"),
        (GOOD + "share = nan", "share of 'cells' is nan"),
        (GOOD + "[network]\nwidht = 16", "no setting 'widht': choose among ndim, depth, width"),
        ("held_out = 0.7\n" + GOOD, "share to hold out is 0.7"),
    ],
)
def test_a_recipe_that_is_wrong_is_told(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_recipe(write(tmp_path / "r.toml", text))
    assert str(caught.value).endswith(".")


def test_a_recipe_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'no.toml' cannot be read"):
        read_recipe(tmp_path / "no.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"'binary.toml' cannot be read"):
        read_recipe(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    "wrong", [{"task": "semantic"}, {"channels": "cmyk"}, {"network": {"width": 0}}, {"start": "nowhere"}]
)
def test_a_model_that_cannot_be_is_told_before_any_image_is_read(wrong: dict[str, Any], tmp_path: Path) -> None:
    recipe = replace(Recipe("mine", (Source("nowhere"),)), **wrong)
    with pytest.raises(ModelFileError):
        run(train_recipe(recipe, tmp_path))


@pytest.mark.parametrize("wrong", [0, -5.0, float("nan"), 1e7, "big"])
def test_a_smallest_diameter_that_cannot_be_is_told(wrong: Any) -> None:
    with pytest.raises(DataError, match=r"The smallest diameter is .*, expected pixels from 1 up"):
        Recipe("mine", (Source("nowhere"),), smallest=wrong)


# The data


def fill(root: Path, count: int, *, shape: tuple[int, ...] = (24, 24), names: str = "{}") -> Path:
    """Make a folder of images and masks; the images' brightness is their number."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        mask = np.zeros(shape, np.uint8)
        mask[..., 5:15, 6:16] = 1
        image = (mask * 150 + random.integers(0, 50, shape)).astype(np.uint8)
        tifffile.imwrite(root / "images" / f"{names.format(i)}.tif", image)
        tifffile.imwrite(root / "masks" / f"{names.format(i)}.tif", mask)
    return root


def loaded(root: Path, *sources: Source, held_out: float = 0.3, model: Model = MODEL) -> Any:
    return run(load_tiles(model, sources, held_out, root))


def test_a_group_is_never_parted(tmp_path: Path) -> None:
    fill(tmp_path / "a", 24, names="field{}")
    rows = [f"field{i},{i // 4}" for i in range(24)]
    write(tmp_path / "index.csv", "\n".join(["name,group", *rows]))
    tiles, held_out = loaded(tmp_path, Source("a", index="index.csv"))
    learned, scored = ({int(tile.name[5:]) // 4 for tile in part} for part in (tiles, held_out))
    assert not learned & scored
    assert (len(learned), len(scored)) == (4, 2)
    assert len(tiles) + len(held_out) == 24
    again = loaded(tmp_path, Source("a", index="index.csv"))
    assert [tile.name for tile in again[1]] == [tile.name for tile in held_out]


def test_a_group_in_two_sources_of_one_folder_is_never_parted(tmp_path: Path) -> None:
    fill(tmp_path / "a", 12, names="n{}")
    rows = [f"n{i},{i // 2},{'even' if i % 2 == 0 else 'odd'}" for i in range(12)]
    write(tmp_path / "index.csv", "\n".join(["name,group,kind", *rows]))
    kinds = [Source("a", index="index.csv", where={"kind": [kind]}) for kind in ("even", "odd")]
    tiles, held_out = loaded(tmp_path, *kinds)
    assert not {int(t.name[1:]) // 2 for t in tiles} & {int(t.name[1:]) // 2 for t in held_out}
    assert len(tiles) + len(held_out) == 12


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(1, 0.5, 0), (2, 0.1, 0), (2, 0.5, 1), (3, 0.1, 1), (10, 0.2, 2), (10, 0, 0)]
)
def test_how_many_are_held_out(count: int, share: float, expected: int, tmp_path: Path) -> None:
    tiles, held_out = loaded(fill(tmp_path / "a", count).parent, Source("a"), held_out=share)
    assert (len(tiles), len(held_out)) == (count - expected, expected)


def test_shares_are_of_sources_and_a_large_group_counts_less_for_each_image(tmp_path: Path) -> None:
    fill(tmp_path / "a", 5)
    fill(tmp_path / "b", 2)
    write(tmp_path / "index.csv", "name,group\n0,x\n1,x\n2,x\n3,x\n4,y\n")
    tiles, _ = loaded(tmp_path, Source("a", share=3, index="index.csv"), Source("b", share=1), held_out=0)
    shares = [tile.share for tile in tiles]
    assert sum(shares[:5]) == pytest.approx(3)
    assert sum(shares[5:]) == pytest.approx(1)
    assert shares[4] == pytest.approx(2 * shares[0])  # a group of four has the weight of two


def test_the_folder_of_the_data_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "a", 1)
    monkeypatch.setenv("NAPARI_UNET_DATA", str(tmp_path))
    assert len(run(load_tiles(MODEL, (Source("a"),), 0))[0]) == 1


def test_grey_images_are_kept_once(tmp_path: Path) -> None:
    fill(tmp_path / "a", 1)
    model = Model.new(width=1, depth=0, channels="rgb")
    assert loaded(tmp_path, Source("a"), model=model)[0][0].image.shape == (1, 24, 24)


def test_what_is_wrong_with_the_data_is_told(tmp_path: Path) -> None:
    fill(tmp_path / "a", 2)
    broken = write(tmp_path / "broken.csv", "title\n0\n")
    write(tmp_path / "index.csv", "name,group,kind\n0,x,dim\n1,y,dim\n")
    cases = {
        "nowhere' does not exist": Source("nowhere"),
        "no.csv.* cannot be read": Source("a", index="no.csv"),
        "broken.csv.* cannot be read .*name": Source("a", index=broken.name),
        r"No image of 'a' has kind \['bright'\]": Source("a", index="index.csv", where={"kind": ["bright"]}),
    }
    for said, source in cases.items():
        with pytest.raises(DataError, match=said):
            loaded(tmp_path, source)
    with pytest.raises(DataError, match="no training images"):
        loaded(tmp_path)


def test_masks_that_do_not_fit_are_told_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "a", 1)
    classes = Model.new(width=1, depth=0, task="classes")
    wrong = {
        r"'0.tif' is \(24, 25\) pixels and its image \(24, 24\)": (np.zeros((24, 25), np.uint8), MODEL),
        "'0.tif' has class 9": (np.full((24, 24), 9, np.uint8), classes),
    }
    for said, (mask, model) in wrong.items():
        tifffile.imwrite(tmp_path / "a" / "masks" / "0.tif", mask)
        with pytest.raises(DataError, match=said):
            loaded(tmp_path, Source("a"), model=model)
    with pytest.raises(UnetError, match=r"2 axes .* needs 3"):
        loaded(fill(tmp_path / "flat", 1).parent, Source("flat"), model=Model.new(ndim=3, width=1, depth=0))


def test_a_stack_is_learned_slice_by_slice_and_drawn_no_more_often_than_an_image(tmp_path: Path) -> None:
    fill(tmp_path / "stack", 1, shape=(5, 24, 24))
    tiles, _ = loaded(fill(tmp_path / "a", 1).parent, Source("a"), Source("stack"), held_out=0)
    assert [tile.name for tile in tiles] == ["0"] * 6
    assert {tile.image.shape for tile in tiles} == {(1, 24, 24)}
    assert tiles[0].share == pytest.approx(sum(tile.share for tile in tiles[1:]))


def test_objects_may_be_the_pieces_of_a_class(tmp_path: Path) -> None:
    mask = np.zeros((24, 24), np.uint8)
    mask[2:20, 2:20] = 1
    mask[4:8, 4:8] = mask[12:18, 10:16] = 2
    tifffile.imwrite(fill(tmp_path / "a", 1) / "masks" / "0.tif", mask)
    tiles, _ = loaded(tmp_path, Source("a", pieces=2), held_out=0)
    np.testing.assert_array_equal(tiles[0].labels > 0, mask == 2)
    assert tiles[0].labels.max() == 2
    with pytest.raises(DataError, match="pieces of a class, but its task is classes"):
        loaded(tmp_path, Source("a", pieces=2), model=Model.new(width=1, depth=0, task="classes"))


def test_what_is_one_object_in_a_stack_may_be_several_in_a_slice(tmp_path: Path) -> None:
    fill(tmp_path / "stack", 1, shape=(5, 24, 24))
    mask = np.zeros((5, 24, 24), np.uint8)
    mask[0, 2:8] = mask[:, 2:20, :6] = mask[0, 14:20] = 7  # a U
    mask[1, 12:20, 6:12] = 8  # touches it
    tifffile.imwrite(tmp_path / "stack" / "masks" / "0.tif", mask)
    first, second, *_ = loaded(tmp_path, Source("stack"), held_out=0)[0]
    assert first.labels.max() == 1
    assert second.labels.max() == 2
    mask[0, 2:20, :6] = 0
    mask[0, 2:8] = mask[0, 14:20] = 7
    tifffile.imwrite(tmp_path / "stack" / "masks" / "0.tif", mask)
    assert loaded(tmp_path, Source("stack"), held_out=0)[0][0].labels.max() == 2


def test_masks_that_are_all_empty_teach_nothing(tmp_path: Path) -> None:
    for mask in (fill(tmp_path / "a", 2) / "masks").iterdir():
        tifffile.imwrite(mask, np.zeros((24, 24), np.uint8))
    with pytest.raises(DataError, match="All masks to learn from are 0 everywhere"):
        run(train_recipe(Recipe("empty", (Source("a"),), network={"width": 1, "depth": 0}), tmp_path))


def test_images_that_are_left_out_are_neither_learned_from_nor_scored_on(tmp_path: Path) -> None:
    fill(tmp_path / "a", 6)
    tiles, held_out = loaded(tmp_path, Source("a", leave_out=("[45]", "0*")), held_out=0.5)
    assert sorted(tile.name for tile in (*tiles, *held_out)) == ["1", "2", "3"]
    with pytest.raises(DataError, match="No image of 'a' is called like 'kidny"):
        loaded(tmp_path, Source("a", leave_out=("kidny*",)))


def test_a_model_to_start_from_gets_the_classes_of_the_recipe(tmp_path: Path) -> None:
    fill(tmp_path / "a", 4)
    looks = np.zeros((30, 4, 1), np.float32)
    start = replace(Model.new(width=1, depth=0, name="base"), familiar=looks)
    path = replace(start, base=start).save(tmp_path / "base.unet")
    settings = replace(SCRATCH, steps=1, batch=1, crop=16, checks=1)
    how = {"start": str(path), "data": (Source("a"),), "train": settings}
    same = run(train_recipe(Recipe("mine", **how), tmp_path)).model
    assert (same.task, same.classes, same.name) == ("instances", ("background", "object"), "mine")
    assert same.base is None  # it stands for its own data alone
    assert same.familiar is not None
    assert same.familiar.shape == (3, 4, 1)  # one of the images was held out
    renamed = run(train_recipe(Recipe("mine", classes=("background", "cell"), **how), tmp_path)).model
    assert (renamed.task, renamed.classes) == ("instances", ("background", "cell"))
    for mask in (tmp_path / "a" / "masks").iterdir():
        tifffile.imwrite(mask, np.minimum(tifffile.imread(mask), 2))
    classes = ("background", "one", "two")
    other = run(train_recipe(Recipe("mine", task="classes", classes=classes, **how), tmp_path)).model
    assert (other.task, other.classes, other.config.out_channels) == ("classes", classes, 3)


def test_a_recipe_is_trained_and_says_so(tmp_path: Path) -> None:
    fill(tmp_path / "a", 4)
    settings = TrainSettings(steps=30, batch=2, crop=24, learning_rate=2e-2, ema=0.9, freeze_norms=False, checks=2)
    recipe = Recipe(
        "squares",
        (Source("a", name="Squares (me, 2024)", notice="Squares are free."),),
        network={"width": 4, "depth": 1},
        held_out=0.25,
        train=settings,
    )
    result = run(train_recipe(recipe, tmp_path))
    assert result.before is not None
    assert result.after is not None
    assert result.after.dice > max(0.8, result.before.dice)
    model = Model.load(result.model.save(tmp_path / "squares.unet"))
    assert model.name == "squares"
    assert model.diameter == pytest.approx(11.3, abs=0.1)
    assert model.provenance.data == ("Squares (me, 2024)",)
    assert model.provenance.notices == ("Squares are free.",)
    assert model.provenance.recipe["train"]["steps"] == 30
    assert model.provenance.parent is None
    further = replace(recipe, start=str(tmp_path / "squares.unet"), name="more", train=replace(settings, steps=1))
    grown = run(train_recipe(further, tmp_path)).model
    assert grown.name == "more"
    assert grown.provenance.parent == model.version
