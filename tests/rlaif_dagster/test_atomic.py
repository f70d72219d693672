"""A reader sees the old file or the new one, and a failed write leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlaif_dagster import atomic


class Cut(Exception):
    """The write was interrupted."""


def test_the_target_keeps_its_old_content_until_the_write_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "file.txt"
    atomic.write_text(target, "old")

    def write(path: Path) -> None:
        path.write_text("half of the n")
        assert target.read_text() == "old"
        assert path.name.startswith(".")
        assert path.parent == target.parent
        path.write_text("new")

    atomic.write_file(target, write)
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_leaves_the_target_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    atomic.write_text(target, "old")

    def write(path: Path) -> None:
        path.write_text("half")
        raise Cut

    with pytest.raises(Cut):
        atomic.write_file(target, write)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "models" / "key"

    def cut() -> None:
        with atomic.new_folder(target) as filling:
            (filling / "weights").write_text("half")
            raise Cut

    with pytest.raises(Cut):
        cut()
    assert list(target.parent.iterdir()) == []

    with atomic.new_folder(target) as filling:
        (filling / "weights").write_text("whole")
        assert not target.exists()
    assert (target / "weights").read_text() == "whole"


def test_a_folder_that_is_there_wins_because_its_name_is_its_content(tmp_path: Path) -> None:
    target = tmp_path / "key"
    with atomic.new_folder(target) as filling:
        (filling / "file").write_text("first")
    with atomic.new_folder(target) as filling:
        (filling / "file").write_text("second")
    assert (target / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_folder_that_another_process_finished_meanwhile_wins_too(tmp_path: Path) -> None:
    target = tmp_path / "key"
    with atomic.new_folder(target) as filling:
        (filling / "file").write_text("second")
        with atomic.new_folder(target) as quicker:
            (quicker / "file").write_text("first")
    assert (target / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_what_cannot_become_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a file of this name")
    with pytest.raises(OSError), atomic.new_folder(tmp_path / "key"):  # which one is the system's
        pass


def test_content_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut could take is flushed first: the bytes, then the folder that holds the new name."""
    file, folder = tmp_path / "new" / "file.txt", tmp_path / "key"
    flushed: list[tuple[str, bool, bool]] = []

    def flush(path: Path) -> None:
        name = path.name.split(".")[1] if path.name.startswith(".") else path.name  # a temporary's is .NAME.….tmp
        flushed.append((name, file.exists(), folder.exists()))

    monkeypatch.setattr(atomic, "flush", flush)
    atomic.write_text(file, "all of it")
    assert flushed == [(tmp_path.name, False, False), ("file", False, False), ("new", True, False)]
    flushed.clear()
    with atomic.new_folder(folder) as filling:
        (filling / "weights").write_text("whole")
    assert flushed == [("weights", True, False), ("key", True, False), (tmp_path.name, True, True)]


def test_flushing_reaches_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    atomic.flush_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        atomic.flush(tmp_path / "gone")
