"""`rlaif compare`: two arms or two cells side by side, measure by measure, with intervals.

Differences are paired: prompt by prompt and question by question, over what both sides have. Their intervals are much
narrower than those of the two levels would suggest. Training seeds of an arm are a level of their own in them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, Selection, select
from rlaif_dagster.cli.screen import results
from rlaif_dagster.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from rlaif_dagster.home import Home
    from rlaif_dagster.report.estimate import Estimate
    from rlaif_dagster.report.evidence import Scores, WinRate
    from rlaif_dagster.resolver import Node
    from rlaif_dagster.warehouse.store import Cell

Place = tuple["Cell", str | None]  # a cell, and the time or version as it was written
ANSWER = 160  # characters of an answer that is shown


@dataclass(frozen=True)
class Side:
    """One side of a comparison: an arm of a cell, now or as it stood at a time."""

    cell: Cell
    arm: str
    at: str | None = None

    def __str__(self) -> str:
        return f"{self.cell.model}/{self.cell.constitution}/{self.arm}{f'@{self.at}' if self.at else ''}"

    @property
    def place(self) -> Place:
        return self.cell, self.at


@dataclass(frozen=True)
class Level:
    """A measure of one side, with the scores behind it (by seed and prompt or question) for pairing."""

    name: str
    estimate: Estimate
    scores: Scores


@dataclass(frozen=True)
class Measured:
    """What was measured in a cell: every arm's levels by a key that is the same in every cell, and who beat whom."""

    levels: Mapping[str, Mapping[str, Level]]
    wins: Mapping[tuple[str, str], WinRate]

    @classmethod
    def read(cls, home: Home, cell: Cell) -> Measured:
        import numpy as np
        import pandas as pd

        from rlaif_dagster.report.evidence import gather, scores_by_arm, table
        from rlaif_dagster.report.suites import suites_of
        from rlaif_dagster.warehouse.cell import cell_tables

        tables = cell_tables(home, cell)
        evidence, adherence = gather(tables), table(tables, "adherence")
        held_out = adherence[adherence["split"] == "eval"]
        scores = {
            f"adherence-{decoding}": scores_by_arm(rows, "prompt_id", "adherent")
            for decoding, rows in held_out.groupby("decoding")
        }
        for suite in suites_of(table(tables, "benchmarks"), table(tables, "benchmark_items")):
            scores[suite.key] = scores_by_arm(suite.items, "item_id", "score")
        none = np.empty((1, 0)), pd.Index([])
        levels: dict[str, dict[str, Level]] = {}
        for measure in (*evidence.adherence, *evidence.suites):
            for arm, estimate in measure.estimates.items():
                level = Level(measure.name, estimate, scores[measure.key].get(arm, none))
                levels.setdefault(arm, {})[measure.key] = level
        return cls(levels, evidence.wins)


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="An arm (`dpo`), or a cell: `model/constitution[/arm]`; either `@TIME` or `@VERSION`."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What to compare it with, named in the same way.")],
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    examples: Annotated[int, typer.Option("--examples", min=0, help="Changed answers to show of an arm.")] = 3,
) -> None:
    """Two arms, cells, or versions of one cell side by side: adherence, benchmarks, the judge's preference, with intervals.

    A cell without an arm stands for each of its arms in turn. `@2026-11-23`, `@14:30` or `@2 hours ago` is the cell as it
    stood then, `@previous` as it stood before its latest results, and `@4f1c09` as it stood on that version of one of its
    assets, which `rlaif lineage` and `rlaif status` name.
    """
    from rlaif_dagster.bucket.local_copy import fresh_home

    chosen = select(model, constitution)
    home = fresh_home()
    pairs = sides(a, b, chosen)
    with tempfile.TemporaryDirectory(prefix="rlaif-compare-") as folder:
        places = dict.fromkeys(side.place for pair in pairs for side in pair)
        homes = {place: _home_at(home, *place, Path(folder, str(n))) for n, place in enumerate(places)}
        cells = {place: Measured.read(homes[place], place[0]) for place in places}
        tables = [(one, other, comparison(cells, one, other)) for one, other in pairs]
        if not any(table for _, _, table in tables):
            raise UserError(f"nothing was measured on both sides of {a} and {b}; `rlaif status` says what there is")
        for one, other, table in tables:
            if table is None:
                results().print(unshared(cells, one, other), style="dim")
                continue
            results().print(table)
            if one.arm == other.arm and one.at != other.at:
                print_changed(changed_answers(homes[one.place], homes[other.place], one, other), one, other, examples)


def _home_at(home: Home, cell: Cell, at: str | None, folder: Path) -> Home:
    """The home whose tables are those of the time, as links in `folder`."""
    if at is None:
        return home
    from rlaif_dagster.bucket.local_copy import fetch_record
    from rlaif_dagster.cli.standing import stood_at
    from rlaif_dagster.cli.study import graph
    from rlaif_dagster.history import records_at, snapshot
    from rlaif_dagster.records import read_history
    from rlaif_dagster.warehouse.store import Warehouse

    nodes, history = graph(), read_history(Warehouse(home.warehouse))
    records = records_at(history, stood_at(history, cell, at))
    own = {key: record for key, record in records.items() if key[0] in nodes and _is_of(cell, nodes[key[0]], key[1])}
    return snapshot(home, nodes, own, folder, lambda record: fetch_record(home, record))


def _is_of(cell: Cell, node: Node, partition: str | None) -> bool:
    """Does an asset's partition belong to the cell: to the very one, its model, its constitution, or the whole study?"""
    from rlaif_dagster.records import cell_of_key

    part = cell_of_key(node.dims, partition)
    return part.model in (None, cell.model) and part.constitution in (None, cell.constitution)


def changed_answers(before: Home, after: Home, one: Side, other: Side) -> pd.DataFrame:
    """Greedy answers that differ between two versions of an arm: columns prompt, before, after, those to the qualitative
    prompts first."""
    from rlaif_dagster.warehouse.cell import cell_tables

    frames = []
    for home, side in ((before, one), (after, other)):
        tables = cell_tables(home, side.cell)
        rows = tables["responses"].query("decoding == 'greedy' and arm == @side.arm").drop_duplicates("prompt_id")
        frames.append(rows.merge(tables["prompts"], on="prompt_id", suffixes=("", "_of_prompt")))
    both = frames[0].merge(frames[1], on="prompt_id", suffixes=("_before", "_after"))
    both = both[both["text_before"] != both["text_after"]].sort_values("split_before", ascending=False, kind="stable")
    columns = {"text_of_prompt_before": "prompt", "text_before": "before", "text_after": "after"}
    return both[list(columns)].rename(columns=columns).reset_index(drop=True)


def print_changed(changed: pd.DataFrame, one: Side, other: Side, examples: int) -> None:
    """A line on how many answers changed, and some of them."""
    from rich.text import Text

    console = results()
    console.print(f"{one.arm}: {len(changed)} greedy answers differ.")
    for row in changed.head(examples).to_dict("records"):
        console.print(Text(f"  {_line(row['prompt'])}", style="bold"))
        console.print(Text(f"  - {_line(row['before'])}", style="red"))
        console.print(Text(f"  + {_line(row['after'])}", style="green"))


def _line(text: str) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= ANSWER else text[: ANSWER - 1] + "…"


def sides(a: str, b: str, chosen: Selection) -> list[tuple[Side, Side]]:
    """The pairs to compare. Raises UserError when a name is neither an arm nor a cell, or only one side names an arm."""
    from rlaif_dagster.report.arms import ARMS

    first, second = _parse(a, chosen), _parse(b, chosen)
    if (first[1] is None) != (second[1] is None):
        raise UserError(f"{a} and {b}: name an arm on both sides or on neither; arms are: {', '.join(ARMS)}")
    arms = [(first[1], second[1])] if first[1] and second[1] else [(arm, arm) for arm in ARMS]
    return [(Side(first[0], one, first[2]), Side(second[0], other, second[2])) for one, other in arms]


def _parse(written_: str, chosen: Selection) -> tuple[Cell, str | None, str | None]:
    from rlaif_dagster.report.arms import ARMS
    from rlaif_dagster.warehouse.store import Cell

    text, _, at = written_.partition("@")
    when = at or None
    parts = text.split("/")
    if len(parts) == 1 and text in ARMS:
        return Cell(*chosen.one("compare")), text, when
    if len(parts) not in (2, 3):
        raise UserError(f"{text!r} is neither an arm ({', '.join(ARMS)}) nor a cell model/constitution[/arm]")
    cell = Cell(*select(parts[:1], parts[1:2]).one("compare"))
    if len(parts) == 2:
        return cell, None, when
    if parts[2] not in ARMS:
        raise UserError(f"{text!r}: unknown arm {parts[2]!r}; arms are: {', '.join(ARMS)}")
    return cell, parts[2], when


def comparison(cells: Mapping[Place, Measured], a: Side, b: Side) -> Table | None:
    """A row a measure that both sides have; None when there is none."""
    from rich import box
    from rich.table import Table

    from rlaif_dagster.cli.arms import written
    from rlaif_dagster.report.evidence import difference

    first, second = (cells[side.place].levels.get(side.arm, {}) for side in (a, b))
    shared = [key for key in first if key in second]
    if not shared:
        return None
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("measure", _heading(a, b), _heading(b, a), "difference", "95% interval", "items"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for key in shared:
        one, other = first[key], second[key]
        found = difference(one.scores, other.scores)
        table.add_row(
            one.name,
            written(one.estimate),
            written(other.estimate),
            found.points if found else "–",
            found.points_range if found else "–",
            str(found.n) if found else "–",
            style="bold" if found and found.sign() else None,
        )
    won = (
        cells[a.place].wins.get((a.arm, b.arm)) if a.place == b.place else None
    )  # the judge compares within a cell only
    if won:
        rates = written(won.rate), written(won.reversed().rate)
        table.add_row("preferred by the judge", *rates, "", "", str(won.rate.n))
    return table


def unshared(cells: Mapping[Place, Measured], a: Side, b: Side) -> str:
    """Why two sides have no measure in common."""
    lacking = [str(side) for side in (a, b) if side.arm not in cells[side.place].levels]
    return f"{a.arm} is left out: nothing was measured of {' and '.join(lacking) or f'{a} that was of {b}'}."


def _heading(side: Side, other: Side) -> str:
    return side.arm if side.place == other.place else str(side)
