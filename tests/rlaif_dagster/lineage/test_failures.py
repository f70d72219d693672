"""Why a run failed, read from the events that Dagster keeps of real runs: in one line, and for the asset that it kept from being
made; runs that nobody asks about are not read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg
import pytest
import torch

from rlaif_dagster.errors import UserError
from rlaif_dagster.lineage.failures import Failure, failed_in, failure_in, kept_events
from rlaif_dagster.lineage.study import failures
from rlaif_dagster.records import Record
from rlaif_dagster.resolver import Node, State
from rlaif_dagster.warehouse.store import Cell


@dg.asset
def made() -> None: ...


@dg.asset
def refused() -> None:
    raise UserError("data/recipes/dpo.yaml: field 'beta': found -1,\nallowed: a number above 0")


@dg.asset
def broken() -> None:
    try:
        {}["margin"]
    except KeyError as error:
        raise RuntimeError("the training ended") from error


@dg.asset
def too_large() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@dg.asset(deps=[refused])
def after_refused() -> None: ...


@dg.asset(
    check_specs=[
        dg.AssetCheckSpec("kl", asset="unhealthy", blocking=True), dg.AssetCheckSpec("contamination", asset="unhealthy"),
    ]
)  # fmt: skip
def unhealthy() -> Iterator[Any]:
    numbers = {"numbers": dg.MetadataValue.text("dpo: KL 12 is above max_kl 10")}
    yield dg.MaterializeResult()
    yield dg.AssetCheckResult(passed=False, check_name="contamination", severity=dg.AssetCheckSeverity.WARN)
    yield dg.AssetCheckResult(passed=False, check_name="kl", metadata=numbers)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def job_of(*assets: dg.AssetsDefinition) -> dg.JobDefinition:
    return dg.Definitions(assets=assets, jobs=[dg.define_asset_job("each")]).resolve_job_def("each")


def run_of(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition) -> str:
    """The id of a run of these assets, which fails."""
    result = job_of(*assets).execute_in_process(
        instance=instance, asset_selection=[asset.key for asset in assets], raise_on_error=False
    )
    assert not result.success
    assert failure_in(result.all_events) == failure_in(kept_events(instance, result.run_id))  # here and kept: the same
    return result.run_id


def told(instance: dg.DagsterInstance, run_id: str, asset: str) -> str | None:
    line = failed_in(run_id, asset, partial(kept_events, instance))
    return line and line.replace(run_id[:8], "ID")


def test_a_users_error_is_told_in_its_own_words(instance: dg.DagsterInstance) -> None:
    run_id = run_of(instance, refused)
    error = "data/recipes/dpo.yaml: field 'beta': found -1, allowed: a number above 0"
    assert told(instance, run_id, "refused") == f"run ID failed: {error}"
    assert failure_in(kept_events(instance, run_id)) == Failure(error, fixable=True)


def test_of_other_errors_the_innermost_is_told_with_its_kind(instance: dg.DagsterInstance) -> None:
    assert told(instance, run_of(instance, broken), "broken") == "run ID failed: KeyError: 'margin'"


def test_a_gpu_that_is_too_small_is_told_with_what_helps(instance: dg.DagsterInstance) -> None:
    run_id = run_of(instance, too_large)
    line = told(instance, run_id, "too_large") or ""
    assert line.startswith("run ID failed: the GPU's memory is not enough: for a training, lower batch_size")
    assert line.endswith("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.)")
    assert failure_in(kept_events(instance, run_id)).fixable


def test_a_blocking_check_is_told_with_its_numbers_and_one_that_warns_is_not(instance: dg.DagsterInstance) -> None:
    line = told(instance, run_of(instance, unhealthy), "unhealthy")
    assert line == "run ID failed: check kl failed: dpo: KL 12 is above max_kl 10"


def test_in_a_run_of_several_each_asset_has_its_own_reason(instance: dg.DagsterInstance) -> None:
    run_id = run_of(instance, made, broken, refused, after_refused)
    assert told(instance, run_id, "made") is None
    assert told(instance, run_id, "broken") == "run ID failed: KeyError: 'margin'"
    assert (told(instance, run_id, "refused") or "").startswith("run ID failed: data/recipes/dpo.yaml")
    assert (told(instance, run_id, "after_refused") or "").startswith("run ID failed in ")  # its step never ran


def test_a_run_whose_process_died_says_so(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(job_of(made), status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "The process of this run has ended.")
    assert told(instance, run.run_id, "made") == "run ID failed: The process of this run has ended."


def test_the_status_reads_the_events_of_what_failed_since_it_was_made_and_no_others(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {name: run_of(instance, asset) for name, asset in (("refused", refused), ("broken", broken))}
    twice = run_of(instance, refused, after_refused)  # one run for two assets, which is read once
    now = datetime.now(UTC)
    before = Record("broken", None, "v", "1", (), runs["broken"], now - timedelta(days=1), 1.0, 0.0)
    read, all_logs = [], instance.all_logs
    monkeypatch.setattr(instance, "all_logs", lambda run_id, **kind: read.append(run_id) or all_logs(run_id, **kind))

    def status(*records: Record, stale: tuple[str, ...] = ("refused", "after_refused", "broken", "made")) -> set[str]:
        nodes = {asset: Node(asset, (), (), "1") for asset in ("refused", "after_refused", "broken", "made")}
        state = State(nodes, {(record.asset, None): record for record in records}, lambda asset, cell: "")
        read.clear()
        return {asset for asset, _ in failures(instance, state, [(asset, Cell()) for asset in stale])}

    assert status() == status(before) == {"refused", "after_refused", "broken"}
    assert sorted(read) == sorted([twice, runs["broken"]])
    assert status(replace(before, started_at=now)) == {"refused", "after_refused"}  # made since
    assert read == [twice]
    assert status(stale=("made",)) == set()
    assert read == []
