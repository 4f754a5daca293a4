"""A folder is replaced whole or not at all, and one that a killed program took away comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_unet.whole import put_back, replace_folder, write_whole


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content, encoding="utf-8")
    return path


def content(path: Path) -> str:
    return (path / "file").read_text(encoding="utf-8")


def killed_between(new: Path, path: Path) -> None:
    """Leave things as a program does that is killed between the two renames."""
    os.rename(path, path.parent / f".{path.name}.old")
    assert new.exists()
    assert not path.exists()


def test_a_folder_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "it"
    for text in ("first", "second"):
        replace_folder(folder(tmp_path / "new", text), path)
        assert content(path) == text
        assert list(tmp_path.iterdir()) == [path]


def test_after_a_kill_the_old_folder_is_put_back(tmp_path: Path) -> None:
    path, new = folder(tmp_path / "it", "old"), folder(tmp_path / "new", "new")
    killed_between(new, path)
    put_back(path)
    assert content(path) == "old"
    killed_between(new, path)
    replace_folder(new, path)
    assert content(path) == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_stands_is_not_touched(tmp_path: Path) -> None:
    """Killed after the new folder stood: the old one beside it is no longer wanted."""
    path = folder(tmp_path / "it", "new")
    folder(tmp_path / ".it.old", "old")
    put_back(path)
    assert content(path) == "new"
    replace_folder(folder(tmp_path / "newer", "newer"), path)
    assert content(path) == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_rename_that_fails_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, new, rename = folder(tmp_path / "it", "old"), folder(tmp_path / "new", "new"), os.rename

    def refuse(source: Path, target: Path) -> None:
        if source == new:
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        replace_folder(new, path)
    assert content(path) == "old"


def test_where_nothing_was_there_is_nothing_to_put_back(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", Path("."), tmp_path / ("a" * 250)):
        put_back(path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    for data in (b"one", b""):
        write_whole(tmp_path / "it", data)
        assert (tmp_path / "it").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
