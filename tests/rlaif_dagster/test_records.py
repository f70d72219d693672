"""Records of materializations on disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq

from rlaif_dagster.home import Home
from rlaif_dagster.records import Record, append_record, read_history
from rlaif_dagster.warehouse.store import Warehouse


def made(version: str, unanswered: int = 0) -> Record:
    when = datetime(2026, 1, int(version), tzinfo=UTC)
    return Record("judgments", "x|m", version, "1", (), "run", when, 1.0, 0.5, unanswered)


def test_a_file_of_an_older_release_is_read_and_added_to(home: Home) -> None:
    """Without the column that counts unanswered questions: nothing is known to lack an answer."""
    warehouse = Warehouse(home.warehouse)
    append_record(warehouse, made("1"))
    path = warehouse.path("lineage", part="judgments")
    old = pq.read_table(path, partitioning=None).drop_columns(["unanswered"])
    pq.write_table(old, path)
    assert read_history(warehouse)["judgments", "x|m"] == [made("1")]
    append_record(warehouse, made("2", unanswered=3))
    assert read_history(warehouse)["judgments", "x|m"] == [made("1"), made("2", unanswered=3)]


def test_what_is_added_last_is_the_latest_whatever_the_clock_says(home: Home) -> None:
    """A clock that was put back, or another machine's on a shared home."""
    warehouse = Warehouse(home.warehouse)
    append_record(warehouse, made("2"))
    append_record(warehouse, made("1"))
    first, last = read_history(warehouse)["judgments", "x|m"]
    assert first == made("2")
    assert last == replace(made("1"), started_at=first.started_at + timedelta(microseconds=1))
    append_record(warehouse, replace(made("1"), partition="y|m"))
    assert read_history(warehouse)["judgments", "y|m"][0].started_at == made("1").started_at
