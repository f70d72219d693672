"""Whose process has ended is told by its own machine alone."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from rlaif_dagster.home import Home
from rlaif_dagster.lineage import runs
from rlaif_dagster.lineage.runs import HOST_TAG, PROCESS_TAG, end_dead_runs, open_instance, say_where
from rlaif_dagster.locks import making


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
