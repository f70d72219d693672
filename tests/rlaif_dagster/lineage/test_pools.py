"""A pool's slot outlives nobody, and who waits for it is told so and can be interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqlEventLogStorage

from rlaif_dagster.home import Home
from rlaif_dagster.instance_config import prepare_dagster_home
from rlaif_dagster.lineage.pools import (
    PoolWatch,
    admit_forgotten_steps,
    free_slots_of_ended_runs,
    in_the_way,
    wait_for_slot,
)
from rlaif_dagster.lineage.runs import PROCESS_TAG, open_instance, process_name, was_interrupted


@dg.op
def step() -> None: ...


@dg.job
def work() -> None:
    step()


@dg.op(pool="accelerator")
def training() -> None: ...


@dg.job
def trains() -> None:
    training()


@pytest.mark.parametrize("taken_in", [True, False], ids=["gone", "zombie"])
def test_the_slot_of_a_process_that_is_killed_meanwhile_is_given_back(
    home: Home, monkeypatch: pytest.MonkeyPatch, taken_in: bool
) -> None:
    """Also where nobody takes in its end, as in a container without an init."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    tags = {PROCESS_TAG: process_name(other.pid)}
    try:
        with open_instance(home) as instance:
            held = instance.create_run_for_job(work, tags=tags, status=dg.DagsterRunStatus.STARTED)
            storage = instance.event_log_storage
            storage.initialize_concurrency_limit_to_default("judge")
            assert storage.claim_concurrency_slot("judge", held.run_id, "step").is_claimed
            with PoolWatch(instance, seconds=0.05):
                time.sleep(0.5)
                assert not storage.claim_concurrency_slot("judge", "waiting", "step").is_claimed
                other.kill()
                if taken_in:
                    other.wait()
                deadline = time.monotonic() + 30
                while not storage.claim_concurrency_slot("judge", "waiting", "step").is_claimed:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            run = instance.get_run_by_id(held.run_id)
            assert run is not None
            assert run.status == dg.DagsterRunStatus.FAILURE
    finally:
        other.kill()
        other.wait()


def test_a_step_that_queued_while_the_slot_was_freed_is_admitted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's own functions in the order in which two processes can call them."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(home) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, SqlEventLogStorage)
        storage.initialize_concurrency_limit_to_default("judge")
        assert storage.claim_concurrency_slot("judge", "first", "step").is_claimed
        free = storage.has_unassigned_slots("judge")
        storage.free_concurrency_slot_for_step("first", "step")
        storage.add_pending_step("judge", "second", "step", priority=0, should_assign=free)
        assert not storage.claim_concurrency_slot("judge", "second", "step").is_claimed
        admit_forgotten_steps(instance)
        assert storage.claim_concurrency_slot("judge", "second", "step").is_claimed
        storage.add_pending_step("judge", "third", "step", priority=0, should_assign=False)
        admit_forgotten_steps(instance)
        assert not storage.claim_concurrency_slot("judge", "third", "step").is_claimed


def held_by_another(instance: dg.DagsterInstance) -> str:
    """A run of Dagster's that has the accelerator's only slot; its id."""
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("accelerator")
    tags = {"dagster/partition": "brief|tiny"}
    run = instance.create_run_for_job(trains, tags=tags, status=dg.DagsterRunStatus.STARTED)
    assert storage.claim_concurrency_slot("accelerator", run.run_id, "training").is_claimed
    return run.run_id


def test_a_run_that_ended_without_giving_its_slot_back_keeps_it_from_nobody(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process that closed it was killed right then: its state says failed, and the slot is its own still."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(home) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, SqlEventLogStorage)
        storage.initialize_concurrency_limit_to_default("judge")
        held = held_by_another(instance)
        queued = instance.create_run_for_job(trains, status=dg.DagsterRunStatus.STARTED)
        storage.add_pending_step("judge", queued.run_id, "training", priority=0, should_assign=False)
        free_slots_of_ended_runs(instance, 0.0)
        assert in_the_way(instance, "accelerator") is not None  # it goes on
        for run_id in (held, queued.run_id):
            run = instance.get_run_by_id(run_id)
            assert run is not None
            instance.report_run_failed(run)
        free_slots_of_ended_runs(instance)
        assert in_the_way(instance, "accelerator") is not None  # just now: it may be about to
        free_slots_of_ended_runs(instance, 0.0)
        assert in_the_way(instance, "accelerator") is None
        assert storage.get_concurrency_info("judge").pending_run_ids == set()


def soon(do: Callable[[], None], seconds: float = 1.0) -> threading.Timer:
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


def test_who_waits_for_a_slot_is_told_who_has_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(home) as instance:
        assert in_the_way(instance, "accelerator") is None  # also before anybody has asked for the pool
        told: list[str] = []
        assert wait_for_slot(instance, "accelerator", told.append, 0.05) is False
        run = held_by_another(instance)
        soon(lambda: instance.event_log_storage.free_concurrency_slots_for_run(run) and None)
        assert wait_for_slot(instance, "accelerator", told.append, 0.05) is True
        assert told == [f"pool accelerator: run {run[:8]} of Dagster brief|tiny has the slot; waiting"]


def test_steps_of_this_process_count_before_they_have_their_slots(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    settings = prepare_dagster_home(home) / "dagster.yaml"
    settings.write_text(settings.read_text().replace("default_limit: 1", "default_limit: 3"))
    with open_instance(home) as instance:
        instance.event_log_storage.initialize_concurrency_limit_to_default("accelerator")
        run = instance.create_run_for_job(
            trains, tags={PROCESS_TAG: process_name()}, status=dg.DagsterRunStatus.STARTED
        )
        assert instance.event_log_storage.claim_concurrency_slot("accelerator", run.run_id, "training").is_claimed
        assert in_the_way(instance, "accelerator", 1) is None  # the one that has its slot
        assert in_the_way(instance, "accelerator", 2) is None  # and one that has not
        assert in_the_way(instance, "accelerator", 3) is not None
        held_by_another(instance)
        assert in_the_way(instance, "accelerator", 1) is None
        assert "of Dagster brief|tiny" in str(in_the_way(instance, "accelerator", 2))


def test_ctrl_c_ends_a_run_that_queues_for_a_slot(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster alone would keep the interrupt to itself until the slot is free."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(home) as instance:
        held = held_by_another(instance)
        with PoolWatch(instance, seconds=60) as watch, watch.run():
            soon(lambda: os.kill(os.getpid(), signal.SIGINT))
            before = time.monotonic()
            done = trains.execute_in_process(instance=instance, raise_on_error=False)
        assert time.monotonic() - before < 20
        assert was_interrupted(done)
        assert not watch.queued
        info = instance.event_log_storage.get_concurrency_info("accelerator")
        assert (info.active_run_ids, info.pending_run_ids) == ({held}, set())  # it has left the queue


def test_a_run_that_came_second_to_a_slot_waits_outside(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(home) as instance:
        held = held_by_another(instance)
        with PoolWatch(instance, seconds=0.5) as watch:
            with watch.run():
                own = {PROCESS_TAG: process_name()}
                done = trains.execute_in_process(instance=instance, raise_on_error=False, tags=own)
            assert was_interrupted(done)
            assert watch.queued
            instance.event_log_storage.free_concurrency_slots_for_run(held)
            with watch.run():
                assert trains.execute_in_process(instance=instance, raise_on_error=False, tags=own).success
            assert not watch.queued
