"""A plan carried out in this process, one step after the other, so that models stay in memory from step to step.

A step whose pool has no free slot waits for one. It is made under a lock of its own, so two command lines on one cell
share the work: the second waits, then finds the step fresh. An interrupt ends the run that is under way; what was recorded
before it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from rlaif_dagster.judging.budget import SharedBudget
from rlaif_dagster.lineage.carried import Carried
from rlaif_dagster.lineage.pools import PoolWatch, in_the_way, wait_for_slot
from rlaif_dagster.lineage.remote import execute
from rlaif_dagster.lineage.runs import Failure
from rlaif_dagster.locks import held_elsewhere, lock_name, making
from rlaif_dagster.planning import Event, Outcome
from rlaif_dagster.records import partition_key
from rlaif_dagster.resolver import Stale


class OneByOne(Carried):
    """The first step that nobody else is making, again and again."""

    def run(self, budget: SharedBudget) -> Outcome:
        with self.study.instance() as instance, PoolWatch(instance) as watch:
            while True:
                waiting = self.waiting()
                ready = [item for item in waiting if item.ready]
                self.on_event(Event("planned", remaining=len(waiting)))
                if not ready:
                    return self.outcome(waiting)
                self._make(self._first(ready), watch, budget.left(), len(waiting))

    def _first(self, ready: list[Stale]) -> Stale:
        """What nobody else is making, here or, by the store, elsewhere, if there is such a step."""
        elsewhere = held_elsewhere(self.study.home)
        free = [
            item for item in ready
            if self.holder(item) is None and lock_name(item.asset, partition_key(item.cell)) not in elsewhere
        ]  # fmt: skip
        return (free or ready)[0]

    def _make(self, item: Stale, watch: PoolWatch, budget_usd: float | None, remaining: int) -> None:
        """Make a step, unless it turns out that somebody else did, or that its pool's slot was taken meanwhile: then it
        is ready still, and its turn comes again. The slot is waited for without the step's lock, because a run of Dagster
        takes them in this order too."""
        step, instance, pool = self.step(item), watch.instance, self.pool(item.asset)

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
            before = self.record(item)
            failure = self._execute(item, watch, budget_usd)
            after = self.record(item)
        if not watch.queued:
            self.end(step, before, after, failure)

    def _right_to_make(self, item: Stale, told: Callable[[str], None]) -> AbstractContextManager[bool]:
        """The lock of a step, and whether it was waited for."""
        return making(
            self.study.home, item.asset, partition_key(item.cell), "rlaif up",
            lambda who: told(f"{who} is making it; waiting"),
        )  # fmt: skip

    def _is_ready(self, item: Stale) -> bool:
        now = next((now for now in self.waiting() if (now.asset, now.cell) == (item.asset, item.cell)), None)
        return now is not None and now.ready

    def _execute(self, item: Stale, watch: PoolWatch, budget_usd: float | None) -> Failure | None:
        """One Dagster run; None when it went well, or was ended in the queue of its pool."""
        order = self.order(item, watch.instance, budget_usd)
        with watch.run():
            ended = execute(order, self.study.defs, watch.instance)
        if ended.interrupted:
            if watch.queued:
                return None
            raise KeyboardInterrupt  # Dagster has closed the run, and swallowed it
        watch.queued = False
        return ended.failure
