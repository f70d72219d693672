"""`rlaif sql`: DuckDB over the live tables."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import EVERY, ConstitutionsOption, ModelsOption, select
from rlaif_dagster.cli.screen import results

if TYPE_CHECKING:
    from rlaif_dagster.home import Home


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def sql(
    query: Annotated[
        str | None, typer.Argument(help="SQL; `-` reads it from stdin; without it, the tables are listed.")
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How rows are printed.")] = Format.table,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead.")] = None,
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
) -> None:
    """Query the tables with DuckDB's SQL, live, while anything else runs.

    Here `--model` and `--constitution` narrow the tables to these cells; without them every cell is there.
    """
    from rlaif_dagster import atomic
    from rlaif_dagster.bucket.local_copy import fresh_home
    from rlaif_dagster.errors import UserError, visible
    from rlaif_dagster.warehouse.sql import query as run

    home = fresh_home()
    if query is None:
        _list_tables(home)
        return
    chosen = select(model or [EVERY], constitution or [EVERY])
    text = sys.stdin.read() if query == "-" else query
    if format is Format.parquet and output is None and sys.stdout.isatty():
        raise UserError("Parquet is no text: add --output FILE, or send the output into a file")
    rows = run(
        home,
        text,
        format.value,
        models=chosen.models if model else None,
        constitutions=chosen.constitutions if constitution else None,
        width=_width(),
    )
    if isinstance(rows, str) and output is None and sys.stdout.isatty():
        rows = visible(rows, keep="\n\t")  # for eyes: an escape sequence in an answer would drive the terminal
    data = rows if isinstance(rows, bytes) else rows.encode()
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return

    def write(path: Path) -> None:
        path.write_bytes(data)

    atomic.write_file(output, write)


def _width() -> int | None:
    """The terminal's; None when the output goes elsewhere, where folding would only hurt."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _list_tables(home: Home) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from rlaif_dagster.warehouse.schemas import TABLES
    from rlaif_dagster.warehouse.sql import connect

    listing = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    listing.add_column("table", no_wrap=True)
    listing.add_column("rows", justify="right")
    listing.add_column("what a row is")
    listing.add_column("columns")
    with connect(home) as connection:
        for table in TABLES.values():
            counted = connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()
            columns = Text(", ".join(column.name for column in table.all_columns))
            listing.add_row(table.name, str(counted[0] if counted else 0), table.comment, columns)
    results().print(listing)
