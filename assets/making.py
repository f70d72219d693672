"""Around every asset's function: one maker at a time, and no work for a backfill's step whose turn comes when it is fresh."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from assets.partitions import cell_of
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.lineage.runs import IF_STALE_TAG, say_where
from rlaif_dagster.locks import making
from rlaif_dagster.records import partition_key
from rlaif_dagster.resolver import resolve
from rlaif_dagster.shards import release
from rlaif_dagster.warehouse.store import Cell

Asset = Callable[..., dg.MaterializeResult]


def guarded(asset: str, function: Asset, checks: Sequence[str], warnings: Sequence[str]) -> Asset:
    """The asset's function, run while nobody else makes the same partition."""

    @functools.wraps(function)
    def make(
        context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource, **resources: Any
    ) -> dg.MaterializeResult:
        say_where(context)
        cell, log = cell_of(context), context.log
        run = f"run {context.run_id[:8]} of Dagster"

        def told(holder: str) -> None:
            log.info(f"Waiting for {holder}, which is making the same.")

        with making(warehouse.home, asset, partition_key(cell), run, told):
            if context.run.tags.get(IF_STALE_TAG) and not warnings:  # a warning is said again, from what is remembered
                fresh = _as_it_is(asset, cell, project, warehouse, checks)
                if fresh is not None:
                    log.info("Nothing that this reads has changed since it was made: it is left as it is.")
                    return fresh
            try:
                return function(context, project=project, warehouse=warehouse, **resources)
            finally:
                release()

    return make


def _as_it_is(
    asset: str, cell: Cell, project: ProjectResource, warehouse: WarehouseResource, checks: Sequence[str]
) -> dg.MaterializeResult | None:
    """What there is, told to Dagster once more; None when it is stale."""
    from assets.graph import graph_state  # the graph imports every asset module

    files = project.open()
    state = graph_state(files, warehouse.open())
    record = state.record(asset, cell)
    grid = (files.names("models"), files.names("constitutions"))
    if record is None or resolve(state, *grid, only={asset}, within=lambda one: one == cell):
        return None
    told = f"unchanged since {record.started_at:%Y-%m-%d %H:%M} UTC"
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.data_version),
        metadata={"left as it is": told},
        check_results=[
            dg.AssetCheckResult(check_name=name, passed=True, metadata={"numbers": told}) for name in checks
        ],
    )
