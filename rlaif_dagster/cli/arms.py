"""The four arms of a cell in one table: what the study asks, in a dozen numbers. The report shows the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from rlaif_dagster.home import Home
    from rlaif_dagster.report.estimate import Estimate
    from rlaif_dagster.warehouse.store import Cell


def arms_table(home: Home, cell: Cell) -> Table | None:
    """A row a measure and a column an arm, with 95% intervals; None when nothing of the cell was measured yet."""
    from rich import box
    from rich.table import Table

    from rlaif_dagster.cli.cells import cell_name
    from rlaif_dagster.report.arms import in_order, label
    from rlaif_dagster.report.evidence import gather
    from rlaif_dagster.warehouse.cell import cell_tables

    evidence = gather(cell_tables(home, cell))
    rows: list[tuple[str, dict[str, Estimate]]] = [
        (measure.name, measure.estimates) for measure in (*evidence.adherence, *evidence.headlines)
    ]
    if wins := {arm: won.rate for (arm, other), won in evidence.wins.items() if other == "base"}:
        rows.append(("win rate against base", wins))
    if not rows:
        return None
    arms = in_order({arm for _, estimates in rows for arm in estimates})
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=cell_name(cell), title_justify="left")
    table.add_column("")
    for arm in arms:
        table.add_column(label(arm), justify="right", no_wrap=True)
    for name, estimates in rows:
        table.add_row(name, *(written(estimates.get(arm)) for arm in arms))
    return table


def written(estimate: Estimate | None) -> str:
    """`91% (82 to 96%)`; a dash for what was not measured."""
    if estimate is None:
        return "–"
    return f"{estimate.share} ({estimate.share_range})" if estimate.has_interval else estimate.share
