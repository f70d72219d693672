"""Steps side by side: judging goes on for one cell while another trains, as far as the pools have slots.

What computes or asks gets a process of its own (`lineage.apart`); what holds no pool's slot takes a moment, and is made here
in between. The plan is resolved again when one of them has ended, so an edit stops where it does one step after another.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import wait
from typing import Any

import dagster as dg

from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.ledger import payer
from rlaif_dagster.lineage.apart import SECONDS_TO_STOP, Apart, Ending, Errand
from rlaif_dagster.lineage.carrying import Carrying, SharedBudget
from rlaif_dagster.lineage.pools import PoolWatch, free_slots
from rlaif_dagster.lineage.runs import end_dead_runs
from rlaif_dagster.lineage.study import Study, planned
from rlaif_dagster.locks import held_elsewhere
from rlaif_dagster.planning import Event, OnEvent, Outcome
from rlaif_dagster.resolver import Key, Stale

SECONDS_BETWEEN_LOOKS = 5.0  # at whether a slot that another had is free


@dataclass
class SideBySide:
    """A plan being carried out, at most `at_once` steps at a time, by processes that `command` starts."""

    carrying: Carrying
    budget: SharedBudget
    command: Sequence[str]
    at_once: int
    running: dict[Key, Apart] = field(default_factory=dict)
    hindered: bool = False  # something is ready, and could start if others did not have its slot
    _numbers: count[int] = field(default_factory=count)

    def run(self) -> Outcome:
        try:
            with self.carrying.study.instance() as instance, PoolWatch(instance) as watch:
                while True:
                    waiting = self.carrying.waiting()
                    self.carrying.on_event(Event("planned", remaining=len(waiting)))
                    if self._make_light(waiting, watch):
                        continue
                    self._start(waiting, instance)
                    if not self.running:
                        return self.carrying.outcome(waiting)
                    self._listen(instance)
        finally:
            self._end_all()

    def _ready(self, waiting: Sequence[Stale]) -> list[Stale]:
        return [item for item in waiting if item.ready and (item.asset, item.cell) not in self.running]

    def _make_light(self, waiting: Sequence[Stale], watch: PoolWatch) -> bool:
        """Make the first step that needs no slot; whether there was one."""
        elsewhere = held_elsewhere(self.carrying.study.home)
        for item in self._ready(waiting):
            if self.carrying.pool(item.asset) is None and not self.carrying.is_held(item, elsewhere):
                self.carrying.make(item, watch, self.budget.left(), len(waiting))
                return True
        return False

    def _start(self, waiting: Sequence[Stale], instance: dg.DagsterInstance) -> None:
        """A process for each step that may start. Where all that is ready is in others' hands, one process waits for them
        and says for whom."""
        ready, elsewhere = self._ready(waiting), held_elsewhere(self.carrying.study.home)
        for item in ready:
            if len(self.running) < self.at_once and self._may_start(item, elsewhere, instance):
                self._send(item, len(waiting))
        if ready and not self.running:
            self._send(ready[0], len(waiting))
        own = {apart.pool for apart in self.running.values()}
        left = [item for item in self._ready(waiting) if self.carrying.pool(item.asset) not in own]
        self.hindered = bool(left) and len(self.running) < self.at_once

    def _may_start(self, item: Stale, elsewhere: Container[str], instance: dg.DagsterInstance) -> bool:
        if self.carrying.is_held(item, elsewhere) or (
            self.budget.usd is not None and self._asks(item.asset) and self._asked()
        ):
            return False
        pool = self.carrying.pool(item.asset)
        if pool is None:
            return True
        free = free_slots(instance, pool, [apart.name for apart in self.running.values()])
        return free is None or free > sum(apart.pool == pool for apart in self.running.values())

    def _asks(self, asset: str) -> bool:
        """May it ask a judge? Of those that do, one at a time spends what is left of a budget."""
        return "judge" in self.carrying.study.defs.resolve_assets_def(dg.AssetKey(asset)).required_resource_keys

    def _asked(self) -> bool:
        return any(self._asks(asset) for asset, _ in self.running)

    def _send(self, item: Stale, remaining: int) -> None:
        carrying = self.carrying
        errand = Errand(
            item.asset, item.cell, tuple(carrying.models), tuple(carrying.constitutions), tuple(carrying.select),
            self.budget.left(), carrying.study.began, f"{payer()}/{next(self._numbers)}", remaining,
        )  # fmt: skip
        pool = carrying.pool(item.asset)
        apart = Apart.start(self.command, errand, planned(item), pool, carrying.on_event)
        self.running[item.asset, item.cell] = apart

    def _listen(self, instance: dg.DagsterInstance) -> None:
        """Until one of them has ended, or it is time to look whether a slot has become free."""
        until = time.monotonic() + SECONDS_BETWEEN_LOOKS
        while not self.hindered or time.monotonic() < until:
            sources: dict[Any, Apart] = {source: apart for apart in self.running.values() for source in apart.sources}
            for source in wait(list(sources), SECONDS_BETWEEN_LOOKS if self.hindered else None):
                if source in sources[source].sources:  # else it has ended meanwhile
                    sources[source].read(source)
            ended = [key for key, apart in self.running.items() if apart.ending]
            for key in ended:
                self._take(key, self.running.pop(key), instance)
            if ended:
                return

    def _take(self, key: Key, apart: Apart, instance: dg.DagsterInstance) -> None:
        ending = apart.ending or Ending()
        if ending.wrong:
            raise UserError(ending.wrong)
        if ending.interrupted:  # by somebody who named this very process
            raise KeyboardInterrupt
        if ending.made:
            self.carrying.made.append(apart.step)
        if ending.failure:
            self.carrying.failed[key] = (apart.step, ending.failure)
            if apart.process.returncode:  # it could not say so itself
                end_dead_runs(instance)
                self.carrying.on_event(Event("failed", apart.step, ending.failure.line))

    def _end_all(self) -> None:
        """Nothing goes on after the command."""
        for apart in self.running.values():
            apart.interrupt()
        deadline = time.monotonic() + SECONDS_TO_STOP  # for all of them together
        for apart in self.running.values():
            apart.stop(deadline)


def carry_out_side_by_side(
    study: Study,
    models: Sequence[str],
    constitutions: Sequence[str],
    select: Sequence[str],
    budget_usd: float | None,
    on_event: OnEvent,
    command: Sequence[str],
    at_once: int,
) -> Outcome:
    """As `carrying.carry_out`, with at most `at_once` steps at a time; `command` starts a process that makes one step."""
    carrying = Carrying(study, models, constitutions, select, on_event)
    return SideBySide(carrying, SharedBudget(study.home, budget_usd), command, at_once).run()
