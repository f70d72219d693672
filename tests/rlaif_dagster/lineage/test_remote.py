"""What a step on a Ray cluster finds in its environment: the settings of who sent it, and its node's own vLLM."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rlaif_dagster.home import current_home
from rlaif_dagster.language import vllm
from rlaif_dagster.lineage.remote import Ended, Order, come_to, send
from rlaif_dagster.lineage.runs import INPUTS_TAG, PROCESS_TAG, open_instance, process_name
from tests.local_ray import local_ray

__all__ = ["local_ray"]
pytestmark = pytest.mark.timeout(900)
OF_THE_NODE = {"RLAIF_VLLM": "/node/bin/vllm", "RLAIF_PROCESSES": "7", "RLAIF_SHARDS": "7"}


@pytest.fixture(scope="module")
def settings_of_the_node() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in OF_THE_NODE.items():
            environment.setenv(name, value)
        yield


@pytest.fixture
def node(
    settings_of_the_node: None, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """A cluster whose node has settings of its own, and nothing set here but where results are."""
    for name in OF_THE_NODE:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RLAIF_HOME", str(tmp_path / "home"))
    return monkeypatch


@dg.asset
def environment() -> None:
    current_home().root.joinpath("environment.json").write_text(json.dumps(dict(os.environ)))


@dg.asset(pool="accelerator")
def trained() -> None: ...


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[environment, trained], jobs=[dg.define_asset_job("each", executor_def=dg.in_process_executor)]
    )


def found() -> dict[str, str | None]:
    """The settings as a step on the cluster finds them."""
    assert come_to(send(Order("environment", "each", None, None, {}), "somebody", {}, definitions)) == Ended()
    told = json.loads(current_home().root.joinpath("environment.json").read_text())
    return {name: told.get(name) for name in OF_THE_NODE}


def test_a_step_has_the_settings_of_who_sent_it(node: pytest.MonkeyPatch) -> None:
    node.setenv("RLAIF_PROCESSES", "2")
    node.setenv(vllm.PROGRAM, "~/vllm/bin/vllm")  # the home of whoever the step is there
    assert found() == {"RLAIF_VLLM": "~/vllm/bin/vllm", "RLAIF_PROCESSES": "2", "RLAIF_SHARDS": None}


def test_where_no_vllm_is_named_here_the_nodes_own_is_used(node: pytest.MonkeyPatch) -> None:
    assert found() == {"RLAIF_VLLM": "/node/bin/vllm", "RLAIF_PROCESSES": None, "RLAIF_SHARDS": None}


def test_a_step_whose_slot_was_taken_meanwhile_comes_back_and_keeps_no_gpu(node: pytest.MonkeyPatch) -> None:
    order = Order("trained", "each", None, None, {PROCESS_TAG: process_name(), INPUTS_TAG: "trained@:abc"})
    with open_instance(current_home()) as instance:
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("accelerator")
        other = instance.create_run_for_job(definitions().resolve_job_def("each"), status=dg.DagsterRunStatus.STARTED)
        assert storage.claim_concurrency_slot("accelerator", other.run_id, "trained").is_claimed
        ended = come_to(send(order, "somebody", {}, definitions))
        assert (ended.queued, ended.failure) == (True, None)
        [run] = instance.get_runs(dg.RunsFilter(tags=dict(order.tags)))
        assert run.is_finished
        assert storage.get_concurrency_info("accelerator").pending_run_ids == set()
        storage.free_concurrency_slots_for_run(other.run_id)
        assert come_to(send(order, "somebody", {}, definitions)) == Ended()
