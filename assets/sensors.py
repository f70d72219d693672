"""What follows the user's files: an edit on disk is reported to Dagster, and what it makes stale is run."""

from __future__ import annotations

import time

import dagster as dg

from assets.executors import without_another_process
from assets.graph import graph_nodes
from assets.jobs import JOBS
from assets.kept import look
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.automation import MAX_UNDER_WAY, Request, decide, stale_in
from rlaif_dagster.lineage.graph import job_name
from rlaif_dagster.lineage.runs import (
    IF_STALE_TAG,
    INPUTS_TAG,
    all_inputs,
    busy_partitions,
    end_dead_runs,
    tries_of,
    unseen,
)
from rlaif_dagster.records import partition_key

SECONDS_BETWEEN_LOOKS = 10


@dg.sensor(
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    jobs=JOBS,
    description="Follows edits in data/: reports them to Dagster, and asks for a run of each partition that they make "
    "stale, as soon as what it reads is up to date; the same decision as `rlaif plan`. A step that fails is tried three "
    "times with the same inputs, then left alone until something changes. Keeps the cells of data/study.yaml and every "
    "cell that was made once.",
)
def follow_edits(
    context: dg.SensorEvaluationContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.SensorResult:
    """Off until it is switched on in the UI. A wrong file fails the tick, with the line that says what is wrong."""
    instance = context.instance
    seen = look(project, warehouse)
    end_dead_runs(instance)
    busy, running = busy_partitions(instance, graph_nodes())
    decision = decide(
        stale_in(seen.state, seen.kept),
        seen.state,
        busy,
        tries_of(instance),
        time.time(),
        max(MAX_UNDER_WAY - running, 0),
    )
    if seen.unknown:
        context.log.warning(seen.remedy.removeprefix("; "))
    return dg.SensorResult(
        asset_events=list(unseen(instance, seen.state, all_inputs(seen.state, seen.files))),
        run_requests=[run_request(request) for request in decision.requests],
        skip_reason=None if decision.requests else dg.SkipReason(f"{decision}{seen.remedy}"),
    )


def run_request(request: Request) -> dg.RunRequest:
    """One step in a run of its own, without another process inside it unless steps have machines of their own. Dagster starts
    it again when it is killed: what it had finished by then, or another has made meanwhile, is left as it is."""
    dims = graph_nodes()[request.asset].dims
    return dg.RunRequest(
        run_key=request.run_key,
        job_name=job_name(dims),
        partition_key=partition_key(request.cell),
        asset_selection=[dg.AssetKey(request.asset)],
        run_config=without_another_process(),
        tags={INPUTS_TAG: request.run_key.rpartition(":")[0], IF_STALE_TAG: "yes"},
    )
