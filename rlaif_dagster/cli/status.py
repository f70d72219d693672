"""`rlaif status`: the grid, what exists, its age and version, and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, cell_name, only_cell, select
from rlaif_dagster.cli.screen import results
from rlaif_dagster.cli.study import open_study
from rlaif_dagster.cli.wording import age

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from rlaif_dagster.planning import CellStatus

STYLES = {"fresh": "green", "stale": "yellow", "missing": "dim", "failed": "bold red"}


def status(
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """What exists in the chosen cells: fresh, stale, missing or failed, how old, in which version, and why. Writes nothing."""
    chosen = select(model, constitution)
    rows = open_study(chosen).status(chosen.models, chosen.constitutions)
    if json:
        typer.echo(as_json(rows))
        return
    console = results()
    console.print(status_table(rows))
    console.print(summary(rows))


def as_json(rows: list[CellStatus]) -> str:
    """The rows as a JSON list; times in ISO format."""
    import json
    from dataclasses import asdict

    return json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False, default=str)


def status_table(rows: list[CellStatus], now: datetime | None = None) -> Table:
    """One row an asset and cell; the cell is the title where all are of one."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    only = only_cell(row.cell for row in rows)
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=only, title_style="", title_justify="left"
    )
    table.add_column("asset", no_wrap=True)
    if only is None:
        table.add_column("cell", overflow="fold")
    for name in ("state", "age", "version"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows:
        table.add_row(
            row.asset,
            *([cell_name(row.cell)] if only is None else []),
            Text(row.state, style=STYLES[row.state]),
            age(row.made_at, now),
            row.version or "",
            Text(row.reason or ""),
        )
    return table


def summary(rows: list[CellStatus]) -> str:
    """`12 fresh, 3 stale`, and what to do about the rest."""
    counts = {state: sum(row.state == state for row in rows) for state in STYLES}
    text = ", ".join(f"{number} {state}" for state, number in counts.items() if number) or "nothing in these cells"
    if counts["stale"] or counts["missing"] or counts["failed"]:
        text += "; `rlaif plan` says what would run, `rlaif up` runs it"
    return text
