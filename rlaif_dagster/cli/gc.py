"""`rlaif gc`: what nothing refers to any more, shown, then removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import EVERY, select
from rlaif_dagster.cli.screen import results
from rlaif_dagster.cli.wording import gibibytes, plural

if TYPE_CHECKING:
    from rlaif_dagster.home import Home
    from rlaif_dagster.removed import Removed

SHOWN = 20


def gc(
    keep: Annotated[
        int, typer.Option("--keep", min=1, metavar="N", help="Versions of every asset and partition that stay.")
    ] = 3,
    removed: Annotated[
        bool,
        typer.Option("--removed", help="Also all that was made of models and constitutions without a file in data/."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, and remove nothing.")] = False,
) -> None:
    """Remove old versions of tables, adapters and remembered results that no kept version refers to.

    What is current stays, unless it is of a model or constitution without a file and `--removed` is given. So do base models,
    judge answers and the records of what was made from what.
    """
    from rlaif_dagster.bucket.local_copy import fresh_home, store_of
    from rlaif_dagster.garbage import NONE, garbage, remove

    home = fresh_home()
    gone = _gone(home) if removed else NONE
    found = sorted(garbage(home, keep, gone), key=lambda item: -item.size)
    if not found:
        typer.echo("Nothing to remove.")
        return
    console = results()
    for item in found[:SHOWN]:
        console.print(f"{gibibytes(item.size):>9}  {item.what}  {item.path.relative_to(home.root)}", soft_wrap=True)
    if len(found) > SHOWN:
        console.print(f"           and {len(found) - SHOWN} smaller ones")
    else_ = " else" if removed else ""
    total = gibibytes(sum(item.size for item in found))
    console.print(
        f"{plural(len(found), 'item')}, {total}; the last {plural(keep, 'version')} of everything{else_} stay."
    )
    if dry_run:
        return
    if not yes and not typer.confirm("Remove them?"):
        raise typer.Exit(1)
    home = fresh_home()  # others may have made something while the question stood, or removed
    shown = set(found)
    remove([item for item in garbage(home, keep, gone) if item in shown], store_of(home))
    typer.echo("Removed.")


def _gone(home: Home) -> Removed:
    """What was made in cells that the study's files no longer have."""
    from rlaif_dagster.cli.study import graph
    from rlaif_dagster.records import read_history
    from rlaif_dagster.removed import removed_cells
    from rlaif_dagster.warehouse.store import Warehouse

    chosen = select([EVERY], [EVERY])
    history = read_history(Warehouse(home.warehouse))
    return removed_cells(home, history, graph(), chosen.models, chosen.constitutions)
