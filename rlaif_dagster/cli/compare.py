"""`rlaif compare`: two arms or two cells side by side, measure by measure, with intervals.

Differences are paired: prompt by prompt and question by question, over what both sides have. Their intervals are much
narrower than those of the two levels would suggest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, Selection, select
from rlaif_dagster.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from rlaif_dagster.home import Home
    from rlaif_dagster.report.estimate import Estimate

SEED = 0  # of the bootstrap, so that the same tables give the same interval


@dataclass(frozen=True)
class Side:
    """One side of a comparison: an arm of a cell."""

    model: str
    constitution: str
    arm: str

    def __str__(self) -> str:
        return f"{self.model}/{self.constitution}/{self.arm}"


@dataclass(frozen=True)
class Level:
    """A measure of one side, with the items behind it (indexed by prompt or question) for pairing."""

    name: str
    estimate: Estimate
    items: pd.Series


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="An arm (`dpo`), or a cell: `model/constitution[/arm]`.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What to compare it with, named in the same way.")],
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
) -> None:
    """Two arms, or two cells of the grid, side by side: adherence, benchmarks, the judge's preference, with intervals.

    A cell without an arm stands for each of its arms in turn.
    """
    from rich.console import Console

    from rlaif_dagster.home import current_home

    chosen = select(model, constitution)
    home = current_home()
    pairs = sides(a, b, chosen)
    tables = [table for one, other in pairs if (table := comparison(home, one, other))]
    if not tables:
        raise UserError(f"nothing was measured on both sides of {a} and {b}; `rlaif status` says what there is")
    for table in tables:
        Console().print(table)


def sides(a: str, b: str, chosen: Selection) -> list[tuple[Side, Side]]:
    """The pairs to compare. Raises UserError when a name is neither an arm nor a cell, or only one side names an arm."""
    from rlaif_dagster.report.arms import ARMS

    first, second = _parse(a, chosen), _parse(b, chosen)
    if (first[2] is None) != (second[2] is None):
        raise UserError(f"{a} and {b}: name an arm on both sides or on neither; arms are: {', '.join(ARMS)}")
    arms = [(first[2], second[2])] if first[2] and second[2] else [(arm, arm) for arm in ARMS]
    return [(Side(first[0], first[1], one), Side(second[0], second[1], other)) for one, other in arms]


def _parse(text: str, chosen: Selection) -> tuple[str, str, str | None]:
    from rlaif_dagster.report.arms import ARMS

    parts = text.split("/")
    if len(parts) == 1 and text in ARMS:
        return (*chosen.one("compare"), text)
    if len(parts) not in (2, 3):
        raise UserError(f"{text!r} is neither an arm ({', '.join(ARMS)}) nor a cell model/constitution[/arm]")
    cell = select(parts[:1], parts[1:2]).one("compare")
    if len(parts) == 2:
        return (*cell, None)
    if parts[2] not in ARMS:
        raise UserError(f"{text!r}: unknown arm {parts[2]!r}; arms are: {', '.join(ARMS)}")
    return (*cell, parts[2])


def comparison(home: Home, a: Side, b: Side) -> Table | None:
    """A row a measure that both sides have; None when there is none."""
    from rich import box
    from rich.table import Table

    from rlaif_dagster.cli.arms import written
    from rlaif_dagster.warehouse.cell import cell_tables
    from rlaif_dagster.warehouse.store import Cell

    tables = cell_tables(home, Cell(a.model, a.constitution))
    others = tables if _same_cell(a, b) else cell_tables(home, Cell(b.model, b.constitution))
    first, second = levels(tables, a.arm), levels(others, b.arm)
    shared = [key for key in first if key in second]
    if not shared:
        return None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("measure", _heading(a, b), _heading(b, a), "difference", "95% interval", "items"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for key in shared:
        one, other = first[key], second[key]
        difference = paired(one.items, other.items)
        table.add_row(
            one.name,
            written(one.estimate),
            written(other.estimate),
            difference.points if difference else "–",
            difference.points_range if difference else "–",
            str(difference.n) if difference else "–",
            style="bold" if difference and difference.sign() else None,
        )
    if preferred := _preference(tables, a, b):
        table.add_row(*preferred)
    return table


def levels(tables: Mapping[str, pd.DataFrame], arm: str) -> dict[str, Level]:
    """Every measure of one arm, by a key that is the same in every cell."""
    from rlaif_dagster.report.evidence import gather, item_means, table
    from rlaif_dagster.report.suites import suites_of

    none = table({}, "adherence")["adherent"]
    adherence = table(tables, "adherence")
    items = {
        f"adherence-{decoding}": item_means(rows[rows["split"] == "eval"], "prompt_id", "adherent").get(arm, none)
        for decoding, rows in adherence.groupby("decoding")
    }
    for suite in suites_of(table(tables, "benchmarks"), table(tables, "benchmark_items")):
        items[suite.key] = item_means(suite.items, "item_id", "score").get(arm, none)
    evidence = gather(tables)
    return {
        measure.key: Level(measure.name, measure.estimates[arm], items[measure.key])
        for measure in (*evidence.adherence, *evidence.suites)
        if arm in measure.estimates
    }


def paired(a: pd.Series, b: pd.Series) -> Estimate | None:
    """Mean of a minus b over the items that both have, with its interval; None with fewer than two."""
    import pandas as pd

    from rlaif_dagster.report.estimate import Estimate
    from rlaif_dagster.statistics import paired_difference

    both = pd.concat([a.rename("a"), b.rename("b")], axis=1, join="inner").dropna().sort_index()
    if len(both) < 2:
        return None
    return Estimate(*paired_difference(both["a"].to_numpy(), both["b"].to_numpy(), SEED), len(both))


def _same_cell(a: Side, b: Side) -> bool:
    return (a.model, a.constitution) == (b.model, b.constitution)


def _heading(side: Side, other: Side) -> str:
    return side.arm if _same_cell(side, other) else str(side)


def _preference(tables: Mapping[str, pd.DataFrame], a: Side, b: Side) -> tuple[str, ...] | None:
    """The judge compared arms within a cell only."""
    from rlaif_dagster.cli.arms import written
    from rlaif_dagster.report.evidence import gather

    won = gather(tables).wins.get((a.arm, b.arm)) if _same_cell(a, b) else None
    if won is None:
        return None
    return ("preferred by the judge", written(won.rate), written(won.reversed().rate), "", "", str(won.rate.n))
