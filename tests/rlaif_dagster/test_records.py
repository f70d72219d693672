"""Records of materializations on disk."""

from __future__ import annotations

from datetime import UTC, datetime

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
