"""Where models lie by the environment: copies that share a memory, and what lies on a cluster. The machine is a made-up one; that
Ray keeps no GPU from a shard that asks for none is looked up in Ray itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlaif_dagster import memory_places
from rlaif_dagster.errors import UserError
from rlaif_dagster.memory_places import Place, Places, places

CPU, GPU = Place("cpu", 32 * 2**30), Place("cuda", 80 * 2**30)
VARIABLES = (
    "RLAIF_SHARDS", "RLAIF_PROCESSES", "RLAIF_NUM_GPUS", "RLAIF_STEPS", "RLAIF_ACCELERATOR_RESOURCES", "RAY_ADDRESS"
)  # fmt: skip
WITH_A_GPU = '{"limits": {"nvidia.com/gpu": "1", "memory": "64Gi"}}'
WITHOUT = '{"limits": {"memory": "64Gi"}, "requests": {"cpu": "8"}}'


@pytest.fixture(autouse=True)
def eight_cores_and_nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


def found(monkeypatch: pytest.MonkeyPatch, here: Place, **environment: str) -> Places:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(memory_places, "machine", lambda: here)
    return places()


def here(place: Place, copies: int) -> Place:
    return Place(place.device, place.bytes, copies)


@pytest.mark.parametrize(
    ("machine", "environment", "training", "answering"),
    [
        (CPU, {}, here(CPU, 1), here(CPU, 1)),
        (CPU, {"RLAIF_SHARDS": "4"}, here(CPU, 1), here(CPU, 4)),
        (CPU, {"RLAIF_SHARDS": "100"}, here(CPU, 1), here(CPU, 8)),  # Ray starts one a core
        (CPU, {"RLAIF_PROCESSES": "2"}, here(CPU, 2), here(CPU, 1)),
        (GPU, {"RLAIF_PROCESSES": "2"}, here(GPU, 1), here(GPU, 1)),  # a GPU each
        (GPU, {"RLAIF_SHARDS": "4"}, here(GPU, 1), here(GPU, 4)),
        (GPU, {"RLAIF_SHARDS": "4", "RLAIF_NUM_GPUS": "1"}, here(GPU, 1), here(GPU, 1)),
        (GPU, {"RLAIF_SHARDS": "4", "RLAIF_NUM_GPUS": "2"}, here(GPU, 1), here(GPU, 1)),
        (GPU, {"RLAIF_SHARDS": "4", "RLAIF_NUM_GPUS": "0.4"}, here(GPU, 1), here(GPU, 2)),
        (GPU, {"RLAIF_SHARDS": "4", "RLAIF_NUM_GPUS": "0.1"}, here(GPU, 1), here(GPU, 4)),
        (GPU, {"RLAIF_NUM_GPUS": "0.25"}, here(GPU, 1), here(GPU, 1)),  # nobody asks Ray for anything
    ],
)
def test_copies_that_share_this_machines_memory(
    machine: Place, environment: dict[str, str], training: Place, answering: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(monkeypatch, machine, **environment) == Places(training, answering)


@pytest.mark.parametrize(
    ("environment", "training", "answering"),
    [
        ({"RLAIF_STEPS": "ray"}, Place("cpu"), Place("cpu")),
        ({"RLAIF_STEPS": "ray", "RLAIF_NUM_GPUS": "1"}, Place("cuda"), Place("cuda")),
        ({"RLAIF_STEPS": "ray", "RLAIF_SHARDS": "4"}, Place("cpu"), Place("cpu")),  # on which nodes is not known
        ({"RLAIF_STEPS": "ray", "RLAIF_PROCESSES": "2"}, Place("cpu", copies=2), Place("cpu")),  # of one node
        ({"RLAIF_STEPS": "ray", "RLAIF_NUM_GPUS": "1", "RLAIF_PROCESSES": "2"}, Place("cuda"), Place("cuda")),
        ({"RLAIF_STEPS": "ray", "RLAIF_NUM_GPUS": "0.5", "RLAIF_SHARDS": "4"}, Place("cuda"), Place("cuda", copies=2)),
        ({"RLAIF_STEPS": "kubernetes", "RLAIF_ACCELERATOR_RESOURCES": WITH_A_GPU}, Place("cuda"), Place("cuda")),
        ({"RLAIF_STEPS": "kubernetes", "RLAIF_ACCELERATOR_RESOURCES": WITHOUT}, Place("cpu"), Place("cpu")),
        ({"RLAIF_STEPS": "kubernetes", "RLAIF_SHARDS": "3"}, Place("cpu"), Place("cpu", copies=3)),
    ],
)
@pytest.mark.parametrize("machine", [CPU, GPU])
def test_steps_on_a_cluster_are_planned_for_what_they_ask_for(
    environment: dict[str, str],
    training: Place,
    answering: Place,
    machine: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = found(monkeypatch, machine, **environment)
    assert there == Places(training, answering)
    assert there.of("ppo_model").holds(2**60)
    assert there.of("completions").holds(2**60)


@pytest.mark.parametrize(
    ("machine", "environment", "answering"),
    [
        (CPU, {"RLAIF_NUM_GPUS": "1"}, Place("cuda")),  # no shard could start here
        (CPU, {"RLAIF_NUM_GPUS": "0.5"}, Place("cuda", copies=2)),
        (CPU, {"RAY_ADDRESS": "head:6379"}, Place("cpu")),
        (GPU, {"RAY_ADDRESS": "head:6379", "RLAIF_NUM_GPUS": "1"}, Place("cuda")),
    ],
)
def test_shards_on_a_cluster_leave_training_here(
    machine: Place, environment: dict[str, str], answering: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = found(monkeypatch, machine, RLAIF_SHARDS="4", **environment)
    assert there == Places(machine, answering)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RLAIF_SHARDS", "many"),
        ("RLAIF_PROCESSES", "0"),
        ("RLAIF_ACCELERATOR_RESOURCES", '{"limits": 1}'),
    ],
)
def test_a_wrong_setting_is_told(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "RLAIF_ACCELERATOR_RESOURCES":
        monkeypatch.setenv("RLAIF_STEPS", "kubernetes")
    with pytest.raises(UserError, match=f"^{name}: "):
        found(monkeypatch, CPU, **{name: value})


def test_ray_keeps_no_gpu_from_a_shard_that_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else such shards would compute on the CPU, and the plan would have to say so."""
    utils = pytest.importorskip("ray._private.utils")

    class Context:
        def get_accelerator_ids(self) -> dict[str, list[str]]:
            return {"GPU": []}

    monkeypatch.setattr(utils.ray, "get_runtime_context", Context)
    monkeypatch.delenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    utils.set_visible_accelerator_ids()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_container_has_what_its_limit_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = memory_places._main_bytes()
    (limit := tmp_path / "memory.max").write_text("1048576\n")
    monkeypatch.setattr(memory_places, "CGROUP", limit)
    assert memory_places._main_bytes() == 1048576 < whole
    limit.write_text("max\n")
    assert memory_places._main_bytes() >= whole
