"""`rlaif backfill`: cells of the grid, made by Dagster's daemon and shown under Backfills in the UI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, select
from rlaif_dagster.cli.study import open_study
from rlaif_dagster.cli.wording import plural
from rlaif_dagster.errors import UserError

if TYPE_CHECKING:
    from rlaif_dagster.resolver import State
    from rlaif_dagster.warehouse.store import Cell

BY_HAND = "by-hand"


def backfill(
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="ASSET", help="This asset and all that follows from it, fresh or not."),
    ] = None,
) -> None:
    """Ask Dagster's daemon for the chosen cells: what is stale in them or, with `--from`, an asset and all that follows.

    Steps of which nothing changed give back what is remembered. The daemon runs as long as `rlaif ui` does.
    """
    chosen = select(model, constitution)
    study = open_study(chosen)
    from rlaif_dagster.lineage.backfills import KIND_TAG, daemon_is_alive, start_backfill
    from rlaif_dagster.lineage.runs import IF_STALE_TAG, observe_all

    tags = {KIND_TAG: BY_HAND}
    if start is None:
        partitions = [(item.asset, item.cell) for item in study.stale(chosen.models, chosen.constitutions)]
        tags[IF_STALE_TAG] = "yes"
    elif start not in study.nodes:
        raise UserError(f"--from {start!r}: no such asset; assets are: {', '.join(sorted(study.nodes))}")
    else:
        assets = study.selected([f"{start}+"]) or set()
        nodes = [node for node in study.nodes.values() if node.asset in assets and node.code_version]
        partitions = [(node.asset, cell) for node in nodes for cell in node.cells(chosen.models, chosen.constitutions)]
    if not partitions:
        typer.echo("Nothing to do: everything is fresh.")
        return
    with study.instance() as instance:
        observe_all(instance, study.state(), chosen.project)
        title = f"rlaif backfill{f' --from {start}' if start else ''}"
        cells = f"models {', '.join(chosen.models)}; constitutions {', '.join(chosen.constitutions)}"
        new = sorted(_without_records(study.state(), partitions))
        made = start_backfill(instance, study.defs.resolve_asset_graph(), partitions, title, cells, tags)
        alive = daemon_is_alive(instance)
    typer.echo(f"Backfill {made}: {plural(len(partitions), 'partition')}.")
    typer.echo("Dagster's daemon works on it; see Runs, Backfills." if alive else "It starts when `rlaif ui` does.")
    if alive and new:
        typer.echo(
            f"Nothing was ever made of {', '.join(new)}: if a file is newer than `rlaif ui`, press Reload definitions there."
        )


def _without_records(state: State, partitions: Iterable[tuple[str, Cell]]) -> set[str]:
    """Models and constitutions among the partitions of which nothing was ever made."""
    known = {name for _, key in state.records for name in (key or "").split("|")}
    return {name for _, cell in partitions for name in (cell.model, cell.constitution) if name} - known
