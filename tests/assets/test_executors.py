"""Steps as jobs of Ray: what dagster-ray is told of a step, and that loading the definitions loads no Ray."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from assets import executors
from rlaif_dagster import shards
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT

LOADED = """
import json, sys
import dagster as dg
from rlaif_dagster.definitions import defs
repository = defs.get_repository_def()
job = next(job for job in repository.get_all_jobs() if "ppo_model" in {node.name for node in job.nodes})
own = {node.name: node.definition.tags for node in job.nodes}
tags = {name: json.loads(own[name]["dagster-ray/config"])["num_gpus"] for name in own if "dagster-ray/config" in own[name]}
ray = "ray" in sys.modules
sent = dg.validate_run_config(job)["execution"]["ray"]["ray"]["env_vars"]
print(json.dumps({"executor": job.executor_def.name, "gpus": tags, "ray": ray, "sent": sent}))
"""


def loaded(**environment: str) -> dict[str, Any]:
    """What the definitions are in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=os.environ | {"RLAIF_STEPS": "ray"} | environment, capture_output=True,
        text=True, cwd=CHECKOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_step_that_computes_asks_for_its_gpus() -> None:
    found = loaded(RLAIF_NUM_GPUS="2")
    assert found["executor"] == "ray"
    assert not found["ray"]
    assert {name: found["gpus"][name] for name in ("ppo_model", "revisions", "sft_benchmarks")} == {
        "ppo_model": 2, "revisions": 2, "sft_benchmarks": 2,
    }  # fmt: skip
    assert found["gpus"]["preference_pairs"] == found["gpus"]["judgments"] == 0


def test_with_shards_the_step_leaves_the_gpus_to_them() -> None:
    found = loaded(RLAIF_NUM_GPUS="0.5", RLAIF_SHARDS="2")
    assert found["gpus"]["ppo_model"] == 0.5
    assert found["gpus"]["revisions"] == found["gpus"]["sft_benchmarks"] == 0


def test_a_training_in_several_processes_asks_for_a_gpu_each() -> None:
    found = loaded(RLAIF_NUM_GPUS="1", RLAIF_PROCESSES="4", RLAIF_SHARDS="2")
    assert (found["gpus"]["ppo_model"], found["gpus"]["sft_benchmarks"]) == (4, 0)
    found = loaded(RLAIF_NUM_GPUS="0.5", RLAIF_PROCESSES="2")
    assert (found["gpus"]["dpo_model"], found["gpus"]["revisions"]) == (2, 0.5)
    assert loaded(RLAIF_PROCESSES="2")["gpus"]["ppo_model"] == 0  # on CPUs


def test_a_step_is_sent_what_is_set_here_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_ray.utils import resolve_env_vars_list

    names = loaded()["sent"]
    assert {"RLAIF_HOME", "RLAIF_DATA", "RLAIF_STEPS", "RLAIF_SHARDS", "RLAIF_NUM_GPUS", "RLAIF_STORE"} <= set(names)
    assert not [name for name in names if re.search(r"KEY(_ID)?$|TOKEN|PASSWORD|POSTGRES", name)]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert resolve_env_vars_list(names) == {}  # what is not set here stays as the node has it
    given = {"RLAIF_PROCESSES": "2", "RLAIF_VLLM": "/opt/vllm/bin/vllm"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert resolve_env_vars_list(names) == given


def test_without_dagster_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shards.STEPS, "ray")
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"RLAIF_STEPS=ray needs dagster-ray: pip install .*\[ray\]"):
        executors.executor()


def test_a_job_of_ray_forgets_the_thread_that_ray_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for handed, left in (({}, None), ({"OMP_NUM_THREADS": "1"}, "1")):
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {"env_vars": handed}}))
        shards.threads_as_here()
        assert os.environ.get("OMP_NUM_THREADS") == left
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shards.threads_as_here()
    assert os.environ["OMP_NUM_THREADS"] == "1"  # no job of Ray's: whoever set it meant it


def test_the_run_launcher_of_the_documentation_is_what_dagster_ray_accepts() -> None:
    from dagster._config import process_config, resolve_to_config_type
    from dagster_ray import RayRunLauncher

    text = (CHECKOUT / "deploy" / "ray.md").read_text(encoding="utf-8")
    launcher = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.S)[0])["run_launcher"]
    assert (launcher["module"], launcher["class"]) == (RayRunLauncher.__module__.split(".")[0], RayRunLauncher.__name__)
    outcome = process_config(resolve_to_config_type(RayRunLauncher.config_type()), launcher["config"])
    assert outcome.success, outcome.errors
    made = RayRunLauncher.from_config_value(None, outcome.value)
    assert made.address == "http://head:8265"
    assert made.env_vars == executors.HANDED_ON  # a run on the cluster hands the same on to its steps
