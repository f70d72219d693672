"""The study as the command line sees it: what is stale, and carrying it out.

The decision itself is `resolver.resolve`, a pure function. This module reads the graph out of the Dagster definitions, the
versions out of the files and the records, and runs what is ready, one Dagster run an asset and partition, resolving again
after each: that is the early cutoff.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

import dagster as dg
import psutil

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.inputs import INPUTS, changed_fields
from rlaif_dagster.instance_config import prepare_dagster_home
from rlaif_dagster.judging.ledger import spent_usd
from rlaif_dagster.planning import CellStatus, Event, Node, OnEvent, Outcome, Plan, Step
from rlaif_dagster.records import Record, adapters_in, partition_key, read_history, remembered_meaning
from rlaif_dagster.resolver import Node as GraphNode
from rlaif_dagster.resolver import Stale, State, resolve
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell, Warehouse

DIMS = "rlaif/dims"  # asset metadata: the partition dimensions, by name
WRITES = "rlaif/writes"  # asset metadata: files of the warehouse, `{model}` and `{constitution}` standing for the cell
DATA_VERSION_TAG = "dagster/data_version"
PROCESS_TAG = "rlaif/process"  # run tag: the command line that carries the run
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Estimator = Callable[[Step], Step]
History = Mapping[tuple[str, str | None], Sequence[Record]]


def nodes_of(assets: Iterable[dg.AssetsDefinition | dg.SourceAsset]) -> dict[str, GraphNode]:
    """The graph of the assets in topological order, as plain values."""
    nodes = {}
    for asset in assets:
        name = asset.key.to_user_string()
        if isinstance(asset, dg.SourceAsset):
            nodes[name] = GraphNode(name, tuple(asset.metadata[DIMS].value), (), None)  # type: ignore[arg-type]
        else:
            parents = tuple(sorted(dep.to_user_string() for dep in asset.asset_deps[asset.key]))
            metadata, code_version = asset.metadata_by_key[asset.key], asset.code_versions_by_key[asset.key]
            nodes[name] = GraphNode(name, tuple(metadata[DIMS]), parents, code_version, tuple(metadata[WRITES]))
    order = TopologicalSorter({node.asset: node.parents for node in nodes.values()}).static_order()
    return {name: nodes[name] for name in order}


def state_of(nodes: Mapping[str, GraphNode], project: Project, warehouse: Warehouse) -> State:
    """The graph with what the files and the records say now. File versions are computed once a state."""
    home = Home(warehouse.root.parent)
    latest = {key: records[-1] for key, records in read_history(warehouse).items()}
    known: dict[tuple[str, Cell], str] = {}

    def input_version(asset: str, cell: Cell) -> str:
        if (asset, cell) not in known:
            known[asset, cell] = INPUTS[asset].version(project, cell)
        return known[asset, cell]

    def explain(asset: str, cell: Cell, before: str) -> str:
        meaning = remembered_meaning(home, before)
        return "" if meaning is None else ", ".join(changed_fields(meaning, INPUTS[asset].meaning(project, cell))[:4])

    def missing(asset: str, cell: Cell) -> bool:
        names = (name.format(model=cell.model, constitution=cell.constitution) for name in nodes[asset].writes)
        files = [warehouse.root / name for name in names]
        if not all(file.exists() for file in files):
            return True
        tables = [file for name, file in zip(nodes[asset].writes, files, strict=True) if name.startswith("models/")]
        return not all((home.models / path).exists() for table in tables for path in adapters_in(table))

    return State(nodes, latest, input_version, artifact_missing=missing, explain_input=explain)


@dataclass(frozen=True)
class Failure:
    """Why a step failed, in one line, and whether that is the user's to fix."""

    line: str
    fixable: bool = False


@dataclass(frozen=True)
class Study:
    """One checkout's definitions, files and results."""

    defs: dg.Definitions
    nodes: Mapping[str, GraphNode]
    project: Project
    home: Home
    estimate: Estimator = lambda step: step

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home.warehouse)

    def state(self) -> State:
        return state_of(self.nodes, self.project, self.warehouse)

    def stale(self, models: Iterable[str], constitutions: Iterable[str], select: Sequence[str] = ()) -> list[Stale]:
        return resolve(self.state(), models, constitutions, self.selected(select))

    def selected(self, select: Sequence[str]) -> set[str] | None:
        """Assets that a selection names: `dpo_model` alone, `+dpo_model` with all it needs, `dpo_model+` with all that
        follows. None selects everything. Raises UserError on an unknown name."""
        if not select:
            return None
        chosen: set[str] = set()
        for item in select:
            name = item.strip("+")
            if name not in self.nodes:
                raise UserError(f"--select {item!r}: no such asset; assets are: {', '.join(sorted(self.nodes))}")
            chosen |= {name} | (self._upstream(name) if item[0] == "+" else set())
            chosen |= self._downstream(name) if item[-1] == "+" else set()
        return chosen

    def _upstream(self, name: str) -> set[str]:
        parents = set(self.nodes[name].parents)
        return parents.union(*(self._upstream(parent) for parent in parents)) if parents else parents

    def _downstream(self, name: str) -> set[str]:
        children = {node.asset for node in self.nodes.values() if name in node.parents}
        return children.union(*(self._downstream(child) for child in children)) if children else children

    def plan(self, models: Iterable[str], constitutions: Iterable[str], select: Sequence[str] = ()) -> Plan:
        """What is stale and why, in order, with what it will cost. Writes nothing."""
        return Plan(tuple(self.estimate(_planned(item)) for item in self.stale(models, constitutions, select)))

    def carry_out(
        self,
        models: Sequence[str],
        constitutions: Sequence[str],
        select: Sequence[str] = (),
        budget_usd: float | None = None,
        on_event: OnEvent = lambda event: None,
    ) -> Outcome:
        """Run everything stale. A failure stops what depends on it and nothing else. `budget_usd` is a hard stop over all
        judging together: what was judged is kept."""
        made: list[Step] = []
        before_usd, fixable = spent_usd(self.home), True
        failed: dict[tuple[str, Cell], tuple[Step, str]] = {}
        with self.instance() as instance:
            while True:
                stale = self.stale(models, constitutions, select)
                waiting = [item for item in stale if (item.asset, item.cell) not in failed]
                ready = [item for item in waiting if item.ready]
                on_event(Event("planned", remaining=len(waiting)))
                if not ready:
                    break
                step = _planned(ready[0])
                on_event(Event("started", step, remaining=len(waiting)))
                before = self.state().record(step.asset, step.cell)
                left = None if budget_usd is None else max(budget_usd + before_usd - spent_usd(self.home), 0.0)
                failure = self._run(step, instance, left)
                after = self.state().record(step.asset, step.cell)
                if failure is None and (after is None or after == before):
                    failure = Failure("it ended without a record of what it made")
                if failure is not None:
                    failed[step.asset, step.cell] = (step, failure.line)
                    fixable = fixable and failure.fixable
                    on_event(Event("failed", step, failure.line))
                    continue
                made.append(step)
                on_event(Event("made", step, _came_out(before, after), seconds=after.seconds if after else None))
        blocked = tuple(_planned(item) for item in waiting)
        for step in blocked:
            on_event(Event("blocked", step))
        return Outcome(tuple(made), tuple(failed.values()), blocked, fixable=bool(failed) and fixable)

    def _run(self, step: Step, instance: dg.DagsterInstance, budget_usd: float | None) -> Failure | None:
        """One Dagster run; None when it went well."""
        self.observe_parents(step, instance)
        job = self.defs.resolve_job_def(job_name(self.nodes[step.asset].dims))
        budget = {} if budget_usd is None else {"resources": {"judge": {"config": {"budget_usd": budget_usd}}}}
        result = job.execute_in_process(
            run_config=QUIET | budget,
            instance=instance,
            partition_key=partition_key(step.cell),
            asset_selection=[dg.AssetKey(step.asset)],
            raise_on_error=False,
            tags={PROCESS_TAG: _process_name()},
        )
        return None if result.success else _failure_of(result)

    def observe_parents(self, step: Step, instance: dg.DagsterInstance) -> None:
        """Tell Dagster of the input files' versions that it has not seen yet: its staleness and its automation go by them."""
        state, node = self.state(), self.nodes[step.asset]
        for name in node.parents:
            if name not in INPUTS:
                continue
            for cell in state.parent_cells(node, step.cell, self.nodes[name], (), ()):
                observe(instance, name, cell, state.input_version(name, cell))

    def instance(self) -> dg.DagsterInstance:
        """Dagster's instance under RLAIF_HOME, configured on first use."""
        folder = prepare_dagster_home(self.home)
        os.environ["DAGSTER_HOME"] = str(folder)
        instance = dg.DagsterInstance.get()
        end_dead_runs(instance)
        return instance

    def status(self, models: Iterable[str], constitutions: Iterable[str]) -> list[CellStatus]:
        """Every asset of the chosen grid: fresh, stale, missing or failed."""
        models, constitutions = list(models), list(constitutions)
        state = self.state()
        stale = {(item.asset, item.cell): item for item in resolve(state, models, constitutions)}
        failures = self._failures() if self.home.dagster.exists() else {}
        out = []
        for node in self.nodes.values():
            if node.code_version is None:
                continue
            for cell in node.cells(models, constitutions):
                out.append(_status(node.asset, cell, state, stale.get((node.asset, cell)), failures))
        return out

    def _failures(self) -> dict[tuple[str, str | None], tuple[float, str]]:
        """Latest failed run of each asset and partition: when it ended, and its id."""
        failures: dict[tuple[str, str | None], tuple[float, str]] = {}
        with self.instance() as instance:
            runs = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=200)
            for record in reversed(runs):
                run = record.dagster_run
                for key in run.asset_selection or ():
                    partition = run.tags.get("dagster/partition")
                    failures[key.to_user_string(), partition] = (record.end_time or 0.0, run.run_id)
        return failures

    def tree(self, asset: str, cell: Cell) -> Node:
        """The versions behind an asset's partition, down to the files."""
        if asset not in self.nodes:
            raise UserError(f"no asset {asset!r}; assets are: {', '.join(sorted(self.nodes))}")
        node = self.nodes[asset]
        own = Cell(*(getattr(cell, dim) if dim in node.dims else None for dim in ("model", "constitution")))
        return _tree(asset, partition_key(own), None, read_history(self.warehouse))


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Close the runs of command lines that were killed: they would look as if they went on, and keep their pool's slot."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])):
        process = run.tags.get(PROCESS_TAG)
        if process and process.startswith(f"{socket.gethostname()}:") and not _is_alive(process):
            instance.report_run_failed(run, "The process of this run has ended.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _process_name() -> str:
    """Host, process id and the process's start, which tells it from a later one with the same id."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def _is_alive(process: str) -> bool:
    _, pid, started = process.rsplit(":", 2)
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except psutil.NoSuchProcess:
        return False


def observe(instance: dg.DagsterInstance, asset: str, cell: Cell, version: str) -> bool:
    """Report an input's version to Dagster unless it is the last one seen; says whether it was new."""
    if last_observed(instance, asset, cell) == version:
        return False
    instance.report_runless_asset_event(
        dg.AssetObservation(asset, partition=partition_key(cell), tags={DATA_VERSION_TAG: version})
    )
    return True


def last_observed(instance: dg.DagsterInstance, asset: str, cell: Cell) -> str | None:
    """The version of an input that Dagster saw last."""
    partition = partition_key(cell)
    events = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition else None)
    seen = instance.fetch_observations(events, limit=1).records
    observation = seen[0].asset_observation if seen else None
    return observation.tags.get(DATA_VERSION_TAG) if observation else None


def job_name(dims: tuple[str, ...]) -> str:
    """The job of a partition set: a job that mixed them would run unpartitioned assets once a partition."""
    return "_".join(("each", *dims)) if dims else "once"


def _planned(item: Stale) -> Step:
    return Step(item.asset, item.cell, item.level, item.certain, tuple(dict.fromkeys(r.text for r in item.reasons)))


def _came_out(before: Record | None, after: Record | None) -> str:
    same = before is not None and after is not None and before.data_version == after.data_version
    return "unchanged: what follows stays as it is" if same else ""


def _failure_of(result: dg.ExecuteInProcessResult) -> Failure:
    """The first error of a run: a failed check's numbers, or the innermost exception."""
    for event in result.all_events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed:
                numbers = evaluation.metadata.get("numbers")
                return Failure(f"check {evaluation.check_name} failed: {numbers.value if numbers else ''}")
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None:
                line, fixable = " ".join(error.message.split()), error.cls_name == UserError.__name__
                return Failure(line.partition(": ")[2] if fixable else line, fixable)
    return Failure("the run failed; see its log in the UI")


def _status(
    asset: str,
    cell: Cell,
    state: State,
    stale: Stale | None,
    failures: Mapping[tuple[str, str | None], tuple[float, str]],
) -> CellStatus:
    record = state.record(asset, cell)
    version, made_at = (record.data_version, record.started_at) if record else (None, None)
    reason = "; ".join(dict.fromkeys(r.text for r in stale.reasons)) if stale else None
    ended, run_id = failures.get((asset, partition_key(cell)), (0.0, ""))
    if stale and ended > (made_at.timestamp() if made_at else 0.0):
        return CellStatus(asset, cell, "failed", version, made_at, f"run {run_id[:8]} failed")
    if record is None:
        return CellStatus(asset, cell, "missing", None, None, reason)
    return CellStatus(asset, cell, "stale" if stale else "fresh", version, made_at, reason)


def _tree(asset: str, partition: str | None, version: str | None, history: History) -> Node:
    """The version that was used (None: the latest) and, below it, what that very version was made from."""
    label = f"{asset} {partition}" if partition else asset
    records = history.get((asset, partition), [])
    made = [record for record in records if version is None or record.data_version == version]
    if not made:
        return Node(label, version)
    children = tuple(_tree(v.asset, v.partition, v.version, history) for v in made[-1].upstream)
    return Node(label, made[-1].data_version, children)
