"""The pools `accelerator` and `judge`, whose slots let one step in at a time: who holds them, and how a command line waits.

Dagster lets a run wait for its slot within the run. There it says nothing, heeds no Ctrl-C, and looks so often that it
keeps a core busy. So a command line waits before it starts a run, and tells for whom. Two that see the same slot free
still meet inside Dagster: the one that comes second leaves again, and waits as the others do.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._utils.interrupts import check_captured_interrupt

from rlaif_dagster.lineage.runs import PARTITION_TAG, PROCESS_TAG, end_dead_runs, host_of, process_name

SECONDS_BETWEEN_LOOKS = 5.0  # at who holds and who waits for the slots
SECONDS_AFTER_END = 30.0  # of a run that has not given its slots back: what Dagster's daemon allows it, too
SECONDS_BETWEEN_TRIES = 1.0  # of a command line that waits for a slot


def in_the_way(instance: dg.DagsterInstance, pool: str, own: int | None = None) -> str | None:
    """Who holds the slots of a pool, or queues for them, in words; None where one is free. `own` counts the steps that this
    process has under way there, which may not have taken their slots yet; without it runs of this process count as any."""
    info = instance.event_log_storage.get_concurrency_info(pool)
    runs = {*info.active_run_ids, *info.assigned_run_ids, *info.pending_run_ids}
    if info.limit is None:
        return None
    others = {run_id for run_id in runs if not _is_own(instance, run_id)} if own else runs
    if len(others) + (own or 0) < info.limit:
        return None
    return " and ".join(sorted(_described(instance, run_id) for run_id in runs))


def _is_own(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.tags.get(PROCESS_TAG) == process_name()


def _described(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    if run is None:
        return f"run {run_id[:8]}"
    process = run.tags.get(PROCESS_TAG)
    who = f"rlaif up (process {process.split(':')[1]})" if process else f"run {run_id[:8]} of Dagster"
    assets = ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ()))
    host = host_of(run)
    place = f"on {host}" if host and host != socket.gethostname() else ""
    return " ".join(part for part in (who, place, assets and f"making {assets}", run.tags.get(PARTITION_TAG)) if part)


def wait_for_slot(
    instance: dg.DagsterInstance, pool: str, told: Callable[[str], None], seconds: float = SECONDS_BETWEEN_TRIES
) -> bool:
    """Until the pool has a free slot; `told` is given who has it, once for each who does. Ctrl-C ends the wait. Returns
    whether there was one."""
    before = None
    while (who := in_the_way(instance, pool)) is not None:
        if who != before:
            told(f"pool {pool}: {who} has the slot; waiting")
            before = who
        time.sleep(seconds)
    return before is not None


def free_slots_of_ended_runs(instance: dg.DagsterInstance, seconds: float = SECONDS_AFTER_END) -> None:
    """Take slots and places in the queue from runs that ended so long ago. Who closes a run gives its slots back in a second
    transaction, and may be killed between the two. The daemon looks after that, where it runs."""
    storage = instance.event_log_storage
    for pool in storage.get_concurrency_keys():
        info = storage.get_concurrency_info(pool)
        for run_id in {*info.active_run_ids, *info.assigned_run_ids, *info.pending_run_ids}:
            record = instance.get_run_record_by_id(run_id)
            if record and record.dagster_run.is_finished and time.time() - (record.end_time or 0.0) > seconds:
                storage.free_concurrency_slots_for_run(run_id)


def admit_forgotten_steps(instance: dg.DagsterInstance) -> None:
    """Let the first step in where a pool has a free slot and steps wait that nobody will call. Dagster 1.13.27 looks for a
    free slot and then, in another transaction, queues the step: a slot that is freed in between is never offered to it."""
    from dagster._core.storage.event_log import SqlEventLogStorage  # brings SQLAlchemy, which a plan does without

    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return
    for pool in storage.get_concurrency_keys():
        info = storage.get_concurrency_info(pool)
        if info.pending_step_count and max(info.assigned_step_count, info.active_slot_count) < info.slot_count:
            storage.assign_pending_steps([pool])


class PoolWatch:
    """A thread that looks after the pools while a command line works: it closes dead runs, takes the slots of ended ones and
    admits forgotten steps, for a run that waits for a slot would wait for ever if the process that holds it were killed. And it
    ends a run of this process that is stuck in Dagster's own queue: on Ctrl-C, which Dagster keeps to itself there, or so that it
    waits outside."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        seconds: float = SECONDS_BETWEEN_LOOKS,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """`tags` are those of the run that it watches over; by default all runs that name this process are its own."""
        self.instance, self.seconds = instance, seconds
        self.tags = {PROCESS_TAG: process_name()} if tags is None else dict(tags)
        self.queued = False  # the last run was ended because it queued for a slot
        self._running = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pools", daemon=True)

    def __enter__(self) -> PoolWatch:
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGUSR1, self._interrupt)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, self._handler)

    @contextmanager
    def run(self) -> Iterator[None]:
        """Around one run of Dagster in the main thread: within it, and only there, the run can be ended."""
        self.queued, self._running = False, True
        try:
            yield
        finally:
            self._running = False

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._running:
            self._running = False
            raise DagsterExecutionInterruptedError

    def _watch(self) -> None:
        captured = queued = False
        next_look = time.monotonic()
        while not self._ended.wait(min(SECONDS_BETWEEN_TRIES, self.seconds)):
            captured_before, captured = captured, check_captured_interrupt()
            if captured and captured_before:  # not taken up by a step at once: the run is in the queue
                self._end_the_run()
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + self.seconds
            end_dead_runs(self.instance)
            free_slots_of_ended_runs(self.instance)
            admit_forgotten_steps(self.instance)
            queued_before, queued = queued, self._is_queued()
            if queued and queued_before:
                self.queued = True
                self._end_the_run()

    def _is_queued(self) -> bool:
        """Does a run of this process wait for a slot that another holds?"""
        if not self._running:
            return False
        storage = self.instance.event_log_storage
        pools = [storage.get_concurrency_info(pool) for pool in storage.get_concurrency_keys()]
        waiting = {run_id for pool in pools for run_id in pool.pending_run_ids}
        runs = (self.instance.get_run_by_id(run_id) for run_id in waiting)
        return any(run is not None and self.tags.items() <= run.tags.items() for run in runs)

    def _end_the_run(self) -> None:
        if self._running:
            os.kill(os.getpid(), signal.SIGUSR1)  # Python runs its handler in the main thread
