"""`rlaif plan`: what would run and why, and what it would cost, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, cell_name, only_cell, select
from rlaif_dagster.cli.changes import diff
from rlaif_dagster.cli.screen import results
from rlaif_dagster.cli.study import open_study
from rlaif_dagster.cli.wording import count, dollars, duration, gibibytes, plural, room

if TYPE_CHECKING:
    from rich.table import Table

    from rlaif_dagster.planning import Plan, Step
    from rlaif_dagster.spec.project import Project

REASONS = 4  # of a step, in the table
# what asks the judge, whatever the recipes say
JUDGED = {"judge_agreement", "judgments", "head_to_head", "qualitative"}

SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        "-s",
        metavar="ASSET",
        help="Only this asset; `+ASSET` with all it needs, `ASSET+` with all that follows; repeatable.",
    ),
]


def plan(
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    select_: SelectOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the steps as JSON.")] = False,
) -> None:
    """What is stale and why, in order, with judge calls, tokens, US dollars and time. Writes and spends nothing."""
    chosen = select(model, constitution)
    planned = open_study(chosen).plan(chosen.models, chosen.constitutions, select_ or ())
    if json:
        typer.echo(as_json(planned))
    elif not planned.steps:
        typer.echo("Nothing to do: everything is fresh.")
    else:
        console = results()
        for edited in diff(planned):
            console.print(edited)
        console.print(plan_table(planned))
        for line in (*totals(planned), *memory_lines(planned), *model_warnings(planned, chosen.project)):
            console.print(line, markup=False)


def as_json(planned: Plan) -> str:
    """The steps as a JSON list, one object a step; its `causes` hold each edited field, before and after."""
    import json
    from dataclasses import asdict

    return json.dumps([asdict(step) for step in planned.steps], indent=2, ensure_ascii=False, default=str)


def plan_table(planned: Plan) -> Table:
    """One row a step, in the order of running; what runs only if its parents change is dim and marked `maybe`. The cell is the
    title where all are of one."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    only = only_cell(step.cell for step in planned.steps)
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=only, title_style="", title_justify="left"
    )
    table.add_column("", justify="right", style="dim")
    table.add_column("asset", no_wrap=True)
    if only is None:
        table.add_column("cell", overflow="fold")
    table.add_column("runs", no_wrap=True)
    table.add_column("because", overflow="fold")
    amounts = _amounts(planned)
    for name in amounts:
        table.add_column(name, justify="right", no_wrap=True)
    for number, (step, *written) in enumerate(zip(planned.steps, *amounts.values(), strict=True), 1):
        table.add_row(
            str(number),
            step.asset,
            *([cell_name(step.cell)] if only is None else []),
            "yes" if step.certain else "maybe",
            Text(because(step.reasons)),
            *written,
            style=None if step.certain else "dim",
        )
    return table


def _amounts(planned: Plan) -> dict[str, list[str]]:
    """What each step takes, by the column's name; a column in which no step has anything is left out, but for the time."""
    steps = planned.steps
    columns = {
        "calls": [count(step.requests) for step in steps],
        "tokens": [count(step.tokens) for step in steps],
        "price": [dollars(step.usd) for step in steps],
        "time": [duration(step.seconds) for step in steps],
        "memory": [gibibytes(step.memory_bytes) if step.memory_bytes else "" for step in steps],
    }
    return {name: written for name, written in columns.items() if name == "time" or {*written} - {"-", ""}}


def because(reasons: Sequence[str]) -> str:
    """The first reasons; an asset that gathers many cells has as many."""
    more = len(reasons) - REASONS
    return "; ".join(reasons[:REASONS]) + (f"; and {more} more" if more > 0 else "")


def totals(planned: Plan) -> list[str]:
    """A line for what is certain to run and, where there is more, one for all of it at most."""
    certain = [step for step in planned.steps if step.certain]
    lines = [f"Certain: {_sum(certain)}."] if certain else []
    if len(certain) < len(planned.steps):
        lines.append(
            f"At most: {_sum(planned.steps)}. A step marked maybe runs only if what it reads comes out different."
        )
    return lines


def memory_lines(planned: Plan) -> list[str]:
    """A line for the step that would need the most of those that this machine has too little for, and one where steps run on a
    cluster, of whose memory nothing is known here."""
    from rlaif_dagster.memory_places import places

    there, lines = places(), []
    sized = [(step, step.memory_bytes) for step in planned.steps if step.memory_bytes]
    if short := [(step, needed) for step, needed in sized if not there.of(step.asset).holds(needed)]:
        largest, needed = max(short, key=lambda one: one[1])
        lines.append(
            f"Too large for this machine: {largest.asset} ({cell_name(largest.cell)}) needs some {gibibytes(needed)}; it has "
            f"{room(there.of(largest.asset))}; `rlaif doctor --model {largest.cell.model}` says what of."
        )
    if any(there.of(step.asset).bytes is None for step, _ in sized):
        which = "Memory" if there.training.bytes is None else "Memory of sampling and evaluation"
        lines.append(f"{which}: on the cluster; not compared with this machine.")
    return lines


def model_warnings(planned: Plan, project: Project) -> list[str]:
    """A line for each folder that lacks files of its model, which steps of the plan or the judge would load."""
    from rlaif_dagster.model_files import folder_problem
    from rlaif_dagster.spec.judge import LikelihoodJudge

    names = {step.cell.model for step in planned.steps}
    if any(step.asset in JUDGED for step in planned.steps):
        judges = project.judges(project.recipe("judging").judge).values()
        names |= {judge.model for judge in judges if isinstance(judge, LikelihoodJudge)}
    problems = {name: folder_problem(project.model(name)) for name in sorted(filter(None, names))}
    return [f"Model {name} cannot be loaded: {problem}." for name, problem in problems.items() if problem]


def _sum(steps: list[Step] | tuple[Step, ...]) -> str:
    known = [step.seconds for step in steps if step.seconds is not None]
    unknown = len(steps) - len(known)
    time = duration(sum(known)) if known else "time unknown"
    if known and unknown:
        time = f"{time} and {plural(unknown, 'step')} of unknown length"
    requests, tokens = sum(step.requests for step in steps), sum(step.tokens for step in steps)
    judge = f"{count(requests)} judge calls, {count(tokens)} tokens, " if requests else "no judge calls, "
    price = dollars(usd) if (usd := sum(step.usd for step in steps)) else "$0"
    return f"{plural(len(steps), 'step')}, {judge}{price}, {time}"
