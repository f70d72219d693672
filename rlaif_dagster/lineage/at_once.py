"""A plan carried out on a Ray cluster: every step that is ready, and whose pool has a free slot, is a task of Ray's.

When one ends, the plan is resolved again. A step takes its lock where it runs. What a step spends is booked on a part of this
command's account, so that each knows its own cost. Ctrl-C ends all that is under way.
"""

from __future__ import annotations

import time
from collections.abc import Container, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import dagster as dg

from rlaif_dagster.bucket.local_copy import refresh
from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.budget import SharedBudget
from rlaif_dagster.judging.ledger import part_of_payer
from rlaif_dagster.lineage.carried import Carried
from rlaif_dagster.lineage.pools import SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_TRIES, PoolWatch, in_the_way
from rlaif_dagster.lineage.remote import Order, asks_for, cancel, come_to, first_ended, has_started, send
from rlaif_dagster.lineage.runs import ORDER_TAG
from rlaif_dagster.lineage.study import planned
from rlaif_dagster.locks import held_elsewhere, lock_name
from rlaif_dagster.planning import Event, Outcome, Step
from rlaif_dagster.records import Record, partition_key
from rlaif_dagster.resolver import Stale
from rlaif_dagster.shards import SECONDS_TO_START, has_room, lacking
from rlaif_dagster.warehouse.store import Cell


@dataclass(frozen=True)
class Begun:
    """A step under way, its pool, what there was of it before, and what was sent when (seconds of the monotonic clock)."""

    step: Step
    item: Stale
    pool: str | None
    before: Record | None
    order: Order
    tags: Mapping[str, str]
    since: float


@dataclass
class AtOnce(Carried):
    """All steps that can be made, at the same time; with a budget one after the other, because each is held to all that is
    left of it."""

    begun: dict[Any, Begun] = field(default_factory=dict)  # by Ray's reference to the task
    told: set[tuple[str, Cell, Hashable]] = field(default_factory=set)

    def run(self, budget: SharedBudget) -> Outcome:
        with self.study.instance() as instance, PoolWatch(instance):
            try:
                while True:
                    waiting, left_over = self._look(instance, budget)
                    if self.begun:
                        self._await_one(SECONDS_BETWEEN_LOOKS if left_over else None, budget, instance)
                    elif left_over:
                        time.sleep(SECONDS_BETWEEN_TRIES)
                    else:
                        return self.outcome(waiting)
            finally:
                cancel(list(self.begun))

    def _look(self, instance: dg.DagsterInstance, budget: SharedBudget) -> tuple[list[Stale], bool]:
        """Resolve the plan and start what can be started; what waits, and whether there is reason to look again soon. While
        steps are under way, a file that cannot be read just now, or a store that does not answer, ends nothing. Raises UserError
        where none is."""
        try:
            waiting = self.waiting()
            self.on_event(Event("planned", remaining=len(waiting)))
            return waiting, self._start(waiting, instance, budget)
        except UserError as error:
            if not self.begun:
                raise
            for begun in self.begun.values():
                self._tell(begun.item, str(error), f"goes on; nothing else is started: {error}")
            return [], True

    def _start(self, waiting: Sequence[Stale], instance: dg.DagsterInstance, budget: SharedBudget) -> bool:
        """Start what can be started; whether anything that is ready is left over."""
        under_way = {(begun.item.asset, begun.item.cell) for begun in self.begun.values()}
        ready = [item for item in waiting if item.ready and (item.asset, item.cell) not in under_way]
        elsewhere = held_elsewhere(self.study.home) if ready else set()
        left_over = False
        for item in ready:
            if self._has_room(item, instance, budget, elsewhere):
                self._send(item, instance, budget, len(waiting))
            else:
                left_over = True
        return left_over

    def _has_room(
        self, item: Stale, instance: dg.DagsterInstance, budget: SharedBudget, elsewhere: Container[str]
    ) -> bool:
        """Whether a step can start now. The first time that somebody else is in its way, says who."""
        if budget.usd is not None and self.begun:
            return False
        pool = self.pool(item.asset)
        own = sum(begun.pool == pool for begun in self.begun.values())
        if (maker := self.holder(item)) is not None:
            return self._tell(item, (maker.host, maker.pid), f"{maker} is making it; waiting")
        if lock_name(item.asset, partition_key(item.cell)) in elsewhere:
            return self._tell(item, "store", "another machine is making it; waiting")
        if pool and (who := in_the_way(instance, pool, own)) is not None:
            return False if own else self._tell(item, who, f"pool {pool}: {who} has the slot; waiting")
        return True

    def _tell(self, item: Stale, why: Hashable, message: str) -> bool:
        """Once for each reason."""
        if (item.asset, item.cell, why) not in self.told:
            self.told.add((item.asset, item.cell, why))
            self.on_event(Event("waiting", planned(item), message))
        return False

    def _send(self, item: Stale, instance: dg.DagsterInstance, budget: SharedBudget, remaining: int) -> None:
        step, before, pool = self.step(item), self.record(item), self.pool(item.asset)
        tags = self.study.defs.resolve_assets_def(dg.AssetKey(item.asset)).op.tags
        account = part_of_payer(f"{lock_name(item.asset, partition_key(item.cell))}-{uuid4().hex[:8]}")
        order = self.order(item, instance, budget.left())
        order = replace(order, tags={**order.tags, ORDER_TAG: account})
        self.on_event(Event("started", step, remaining=remaining))
        reference = send(order, account, tags, self.study.load or (lambda: self.study.defs))
        self.begun[reference] = Begun(step, item, pool, before, order, tags, time.monotonic())

    def _fetch(self) -> None:
        """The store's records: the step may have been made in another home. Where the store cannot be reached, a later look finds
        the step fresh."""
        with suppress(UserError):
            refresh(self.study.home)

    def _tell_of_what_has_not_started(self, instance: dg.DagsterInstance) -> None:
        """What the cluster has no room for would wait for ever, and Ray says so nowhere that a user looks."""
        for begun in self.begun.values():
            asked, late = asks_for(begun.tags), time.monotonic() - begun.since > SECONDS_TO_START
            if late and not has_room(asked) and not has_started(begun.order, instance):
                self._tell(begun.item, "room", f"waits for room on the cluster: asks for {lacking(asked)}")

    def _await_one(self, seconds: float | None, budget: SharedBudget, instance: dg.DagsterInstance) -> None:
        """Until a step ends, or so long."""
        while not (references := first_ended(list(self.begun), seconds or SECONDS_TO_START)):
            self._tell_of_what_has_not_started(instance)
            if seconds is not None:
                return
        for reference in references:
            begun = self.begun.pop(reference)
            ended = come_to(reference)
            budget.tell(ended.committed_usd)
            if ended.queued:
                continue  # its pool's slot was taken meanwhile: it is ready still, and its turn comes again
            self._fetch()
            self.end(begun.step, begun.before, self.record(begun.item), ended.failure)
