"""The study as the command line sees it: what is stale and why, what there is, and what it was made from.

The decision itself is `resolver.resolve`, a pure function over the graph (`lineage.graph`), the files and the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial

import dagster as dg

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.lineage.failures import failed_in, kept_events
from rlaif_dagster.lineage.graph import state_of
from rlaif_dagster.lineage.runs import last_failures, open_instance
from rlaif_dagster.lineage.tree import tree
from rlaif_dagster.planning import CellStatus, Node, Plan, Step
from rlaif_dagster.records import partition_key, read_history
from rlaif_dagster.resolver import Node as GraphNode
from rlaif_dagster.resolver import Stale, State, resolve
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell, Warehouse

Estimator = Callable[[Step], Step]


@dataclass(frozen=True)
class Study:
    """One checkout's definitions, files and results."""

    defs: dg.Definitions
    nodes: Mapping[str, GraphNode]
    project: Project
    home: Home
    estimate: Estimator = lambda step: step
    load: Callable[[], dg.Definitions] | None = None  # the same definitions, for a process on another machine
    # a command asks a judge again for what got no answer before it began, and for what it made itself not a second time
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home.warehouse)

    def state(self) -> State:
        return state_of(self.nodes, self.project, self.warehouse, self.began)

    def stale(self, models: Iterable[str], constitutions: Iterable[str], select: Sequence[str] = ()) -> list[Stale]:
        return resolve(self.state(), models, constitutions, self.selected(select))

    def selected(self, select: Sequence[str]) -> set[str] | None:
        """Assets that a selection names: `dpo_model` alone, `+dpo_model` with all it needs, `dpo_model+` with all that
        follows. None selects everything. Raises UserError on an unknown name."""
        if not select:
            return None
        chosen: set[str] = set()
        for item in select:
            name = item.strip("+")
            if name not in self.nodes:
                raise UserError(f"--select {item!r}: no such asset; assets are: {', '.join(sorted(self.nodes))}")
            chosen |= {name} | (self._upstream(name) if item[0] == "+" else set())
            chosen |= self._downstream(name) if item[-1] == "+" else set()
        return chosen

    def _upstream(self, name: str) -> set[str]:
        parents = set(self.nodes[name].parents)
        return parents.union(*(self._upstream(parent) for parent in parents)) if parents else parents

    def _downstream(self, name: str) -> set[str]:
        children = {node.asset for node in self.nodes.values() if name in node.parents}
        return children.union(*(self._downstream(child) for child in children)) if children else children

    def plan(self, models: Iterable[str], constitutions: Iterable[str], select: Sequence[str] = ()) -> Plan:
        """What is stale and why, in order, with what it will cost. Writes nothing."""
        return Plan(tuple(self.estimate(planned(item)) for item in self.stale(models, constitutions, select)))

    def instance(self) -> dg.DagsterInstance:
        """Dagster's instance under RLAIF_HOME, configured on first use."""
        return open_instance(self.home)

    def status(self, models: Iterable[str], constitutions: Iterable[str]) -> list[CellStatus]:
        """Every asset of the chosen grid: fresh, stale, missing or failed."""
        models, constitutions = list(models), list(constitutions)
        state = self.state()
        stale = {(item.asset, item.cell): item for item in resolve(state, models, constitutions)}
        failed: Mapping[tuple[str, Cell], str] = {}
        if self.home.dagster.exists():
            with self.instance() as instance:
                failed = failures(instance, state, stale)
        return [
            _status(node.asset, cell, state, stale.get((node.asset, cell)), failed.get((node.asset, cell)))
            for node in self.nodes.values() if node.code_version is not None
            for cell in node.cells(models, constitutions)
        ]  # fmt: skip

    def tree(self, asset: str, cell: Cell, at: datetime | None = None) -> Node:
        """The versions behind an asset's partition, down to the files, as they are or as they stood `at` a time."""
        if asset not in self.nodes:
            raise UserError(f"no asset {asset!r}; assets are: {', '.join(sorted(self.nodes))}")
        node = self.nodes[asset]
        own = Cell(*(getattr(cell, dim) if dim in node.dims else None for dim in ("model", "constitution")))
        return tree(asset, partition_key(own), read_history(self.warehouse), at)


def planned(item: Stale) -> Step:
    """A stale partition as a step of a plan."""
    texts = tuple(dict.fromkeys(reason.text for reason in item.reasons))
    return Step(item.asset, item.cell, item.level, item.certain, texts, causes=item.reasons)


def failures(
    instance: dg.DagsterInstance, state: State, stale: Iterable[tuple[str, Cell]]
) -> dict[tuple[str, Cell], str]:
    """Of what is stale, what a run failed to make since it was made last, and why. Only the events of those runs are read."""
    ended, events_of, failed = last_failures(instance, state.nodes), cache(partial(kept_events, instance)), {}
    for asset, cell in stale:
        record = state.record(asset, cell)
        moment, run_id = ended.get((asset, partition_key(cell)), (0.0, ""))
        if moment > (record.started_at.timestamp() if record else 0.0):
            failed[asset, cell] = failed_in(run_id, asset, events_of)
    return {key: why for key, why in failed.items() if why is not None}


def _status(asset: str, cell: Cell, state: State, stale: Stale | None, failed: str | None) -> CellStatus:
    record = state.record(asset, cell)
    version, made_at = (record.data_version, record.started_at) if record else (None, None)
    reason = "; ".join(dict.fromkeys(r.text for r in stale.reasons)) if stale else None
    if failed is not None:
        return CellStatus(asset, cell, "failed", version, made_at, failed)
    if record is None:
        return CellStatus(asset, cell, "missing", None, None, reason)
    return CellStatus(asset, cell, "stale" if stale else "fresh", version, made_at, reason)
