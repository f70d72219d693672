"""Dagster's side of the study: its instance, its runs, and what it was told of the user's files."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dagster as dg
import psutil
from dagster import DagsterRunStatus as Status
from dagster._core.events import RunFailureReason
from dagster._core.launcher import DefaultRunLauncher
from filelock import FileLock

from rlaif_dagster.automation import Key, Try
from rlaif_dagster.home import Home, current_home
from rlaif_dagster.inputs import INPUTS
from rlaif_dagster.instance_config import prepare_dagster_home
from rlaif_dagster.lineage.graph import job_name
from rlaif_dagster.locks import holders
from rlaif_dagster.records import partition_key
from rlaif_dagster.resolver import Node, Stale, State
from rlaif_dagster.shards import STEPS
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell

DATA_VERSION_TAG = "dagster/data_version"
PARTITION_TAG = "dagster/partition"
WILL_RETRY_TAG, RETRIED_TAG = "dagster/will_retry", "dagster/auto_retry_run_id"
PROCESS_TAG = "rlaif/process"  # the command line that carries the run
HOST_TAG = "rlaif/host"  # the machine of a run that Dagster started itself
ORDER_TAG = "rlaif/order"  # one of a command line to a process on the cluster
INPUTS_TAG = "rlaif/inputs"  # which asset's partition the run is to make, from which inputs
INTERRUPTED_TAG = "rlaif/interrupted"  # a person ended the run: it did not fail
IF_STALE_TAG = "rlaif/if_stale"  # the run leaves alone what is fresh when its turn comes
REFRESH_TAG = "rlaif/refresh"  # the run computes again although nothing it reads has changed; which refresh it is
UNFINISHED = [Status.QUEUED, Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.MANAGED, Status.CANCELING]
SECONDS_OF_SILENCE = 600.0  # without a lock, after which a run of a machine that is not this one counts as dead
SECONDS_TO_RETRY = 600.0  # a run that Dagster said it would retry, and did not within this time, has failed


def open_instance(home: Home) -> dg.DagsterInstance:
    """Dagster's instance under RLAIF_HOME, configured on first use."""
    folder = prepare_dagster_home(home)
    os.environ["DAGSTER_HOME"] = str(folder)
    with FileLock(folder / "opening.lock"):  # of two that open it for the first time, both would make its tables
        instance = dg.DagsterInstance.get()
        end_dead_runs(instance)
    return instance


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Close the runs of this machine whose process was killed: they would look as if they went on, and keep their pool's
    slot. Dagster's daemon does so for its own, but may have been killed as well."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[Status.STARTED, Status.STARTING])):
        if _has_lost_its_process(instance, run):
            instance.report_run_failed(run, "The process of this run has ended.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _has_lost_its_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    process = run.tags.get(PROCESS_TAG)
    if (host_of(run) or socket.gethostname()) != socket.gethostname():
        return _is_forsaken(instance, run)
    if process:
        return not _is_alive(process)
    if HOST_TAG not in run.tags and not _is_of_one_machine(instance):
        return False
    for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        if event.message.startswith("Started process for run"):
            assert event.dagster_event
            return not _ran_at(int(str(event.dagster_event.engine_event_data.metadata["pid"].value)), event.timestamp)
    return False


def host_of(run: dg.DagsterRun) -> str | None:
    """The name of the machine that a run is on, where the run says so."""
    process = run.tags.get(PROCESS_TAG)
    return process.rsplit(":", 2)[0] if process else run.tags.get(HOST_TAG)


def _is_forsaken(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Of a run whose machine has another name: is nothing of it being made, long after it began? That machine may be this one
    by a former name, as where a container was made anew; one that works on the same home holds a lock in it meanwhile."""
    record = instance.get_run_record_by_id(run.run_id)
    begun = (record and (record.start_time or record.create_timestamp.timestamp())) or time.time()
    if time.time() - begun < SECONDS_OF_SILENCE or not _is_of_this_home(instance):
        return False
    if PROCESS_TAG not in run.tags and not isinstance(instance.run_launcher, DefaultRunLauncher):
        return False  # its process is on another machine on purpose
    return not any(run.run_id[:8] in one.what for one in holders(current_home()))


def _is_of_this_home(instance: dg.DagsterInstance) -> bool:
    """Are Dagster's runs kept in this home's own files, and not in a database that several homes share?"""
    from dagster._core.storage.runs.sqlite import SqliteRunStorage  # a quarter of a second, for a plan that needs none

    return isinstance(instance.run_storage, SqliteRunStorage)


def _is_of_one_machine(instance: dg.DagsterInstance) -> bool:
    """Can a run that does not say where it goes on be on this machine only? Not where its process is started elsewhere, its
    steps are sent elsewhere, or several machines keep their runs in one database."""
    at_home = isinstance(instance.run_launcher, DefaultRunLauncher) and not os.environ.get(STEPS)
    return at_home and _is_of_this_home(instance)


def say_where(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
    """Note at a run that Dagster started which machine it is on, where its steps are on the same."""
    if os.environ.get(STEPS) or not {PROCESS_TAG, HOST_TAG}.isdisjoint(context.run.tags):
        return
    context.instance.add_run_tags(context.run_id, {HOST_TAG: socket.gethostname()})


def _ran_at(pid: int, moment: float) -> bool:
    """Is there a process with this id, and was it there at that moment (seconds since the epoch)?"""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment + 1
    except psutil.NoSuchProcess:
        return False


def process_name(pid: int | None = None) -> str:
    """Host, process id and the process's start, which tells it from a later one with the same id. By default this process's."""
    process = psutil.Process(pid)
    return f"{socket.gethostname()}:{process.pid}:{_start_of(process)}"


def _start_of(process: psutil.Process) -> str:
    """When a process started: the boot and the clock ticks since then where the system tells them, because psutil's time moves
    when the clock is set."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except FileNotFoundError:
        return f"{process.create_time():.2f}"
    return f"{boot[:8]}-{stat.rpartition(')')[2].split()[19]}"


def _is_alive(process: str) -> bool:
    """One that was killed, and whose end nobody has taken in (as where a container has no init), is not."""
    _, pid, started = process.rsplit(":", 2)
    try:
        found = psutil.Process(int(pid))
        return found.status() != psutil.STATUS_ZOMBIE and _start_of(found) == started
    except psutil.NoSuchProcess:
        return False


def inputs_tag(item: Stale) -> str:
    """What tells the runs that do the same from all others."""
    return f"{item.asset}@{partition_key(item.cell) or ''}:{item.inputs}"


def busy_partitions(instance: dg.DagsterInstance, nodes: Mapping[str, Node]) -> tuple[set[Key], int]:
    """The asset partitions that a run or a backfill is making or will make, and how many runs are under way."""
    runs = [*instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)), *_to_be_retried(instance)]
    busy = {key for run in runs for key in _made_by(run, nodes)}
    return busy | set(_in_backfills(instance)), len(runs)


def _to_be_retried(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    failed = dg.RunsFilter(statuses=[Status.FAILURE], tags={WILL_RETRY_TAG: "true"})
    for record in instance.get_run_records(failed, limit=100):
        run = record.dagster_run
        if RETRIED_TAG not in run.tags and time.time() - (record.end_time or 0.0) < SECONDS_TO_RETRY:
            yield run


def _made_by(run: dg.DagsterRun, nodes: Mapping[str, Node]) -> Iterator[Key]:
    """A run started by hand from a job makes all the job's assets."""
    chosen = {key.to_user_string() for key in run.asset_selection or ()}
    names = chosen or {node.asset for node in nodes.values() if job_name(node.dims) == run.job_name}
    for name in names & nodes.keys():
        yield name, run.tags.get(PARTITION_TAG) if nodes[name].dims else None


def _in_backfills(instance: dg.DagsterInstance) -> Iterator[Key]:
    from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, BulkActionStatus

    going_on = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=going_on)):
        if backfill.asset_backfill_data is None:
            continue
        for item in backfill.asset_backfill_data.target_subset.iterate_asset_partitions():
            yield item.asset_key.to_user_string(), item.partition_key


def tries_of(instance: dg.DagsterInstance) -> Callable[[Stale], Sequence[Try]]:
    """The runs that have ended with the very inputs that a stale partition has now."""
    finished = [Status.SUCCESS, Status.FAILURE, Status.CANCELED]

    def tries(item: Stale) -> Sequence[Try]:
        same = dg.RunsFilter(statuses=finished, tags={INPUTS_TAG: inputs_tag(item)})
        ended = instance.get_run_records(same, limit=50)
        return [
            Try(one.end_time or 0.0, one.dagster_run.run_id, _how(instance, one.dagster_run))
            for one in ended if INTERRUPTED_TAG not in one.dagster_run.tags
        ]  # fmt: skip

    return tries


def _how(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Literal["ended", "interrupted", "terminated"]:
    if run.status == Status.CANCELED:
        return "terminated"
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE) if run.is_failure else []
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    return "interrupted" if _is_interrupted(events) else "ended"


def _is_interrupted(events: Iterable[dg.DagsterEvent]) -> bool:
    """Did a signal end the run, without a person's request to Dagster?"""
    ends = [event.event_specific_data for event in events if event.is_job_failure]
    return any(getattr(end, "failure_reason", None) == RunFailureReason.UNEXPECTED_TERMINATION for end in ends)


def last_failures(instance: dg.DagsterInstance, nodes: Mapping[str, Node]) -> dict[Key, tuple[float, str]]:
    """Latest failed run of each asset and partition: when it ended, and its id."""
    failures: dict[Key, tuple[float, str]] = {}
    for record in reversed(instance.get_run_records(dg.RunsFilter(statuses=[Status.FAILURE]), limit=200)):
        run = record.dagster_run
        for key in () if INTERRUPTED_TAG in run.tags else _made_by(run, nodes):
            failures[key] = (record.end_time or 0.0, run.run_id)
    return failures


def unseen(
    instance: dg.DagsterInstance, state: State, keys: Iterable[tuple[str, Cell]]
) -> Iterator[dg.AssetObservation]:
    """Observations of the inputs whose version now is not the one that Dagster saw last: its staleness goes by them."""
    for asset, cell in keys:
        version = state.input_version(asset, cell)
        if last_observed(instance, asset, cell) != version:
            yield dg.AssetObservation(asset, partition=partition_key(cell), tags={DATA_VERSION_TAG: version})


def all_inputs(state: State, project: Project) -> list[tuple[str, Cell]]:
    """Every input with every partition that has a file."""
    grid = (project.names("models"), project.names("constitutions"))
    return [(name, cell) for name in INPUTS for cell in state.nodes[name].cells(*grid)]


def observe_all(instance: dg.DagsterInstance, state: State, project: Project) -> None:
    """Tell Dagster of every file that it has not seen as it is now."""
    for observation in unseen(instance, state, all_inputs(state, project)):
        instance.report_runless_asset_event(observation)


def last_observed(instance: dg.DagsterInstance, asset: str, cell: Cell) -> str | None:
    """The version of an input that Dagster saw last."""
    partition = partition_key(cell)
    events = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition else None)
    seen = instance.fetch_observations(events, limit=1).records
    observation = seen[0].asset_observation if seen else None
    return observation.tags.get(DATA_VERSION_TAG) if observation else None


def observe_parents(instance: dg.DagsterInstance, state: State, asset: str, cell: Cell) -> None:
    """Tell Dagster of the files that a partition is about to read."""
    node = state.nodes[asset]
    parents = [
        (name, parent)
        for name in node.parents if name in INPUTS
        for parent in state.parent_cells(node, cell, state.nodes[name], (), ())
    ]  # fmt: skip
    for observation in unseen(instance, state, parents):
        instance.report_runless_asset_event(observation)


@dataclass(frozen=True)
class Failure:
    """Why a step failed, in one line, and whether that is the user's to fix."""

    line: str
    fixable: bool = False


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Did a person end the run? Dagster closes it as failed, and says why."""
    return _is_interrupted(result.all_events)
