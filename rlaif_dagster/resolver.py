"""What is stale, why, and in which order: the product's promise as a pure function.

Dagster's own staleness looks at direct parents only and forgets partitions it has not seen. This resolver walks the whole
graph, partition by partition: a partition must run when it was never made, when its code changed, when what it read has
another version now, or when its files are gone. Everything below a partition that must run is *possible*: it runs only
if what it reads comes out different (early cutoff), so a plan is resolved again after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from rlaif_dagster.records import Record, partition_key
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
class Reason:
    """Why a partition must run. `cause` is where it began: an input, the code, or a missing result."""

    cause: str
    text: str


@dataclass(frozen=True)
class Stale:
    """One partition that will run (`certain`), or will if what it reads comes out different. It is `ready` when nothing
    that it reads is stale itself."""

    asset: str
    cell: Cell
    level: int
    certain: bool
    ready: bool
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class State:
    """Everything a resolution depends on."""

    nodes: Mapping[str, Node]  # in topological order
    records: Mapping[tuple[str, str | None], Record]  # the latest of each
    input_version: Callable[[str, Cell], str]
    artifact_missing: Callable[[str, Cell], bool] = lambda asset, cell: False
    explain_input: Callable[[str, Cell, str], str] = lambda asset, cell, before: ""

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
    state: State, models: Iterable[str], constitutions: Iterable[str], only: set[str] | None = None
) -> list[Stale]:
    """Stale partitions of the chosen grid, in an order in which they can run. `only` limits it to these assets."""
    models, constitutions = list(models), list(constitutions)
    level: dict[str, int] = {}
    stale: dict[Key, Stale] = {}
    for node in state.nodes.values():
        level[node.asset] = 1 + max((level[parent] for parent in node.parents), default=-1)
        if node.code_version is None or (only is not None and node.asset not in only):
            continue
        for cell in node.cells(models, constitutions):
            parents = [
                (parent, parent_cell)
                for parent in node.parents
                for parent_cell in state.parent_cells(node, cell, state.nodes[parent], models, constitutions)
            ]
            own = tuple(_own_reasons(state, node, cell, parents))
            inherited = tuple(dict.fromkeys(reason for key in parents if key in stale for reason in stale[key].reasons))
            if own or inherited:
                ready = bool(own) and not any(key in stale for key in parents)
                stale[node.asset, cell] = Stale(node.asset, cell, level[node.asset], bool(own), ready, own or inherited)
    return list(stale.values())


def _own_reasons(state: State, node: Node, cell: Cell, parents: list[Key]) -> Iterable[Reason]:
    record = state.record(node.asset, cell)
    if record is None:
        yield Reason("missing", "never made")
        return
    if state.artifact_missing(node.asset, cell):
        yield Reason("missing", "its tables or files are gone")
    if record.code_version != node.code_version:
        yield Reason(f"code of {node.asset}", f"code version {record.code_version} is now {node.code_version}")
    recorded = {(version.asset, version.partition): version.version for version in record.upstream}
    for parent, parent_cell in parents:
        before = recorded.get((parent, partition_key(parent_cell)))
        now = state.current_version(parent, parent_cell)
        if now is None or now == before:
            continue
        if state.nodes[parent].code_version is not None:
            yield Reason(parent, f"{parent} has new content" if before else f"{parent} is new to it")
        else:
            detail = state.explain_input(parent, parent_cell, before) if before else "is new to it"
            yield Reason(parent, f"{parent}{_of(parent_cell)} changed{': ' + detail if detail else ''}")


def _of(cell: Cell) -> str:
    key = partition_key(cell)
    return f" {key}" if key else ""
