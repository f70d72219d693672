"""Edits are told once each, when they are whole, and none is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif_dagster.cli.watching import edits, listing

PAUSE = 0.05


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).write_text("as it was")
    return tmp_path


def later(seconds: float, *saves: Callable[[], object]) -> None:
    """Each save, so long after the one before it, while the caller goes on."""

    def run() -> None:
        for save in saves:
            time.sleep(seconds)
            save()

    threading.Thread(target=run, daemon=True).start()


def test_two_saves_within_a_moment_are_one_edit(data: Path) -> None:
    found = edits(data, listing(data), PAUSE)
    later(PAUSE * 0.8, *(lambda name=name: (data / name).write_text("formatted on save") for name in ("a", "b", "a")))
    next(found)
    assert {path.read_text() for path in data.iterdir()} == {"formatted on save"}


def test_what_is_saved_while_an_edit_is_acted_on_is_the_next_edit(data: Path) -> None:
    found = edits(data, listing(data), PAUSE)
    (data / "a").write_text("one")
    next(found)
    (data / "b").write_text("another, meanwhile")
    (data / "a").unlink()
    next(found)
    later(10 * PAUSE, lambda: (data / "c").write_text("a new file"))
    began = time.monotonic()
    next(found)
    assert time.monotonic() - began > 9 * PAUSE  # nothing is told twice
    assert (data / "c").exists()


def test_an_edit_during_the_first_run_counts(data: Path) -> None:
    before = listing(data)
    (data / "a").write_text("saved while the first run went on")
    next(edits(data, before, PAUSE))


def test_temporary_files_of_editors_are_no_edits(data: Path) -> None:
    before = listing(data)
    for name in (".a.swp", "a~"):
        (data / name).write_text("in between")
    assert listing(data) == before
