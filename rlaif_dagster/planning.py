"""What is to be done and what was done, as plain values: `lineage` makes them, the command line and the sensor read them.

A *step* is one asset in one cell of the grid. It is *certain* when something it reads has changed already, and uncertain
when it will run only if a step before it comes out different: that is where an edit stops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rlaif_dagster.causes import Reason
from rlaif_dagster.warehouse.store import Cell


@dataclass(frozen=True)
class Step:
    """One asset in one cell, why it is to be made, and what that is expected to cost.

    `reasons` name root causes ("constitution structured changed"), not the parent that happens to lie between. `level` is
    the step's depth in the graph: steps of one level do not depend on each other. `requests` are judge calls, `tokens`
    theirs, `usd` their price; `seconds` is None where nothing is known to estimate from. `causes` are the reasons in
    full: which file's fields changed, from what to what. `memory_bytes` is the planned peak, None where none is computed.
    """

    asset: str
    cell: Cell
    level: int
    certain: bool
    reasons: tuple[str, ...]
    requests: int = 0
    tokens: int = 0
    usd: float = 0.0
    seconds: float | None = None
    causes: tuple[Reason, ...] = ()
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they would run; empty when everything is fresh."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Event:
    """Something that happened while a plan was carried out, for progress on the screen.

    `planned` comes first and again whenever the rest of the plan changes; its `remaining` counts the steps that may still
    run. `made` says in `message` what came out ("unchanged: what follows stays as it is"), `failed` the error's one line,
    `waiting` who is making the step already, `elsewhere` that it was made there.
    """

    kind: Literal["planned", "started", "made", "failed", "blocked", "waiting", "elsewhere"]
    step: Step | None = None
    message: str = ""
    seconds: float | None = None
    remaining: int | None = None


OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Outcome:
    """How carrying out a plan ended: what was made, what failed (with the error's line), what could not run for that.
    `fixable` says that every failure is the user's to fix: a missing key, a spent budget, a file that cannot be read."""

    made: tuple[Step, ...]
    failed: tuple[tuple[Step, str], ...] = ()
    blocked: tuple[Step, ...] = ()
    fixable: bool = False


@dataclass(frozen=True)
class CellStatus:
    """What there is of one asset in one cell. `reason` says why it is stale or how it failed."""

    asset: str
    cell: Cell
    state: Literal["fresh", "stale", "missing", "failed"]
    version: str | None = None
    made_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Node:
    """An asset's version (with the time at which its making began) and, below it, the versions it was made from."""

    label: str
    version: str | None
    children: tuple[Node, ...] = ()
    made_at: datetime | None = None
