"""`rlaif up`: make what is stale, level by level, and say what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, Selection, cell_name, select
from rlaif_dagster.cli.made import Progress
from rlaif_dagster.cli.plan import SelectOption
from rlaif_dagster.cli.screen import progress, results
from rlaif_dagster.cli.study import open_study
from rlaif_dagster.cli.watching import Listing, edits, listing

if TYPE_CHECKING:
    from rich.console import Console

    from rlaif_dagster.judging.budget import SharedBudget
    from rlaif_dagster.planning import Outcome

INTERRUPTED = 130


def up(
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    select_: SelectOption = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", min=0, metavar="USD", help="Stop judging before more than this is spent."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay, and make again what each edit in data/ makes stale.")
    ] = False,
) -> None:
    """Make what is stale, in order; stop where the content comes out the same. Ends with the arms and the report's path.

    Ctrl-C or a kill loses nothing that is finished: the same command goes on from there.
    """
    from rlaif_dagster.home import current_home
    from rlaif_dagster.judging.budget import SharedBudget

    console = progress()
    try:
        chosen = select(model, constitution)
        seen, rest = listing(chosen.project.root), SharedBudget(current_home(), budget)
        status = _once(chosen, select_ or (), budget, console)
        if watch:
            _follow(chosen.project.root, seen, rest, console)
    except KeyboardInterrupt:
        console.print("Interrupted. What is finished is kept; the same command goes on from there.")
        raise typer.Exit(INTERRUPTED) from None
    if status:
        raise typer.Exit(status)


def _once(chosen: Selection, select_: Sequence[str], budget: float | None, console: Console) -> int:
    """Make what is stale now; the exit status."""
    study = open_study(chosen)
    from rlaif_dagster.lineage.carrying import carry_out

    outcome = carry_out(study, chosen.models, chosen.constitutions, select_, budget, Progress(console))
    if not (outcome.made or outcome.failed or outcome.blocked):
        typer.echo("Nothing to do: everything is fresh.")
    print_results(chosen)
    if print_failures(outcome, console):
        return 2 if outcome.fixable else 1
    return 0


def _follow(data: Path, seen: Listing, rest: SharedBudget, console: Console) -> None:
    """Wait for edits, and run `rlaif up` again after each, without end, with what is left of the budget. In a process of its own
    each time: the code location reads the names of the files once, and a new file must be a new partition."""
    import os
    import subprocess
    import sys

    from rlaif_dagster.judging.ledger import PAYER, part_of_payer

    watching = f"Watching {data}; Ctrl-C ends it."
    console.print(watching)
    for _ in edits(data, seen):
        command = [sys.executable, "-m", "rlaif_dagster.cli.main", *again(sys.argv[1:], rest.left())]
        with subprocess.Popen(command, env=os.environ | {PAYER: part_of_payer("watch")}) as running:
            try:
                running.wait()
            except KeyboardInterrupt:  # which it has heard as well: it closes what it began
                running.wait()
                raise
        console.print(watching)


def again(arguments: Sequence[str], budget_usd: float | None) -> list[str]:
    """The arguments without the watching, and with what is left of the budget: of two `--budget` the last one holds."""
    kept = [one for one in arguments if one not in ("--watch", "-w")]
    return kept if budget_usd is None else [*kept, "--budget", str(budget_usd)]


def print_results(chosen: Selection) -> None:
    """The table of the arms and the report's path, for every chosen cell that has them."""
    from rlaif_dagster.cli.arms import arms_table
    from rlaif_dagster.home import current_home, report_path

    home = current_home()
    for cell in chosen.cells():
        if table := arms_table(home, cell):
            results().print(table)
        path = report_path(home, str(cell.model), str(cell.constitution))
        if path.exists():
            typer.echo(f"Report: {path}")


def print_failures(outcome: Outcome, console: Console) -> bool:
    """What failed and what waits for it, on stderr; true when there is anything."""
    from rich.markup import escape

    for step, message in outcome.failed:
        console.print(
            f"[red]failed[/red]  {step.asset} {cell_name(step.cell)}: {escape(message)}",
            highlight=False,
            soft_wrap=True,
        )
    if outcome.blocked:
        names = ", ".join(f"{step.asset} {cell_name(step.cell)}" for step in outcome.blocked)
        console.print(f"[yellow]not run for that[/yellow]  {names}", soft_wrap=True)
    return bool(outcome.failed or outcome.blocked)
