"""What is stale, why, and in which order: the product's promise as a pure function.

Dagster's own staleness looks at direct parents only and forgets partitions it has not seen. This resolver walks the whole
graph, partition by partition: a partition must run when it was never made, when its code changed, when what it read has
another version now, when its files are gone, or, once a command, when a judge's provider left questions of it without an
answer. Everything below a partition that must run is *possible*: it runs only if what it reads comes out different (early
cutoff), so a plan is resolved again after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import product

from rlaif_dagster.causes import MISSING, REMOVED, UNANSWERED, Causes, Compare, Reason, distinct
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.records import History, Record, cell_of_key, partition_key
from rlaif_dagster.warehouse.store import Cell

Key = tuple[str, Cell]


@dataclass(frozen=True)
class Node:
    """One asset: its partition dimensions, parents and code version (None for an input, whose version is its file's), and
    the files of the warehouse that it writes, `{model}` and `{constitution}` standing for the cell."""

    asset: str
    dims: tuple[str, ...]
    parents: tuple[str, ...]
    code_version: str | None
    writes: tuple[str, ...] = ()

    def cells(self, models: Iterable[str], constitutions: Iterable[str]) -> list[Cell]:
        """Its partitions over the chosen models and constitutions."""
        of_model = list(models) if "model" in self.dims else [None]
        of_constitution = list(constitutions) if "constitution" in self.dims else [None]
        return [Cell(m, c) for m, c in product(of_model, of_constitution)]


@dataclass(frozen=True)
class Stale:
    """One partition that will run (`certain`), or will if what it reads comes out different. It is `ready` when nothing
    that it reads is stale itself. `inputs` names what it would read now, code and versions together: two runs with the same
    `inputs` do the same."""

    asset: str
    cell: Cell
    level: int
    certain: bool
    ready: bool
    reasons: tuple[Reason, ...]
    inputs: str


@dataclass(frozen=True)
class State:
    """Everything a resolution depends on."""

    nodes: Mapping[str, Node]  # in topological order
    records: Mapping[tuple[str, str | None], Record]  # the latest of each
    input_version: Callable[[str, Cell], str]
    artifact_missing: Callable[[str, Cell], bool] = lambda asset, cell: False
    history: History = field(default_factory=dict)  # all records, for the root causes
    compare_input: Compare = lambda asset, partition, before, now: ()
    has_files: Callable[[Cell], bool] = lambda cell: True  # are its model and its constitution still in data/?
    retry_before: datetime | None = None  # what was made before then and lacks answers of a judge is to ask again

    @cached_property
    def causes(self) -> Causes:
        inputs = frozenset(node.asset for node in self.nodes.values() if node.code_version is None)
        return Causes(inputs, self.history, self.compare_input)

    def record(self, asset: str, cell: Cell) -> Record | None:
        return self.records.get((asset, partition_key(cell)))

    def current_version(self, asset: str, cell: Cell) -> str | None:
        """Data version now: of the file for an input, of the latest record otherwise."""
        if self.nodes[asset].code_version is None:
            return self.input_version(asset, cell)
        record = self.record(asset, cell)
        return record.data_version if record else None

    def parent_cells(
        self, node: Node, cell: Cell, parent: Node, models: Iterable[str], constitutions: Iterable[str]
    ) -> list[Cell]:
        """The parent's partitions that one partition reads: its own cell cut to the parent's dimensions, or, for an
        asset that gathers (fewer dimensions than its parent), every chosen cell."""
        if set(parent.dims) <= set(node.dims):
            return [Cell(*(getattr(cell, d) if d in parent.dims else None for d in ("model", "constitution")))]
        return parent.cells(
            [cell.model] if cell.model else models, [cell.constitution] if cell.constitution else constitutions
        )


def resolve(
    state: State,
    models: Iterable[str],
    constitutions: Iterable[str],
    only: set[str] | None = None,
    within: Callable[[Cell], bool] = lambda cell: True,
) -> list[Stale]:
    """Stale partitions of the chosen grid, in an order in which they can run. `only` limits it to these assets, `within` to
    these cells."""
    models, constitutions = list(models), list(constitutions)
    level: dict[str, int] = {}
    stale: dict[Key, Stale] = {}
    for node in state.nodes.values():
        level[node.asset] = 1 + max((level[parent] for parent in node.parents), default=-1)
        if node.code_version is None or (only is not None and node.asset not in only):
            continue
        for cell in filter(within, node.cells(models, constitutions)):
            parents = [
                (parent, parent_cell)
                for parent in node.parents
                for parent_cell in state.parent_cells(node, cell, state.nodes[parent], models, constitutions)
            ]
            versions = {key: state.current_version(*key) for key in parents}
            own = distinct(_own_reasons(state, node, cell, versions))
            inherited = distinct(reason for key in parents if key in stale for reason in stale[key].reasons)
            if own or inherited:
                ready = bool(own) and not any(key in stale for key in parents)
                stale[node.asset, cell] = Stale(
                    node.asset, cell, level[node.asset], bool(own), ready, own or inherited, _inputs(node, versions)
                )
    return list(stale.values())


def _inputs(node: Node, versions: Mapping[Key, str | None]) -> str:
    read = [[asset, partition_key(cell), version] for (asset, cell), version in versions.items() if version is not None]
    return content_hash(node.code_version, sorted(read, key=str))


def _own_reasons(state: State, node: Node, cell: Cell, versions: Mapping[Key, str | None]) -> Iterable[Reason]:
    record = state.record(node.asset, cell)
    if record is None:
        yield Reason(MISSING, "never made")
        return
    if state.artifact_missing(node.asset, cell):
        yield Reason(MISSING, "its tables or files are gone")
    if record.unanswered and state.retry_before is not None and record.started_at < state.retry_before:
        what = "question" if record.unanswered == 1 else "questions"
        yield Reason(UNANSWERED, f"{record.unanswered} {what} to the judge got no answer")
    if record.code_version != node.code_version:
        yield Reason(f"code of {node.asset}", f"code version {record.code_version} is now {node.code_version}")
    recorded = {(version.asset, version.partition): version.version for version in record.upstream}
    for (parent, parent_cell), now in versions.items():
        before = recorded.get((parent, partition_key(parent_cell)))
        if now is not None and now != before:
            yield from state.causes.of(parent, partition_key(parent_cell), before, now)
    gathered = {parent for parent in node.parents if not set(state.nodes[parent].dims) <= set(node.dims)}
    for version in record.upstream:  # a cell whose model or constitution has no file any more
        if version.asset in gathered and not state.has_files(
            cell_of_key(state.nodes[version.asset].dims, version.partition)
        ):
            yield Reason(REMOVED, f"{version.partition} was removed", version.partition)
