"""`rlaif sql` from the outside: formats, files, stdin, and narrowing to cells."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import Result

from rlaif_dagster.home import Home
from rlaif_dagster.warehouse.schemas import TABLES
from tests.warehouse_samples import write_measurements

Command = Callable[..., Result]


def test_rows_come_in_the_format_asked_for(rlaif: Command, home: Home) -> None:
    write_measurements(home.warehouse)
    sql = "select arm, value from benchmarks order by arm limit 1"
    assert rlaif("sql", sql).stdout == "arm    value\n────────────\nbase     0.5\n(1 row)\n"
    assert rlaif("sql", sql, "--format", "csv").stdout == "arm,value\nbase,0.5\n"
    assert json.loads(rlaif("sql", sql, "--format", "json").stdout) == [{"arm": "base", "value": 0.5}]
    parquet = rlaif("sql", sql, "--format", "parquet").stdout_bytes
    assert pq.read_table(io.BytesIO(parquet)).to_pylist() == [{"arm": "base", "value": 0.5}]


def test_output_goes_to_a_file_and_a_query_may_come_from_stdin(rlaif: Command, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    done = rlaif("sql", "-", "--format", "csv", "--output", str(target), stdin="select 1 as a,\n 2 as b")
    assert done.stdout == ""
    assert target.read_text() == "a,b\n1,2\n"


def test_every_cell_is_there_until_it_is_narrowed(rlaif: Command, home: Home) -> None:
    write_measurements(home.warehouse)
    sql = "select count(*) as n from benchmarks"
    assert rlaif("sql", sql, "-f", "csv").stdout == "n\n4\n"
    assert rlaif("sql", sql, "-f", "csv", "--model", "large").stdout == "n\n0\n"
    assert rlaif("sql", sql, "-f", "csv", "--constitution", "harmless").stdout == "n\n1\n"  # the base model's row


def test_without_a_query_the_tables_are_listed_with_their_rows(rlaif: Command, home: Home) -> None:
    write_measurements(home.warehouse)
    listing = rlaif("sql").stdout
    assert set(TABLES) <= set(listing.split())
    (line,) = [line for line in listing.splitlines() if line.startswith("head_to_head")]
    assert line.split()[1] == "3"
