"""On several processes: the labels are those of one, also if a worker is killed; and nothing is left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import tifffile
import zarr

pytest.importorskip("distributed")

import itertools
from dataclasses import replace

from napari_unet import Model, UnetError
from napari_unet.exchange import cluster
from napari_unet.exchange.blockwise import segment_blockwise
from napari_unet.exchange.cluster import connect, segment_blocks, segment_each
from napari_unet.exchange.files import plan
from napari_unet.exchange.work import CHUNK, Work, begin
from napari_unet.infer import blocks
from napari_unet.infer.read import read_labels
from napari_unet.infer.segment import SegmentSettings
from napari_unet.jobs import Progress, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    from napari_unet.exchange.batch import Done

ROOT = Path(__file__).parents[2]
SETTINGS = SegmentSettings()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers for all tests here."""
    with connect(2) as found:
        yield found


@pytest.fixture
def model(thresholding: Callable[..., Model], tmp_path: Path) -> Path:
    """Takes what is bright for an object; its objects are 8 wide, so that blocks see little of their neighbours."""
    return replace(thresholding(name="bright"), diameter=8.0).save(tmp_path / "bright.unet")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64², which the plan hands on to the workers."""
    monkeypatch.setitem(blocks.PIXELS, 2, 64**2)
    monkeypatch.setitem(CHUNK, 2, 32)


def disks(shape: tuple[int, int], count: int = 60, seed: int = 0) -> np.ndarray:
    """Return bright disks, 8 wide; some lie over the ends of blocks, and some touch."""
    random, image = np.random.default_rng(seed), np.zeros(shape, np.uint16)
    y, x = np.indices(shape)
    for cy, cx in zip(random.integers(0, shape[0], count), random.integers(0, shape[1], count), strict=True):
        image[(y - cy) ** 2 + (x - cx) ** 2 <= 16] = 4000
    return image


def write_zarr_image(path: Path, image: np.ndarray) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("0", data=image, chunks=(32, 32))
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    return path


def write_plate(path: Path) -> Path:
    """Write two wells with two fields each."""
    zarr.open_group(path, mode="w").attrs["ome"] = {
        "version": "0.5",
        "plate": {"wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}, {"path": "B/2"}]},
    }
    for seed, well in enumerate(("A/1", "B/2")):
        images = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
        zarr.open_group(path / well, mode="w").attrs["ome"] = images
        for i in range(2):
            write_zarr_image(path / well / str(i), disks((50, 60), 5 * i + 3, seed))
    return path


def write_images(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for i in range(count):
        tifffile.imwrite(folder / f"f{i}.tif", disks((50, 60), 10, seed=i))
    return folder


def told(job) -> dict[str, Done]:
    """Run a job over images; return what became of each by the name of its labels."""
    found: dict[str, Done] = {}

    def keep(progress: Progress) -> None:
        if progress.payload is not None:
            found[progress.payload.target.name] = progress.payload

    run(job, keep)
    return found


def left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.name.startswith("."))


# ---- blocks


@pytest.mark.parametrize("kind", [".tif", ".ome.zarr"])
def test_two_workers_give_the_labels_of_one_process(
    client: Client, model: Path, small_blocks: None, kind: str, tmp_path: Path
) -> None:
    image, loaded = write_zarr_image(tmp_path / "a.ome.zarr", disks((150, 200))), Model.load(model)
    alone, shared = tmp_path / f"alone{kind}", tmp_path / f"shared{kind}"
    expected = run(segment_blockwise(loaded, image, alone, SETTINGS))
    work = run(begin(loaded, image, shared, SETTINGS))
    steps: list[Progress] = []
    result = run(segment_blocks(client, work), steps.append)
    assert result.found == expected.found
    assert result.found["objects"] > 30
    np.testing.assert_array_equal(read_labels(shared), read_labels(alone))
    assert [step.message for step in steps if step.message.startswith("block ")][-1] == "block 12 of 12"
    assert left(tmp_path) == []


def test_classes(client: Client, thresholding: Callable[..., Model], small_blocks: None, tmp_path: Path) -> None:
    loaded = thresholding(task="classes", classes=("background", "dim", "bright"))
    image = write_zarr_image(tmp_path / "a.ome.zarr", disks((150, 200)))
    expected = run(segment_blockwise(loaded, image, tmp_path / "alone.tif", SETTINGS))
    result = run(segment_blocks(client, run(begin(loaded, image, tmp_path / "shared.tif", SETTINGS))))
    assert result.found == expected.found
    np.testing.assert_array_equal(read_labels(tmp_path / "shared.tif"), read_labels(tmp_path / "alone.tif"))


def test_a_worker_that_is_killed_changes_nothing(
    client: Client, model: Path, small_blocks: None, tmp_path: Path
) -> None:
    image, loaded = write_zarr_image(tmp_path / "a.ome.zarr", disks((300, 400), 200)), Model.load(model)
    run(segment_blockwise(loaded, image, tmp_path / "alone.ome.zarr", SETTINGS))
    work = run(begin(loaded, image, tmp_path / "shared.ome.zarr", SETTINGS))
    killed = []

    def kill(progress: Progress) -> None:
        """Kill a worker in a block, and another one while blocks are written."""
        if progress.message.startswith(("block 3 of", "writing blocks")) and progress.message not in killed:
            killed.append(progress.message)
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    run(segment_blocks(client, work), kill)
    assert len(killed) == 2
    labels = read_labels(tmp_path / "shared.ome.zarr")
    np.testing.assert_array_equal(labels, read_labels(tmp_path / "alone.ome.zarr"))
    assert left(tmp_path) == []
    client.wait_for_workers(2, timeout=60)


def test_what_was_done_is_not_done_again(client: Client, model: Path, small_blocks: None, tmp_path: Path) -> None:
    image, loaded = write_zarr_image(tmp_path / "a.ome.zarr", disks((150, 200))), Model.load(model)
    work = run(begin(loaded, image, tmp_path / "a.tif", SETTINGS))
    job = segment_blocks(client, work)
    while next(job).message != "block 3 of 12":
        pass
    job.close()  # as Ctrl+C does
    done = [file.stat().st_mtime_ns for file in sorted((work.folder / "blocks").glob("*.npz"))]
    assert len(done) >= 3
    first = next(iter(segment_blocks(client, Work(work.folder))))
    assert first.total <= 9


def test_what_a_user_can_mend_is_told_as_one_sentence(
    client: Client, model: Path, small_blocks: None, tmp_path: Path
) -> None:
    image = write_zarr_image(tmp_path / "a.ome.zarr", disks((150, 200)))
    work = run(begin(Model.load(model), image, tmp_path / "a.tif", SETTINGS))
    for chunk in (image / "0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"no")
    with pytest.raises(UnetError, match="expected a whole image"):
        run(segment_blocks(client, work))
    assert not (tmp_path / "a.tif").exists()


def test_workers_refuse_another_program_and_another_plan(
    client: Client, model: Path, small_blocks: None, tmp_path: Path
) -> None:
    image = write_zarr_image(tmp_path / "a.ome.zarr", disks((150, 200)))
    work = run(begin(Model.load(model), image, tmp_path / "a.tif", SETTINGS))
    said = work.plan | {"asked": work.plan["asked"] | {"program": "0.0.1"}}
    (work.folder / "plan.json").write_text(json.dumps(said))
    run_one = client.submit(cluster._block, work.folder, cluster._plan_of(work), work.blocks[0], "cpu")
    assert "planned by napari-unet 0.0.1" in str(run_one.result())
    other = client.submit(cluster._block, work.folder, "old", work.blocks[0], "cpu")
    assert "does not see" in str(other.result())


# ---- images


def test_images_of_a_folder(client: Client, model: Path, tmp_path: Path) -> None:
    folder, output = write_images(tmp_path / "images"), tmp_path / "out"
    (folder / "f1.tif").write_bytes((folder / "f1.tif").read_bytes()[:100])
    done = told(segment_each(client, str(model), plan([folder], output, "bright"), SETTINGS))
    assert done.keys() == {f"f{i}_labels.tif" for i in range(3)}
    assert "f1.tif" in done["f1_labels.tif"].error
    for i in (0, 2):
        labels = read_labels(output / f"f{i}_labels.tif")
        np.testing.assert_array_equal(labels, Model.load(model).segment(disks((50, 60), 10, seed=i)))
        assert done[f"f{i}_labels.tif"].result.found == {"objects": int(labels.max())}


def test_large_images_among_small_ones(
    client: Client, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = write_images(tmp_path / "images"), tmp_path / "out"
    tifffile.imwrite(folder / "large.tif", disks((150, 200)))
    monkeypatch.setattr("napari_unet.exchange.blockwise.LARGE", 50 * 60)
    steps: list[str] = []
    job = segment_each(client, str(model), plan([folder], output, "bright"), SETTINGS)
    run(job, lambda progress: steps.append(progress.message))
    assert "large.tif: block 1 of 1" in steps
    assert steps[-1] == "large.tif"
    whole = Model.load(model).segment(disks((150, 200)))
    np.testing.assert_array_equal(read_labels(output / "large_labels.tif"), whole)
    assert left(output) == []


@pytest.mark.parametrize("inside", [True, False])
def test_a_plate_is_an_image_for_each_field(client: Client, model: Path, tmp_path: Path, inside: bool) -> None:
    plate = write_plate(tmp_path / "plate.ome.zarr")
    output = plate if inside else tmp_path / "out"
    work = plan([plate], output, "bright")
    done = told(segment_each(client, str(model), work, SETTINGS))
    assert len(work) == 4
    for well in ("A/1", "B/2"):
        for i in "01":
            name = f"plate_{well.replace('/', '_')}_{i}_labels.ome.zarr"
            labels = read_labels(plate / well / i if inside else output / name)
            assert labels.max() > 0
            np.testing.assert_array_equal(labels > 0, zarr.open_array(plate / well / i / "0")[...] > 0)
    assert not any(each.error for each in done.values())
    if not inside:  # and the labels beside a plate are not taken for images
        assert [image for image, _ in plan([plate], tmp_path, "bright")] == [image for image, _ in work]


# ---- workers


def test_a_scheduler_that_is_there(client: Client, model: Path, tmp_path: Path) -> None:
    work = plan([write_images(tmp_path / "images", 2)], tmp_path / "out", "bright")
    with connect(scheduler=client.cluster.scheduler_address) as other:
        done = told(segment_each(other, str(model), work, SETTINGS))
    assert [each.error for each in done.values()] == ["", ""]
    assert client.run(lambda: 1), "its workers go on"


def test_workers_that_come_later_are_used_and_do_one_task_at_a_time(tmp_path: Path) -> None:
    """A worker with two threads, that comes when all was asked for: how a cluster with a queue begins."""
    from distributed import Client, LocalCluster

    def times(_: int) -> tuple[float, float]:
        def task() -> tuple[float, float]:
            began = time.monotonic()
            time.sleep(0.05)
            return began, time.monotonic()

        return cluster._told(task)()

    with (
        LocalCluster(n_workers=0, threads_per_worker=2, dashboard_address=":0", local_directory=tmp_path) as local,
        Client(local, set_as_default=False) as client,
    ):
        threading.Timer(1.0, lambda: local.scale(1)).start()
        spans = sorted(what for _, what in cluster._results(client, times, {i: (i,) for i in range(5)}))
    assert len(spans) == 5
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_worker_has_the_threads_that_it_was_started_with(client: Client) -> None:
    def threads(_: int) -> tuple[int, int]:
        import torch

        cluster._settle()
        return torch.get_num_threads(), cluster._place()[1]

    found = {what for _, what in cluster._results(client, threads, {i: (i,) for i in range(6)})}
    assert {threads for threads, _ in found} == set(client.nthreads().values())
    assert {number for _, number in found} <= {0, 1}


def test_nothing_is_left(tmp_path: Path) -> None:
    def alive() -> set[int]:
        return {process.pid for process in psutil.Process().children(recursive=True) if process.is_running()}

    before, threads = alive(), {thread for thread in threading.enumerate() if not thread.daemon}
    with connect(1) as client:
        scratch = Path(client.cluster.workers[0].local_directory)
        assert scratch.exists()
        assert alive() - before
    tracker = {getattr(multiprocessing.resource_tracker._resource_tracker, "_pid", None)}
    assert alive() - before <= tracker
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= threads
    assert not scratch.exists()


def lives(group: int) -> bool:
    """Return whether a process of a group is there and not merely unmourned."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def test_ctrl_c_ends_the_workers_too(model: Path, tmp_path: Path) -> None:
    """A program of its own, as a shell runs it: Ctrl+C goes to all its processes."""
    words = ["segment", write_images(tmp_path / "images", 200), "--model", model, "--output", tmp_path / "out"]
    # it listens also where the tests themselves run in the background
    listening = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from napari_unet import cli; cli.main()"
    program = [sys.executable, "-c", listening, *map(str, words), "--workers", "2"]
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    assert process.stdout is not None
    try:
        assert "objects" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130
        assert error == "napari-unet: stopped.\n"
        while lives(process.pid):  # Python's own helpers end a moment later; the test's time limit ends this
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER", 0.5)
    with (
        pytest.raises(UnetError, match="No dask scheduler answers at"),
        connect(None, "tcp://127.0.0.1:9"),
    ):
        pass
    with pytest.raises(UnetError, match="No dask scheduler"), connect(None, "nonsense://x"):
        pass


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(UnetError, match=r"pip install 'napari-unet-live\[cluster\]'"), connect(2):
        pass


def test_the_script_for_slurm(tmp_path: Path) -> None:
    """What SLURM is handed starts workers with the threads of their job."""
    pytest.importorskip("dask_jobqueue")
    program = [sys.executable, str(ROOT / "docs" / "slurm.py"), "--job-script"]
    done = subprocess.run(program, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "#SBATCH --cpus-per-task=8" in done.stdout
    assert "--nthreads 8" in done.stdout
