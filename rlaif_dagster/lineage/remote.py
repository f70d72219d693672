"""One asset's partition as one run of Dagster: in this process, or with `RLAIF_STEPS=ray` in a process on a Ray cluster.

The step on the cluster opens the same storage of Dagster and the same RLAIF_HOME, which all nodes must share (the path alone
where RLAIF_STORE and RLAIF_POSTGRES say where things are), books what it spends on the account that it is given, and holds its
locks where it runs. A process that dies is replaced by Ray; the run that it left behind is closed first, or it would keep its
pool's slot.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from rlaif_dagster.errors import UserError
from rlaif_dagster.handed_on import to_a_step
from rlaif_dagster.home import current_home, data_folder
from rlaif_dagster.judging.ledger import act_for, committed_usd
from rlaif_dagster.lineage.failures import failure_in
from rlaif_dagster.lineage.pools import PoolWatch
from rlaif_dagster.lineage.runs import INTERRUPTED_TAG, UNFINISHED, Failure, open_instance, was_interrupted
from rlaif_dagster.shards import RAY, RAY_CONFIG, RESTARTS, STEPS, connect, result_of

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SECONDS_TO_STOP = 30.0  # of a step that was interrupted


@dataclass(frozen=True)
class Order:
    """What is to be made, by which job, for which partition; what judges may be paid for it, US dollars; the run's tags."""

    asset: str
    job: str
    partition: str | None
    budget_usd: float | None
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Ended:
    """How a run ended: with an error, by a person's interrupt, or well; and what judges were paid or may have billed for it, by
    the ledger of the home where it ran, US dollars."""

    failure: Failure | None = None
    interrupted: bool = False
    queued: bool = False  # in its pool's queue, where it was ended, so that it waits outside and keeps no GPU meanwhile
    committed_usd: float = 0.0


def steps_on_ray() -> bool:
    """Whether the environment asks for steps on a Ray cluster."""
    return os.environ.get(STEPS) == RAY


def execute(order: Order, defs: dg.Definitions, instance: dg.DagsterInstance) -> Ended:
    """The run, here."""
    budget = {} if order.budget_usd is None else {"resources": {"judge": {"config": {"budget_usd": order.budget_usd}}}}
    result = defs.resolve_job_def(order.job).execute_in_process(
        run_config=QUIET | budget,
        instance=instance,
        partition_key=order.partition,
        asset_selection=[dg.AssetKey(order.asset)],
        raise_on_error=False,
        tags=dict(order.tags),
    )
    if was_interrupted(result):
        instance.add_run_tags(result.run_id, {INTERRUPTED_TAG: "yes"})
        return Ended(interrupted=True)
    return Ended(None if result.success else failure_in(result.all_events))


def send(order: Order, account: str, tags: Mapping[str, str], load: Callable[[], dg.Definitions]) -> Any:
    """Start the run on the cluster; Ray's reference to it. `account` pays its judges, `tags` are the step's own, which say what
    it asks for; `load` gives the definitions there."""
    connect()
    import ray

    environment = to_a_step() | {"RLAIF_HOME": str(current_home().root), "RLAIF_DATA": str(data_folder())}
    asked = asks_for(tags)
    # a process a step: what a step had loaded is gone with it
    task: Any = ray.remote(num_cpus=asked["CPU"], num_gpus=asked["GPU"], max_retries=RESTARTS, max_calls=1)(
        _on_the_cluster
    )
    return task.remote(environment, account, order, load)


def asks_for(tags: Mapping[str, str]) -> dict[str, float]:
    """What a step with these tags asks of one node."""
    return {"CPU": 1.0, "GPU": float(json.loads(tags.get(RAY_CONFIG, "{}")).get("num_gpus", 0.0))}


def has_started(order: Order, instance: dg.DagsterInstance) -> bool:
    """Whether a process on the cluster has begun with the run."""
    return bool(instance.get_run_records(dg.RunsFilter(tags=dict(order.tags)), limit=1))


def first_ended(references: Sequence[Any], seconds: float | None = None) -> list[Any]:
    """Those of the runs that have ended, when there is one, or after so many seconds."""
    import ray

    return list(ray.wait(list(references), num_returns=1, timeout=seconds)[0])


def come_to(reference: Any) -> Ended:
    """How a run on the cluster ended, waited for. What keeps a run from starting there, or from ending, is its failure."""
    import ray

    try:
        ended: Ended = result_of(reference)
    except UserError as error:
        return Ended(Failure(str(error), fixable=True))
    except ray.exceptions.RayError as error:
        return Ended(Failure(f"on the cluster: {' '.join(str(error).split())}"))
    if ended.interrupted and not ended.queued:
        return replace(ended, failure=Failure("it was interrupted on the cluster"))
    return ended


def cancel(references: Sequence[Any]) -> None:
    """Interrupt the runs, and give them time to close."""
    if not references:
        return
    import ray

    for reference in references:
        ray.cancel(reference)
    ray.wait(list(references), num_returns=len(references), timeout=SECONDS_TO_STOP)


def _on_the_cluster(
    environment: Mapping[str, str | None], account: str, order: Order, load: Callable[[], dg.Definitions]
) -> Ended:
    for name, value in environment.items():  # before the definitions are loaded: they read the user's files
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    act_for(account)
    defs = load()
    with open_instance(current_home()) as instance:
        _close_what_died(order, instance)
        with PoolWatch(instance, tags=order.tags) as watch, watch.run():
            ended = execute(_with_what_is_left(order), defs, instance)
    queued = ended.interrupted and watch.queued
    return replace(
        ended, queued=queued, committed_usd=committed_usd(current_home())
    )  # the account is this order's alone


def _with_what_is_left(order: Order) -> Order:
    """Without what earlier tries of it have spent, whose process died."""
    if order.budget_usd is None:
        return order
    return replace(order, budget_usd=max(order.budget_usd - committed_usd(current_home()), 0.0))


def _close_what_died(order: Order, instance: dg.DagsterInstance) -> None:
    """Runs of the same order whose process has ended: Ray starts a task again only then."""
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags=dict(order.tags))):
        instance.report_run_failed(run, "The process of this run has ended.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
