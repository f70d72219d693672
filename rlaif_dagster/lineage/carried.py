"""A plan that is being carried out: what still waits, what was made, what failed.

One Dagster run makes an asset's partition; who carries the plan out resolves it again after each. That is the early cutoff.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import dagster as dg

from rlaif_dagster.bucket.local_copy import refresh
from rlaif_dagster.judging.budget import SharedBudget
from rlaif_dagster.lineage.graph import job_name
from rlaif_dagster.lineage.remote import Order
from rlaif_dagster.lineage.runs import INPUTS_TAG, PROCESS_TAG, Failure, inputs_tag, observe_parents, process_name
from rlaif_dagster.lineage.study import Study, planned
from rlaif_dagster.locks import Holder, holder
from rlaif_dagster.planning import Event, OnEvent, Outcome, Step
from rlaif_dagster.records import Record, partition_key
from rlaif_dagster.resolver import Stale
from rlaif_dagster.warehouse.store import Cell


@dataclass
class Carried(ABC):
    """A plan over chosen models and constitutions, and how far it has come."""

    study: Study
    models: Sequence[str]
    constitutions: Sequence[str]
    select: Sequence[str]
    on_event: OnEvent
    made: list[Step] = field(default_factory=list)
    failed: dict[tuple[str, Cell], tuple[Step, Failure]] = field(default_factory=dict)

    @abstractmethod
    def run(self, budget: SharedBudget) -> Outcome:
        """Make what is stale until nothing more can be made."""

    def waiting(self) -> list[Stale]:
        """What is stale and has not failed, resolved anew, by the store where there is one."""
        refresh(self.study.home)
        stale = self.study.stale(self.models, self.constitutions, self.select)
        return [item for item in stale if (item.asset, item.cell) not in self.failed]

    def step(self, item: Stale) -> Step:
        """The step that makes it, with what that is expected to cost."""
        return self.study.estimate(planned(item))

    def holder(self, item: Stale) -> Holder | None:
        """Who makes it already on this home."""
        return holder(self.study.home, item.asset, partition_key(item.cell))

    def pool(self, asset: str) -> str | None:
        return self.study.defs.resolve_assets_def(dg.AssetKey(asset)).op.pool

    def record(self, item: Stale) -> Record | None:
        """What was made of it last."""
        return self.study.state().record(item.asset, item.cell)

    def order(self, item: Stale, instance: dg.DagsterInstance, budget_usd: float | None) -> Order:
        """The run that makes it; Dagster is told of the files that it is about to read."""
        observe_parents(instance, self.study.state(), item.asset, item.cell)
        return Order(
            item.asset,
            job_name(self.study.nodes[item.asset].dims),
            partition_key(item.cell),
            budget_usd,
            {PROCESS_TAG: process_name(), INPUTS_TAG: inputs_tag(item)},
        )

    def end(self, step: Step, before: Record | None, after: Record | None, failure: Failure | None) -> None:
        """A run has ended: with an error, or with another record than the one before it."""
        if failure is None and (after is None or after == before):
            failure = Failure("it ended without a record of what it made")
        if failure is not None:
            self.failed[step.asset, step.cell] = (step, failure)
            self.on_event(Event("failed", step, failure.line))
            return
        self.made.append(step)
        self.on_event(Event("made", step, _came_out(before, after), seconds=after.seconds if after else None))

    def outcome(self, waiting: Sequence[Stale]) -> Outcome:
        """How it ended; what still waits is blocked by what failed."""
        blocked = tuple(planned(item) for item in waiting)
        for step in blocked:
            self.on_event(Event("blocked", step))
        failures = [failure for _, failure in self.failed.values()]
        return Outcome(
            tuple(self.made), tuple((step, failure.line) for step, failure in self.failed.values()), blocked,
            fixable=bool(failures) and all(failure.fixable for failure in failures),
        )  # fmt: skip


def _came_out(before: Record | None, after: Record | None) -> str:
    same = before is not None and after is not None and before.data_version == after.data_version
    return "unchanged: what follows stays as it is" if same else ""
