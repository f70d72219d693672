"""What the daemon asks for: the resolver's answer, minus what is under way, and minus what failed often enough.

Dagster's own automation conditions ask again when content came out equal, or lose an edit whose run failed, or repeat a
failing step for ever. Here the sensor asks the same resolver as `rlaif plan`, so an edit is never lost: what it makes
stale stays stale until a run has recorded a result. And nothing is repeated for ever: a step that failed with the same
inputs is tried again after a while, MAX_TRIES times in all, then left alone until something that it reads changes, a
nightly backfill comes by, or a person runs it.

Everything here is pure: `lineage.runs` reads the runs out of Dagster, `assets.sensors` sends the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from rlaif_dagster.records import cell_of_key, partition_key
from rlaif_dagster.resolver import Node, Stale, State, resolve
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell

MAX_TRIES = 3
MAX_INTERRUPTIONS = 10  # by a signal: of a machine that goes down, is short of memory, or limits time
FIRST_WAIT = 60.0  # seconds after the first failure; five times as long after each further one
NAMED = 8  # partitions in a sentence
MAX_UNDER_WAY = 25  # requested at a time: an edit in the meantime then finds few runs that nobody needs any more

Key = tuple[str, str | None]  # asset and partition key


@dataclass(frozen=True)
class Try:
    """A run that was asked for with certain inputs and has ended: when, in seconds since the epoch, and how. One that was
    `interrupted` (its machine or Dagster went down, and said so) says nothing of the step; one that a person `terminated` is not
    to be started again behind that person's back. A process that was killed without a word `ended`: it may have run out of
    memory."""

    ended_at: float
    run_id: str = ""
    how: Literal["ended", "interrupted", "terminated"] = "ended"


@dataclass(frozen=True)
class Request:
    """One run of one asset's partition. `run_key` is used once: Dagster itself drops a second request with the same."""

    asset: str
    cell: Cell
    inputs: str
    run_key: str


@dataclass(frozen=True)
class Decision:
    """What to ask for now, and the partitions that wait: for a run under way, for the next try, or for a person."""

    requests: tuple[Request, ...] = ()
    under_way: tuple[Key, ...] = ()
    waiting: tuple[Key, ...] = ()
    given_up: tuple[Key, ...] = ()
    terminated: tuple[Key, ...] = ()

    def __str__(self) -> str:
        parts = {
            "asked for": [(r.asset, partition_key(r.cell)) for r in self.requests], "under way": self.under_way,
            "to be tried again later": self.waiting,
            f"left alone after {MAX_TRIES} failures or {MAX_INTERRUPTIONS} interruptions": self.given_up,
            "left alone because a person terminated it": self.terminated,
        }  # fmt: skip
        told = [f"{name}: {_listed(keys)}" for name, keys in parts.items() if keys]
        return "; ".join(told) or "everything is fresh"


def _listed(keys: Sequence[Key]) -> str:
    more = len(keys) - NAMED
    return ", ".join(map(_name, keys[:NAMED])) + (f" and {more} more" if more > 0 else "")


def _name(key: Key) -> str:
    return " ".join(part for part in key if part)


def kept_cells(project: Project, state: State) -> set[Cell]:
    """The cells that are kept up to date: those of data/study.yaml, and every one that was made once and whose files are
    still there. So a new file in data/models/ starts no training by itself."""
    study = project.study()
    cells = {Cell(*pair) for pair in product(study.models, study.constitutions)}
    names = set(product(project.names("models"), project.names("constitutions")))
    for _, partition in state.records:
        constitution, _, model = (partition or "").partition("|")
        if (model, constitution) in names:
            cells.add(Cell(model, constitution))
    return cells


def inside(cells: Collection[Cell]) -> Callable[[Cell], bool]:
    """Is a partition one of these cells, or of a model or constitution among them?"""
    models, constitutions = {cell.model for cell in cells}, {cell.constitution for cell in cells}

    def test(cell: Cell) -> bool:
        if cell.model and cell.constitution:
            return cell in cells
        return (cell.model is None or cell.model in models) and (
            cell.constitution is None or cell.constitution in constitutions
        )

    return test


def stale_in(state: State, cells: Collection[Cell]) -> list[Stale]:
    """What is stale in these cells."""
    models = sorted({str(cell.model) for cell in cells})
    constitutions = sorted({str(cell.constitution) for cell in cells})
    return resolve(state, models, constitutions, within=inside(cells))


def decide(
    stale: Sequence[Stale],
    state: State,
    busy: Collection[Key],
    tries: Callable[[Stale], Sequence[Try]],
    now: float,
    room: int = MAX_UNDER_WAY,
) -> Decision:
    """What to ask for now. `busy` are the asset partitions that a run or a backfill is making or will make; `tries` are
    the runs that have ended with exactly these inputs; at most `room` requests come out."""
    ancestors = ancestors_of(state.nodes)
    requests: list[Request] = []
    waiting: list[Key] = []
    given_up: list[Key] = []
    terminated: list[Key] = []
    for item in stale:
        key = (item.asset, partition_key(item.cell))
        if not item.ready or key in busy or reads_busy(item, busy, state.nodes, ancestors[item.asset]):
            continue
        ended = tries(item)
        record = state.record(item.asset, item.cell)
        made_at = record.ended_at.timestamp() if record else 0.0
        since = [one for one in ended if one.ended_at > made_at]
        failed, interrupted = ([one for one in since if one.how == how] for how in ("ended", "interrupted"))
        last = max(since, key=lambda one: one.ended_at, default=None)
        if last and last.how == "terminated":
            terminated.append(key)
        elif len(failed) >= MAX_TRIES or len(interrupted) >= MAX_INTERRUPTIONS:
            given_up.append(key)
        elif last and now < last.ended_at + FIRST_WAIT * 5 ** max(len(failed) - 1, 0):
            waiting.append(key)
        elif len(requests) < room:
            newest = max(ended, key=lambda one: one.ended_at, default=None)
            run_key = f"{item.asset}@{key[1] or ''}:{item.inputs}:{newest.run_id if newest else 'first'}"
            requests.append(Request(item.asset, item.cell, item.inputs, run_key))
    stale_keys = {(item.asset, partition_key(item.cell)) for item in stale}
    under_way = tuple(sorted((key for key in busy if key in stale_keys), key=str))
    return Decision(tuple(requests), under_way, tuple(waiting), tuple(given_up), tuple(terminated))


def ancestors_of(nodes: Mapping[str, Node]) -> dict[str, set[str]]:
    """Of each asset, everything that it is made from; `nodes` are in topological order."""
    out: dict[str, set[str]] = {}
    for node in nodes.values():
        out[node.asset] = set(node.parents).union(*(out[parent] for parent in node.parents))
    return out


def reads_busy(item: Stale, busy: Iterable[Key], nodes: Mapping[str, Node], ancestors: Collection[str]) -> bool:
    """Is something that this partition is made from being made right now? Then its inputs may be about to change."""
    return any(
        asset in ancestors and _meet(item.cell, cell_of_key(nodes[asset].dims, partition)) for asset, partition in busy
    )


def _meet(a: Cell, b: Cell) -> bool:
    """Do two cells agree in the dimensions that both have?"""
    pairs = ((a.model, b.model), (a.constitution, b.constitution))
    return all(one is None or other is None or one == other for one, other in pairs)
