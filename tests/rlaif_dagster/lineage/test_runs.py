"""Whose process has ended is told by its own machine alone; how a run ended decides whether the sensor asks for it again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData

from rlaif_dagster.automation import Decision, decide
from rlaif_dagster.home import Home
from rlaif_dagster.lineage import runs
from rlaif_dagster.lineage.runs import (
    HOST_TAG,
    INPUTS_TAG,
    PROCESS_TAG,
    end_dead_runs,
    inputs_tag,
    open_instance,
    process_name,
    say_where,
    tries_of,
)
from rlaif_dagster.locks import making
from rlaif_dagster.resolver import Node, Stale, State
from rlaif_dagster.warehouse.store import Cell


@dg.op
def step() -> None: ...


@dg.job
def work() -> None:
    step()


def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def started(instance: dg.DagsterInstance, tags: dict[str, str]) -> str:
    """A run that began in a process which is not there (any more); its id."""
    run = instance.create_run_for_job(work, tags=tags, status=dg.DagsterRunStatus.STARTED)
    pid = ended()
    instance.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
    return run.run_id


def failed(instance: dg.DagsterInstance, tags: dict[str, str]) -> bool:
    run_id = started(instance, tags)
    end_dead_runs(instance)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status == dg.DagsterRunStatus.FAILURE


@pytest.fixture(autouse=True)
def own_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("RLAIF_HOME", str(home.root))


def test_a_run_of_this_machine_whose_process_has_ended_is_closed(home: Home) -> None:
    with open_instance(home) as instance:
        assert failed(instance, {})
        assert failed(instance, {HOST_TAG: socket.gethostname()})
        assert failed(instance, {PROCESS_TAG: f"{socket.gethostname()}:{ended()}:1.00"})


def test_a_run_of_another_machine_goes_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_instance(home) as instance:
        assert not failed(instance, {HOST_TAG: "another"})
        assert not failed(instance, {PROCESS_TAG: f"another:{ended()}:1.00"})
        monkeypatch.setenv("RLAIF_STEPS", "ray")  # it may be any node's
        assert not failed(instance, {})


@pytest.mark.parametrize("tags", [{HOST_TAG: "former"}, {PROCESS_TAG: "former:1:1.00"}])
def test_a_run_of_this_machine_under_a_former_name_is_closed_once_it_is_silent(
    home: Home, tags: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a container was made anew over the same home. What holds a lock there is alive, wherever that is."""
    with open_instance(home) as instance:
        run_id = started(instance, tags)

        def status() -> dg.DagsterRunStatus:
            end_dead_runs(instance)
            run = instance.get_run_by_id(run_id)
            assert run is not None
            return run.status

        assert status() == dg.DagsterRunStatus.STARTED
        monkeypatch.setattr(runs, "SECONDS_OF_SILENCE", 0.0)
        with making(home, "dpo_model", "brief|tiny", f"run {run_id[:8]} of Dagster"):
            assert status() == dg.DagsterRunStatus.STARTED
        assert status() == dg.DagsterRunStatus.FAILURE


def test_in_a_database_of_several_machines_a_run_must_say_where_it_is(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAIF_POSTGRES", postgres)
    with open_instance(Home(tmp_path / "mine")) as mine, open_instance(Home(tmp_path / "theirs")):
        assert not failed(mine, {})
        assert not failed(mine, {HOST_TAG: "another"})
        assert failed(mine, {HOST_TAG: socket.gethostname()})


def test_a_run_says_on_which_machine_it_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.op
    def noting(context) -> None:  # type: ignore[no-untyped-def]  # Dagster reads no annotation that is a text
        say_where(context)

    @dg.job
    def notes() -> None:
        noting()

    def tag(steps: str | None, tags: dict[str, str]) -> str | None:
        monkeypatch.setenv("RLAIF_STEPS", steps or "")
        with open_instance(home) as instance:
            result = notes.execute_in_process(instance=instance, tags=tags)
            run = instance.get_run_by_id(result.run_id)
            assert run is not None
            return run.tags.get(HOST_TAG)

    assert tag(None, {}) == socket.gethostname()
    assert tag("ray", {}) is None  # the step is somewhere else than the run
    assert tag(None, {PROCESS_TAG: "a command line's"}) is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell ticks since the boot")
def test_setting_the_clock_makes_no_process_look_dead(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_instance(home) as instance:
        tags = {PROCESS_TAG: process_name()}
        monkeypatch.setattr(
            psutil.Process, "create_time", lambda self: 1.0
        )  # as psutil tells it on a clock set elsewhere
        assert not failed(instance, tags)
        assert failed(
            instance, {PROCESS_TAG: process_name().rpartition("-")[0] + "-1"}
        )  # a later process of the same id


@dg.op
def gets_a_signal() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@dg.op
def fails() -> None:
    raise ValueError("by itself")


STALE = Stale("dpo_model", Cell("tiny", "brief"), 0, certain=True, ready=True, reasons=(), inputs="abc")


def decided(instance: dg.DagsterInstance, now: float) -> Decision:
    node = Node("dpo_model", ("model", "constitution"), (), code_version="1")
    state = State({"dpo_model": node}, {}, lambda asset, cell: "")
    return decide([STALE], state, [], tries_of(instance), now)


def ended_run(instance: dg.DagsterInstance, op: dg.OpDefinition) -> None:
    job = dg.GraphDefinition(op.name + "s", node_defs=[op]).to_job()
    job.execute_in_process(instance=instance, raise_on_error=False, tags={INPUTS_TAG: inputs_tag(STALE)})


def test_what_a_signal_ended_is_asked_for_again_and_what_a_person_terminated_is_not(home: Home) -> None:
    with open_instance(home) as instance:
        keys, key = set(), (("dpo_model", "brief|tiny"),)
        for _ in range(4):  # more often than a step may fail
            ended_run(instance, gets_a_signal)
            assert decided(instance, time.time()).waiting == key
            [request] = decided(instance, time.time() + 61).requests
            keys.add(request.run_key)
        assert len(keys) == 4  # Dagster drops a second request with the same
        ended_run(instance, fails)
        ended_run(instance, fails)
        assert decided(instance, time.time() + 61).waiting == key  # the second wait is longer
        for _ in range(6):
            ended_run(instance, gets_a_signal)
        assert decided(instance, time.time() + 1e6).given_up == key
        run = instance.create_run_for_job(
            work, tags={INPUTS_TAG: inputs_tag(STALE)}, status=dg.DagsterRunStatus.STARTED
        )
        instance.report_run_canceled(run)
        said = decided(instance, time.time() + 1e6)
        assert said.requests == ()
        assert str(said) == "left alone because a person terminated it: dpo_model brief|tiny"
