"""Finished chunks are never computed again, and an interrupted one leaves no half result."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlaif_dagster.work import Chunks


class Killed(Exception):
    """The run ended in the middle."""


def test_a_chunk_is_computed_once_a_key_and_survives_the_process(tmp_path: Path) -> None:
    calls: list[str] = []

    def compute(key: str) -> list[str]:
        calls.append(key)
        return [key, "—"]

    for _ in range(2):
        chunks = Chunks(tmp_path / "chunks")  # what a new process would open
        assert chunks.get_or_compute("one", lambda: compute("one")) == ["one", "—"]
        assert chunks.get_or_compute("two", lambda: compute("two")) == ["two", "—"]
    assert calls == ["one", "two"]


def test_a_falsy_result_is_a_result(tmp_path: Path) -> None:
    chunks = Chunks(tmp_path)
    assert chunks.get_or_compute("empty", list) == []
    assert chunks.get_or_compute("empty", lambda: ["computed again"]) == []


def test_what_was_finished_before_a_kill_is_found_and_the_rest_is_computed(tmp_path: Path) -> None:
    def killed() -> list[str]:
        raise Killed

    chunks = Chunks(tmp_path)
    chunks.get_or_compute("one", lambda: "done")
    with pytest.raises(Killed):
        chunks.get_or_compute("two", killed)
    assert chunks.get_or_compute("one", killed) == "done"
    assert chunks.get_or_compute("two", lambda: "done later") == "done later"
