"""SQL over the warehouse: live views in an in-memory DuckDB, and the file `results.duckdb` for any other client.

`connect` opens no database file and takes no lock: each view lists its Parquet files anew at every query, so a query sees
what was finished when it began, whatever runs meanwhile, and a table that nobody has made yet is empty rather than an
error. DuckDB opens a file twice, for its footer and for its pages: a query in between which the file was replaced fails,
and is asked again (`steady`). Files and folders whose name begins with a dot are temporary and belong to no table.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import duckdb

from rlaif_dagster import atomic
from rlaif_dagster.errors import UserError, visible
from rlaif_dagster.home import Home
from rlaif_dagster.warehouse.schemas import TABLES, Table

OutputFormat = Literal["table", "csv", "json", "parquet"]

# The oldest storage format that holds everything we store: any DuckDB from 1.2 on opens the file.
STORAGE_VERSION = "v1.2.0"

# What DuckDB raises over a file that changed under it; errors of the SQL have classes of their own.
_REPLACED = (duckdb.Error, duckdb.IOException, duckdb.InvalidInputException)

T = TypeVar("T")


def connect(
    home: Home, models: Sequence[str] | None = None, constitutions: Sequence[str] | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory database with one commented view a table of `home`'s warehouse.

    `models` and `constitutions` narrow every view that has such a column to these names; rows that belong to no
    constitution (such as the base model's benchmarks) stay.
    """
    connection = duckdb.connect()
    for table in TABLES.values():
        connection.execute(_view(table, home.warehouse, {"model": models, "constitution": constitutions}))
        for comment in _comments("VIEW", table):
            connection.execute(comment)
    return connection


def build_results(
    home: Home, target: Path, models: Sequence[str] | None = None, constitutions: Sequence[str] | None = None
) -> None:
    """Write every table, with comments on tables and columns, to the DuckDB file `target`, narrowed as by `connect`.

    It is built under a temporary name and renamed, so a client that has the old file open keeps its old answers and one
    that opens the file finds it whole.
    """

    def write(path: Path) -> None:
        with connect(home, models, constitutions) as connection:
            connection.execute(f"ATTACH {_literal(str(path))} AS results (STORAGE_VERSION '{STORAGE_VERSION}')")
            for table in TABLES.values():
                copy = f"TABLE results.{_quoted(table.name)} AS FROM memory.{_quoted(table.name)} ORDER BY ALL"
                steady(partial(connection.execute, f"CREATE OR REPLACE {copy}"))
                for comment in _comments("TABLE", table, "results."):
                    connection.execute(comment)
            connection.execute("DETACH results")

    atomic.write_file(target, write)


def query(
    home: Home,
    sql: str,
    format: OutputFormat = "table",
    *,
    models: Sequence[str] | None = None,
    constitutions: Sequence[str] | None = None,
    width: int | None = None,
) -> str | bytes:
    """Run `sql` over the live tables and render the last statement's rows: text for `table`, `csv` and `json` (a list of
    objects), bytes for `parquet`. A text without statements renders as nothing.

    `width` is that of the terminal, for `table`; None folds nothing. Raises UserError with DuckDB's own first sentence
    when the SQL is wrong.
    """
    with connect(home, models, constitutions) as connection:
        try:
            result = steady(lambda: _result(connection, sql, format))
        except duckdb.Error as error:
            problem = str(error).split("\n", 1)[0]
            raise UserError(f"SQL: {problem}; `rlaif sql` without a query lists the tables") from None
    if result is None:
        return b"" if format == "parquet" else ""
    if isinstance(result, bytes):
        return result
    columns, rows = result
    if format == "csv":
        return _csv(columns, rows)
    if format == "json":
        return (
            json.dumps(
                [dict(zip(columns, map(_plain, row), strict=True)) for row in rows], indent=2, ensure_ascii=False
            )
            + "\n"
        )
    return _text_table(columns, rows, width)


def steady(run: Callable[[], T], attempts: int = 10) -> T:
    """`run()`, again when it met a file that was being replaced; errors of the query itself are raised at once."""
    for attempt in range(attempts):
        try:
            return run()
        except duckdb.Error as error:
            if type(error) not in _REPLACED or attempt == attempts - 1:
                raise
            time.sleep(0.02 * attempt)
    raise AssertionError("unreachable")


def _result(
    connection: duckdb.DuckDBPyConnection, sql: str, format: OutputFormat
) -> tuple[list[str], list[tuple[Any, ...]]] | bytes | None:
    """Columns and rows of the last statement, or its Parquet; None for a text without statements."""
    relation = cast("duckdb.DuckDBPyRelation | None", connection.sql(sql))
    if relation is None:
        return None
    if format == "parquet":
        return _parquet(relation)
    return list(relation.columns), relation.fetchall()


def _view(table: Table, root: Path, names: dict[str, Sequence[str] | None]) -> str:
    """The view casts every column to its declared type and knows columns that an old file lacks (they are null there)."""
    none = ", ".join(f"NULL::{column.type} AS {_quoted(column.name)}" for column in table.all_columns)
    columns = ", ".join(
        f"{_quoted(column.name)}::{column.type} AS {_quoted(column.name)}" for column in table.all_columns
    )
    files = "/".join([glob.escape(str(root / table.name)), *("[!.]*" for _ in table.keys), "[!.]*.parquet"])
    conditions = [
        f"({_quoted(key)} IS NULL OR {_quoted(key)} IN ({', '.join(map(_literal, chosen))}))"
        for key in table.keys
        if (chosen := names[key])
    ]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"""
        CREATE VIEW {_quoted(table.name)} AS SELECT {columns} FROM (
            SELECT {none} WHERE false UNION ALL BY NAME
            SELECT * FROM read_parquet({_literal(files)}, allow_empty = true, union_by_name = true, hive_partitioning = false)
        ) {where}"""


def _comments(kind: Literal["VIEW", "TABLE"], table: Table, database: str = "") -> list[str]:
    name = f"{database}{_quoted(table.name)}"
    return [
        f"COMMENT ON {kind} {name} IS {_literal(table.comment)}",
        *(f"COMMENT ON COLUMN {name}.{_quoted(c.name)} IS {_literal(c.comment)}" for c in table.all_columns),
    ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _plain(value: Any) -> Any:
    """A value that JSON can hold; NaN and infinities, which it cannot, are null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def _csv(columns: list[str], rows: list[tuple[Any, ...]]) -> str:
    """Nulls are empty fields; lists and structs are JSON."""
    lines = []
    for row in (columns, *rows):
        buffer = io.StringIO()
        # ends with both characters of a line break, because the writer quotes a text for no others
        writer = csv.writer(buffer, lineterminator="\r\n")
        writer.writerow([json.dumps(_plain(v), ensure_ascii=False) if isinstance(v, list | dict) else v for v in row])
        lines.append(buffer.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _parquet(relation: duckdb.DuckDBPyRelation) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(relation.to_arrow_table(), buffer, compression="zstd")
    return buffer.getvalue()


def _text_table(columns: list[str], rows: list[tuple[Any, ...]], width: int | None) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as TextTable
    from rich.text import Text

    table = TextTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = any(
            isinstance(row[number], int | float | Decimal) and not isinstance(row[number], bool) for row in rows
        )
        table.add_column(Text(visible(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(_cell(value), keep="\n\t")) for value in row))
    buffer = io.StringIO()
    natural = Console(width=1_000_000).measure(table).maximum
    console = Console(
        file=buffer, width=max(min(natural, width) if width else natural, 1), highlight=False, color_system=None
    )
    console.print(table)
    lines = [line.rstrip() for line in buffer.getvalue().strip("\n").splitlines()]
    return "\n".join([*lines, f"({len(rows)} row{'' if len(rows) == 1 else 's'})"]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float | Decimal):
        number = float(value)
        return f"{number:.4g}" if abs(number) < 1e4 else str(number)  # inf and nan are not below it
    if isinstance(value, list | dict):
        return json.dumps(_plain(value), ensure_ascii=False)
    return str(value)
