"""Edits are told once each, when they are whole, and none is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif_dagster.cli.watching import edits, listing


class Script:
    """What is saved in the pauses between looks, one after the other; after the last, the looks may not go on."""

    def __init__(self, *saves: Callable[[], object] | None) -> None:
        self.left = [*saves]

    def __call__(self) -> None:
        save = self.left.pop(0)
        if save:
            save()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).write_text("as it was")
    return tmp_path


def test_saves_that_follow_one_another_are_one_edit(data: Path) -> None:
    saves = [lambda name=name: (data / name).write_text("formatted on save") for name in ("a", "b")]
    script = Script(*saves, lambda: (data / "a").write_text("and once more"), None)
    next(edits(data, listing(data), script))
    assert script.left == []
    assert [(data / name).read_text() for name in ("a", "b")] == ["and once more", "formatted on save"]


def test_what_is_saved_while_an_edit_is_acted_on_is_the_next_and_nothing_is_told_twice(data: Path) -> None:
    script = Script(None, None, None, lambda: (data / "c").write_text("a new file"), None)
    found = edits(data, listing(data), script)
    (data / "a").write_text("one")
    next(found)
    (data / "b").write_text("another, meanwhile")
    (data / "a").unlink()
    next(found)
    assert len(script.left) == 2
    next(found)
    assert script.left == []
    assert (data / "c").exists()


def test_an_edit_during_the_first_run_counts(data: Path) -> None:
    before = listing(data)
    (data / "a").write_text("saved while the first run went on")
    next(edits(data, before, Script(None)))


def test_temporary_and_hidden_files_are_no_edits(data: Path) -> None:
    before = listing(data)
    (data / ".git").mkdir()
    for name in (".a.swp", "a~", ".git/index"):
        (data / name).write_text("in between")
    assert listing(data) == before


def test_a_file_that_has_gone_when_it_is_looked_at_is_passed_over(data: Path) -> None:
    before = listing(data)
    (data / "dangling").symlink_to(data / "gone")
    assert listing(data) == before
