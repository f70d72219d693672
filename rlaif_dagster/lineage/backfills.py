"""Dagster backfills over exactly the partitions that the resolver names.

A backfill shows what it will make, where it is and what failed, under Backfills in the UI; its runs are Dagster's, one a
partition of the grid, and steps that turn out fresh when their turn comes do nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.utils import make_new_backfill_id

from rlaif_dagster.records import partition_key
from rlaif_dagster.warehouse.store import Cell

KIND_TAG = "rlaif/backfill"  # nightly, weekly or by-hand
DAEMON_ALIVE_SECONDS = 60.0


def start_backfill(
    instance: dg.DagsterInstance,
    graph: BaseAssetGraph,
    partitions: Iterable[tuple[str, Cell]],
    title: str,
    description: str,
    tags: Mapping[str, str],
) -> str:
    """Ask Dagster's daemon for these partitions, in the order of the graph; the id of the backfill."""
    wanted = {AssetKeyPartitionKey(dg.AssetKey(asset), _dagster_key(cell)) for asset, cell in partitions}
    backfill_id = make_new_backfill_id()
    instance.add_backfill(
        PartitionBackfill.from_asset_graph_subset(
            backfill_id=backfill_id,
            backfill_timestamp=time.time(),
            tags=dict(tags),
            dynamic_partitions_store=instance,
            asset_graph_subset=AssetGraphSubset.from_asset_partition_set(wanted, graph),
            title=title,
            description=description,
            run_config=None,
        )
    )
    return backfill_id


def _dagster_key(cell: Cell) -> str | None:
    if cell.model and cell.constitution:
        return dg.MultiPartitionKey({"model": cell.model, "constitution": cell.constitution})
    return partition_key(cell)


def backfills_going_on(instance: dg.DagsterInstance, kind: str) -> list[str]:
    """Ids of the backfills of a kind that have not ended."""
    going_on = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    found = instance.get_backfills(filters=BulkActionsFilter(statuses=going_on))
    return [
        backfill.backfill_id for backfill in found if backfill.tags.get(KIND_TAG) == kind
    ]  # not all storages filter tags


def daemon_is_alive(instance: dg.DagsterInstance) -> bool:
    """Is there a daemon that would carry a backfill out? It leaves a heartbeat every half minute."""
    heartbeats = instance.get_daemon_heartbeats().values()
    return any(
        beat.daemon_type == "BACKFILL" and time.time() - beat.timestamp < DAEMON_ALIVE_SECONDS for beat in heartbeats
    )
