"""The warehouse: Parquet files that are the truth, readable by anything at any time.

One folder a table, hive-partitioned by `model` and `constitution` (the columns are in the files as well). A partition
holds one file a *part*, which is what one asset wrote: `responses/model=m/constitution=c/dpo.parquet`. Files are written
under a temporary name and renamed, so no reader ever meets half a table and no lock is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rlaif_dagster import atomic
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.warehouse.schemas import TABLES, Table

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # hive's (and DuckDB's) spelling of null in a path


@dataclass(frozen=True)
class Cell:
    """A place in the grid; None where an asset has no such dimension."""

    model: str | None = None
    constitution: str | None = None


@dataclass(frozen=True)
class Warehouse:
    """Typed reading and writing of the tables under one folder."""

    root: Path

    def path(self, table: str, cell: Cell = Cell(), part: str = "all") -> Path:
        """File of one part of a table."""
        return self.root / relative_path(table, cell, part)

    def write(self, table: str, frame: pd.DataFrame, cell: Cell = Cell(), part: str = "all") -> str:
        """Replace one part; returns the data version of what was written."""
        typed = to_arrow(TABLES[table], frame, cell)
        atomic.write_file(self.path(table, cell, part), lambda path: pq.write_table(typed, path, compression="zstd"))
        return table_version(TABLES[table], typed)

    def read(self, table: str, cell: Cell = Cell(), part: str = "all") -> pd.DataFrame:
        """One part; UserError when it was never made."""
        path = self.path(table, cell, part)
        if not path.exists():
            raise UserError(f"table {table} has no part '{part}' for {_name(cell)}; run `rlaif up` to make it")
        return to_pandas(pq.read_table(path, partitioning=None))

    def has(self, table: str, cell: Cell = Cell(), part: str = "all") -> bool:
        return self.path(table, cell, part).exists()

    def version(self, table: str, cell: Cell = Cell(), part: str = "all") -> str:
        """Data version of a stored part."""
        return table_version(TABLES[table], pq.read_table(self.path(table, cell, part), partitioning=None))


def relative_path(table: str, cell: Cell, part: str = "all") -> str:
    """Where a part of a table lies under the warehouse: hive's layout, one folder a partition key."""
    keys = [f"{key}={getattr(cell, key) or NULL_PARTITION}" for key in TABLES[table].keys]
    return "/".join([table, *keys, f"{part}.parquet"])


def _name(cell: Cell) -> str:
    return "/".join(part for part in (cell.model, cell.constitution) if part) or "the study"


@cache
def arrow_schema(table: Table) -> pa.Schema:
    """The table's columns as Arrow types, by way of DuckDB, whose types the schema speaks."""
    import duckdb  # planning writes no table

    columns = ", ".join(f'NULL::{column.type} AS "{column.name}"' for column in table.all_columns)
    with duckdb.connect() as database:
        relation = database.sql(f"SELECT {columns} LIMIT 0")
        assert relation is not None  # a SELECT has rows, be they none
        return relation.to_arrow_table().schema


def to_arrow(table: Table, frame: pd.DataFrame, cell: Cell) -> pa.Table:
    """`frame` with the partition's keys added, in the table's column order and types.

    Raises ValueError when a column is missing or unknown: a table's columns are a contract.
    """
    keyed = frame.assign(**{key: getattr(cell, key) for key in table.keys})
    expected = [column.name for column in table.all_columns]
    if set(keyed.columns) != set(expected):
        raise ValueError(
            f"table {table.name}: missing columns {sorted(set(expected) - set(keyed.columns))}, "
            f"unknown columns {sorted(set(keyed.columns) - set(expected))}"
        )
    return pa.Table.from_pandas(
        keyed[expected], schema=arrow_schema(table), preserve_index=False
    ).replace_schema_metadata()


def table_version(table: Table, typed: pa.Table) -> str:
    """Hash of the rows in canonical order, volatile columns left out."""
    stable = [column.name for column in table.all_columns if not column.volatile]
    rows = typed.select(stable).to_pylist()
    return content_hash(
        table.name, sorted(content_hash({key: _json(value) for key, value in row.items()}) for row in rows)
    )


def _json(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def to_pandas(typed: pa.Table) -> pd.DataFrame:
    """A DataFrame whose list columns hold plain lists, which compare, hash and serialize."""
    frame = typed.to_pandas()
    for column in frame.columns:  # they come as numpy arrays
        if pa.types.is_list(typed.schema.field(column).type):
            frame[column] = [None if value is None else list(value) for value in frame[column]]
    return frame
