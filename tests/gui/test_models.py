"""The list of models: shipped, the user's own, and one that knows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_unet.errors import ModelFileError
from napari_unet.gui import models
from napari_unet.model import Model

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_kept_is_known_the_next_time(own_folder: Path) -> None:
    assert [entry.name for entry in models.known_models()] == [models.UNTRAINED]
    path = models.keep(Model.new(width=8, depth=1, name="nuclei · 1"))
    assert path.parent == own_folder
    first, _ = models.known_models()
    assert (first.name, first.path, first.model) == ("nuclei · 1", path, None)
    assert first.get().name == "nuclei · 1"


def test_a_name_that_is_no_file_name() -> None:
    assert models.keep(Model.new(width=8, depth=1, name="a/b: c?")).is_file()


def test_what_another_napari_kept_is_not_written_over(own_folder: Path) -> None:
    first = models.keep(Model.new(width=8, depth=1, name="nuclei · 1"))
    before = first.read_bytes()
    second = models.keep(Model.new(width=8, depth=1, name="nuclei · 1", seed=1))
    assert (first.stem, second.stem) == ("nuclei · 1", "nuclei · 2")
    assert first.read_bytes() == before
    assert Model.load(second).name == second.stem, "the file says the name that the list shows"
    assert Model.load(second).version != Model.load(first).version


def test_what_was_not_judged_is_named_so() -> None:
    model = Model.new(width=8, depth=1, name=f"nuclei · 1{models.UNJUDGED}")
    assert [models.keep(model).stem for _ in range(2)] == ["nuclei · 1 (not judged)", "nuclei · 2 (not judged)"]


def test_how_many_axes_a_model_sees_is_known_before_it_is_read(tmp_path: Path) -> None:
    path = Model.new(ndim=3, width=4, depth=1).save(tmp_path / "stacks.unet")
    entry = models.ModelEntry("stacks", path)
    assert (entry.ndim, entry.model) == (3, None)
    assert entry.get().ndim == entry.ndim
    path.write_bytes(b"broken")
    assert models.ModelEntry("broken", path).ndim == 2
    assert models.ModelEntry(models.UNTRAINED).ndim == 2


def test_what_cannot_be_written_leaves_no_file(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("napari_unet.model.write_whole", full)
    with pytest.raises(ModelFileError, match="no space left"):
        models.keep(Model.new(width=8, depth=1, name="nuclei · 1"))
    assert not list(own_folder.iterdir())


def test_a_file_that_is_gone_is_said() -> None:
    path = models.keep(Model.new(width=8, depth=1, name="x"))
    path.unlink()
    with pytest.raises(ModelFileError, match="no model"):
        models.ModelEntry("x", path).get()


def test_the_list_follows_the_folder(own_folder: Path, tmp_path: Path) -> None:
    paths = [models.keep(Model.new(width=8, depth=1, name=name, seed=i)) for i, name in enumerate("abc")]
    elsewhere = models.ModelEntry("elsewhere", Model.new(width=8, depth=1).save(tmp_path / "elsewhere.unet"))
    entries = [elsewhere, *models.known_models()]
    assert models.follow(entries, None) == entries, "nothing was done"
    a, b, c = ({entry.name: entry for entry in entries}[name] for name in "abc")
    paths[0].rename(own_folder / "renamed.unet")
    paths[1].unlink()
    (tmp_path / "elsewhere.unet").unlink()
    now = models.follow(entries, c)
    assert [entry.name for entry in now] == [entry.name for entry in entries if entry is not b]
    assert (a.name, a.path, a.get().name) == ("renamed", own_folder / "renamed.unet", "renamed")
    paths[2].unlink()
    assert c in models.follow(now, c), "it is in use"
    assert c not in models.follow(now, a)
    came = models.keep(Model.new(width=8, depth=1, name="new"))
    assert models.follow(now, a)[0].path == came


def test_a_folder_that_is_gone_is_empty(own_folder: Path) -> None:
    models.keep(Model.new(width=8, depth=1, name="a")).unlink()
    own_folder.rmdir()
    assert [entry.name for entry in models.follow(models.known_models(), None)] == [models.UNTRAINED]


def test_a_rename_that_fails_leaves_one_whole_file(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = models.ModelEntry("a", models.keep(Model.new(width=8, depth=1, name="a")))

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("napari_unet.model.write_whole", full)
    with pytest.raises(ModelFileError, match="no space left"):
        models.rename(entry, "b")
    assert [path.name for path in own_folder.iterdir()] == ["a.unet"]
    assert Model.load(own_folder / "a.unet").name == "a"


def test_the_head_of_a_file_is_read_anew_when_it_changed(tmp_path: Path) -> None:
    path = Model.new(width=8, depth=1).save(tmp_path / "it.unet")
    entry = models.ModelEntry("it", path)
    first = entry.head()
    assert entry.head() is first
    Model.new(ndim=3, width=4, depth=1).save(path)
    assert entry.ndim == 3
    path.unlink()
    with pytest.raises(ModelFileError, match="cannot be read"):
        entry.head()


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("nuclei", set(), "nuclei · 1"),
        ("nuclei", {"nuclei · 1"}, "nuclei · 2"),
        ("nuclei · 1", {"nuclei · 1"}, "nuclei · 2"),
        ("nuclei", {"nuclei · 1 (not judged)"}, "nuclei · 2"),
        ("nuclei · 2 (not judged)", {"nuclei · 2 (not judged)"}, "nuclei · 1"),
        ("a · b", set(), "a · b · 1"),
    ],
)
def test_names_count_on(name: str, taken: set[str], expected: str) -> None:
    assert models.next_name(name, taken) == expected
