"""A pool's slot outlives nobody: the run of a killed process gives it back while others wait for it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import dagster as dg
import psutil
import pytest
from dagster._core.storage.event_log import SqlEventLogStorage

from rlaif_dagster.home import Home
from rlaif_dagster.lineage.runs import PROCESS_TAG, admit_forgotten_steps, open_instance, watching_the_pools


@dg.op
def step() -> None: ...


@dg.job
def work() -> None:
    step()


def test_the_slot_of_a_process_that_is_killed_meanwhile_is_given_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    started = psutil.Process(other.pid).create_time()
    tags = {PROCESS_TAG: f"{socket.gethostname()}:{other.pid}:{started:.2f}"}
    try:
        with open_instance(home) as instance:
            held = instance.create_run_for_job(work, tags=tags, status=dg.DagsterRunStatus.STARTED)
            storage = instance.event_log_storage
            storage.initialize_concurrency_limit_to_default("judge")
            assert storage.claim_concurrency_slot("judge", held.run_id, "step").is_claimed
            with watching_the_pools(instance, seconds=0.05):
                time.sleep(0.5)
                assert not storage.claim_concurrency_slot("judge", "waiting", "step").is_claimed
                other.kill()
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
