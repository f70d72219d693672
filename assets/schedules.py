"""What runs by the clock: every night what is stale, every week the benchmarks anew. Both are Dagster backfills."""

from __future__ import annotations

import uuid

import dagster as dg

from assets.graph import graph_nodes
from assets.jobs import JOBS
from assets.kept import look
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.automation import inside, stale_in
from rlaif_dagster.lineage.runs import IF_STALE_TAG, REFRESH_TAG, observe_all
from rlaif_dagster.warehouse.store import Cell

Partitions = list[tuple[str, Cell]]
NIGHTLY, WEEKLY = "nightly", "weekly"


@dg.schedule(
    cron_schedule="0 2 * * *",
    job=JOBS[-1],
    description="Brings every cell of data/study.yaml, and every cell that was made once, up to date: one backfill of "
    "exactly what `rlaif plan` names, also of what failed during the day. Starts none while last night's goes on.",
)
def every_night(
    context: dg.ScheduleEvaluationContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.SkipReason:
    seen = look(project, warehouse)
    observe_all(context.instance, seen.state, seen.files)
    stale = [(item.asset, item.cell) for item in stale_in(seen.state, seen.kept)]
    return _start(
        context, NIGHTLY, stale, "What is stale in the cells that are kept.", {IF_STALE_TAG: "yes"}, seen.remedy
    )


@dg.schedule(
    cron_schedule="0 4 * * 0",
    job=JOBS[-1],
    description="Measures every benchmark again that was ever made in the kept cells, from the start and not from memory: "
    "a number that moves although nothing was edited tells of the machine or of a library.",
)
def every_week(
    context: dg.ScheduleEvaluationContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.SkipReason:
    seen = look(project, warehouse)
    grid, wanted = (seen.files.names("models"), seen.files.names("constitutions")), inside(seen.kept)
    benchmarks = [name for name in graph_nodes() if name.endswith("_benchmarks") and name != "recipe_benchmarks"]
    made = [
        (name, cell)
        for name in benchmarks
        for cell in graph_nodes()[name].cells(*grid)
        if wanted(cell) and seen.state.record(name, cell)
    ]
    return _start(context, WEEKLY, made, "Benchmarks measured anew.", {REFRESH_TAG: uuid.uuid4().hex[:8]}, seen.remedy)


def _start(
    context: dg.ScheduleEvaluationContext,
    kind: str,
    partitions: Partitions,
    description: str,
    tags: dict[str, str],
    remedy: str,
) -> dg.SkipReason:
    """A backfill of these partitions. The schedule itself asks for no run: the backfill does. `remedy` is what to do about cells
    that are not known."""
    from rlaif_dagster.lineage.backfills import KIND_TAG, backfills_going_on, start_backfill  # no plan needs them

    if not partitions:
        return dg.SkipReason(f"Nothing to do{remedy or '.'}")
    if going_on := backfills_going_on(context.instance, kind):
        return dg.SkipReason(f"The {kind} backfill {going_on[0]} still goes on.")
    graph = context.repository_def.asset_graph
    made = start_backfill(context.instance, graph, partitions, f"rlaif {kind}", description, {KIND_TAG: kind} | tags)
    return dg.SkipReason(
        f"Started the backfill {made} of {len(partitions)} partitions; see Runs, Backfills{remedy or '.'}"
    )
