"""The command line: what it writes, what it says, and that bad input is one sentence and exit code 2."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from napari_unet.cli import app
from napari_unet.exchange.files import folder_recipe
from napari_unet.exchange.labels import write_tiff
from napari_unet.infer.read import read_image, read_labels
from napari_unet.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from napari_unet.infer.engine import Pending
    from napari_unet.nets.unet import Window

ROOT = Path(__file__).parents[1]
COMMANDS = ("view", "segment", "merge", "evaluate", "train", "demo", "doctor")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="napari-unet")


def refused(result: Result) -> str:
    """Return the one sentence that was said about bad input."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def squares(*shape: int) -> np.ndarray:
    """Return the labels of four objects in each plane."""
    labels = np.zeros(shape, np.uint16)
    for i, (y, x) in enumerate(((4, 4), (4, 30), (30, 4), (30, 30)), 1):
        labels[..., y : y + 12, x : x + 12] = i
    return labels


@pytest.fixture
def model(tmp_path: Path, thresholding: Callable[..., Model]) -> Path:
    """A model that takes what is bright for an object."""
    return thresholding(name="bright").save(tmp_path / "bright.unet")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of each array that a network was given."""
    from napari_unet.infer.openvino_engine import OpenVINO

    seen: list[tuple[int, ...]] = []
    original = OpenVINO.start

    def start(self: OpenVINO, x: np.ndarray, keep: Window, **how: bool) -> Pending:
        seen.append((1, *x.shape))
        return original(self, x, keep, **how)

    monkeypatch.setattr(OpenVINO, "start", start)
    return seen


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Four bright squares of 0.5 µm per pixel."""
    path = tmp_path / "squares.tif"
    write_tiff(path, (200 * (squares(48, 52) > 0)).astype(np.uint8), "YX", {"Y": 0.5, "X": 0.25})
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder with images/ and masks/ of four noisy fields."""
    folder = tmp_path / "mine"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(4):
        labels = squares(48, 52)
        noisy = 100 * (labels > 0) + random.integers(0, 20, labels.shape)
        tifffile.imwrite(folder / "images" / f"f{i}.tif", noisy.astype(np.uint8))
        tifffile.imwrite(folder / "masks" / f"f{i}.tif", labels)
    return folder


# ---- help


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_teaches_by_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"napari-unet {command}" in result.stdout.partition("Example")[2]


def test_version() -> None:
    assert run("--version").stdout.startswith("napari-unet-live ")


def test_help_waits_for_nobody() -> None:
    """A program of its own: help comes without torch, napari and numpy."""
    program = (
        "import sys\nfrom napari_unet.cli import main\n"
        "sys.argv = ['napari-unet', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        "    loaded = {'torch', 'napari', 'numpy', 'scipy'} & set(sys.modules)\n"
        "    raise SystemExit(end.code or str(loaded or ''))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr.strip() == ""
    assert all(command in done.stdout for command in COMMANDS)


def test_a_real_run_says_one_sentence(tmp_path: Path) -> None:
    words = ["segment", tmp_path / "no.tif", "--model", tmp_path / "no.unet", "--output", tmp_path]
    program = [sys.executable, "-m", "napari_unet", *map(str, words)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("napari-unet: There is no model")
    assert len(done.stderr.strip().splitlines()) == 1


# ---- segment


def test_segment_writes_labels(tmp_path: Path, model: Path, image: Path) -> None:
    result = run("segment", image, "--model", model, "--output", tmp_path / "new" / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("squares.tif  4 objects")
    written = tmp_path / "new" / "out" / "squares_labels.tif"
    assert [path.name for path in written.parent.iterdir()] == [written.name]
    labels = read_image(written)
    assert labels.data.dtype == np.uint32
    assert (labels.axes, labels.scale) == ("YX", {"Y": 0.5, "X": 0.25})
    np.testing.assert_array_equal(labels.data > 0, read_image(image).data > 0)
    with tifffile.TiffFile(written) as tif:
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_segment_a_stack(tmp_path: Path, model: Path) -> None:
    stack = np.stack([100 * (squares(3, 48, 52) > 0), np.zeros((3, 48, 52))]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack, metadata={"axes": "CTYX"}, ome=True)
    result = run("segment", tmp_path / "stack.ome.tif", "--model", model, "--output", tmp_path, "--json", "-")
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)["images"]
    assert record["objects"] == 12  # numbers go on from slice to slice
    assert "channel 0" in record["notes"][0].lower()
    labels = read_image(tmp_path / "stack_labels.tif")
    assert (labels.axes, labels.data.shape, labels.data.max()) == ("TYX", (3, 48, 52), 12)


def test_segment_classes(tmp_path: Path, thresholding: Callable[..., Model], image: Path) -> None:
    classes = thresholding(task="classes", classes=("background", "dim", "bright")).save(tmp_path / "classes.unet")
    result = run("segment", image, "--model", classes, "--output", tmp_path)
    assert "bright 23.1%" in result.stdout
    assert read_labels(tmp_path / "squares_labels.tif").dtype == np.uint8


def test_segment_a_channel_in_which_nothing_can_be_seen(tmp_path: Path, model: Path) -> None:
    both = np.stack([np.zeros((48, 52)), 100 * (squares(48, 52) > 0)]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "both.tif", both, metadata={"axes": "CYX"}, imagej=True)
    words = ("segment", tmp_path / "both.tif", "--model", model, "--output", tmp_path)
    assert "all its pixels are the same: choose another with --channel" in run(*words).stdout
    other = run(*words, "--channel", 1)
    assert "4 objects" in other.stdout
    assert "all its pixels" not in other.stdout


def test_segment_settings(tmp_path: Path, model: Path, image: Path) -> None:
    result = run("segment", image, "--model", model, "--output", tmp_path, "--set", "min_size=1000")
    assert "0 objects" in result.stdout


@pytest.mark.parametrize(("words", "times"), [([], 1), (["--flips"], 4), (["--set", "flips=true"], 4)])
def test_flips(
    tmp_path: Path, model: Path, image: Path, pairs: Path, looks: list[tuple[int, ...]], words: list[str], times: int
) -> None:
    result = run("segment", image, "--model", model, "--output", tmp_path / "out", *words)
    assert result.stdout.startswith("squares.tif  4 objects")
    assert looks == [(1, 1, 48, 52)] * times
    looks.clear()
    result = run("evaluate", pairs, "--model", model, *words)
    assert "AP.50 1.000 pooled" in result.stdout
    assert looks == [(1, 1, 48, 52)] * 4 * times  # images


def test_one_bad_image_does_not_stop_the_others(tmp_path: Path, model: Path, image: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.tif").write_bytes(image.read_bytes())
    (folder / "b.tif").write_bytes(image.read_bytes()[:100])
    (folder / "c.tif").write_bytes(image.read_bytes())
    result = run("segment", folder, "--model", model, "--output", folder, "--json", tmp_path / "all.json")
    assert "b.tif FAILED: " in refused(result)
    assert "2 of 3 images" in result.stderr
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["a.tif", "a_labels.tif", "b.tif", "c.tif", "c_labels.tif"]
    records = json.loads((tmp_path / "all.json").read_text())["images"]
    assert ["error" in record for record in records] == [False, True, False]
    # the labels that now lie beside the images are not taken for images
    (folder / "b.tif").unlink()
    assert run("segment", folder, "--model", model, "--output", folder).stdout.endswith(f"in {folder}.\n")
    assert len(list(folder.iterdir())) == 4


def test_equal_names_are_refused(tmp_path: Path, model: Path, image: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "squares.tiff").write_bytes(image.read_bytes())
    result = run("segment", image, other, "--model", model, "--output", tmp_path / "out")
    assert "would both give" in refused(result)
    assert not (tmp_path / "out").exists()


def test_corrected_labels_are_not_replaced(tmp_path: Path, model: Path, image: Path) -> None:
    words = ("segment", image, "--model", model, "--output", tmp_path)
    written = tmp_path / "squares_labels.tif"
    assert [run(*words).exit_code for _ in range(2)] == [0, 0]  # its own may be replaced
    corrected = read_labels(written) * 2
    tifffile.imwrite(written, corrected)
    assert "corrected by hand" in refused(run(*words))
    np.testing.assert_array_equal(read_labels(written), corrected)
    assert run(*words, "--overwrite").exit_code == 0
    assert read_labels(written).max() == 4


@pytest.mark.parametrize("version", [2, 3])
def test_segment_ome_zarr(tmp_path: Path, model: Path, version: int) -> None:
    store = tmp_path / "squares.ome.zarr"
    group = zarr.open_group(store, mode="w", zarr_format=version)  # type: ignore[arg-type]
    group.create_array("0", data=(200 * (squares(48, 52) > 0)).astype(np.uint8))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.25]}]}
    said: dict[str, Any] = {"version": "0.4", "multiscales": [{"axes": axes, "datasets": [level]}]}
    group.attrs.update(said if version == 2 else {"ome": said | {"version": "0.5"}})
    result = run("segment", store, "--model", model, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    beside = read_image(tmp_path / "out" / "squares_labels.ome.zarr")
    assert beside.data.dtype == np.uint32
    assert beside.scale == {"Y": 0.5, "X": 0.25}
    assert not (store / "labels").exists()  # what was given is not touched unless it is asked for
    # in its own labels group: found there by whoever reads the image's labels
    assert run("segment", store, "--model", model, "--output", store).exit_code == 0
    np.testing.assert_array_equal(read_labels(store), np.asarray(beside.data))
    assert "labels/bright" in refused(run("segment", store, "--model", model, "--output", store))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "nobody"], "There is no model 'nobody'"),
        (["--channel", "7"], "hannel 7"),
        (["--channel", "-1"], "--channel is -1"),
        (["--channel", "x"], "--channel"),
        (["--diameter", "-3"], "--diameter is -3"),
        (["--diameter", "nan"], "--diameter is nan"),
        (["--device", "abacus"], "'abacus'"),
        (["--axes", "ZYX"], "ZYX"),
        (["--axes", "YQ"], "YQ"),
        (["--set", "sead=1"], "min_size"),
        (["--set", "seed=high"], "seed=high"),
        (["--set", "seed=7"], "expected 0 to 1"),
        (["--output", "bright.unet"], "is a file"),
        (["--output", "bright.unet/out"], "is a file"),
        (["--output", "/proc/out"], "/proc"),
        (["--json", "nowhere/x.json"], "nowhere"),
        (["--json", "."], "is a folder"),
        (["--no-such"], "No such option"),
        (["absent.tif"], "absent.tif"),
        (["empty"], "empty"),
    ],
)
def test_bad_input(
    tmp_path: Path, model: Path, image: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "/proc/out" in words and not Path("/proc").is_dir():
        pytest.skip("there is no /proc")
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert said in refused(run("segment", image, "--model", model, "--output", "out", *words))
    assert sorted(tmp_path.rglob("*")) == before


# ---- several processes, and shares


def test_workers_do_what_one_process_does(tmp_path: Path, model: Path, pairs: Path) -> None:
    words = ("segment", pairs / "images", "--model", model)
    assert run(*words, "--output", tmp_path / "one").exit_code == 0
    (pairs / "images" / "bad.tif").write_bytes(b"no image")
    result = run(*words, "--output", tmp_path / "two", "--workers", 2, "--json", tmp_path / "j.json")
    assert "bad.tif FAILED: " in refused(result)
    assert "4 of 5 images are segmented" in result.stderr
    assert "f0.tif  4 objects" in result.stdout
    for path in (tmp_path / "one").iterdir():
        np.testing.assert_array_equal(read_labels(path), read_labels(tmp_path / "two" / path.name))
    records = json.loads((tmp_path / "j.json").read_text())["images"]
    assert sorted("error" in record for record in records) == [False] * 4 + [True]


def test_shares_are_merged(
    tmp_path: Path, model: Path, image: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet.exchange.blockwise.LARGE", 1000)
    monkeypatch.setattr("napari_unet.exchange.batch.LARGE", 100)
    out = tmp_path / "out"
    words = ("segment", image, "--model", model, "--output", out)
    assert "0 blocks done" in run(*words, "--shard", "2/2").stdout
    assert "1 of 1 blocks are not done yet" in refused(run("merge", out))
    assert "1 block done, to be merged" in run(*words, "--shard", "1/2").stdout
    result = run("merge", out, "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"][0]["objects"] == 4
    assert read_labels(out / "squares_labels.tif").max() == 4
    assert "Nothing in" in run("merge", out).stdout
    assert "does not exist" in refused(run("merge", tmp_path / "absent"))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/2/3", "-1/2"])
def test_bad_shares(tmp_path: Path, model: Path, image: Path, shard: str) -> None:
    assert "--shard" in refused(run("segment", image, "--model", model, "--output", tmp_path, "--shard", shard))


def test_ways_to_share_exclude_one_another(tmp_path: Path, model: Path, image: Path) -> None:
    words = ("segment", image, "--model", model, "--output", tmp_path, "--workers", 2, "--shard", "1/2")
    assert "give one of them" in refused(run(*words))


# ---- evaluate


def test_evaluate(pairs: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("name,modality\nf0,dim\nf1,dim\nf2,bright\n", encoding="utf-8")
    result = run("evaluate", pairs, "--model", model, "--per-image", "--json", tmp_path / "scores.json")
    assert result.exit_code == 0, result.output
    assert "AP.50 1.000 pooled" in result.stdout
    assert "\nf3  AP.50 1.000" in result.stdout
    assert "\nbright     1 image" in result.stdout
    assert "\ndim        2 images" in result.stdout
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["model"] == "bright"
    assert scores["images"] == 4
    assert scores["by_modality"]["dim"]["objects_truth"] == 8


def test_evaluate_classes(pairs: Path, thresholding: Callable[..., Model], tmp_path: Path) -> None:
    for mask in (pairs / "masks").iterdir():
        tifffile.imwrite(mask, (read_labels(mask) > 0).astype(np.uint8))
    classes = thresholding(task="classes").save(tmp_path / "classes.unet")
    result = run("evaluate", pairs, "--model", classes)
    assert "object  1.000  1.000" in result.stdout


def test_evaluate_bad_folders(pairs: Path, model: Path, tmp_path: Path) -> None:
    assert "absent' does not exist" in refused(run("evaluate", tmp_path / "absent", "--model", model))
    assert "'images'" in refused(run("evaluate", tmp_path, "--model", model))
    tifffile.imwrite(pairs / "masks" / "f2.tif", squares(40, 40))
    assert "f2.tif: " in refused(run("evaluate", pairs, "--model", model))
    (pairs / "masks" / "f1.tif").unlink()
    assert "f1.tif" in refused(run("evaluate", pairs, "--model", model))


# ---- train

QUICK = ("--set", "crop=32", "--set", "batch=2", "--set", "checks=2")


@pytest.mark.parametrize("half", [[], ["--half"]])
def test_train(pairs: Path, tmp_path: Path, half: list[str]) -> None:
    small = Model.new(width=4, depth=1).save(tmp_path / "small.unet")
    output = tmp_path / "mine.unet"
    result = run(
        "train", pairs, "--from", small, "--output", output, "--steps", 4, *QUICK, *half, "--json", tmp_path / "j.json"
    )
    assert result.exit_code == 0, result.output
    assert "Training needs about 0.1 GB of memory.\n" in result.stderr
    learned = Model.load(output)
    assert learned.name == "mine"
    assert learned.version in result.stdout
    said = json.loads((tmp_path / "j.json").read_text())
    assert said["model"] == {"name": "mine", "version": learned.version, "steps": 4, "file": str(output)}
    assert {"before", "after"} <= set(said)
    assert said["after"]["images"] == 1


def test_ctrl_c_keeps_the_best(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_unet.learn.trainer import Trainer

    original = Trainer.step

    def step(self: Trainer, number: int) -> float | None:
        if number == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, number)

    monkeypatch.setattr(Trainer, "step", step)
    before = signal.getsignal(signal.SIGINT)
    small = Model.new(width=4, depth=1).save(tmp_path / "small.unet")
    result = run("train", pairs, "--from", small, "--output", tmp_path / "mine.unet", "--steps", 50, *QUICK)
    assert result.exit_code == 0, result.output
    assert "Stopped at step 3 of 50." in result.stdout
    assert Model.load(tmp_path / "mine.unet").version != Model.load(small).version
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_the_first_step_ends_all(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_unet.learn import recipe

    monkeypatch.setattr(recipe, "_read_tiles", lambda *_: signal.raise_signal(signal.SIGINT))
    result = run("train", pairs, "--output", tmp_path / "mine.unet")
    assert result.exit_code == 130
    assert result.stderr.endswith("stopped.\n")
    assert not (tmp_path / "mine.unet").exists()


def test_folder_recipes(pairs: Path, tmp_path: Path) -> None:
    recipe = folder_recipe(pairs, "mine", "classes")
    assert (recipe.name, recipe.task, recipe.channels) == ("mine", "classes", "grey")
    assert recipe.classes == ("background", "class 1", "class 2", "class 3", "class 4")
    for path in (pairs / "images").iterdir():
        tifffile.imwrite(path, np.zeros((48, 52, 3), np.uint8), photometric="rgb")
    assert folder_recipe(pairs, "mine").channels == "rgb"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "magic"], "'magic'"),
        (["--from", "nobody"], "'nobody'"),
        (["--steps", "0"], "--steps"),
        (["--set", "batch=0"], "expected 1 to 256"),
        (["--set", "freeze_norms=maybe"], "freeze_norms"),
        (["--output", "nowhere/m.unet"], "nowhere"),
        (["--output", "mine"], "is a folder"),
        (["--output", "mine.tif"], "ends in .unet"),
        (["--device", "abacus"], "'abacus'"),
    ],
)
def test_train_bad_input(
    pairs: Path, model: Path, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(run("train", pairs, "--output", "mine.unet", *words))
    assert not Path("mine.unet").exists()


def test_a_start_that_is_better_is_told_and_what_was_written_too(pairs: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.unet"
    spoils = ("--steps", 3, *QUICK, "--set", "learning_rate=1", "--set", "ema=0")
    result = run("train", pairs, "--from", model, "--output", output, *spoils)
    assert result.exit_code == 0, result.output
    said = f"{output} holds the new model, but {model} itself is better on these images: go on with {model}, or train"
    assert said in result.stdout
    assert Model.load(output).version != Model.load(model).version


def test_train_refuses_masks_without_objects(pairs: Path, tmp_path: Path) -> None:
    for mask in (pairs / "masks").iterdir():
        tifffile.imwrite(mask, np.zeros((48, 52), np.uint16))
    assert "All masks" in refused(run("train", pairs, "--output", tmp_path / "mine.unet"))


def test_train_bad_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text("name = 3 4", encoding="utf-8")
    assert "r.toml" in refused(run("train", "r.toml", "--output", "m.unet"))
    assert "absent.toml" in refused(run("train", "absent.toml", "--output", "m.unet"))
    assert "--from" in refused(run("train", "r.toml", "--output", "m.unet", "--from", "nuclei"))


# ---- view


def test_view_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "napari-unet demo" in refused(run("view"))


def test_view_opens_the_viewer(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("napari")
    from napari_unet.gui import launch

    opened: list[Path | None] = []
    monkeypatch.setattr(launch, "launch", opened.append)
    monkeypatch.setenv("DISPLAY", ":99")
    assert run("view", image).exit_code == 0
    assert run("view").exit_code == 0
    assert opened == [image, None]
    assert "absent.tif" in refused(run("view", tmp_path / "absent.tif"))
