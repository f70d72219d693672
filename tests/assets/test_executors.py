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
from rlaif_dagster.definitions import defs
repository = defs.get_repository_def()
job = next(job for job in repository.get_all_jobs() if "ppo_model" in {node.name for node in job.nodes})
own = {node.name: node.definition.tags for node in job.nodes}
tags = {name: json.loads(own[name]["dagster-ray/config"])["num_gpus"] for name in own if "dagster-ray/config" in own[name]}
print(json.dumps({"executor": job.executor_def.name, "gpus": tags, "ray": "ray" in sys.modules}))
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
    assert not [name for name in made.env_vars or [] if "KEY" in name or "TOKEN" in name or "POSTGRES" in name]
