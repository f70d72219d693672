"""Carrying a plan out: what is ready runs, one Dagster run an asset and partition, and the plan is resolved again after
each. That is the early cutoff.

A step whose pool has no free slot waits for one. It is made under a lock of its own, so two command lines on one cell
share the work: the second waits, then finds the step fresh. An interrupt ends the run that is under way; what was recorded
before it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import dagster as dg

from rlaif_dagster.bucket.local_copy import refresh
from rlaif_dagster.home import Home
from rlaif_dagster.judging.ledger import committed_usd
from rlaif_dagster.lineage.graph import job_name
from rlaif_dagster.lineage.pools import PoolWatch, in_the_way, wait_for_slot
from rlaif_dagster.lineage.remote import Order, execute, execute_on_ray, steps_on_ray
from rlaif_dagster.lineage.runs import INPUTS_TAG, PROCESS_TAG, Failure, inputs_tag, observe_parents, process_name
from rlaif_dagster.lineage.study import Study, planned
from rlaif_dagster.locks import held_elsewhere, holder, lock_name, making
from rlaif_dagster.planning import Event, OnEvent, Outcome, Step
from rlaif_dagster.records import Record, partition_key
from rlaif_dagster.resolver import Stale
from rlaif_dagster.warehouse.store import Cell


@dataclass
class Carrying:
    """A plan being carried out over chosen models and constitutions."""

    study: Study
    models: Sequence[str]
    constitutions: Sequence[str]
    select: Sequence[str]
    on_event: OnEvent
    made: list[Step] = field(default_factory=list)
    failed: dict[tuple[str, Cell], tuple[Step, Failure]] = field(default_factory=dict)

    def waiting(self) -> list[Stale]:
        """What is stale and has not failed, resolved anew, by the store where there is one."""
        refresh(self.study.home)
        stale = self.study.stale(self.models, self.constitutions, self.select)
        return [item for item in stale if (item.asset, item.cell) not in self.failed]

    def run(self, budget: SharedBudget) -> Outcome:
        with self.study.instance() as instance, PoolWatch(instance) as watch:
            while True:
                waiting = self.waiting()
                ready = [item for item in waiting if item.ready]
                self.on_event(Event("planned", remaining=len(waiting)))
                if not ready:
                    return self.outcome(waiting)
                self.make(self._first(ready), watch, budget.left(), len(waiting))

    def _first(self, ready: list[Stale]) -> Stale:
        """What nobody else is making, if there is such a step."""
        elsewhere = held_elsewhere(self.study.home)
        free = [item for item in ready if not self.is_held(item, elsewhere)]
        return (free or ready)[0]

    def is_held(self, item: Stale, elsewhere: Container[str]) -> bool:
        """Is somebody making it already, here or, by the store, `elsewhere`?"""
        partition = partition_key(item.cell)
        return (
            holder(self.study.home, item.asset, partition) is not None or lock_name(item.asset, partition) in elsewhere
        )

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

    def make(self, item: Stale, watch: PoolWatch, budget_usd: float | None, remaining: int) -> None:
        """Make a step, unless it turns out that somebody else did, or that its pool's slot was taken meanwhile: then it
        is ready still, and its turn comes again. The slot is waited for without the step's lock, because a run of Dagster
        takes them in this order too."""
        step, instance, pool = self.study.estimate(planned(item)), watch.instance, self.pool(item.asset)

        def told(message: str) -> None:
            self.on_event(Event("waiting", step, message, remaining=remaining))

        queued = pool is not None and wait_for_slot(instance, pool, told)
        with self._right_to_make(item, told) as waited:
            if (waited or queued) and not self._is_ready(item):
                self.on_event(Event("elsewhere", step, "made there, or no longer to be made"))
                return
            if pool and in_the_way(instance, pool):
                return
            self.on_event(Event("started", step, remaining=remaining))
            before = self.study.state().record(item.asset, item.cell)
            failure = self._execute(item, watch, budget_usd)
            if steps_on_ray():
                refresh(self.study.home)  # it was made in another home
            after = self.study.state().record(item.asset, item.cell)
        if watch.queued:
            return
        if failure is None and (after is None or after == before):
            failure = Failure("it ended without a record of what it made")
        if failure is not None:
            self.failed[item.asset, item.cell] = (step, failure)
            self.on_event(Event("failed", step, failure.line))
            return
        self.made.append(step)
        self.on_event(Event("made", step, _came_out(before, after), seconds=after.seconds if after else None))

    def _right_to_make(self, item: Stale, told: Callable[[str], None]) -> AbstractContextManager[bool]:
        """The lock of a step, and whether it was waited for. On Ray the step takes it where it runs."""
        if steps_on_ray():
            return nullcontext(False)
        return making(
            self.study.home, item.asset, partition_key(item.cell), "rlaif up",
            lambda who: told(f"{who} is making it; waiting"),
        )  # fmt: skip

    def _is_ready(self, item: Stale) -> bool:
        now = next((now for now in self.waiting() if (now.asset, now.cell) == (item.asset, item.cell)), None)
        return now is not None and now.ready

    def pool(self, asset: str) -> str | None:
        return self.study.defs.resolve_assets_def(dg.AssetKey(asset)).op.pool

    def _execute(self, item: Stale, watch: PoolWatch, budget_usd: float | None) -> Failure | None:
        """One Dagster run; None when it went well, or was ended in the queue of its pool."""
        instance = watch.instance
        observe_parents(instance, self.study.state(), item.asset, item.cell)
        order = Order(
            item.asset,
            job_name(self.study.nodes[item.asset].dims),
            partition_key(item.cell),
            budget_usd,
            {PROCESS_TAG: process_name(), INPUTS_TAG: inputs_tag(item)},
        )
        with watch.run():
            if steps_on_ray():
                tags = self.study.defs.resolve_assets_def(dg.AssetKey(item.asset)).op.tags
                ended = execute_on_ray(order, tags, self.study.load or (lambda: self.study.defs))
            else:
                ended = execute(order, self.study.defs, instance)
        if ended.interrupted:
            if watch.queued:
                return None
            raise KeyboardInterrupt  # Dagster has closed the run, and swallowed it
        watch.queued = False
        return ended.failure


class SharedBudget:
    """US dollars for all judging of one command together; None is without limit. What was judged is kept."""

    def __init__(self, home: Home, usd: float | None) -> None:
        self.home, self.usd, self.before = home, usd, committed_usd(home)

    def left(self) -> float | None:
        """What may still be spent."""
        return None if self.usd is None else max(self.usd - (committed_usd(self.home) - self.before), 0.0)


def carry_out(
    study: Study,
    models: Sequence[str],
    constitutions: Sequence[str],
    select: Sequence[str] = (),
    budget_usd: float | None = None,
    on_event: OnEvent = lambda event: None,
) -> Outcome:
    """Run everything stale. A failure stops what depends on it and nothing else. `budget_usd` is a
    hard stop over all judging together."""
    budget = SharedBudget(study.home, budget_usd)
    return Carrying(study, models, constitutions, select, on_event).run(budget)


def _came_out(before: Record | None, after: Record | None) -> str:
    same = before is not None and after is not None and before.data_version == after.data_version
    return "unchanged: what follows stays as it is" if same else ""
