"""Whether two homes hold the same study."""

from __future__ import annotations

import pyarrow.parquet as pq

from rlaif_dagster.warehouse.schemas import TABLES
from tests.checkout import Checkout


def same_tables(study: Checkout, other: Checkout) -> None:
    """Equal versions; every Parquet file can be read; no row appears twice."""
    assert study.versions() == other.versions()
    for path in (study.home / "warehouse").rglob("[!.]*.parquet"):
        pq.read_table(path, partitioning=None)
    for table, key in (
        ("judgments", 'pair_id, principle_id, "order"'),
        ("responses", "arm, seed, prompt_id, decoding"),
    ):
        [counts] = study.rows(f"select count(*) as n, count(distinct ({key}, constitution)) as d from {table}")
        assert counts["n"] == counts["d"] > 0
    assert study.planned() == []


def same_files(study: Checkout, other: Checkout) -> None:
    """Byte for byte, where a table has no times; row for row without them elsewhere."""
    found = {
        path.relative_to(one.home): path
        for one in (study, other)
        for path in (one.home / "warehouse").rglob("[!.]*.parquet")
    }
    compared = 0
    for name in found:
        table = TABLES.get(name.parts[1])
        if table is None or table.name == "lineage":  # which holds when each was made
            continue
        mine, theirs = study.home / name, other.home / name
        volatile = [column.name for column in table.columns if column.volatile]
        if not volatile:
            assert mine.read_bytes() == theirs.read_bytes(), name
            compared += 1
        else:
            ours, expected = (pq.read_table(path, partitioning=None) for path in (mine, theirs))
            assert ours.drop_columns(volatile).equals(expected.drop_columns(volatile)), name
    assert compared > 5
