"""A pool's slot outlives nobody: the run of a killed process gives it back while others wait for it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import dagster as dg
import psutil
import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.lineage.runs import PROCESS_TAG, open_instance, watching_for_dead_runs


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
            with watching_for_dead_runs(instance, seconds=0.05):
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
