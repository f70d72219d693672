"""The graph of the assets as plain values, and the state of it that the files and the records make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from graphlib import TopologicalSorter
from typing import TypeVar

import dagster as dg

from rlaif_dagster.bucket.local_copy import stored_adapters
from rlaif_dagster.causes import Change, changed
from rlaif_dagster.home import Home
from rlaif_dagster.inputs import INPUTS
from rlaif_dagster.records import adapters_in, cell_of_key, read_history, remembered_meaning
from rlaif_dagster.resolver import Node, State
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell, Warehouse

T = TypeVar("T")
DIMS = "rlaif/dims"  # asset metadata: the partition dimensions, by name
WRITES = "rlaif/writes"  # asset metadata: files of the warehouse, `{model}` and `{constitution}` standing for the cell


def nodes_of(assets: Iterable[dg.AssetsDefinition | dg.SourceAsset]) -> dict[str, Node]:
    """The graph of the assets in topological order, as plain values."""
    nodes = {}
    for asset in assets:
        name = asset.key.to_user_string()
        if isinstance(asset, dg.SourceAsset):
            nodes[name] = Node(name, tuple(asset.metadata[DIMS].value), (), None)  # type: ignore[arg-type]
        else:
            parents = tuple(sorted(dep.to_user_string() for dep in asset.asset_deps[asset.key]))
            metadata, code_version = asset.metadata_by_key[asset.key], asset.code_versions_by_key[asset.key]
            nodes[name] = Node(name, tuple(metadata[DIMS]), parents, code_version, tuple(metadata[WRITES]))
    order = TopologicalSorter({node.asset: node.parents for node in nodes.values()}).static_order()
    return {name: nodes[name] for name in order}


def job_name(dims: tuple[str, ...]) -> str:
    """The job of a partition set: a job that mixed them would run unpartitioned assets once a partition."""
    return "_".join(("each", *dims)) if dims else "once"


def state_of(
    nodes: Mapping[str, Node], project: Project, warehouse: Warehouse, retry_before: datetime | None = None
) -> State:
    """The graph with what the files and the records say now. File versions are computed once a state. What was made before
    `retry_before` and lacks answers of a judge counts as stale."""
    home, history = Home(warehouse.root.parent), read_history(warehouse)
    latest = {key: records[-1] for key, records in history.items()}
    versions = _remembering(lambda asset, cell: INPUTS[asset].version(project, cell))
    present = _remembering(lambda asset, cell: INPUTS[asset].shown(project, cell))

    def compare(asset: str, partition: str | None, before: str, now: str) -> Sequence[Change]:
        cell = cell_of_key(nodes[asset].dims, partition)
        then = remembered_meaning(home, before)
        after = present(asset, cell) if versions(asset, cell) == now else remembered_meaning(home, now)
        return () if then is None or after is None else changed(then, after)

    @cache
    def stored() -> frozenset[str]:
        return stored_adapters(home)  # looked up only where one is not here

    def missing(asset: str, cell: Cell) -> bool:
        names = (name.format(model=cell.model, constitution=cell.constitution) for name in nodes[asset].writes)
        files = [warehouse.root / name for name in names]
        if not all(file.exists() for file in files):
            return True
        tables = [file for name, file in zip(nodes[asset].writes, files, strict=True) if name.startswith("models/")]
        adapters = (path for table in tables for path in adapters_in(table))
        return not all((home.models / path).exists() or path in stored() for path in adapters)

    models, constitutions = {None, *project.names("models")}, {None, *project.names("constitutions")}
    return State(
        nodes,
        latest,
        versions,
        artifact_missing=missing,
        has_files=lambda cell: cell.model in models and cell.constitution in constitutions,
        history=history,
        compare_input=compare,
        retry_before=retry_before,
    )


def _remembering(function: Callable[[str, Cell], T]) -> Callable[[str, Cell], T]:
    known: dict[tuple[str, Cell], T] = {}

    def remembered(asset: str, cell: Cell) -> T:
        if (asset, cell) not in known:
            known[asset, cell] = function(asset, cell)
        return known[asset, cell]

    return remembered
