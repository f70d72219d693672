"""Where steps run when not in the run's own process, by `RLAIF_STEPS` in the environment of the code location:

kubernetes   every step is a pod of its own (dagster-k8s; `assets.kubernetes`)
ray          every step is a job of its own on a Ray cluster (dagster-ray), which RAY_ADDRESS names; `rlaif up` hands its steps
             to the same cluster (`lineage.remote`)

A step that computes asks Ray for RLAIF_NUM_GPUS, and a training in several processes for a GPU each at least. With shards those
ask, and the step that hands them their work does not: it would keep the GPU from them. Without the variable nothing changes, and
neither package is needed.
"""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

import dagster as dg

from assets import kubernetes
from rlaif_dagster.errors import UserError
from rlaif_dagster.handed_on import TO_A_STEP, WHERE_SET
from rlaif_dagster.shards import RAY, RAY_CONFIG, STEPS, gpus, shards, threads_as_here
from rlaif_dagster.training.process_count import processes

TRAINING = "policies"  # the group whose steps compute themselves, shards or not
HANDED_ON = [*TO_A_STEP, *WHERE_SET, "DAGSTER_HOME"]  # dagster-ray sends those that are set

threads_as_here()


def executor() -> dg.ExecutorDefinition | None:
    """What runs steps; None is Dagster's own way, processes on the run's machine. Raises UserError on an unknown value."""
    if os.environ.get(STEPS) != RAY:
        return kubernetes.executor()
    if importlib.util.find_spec("dagster_ray") is None or importlib.util.find_spec("ray") is None:
        raise UserError(f"{STEPS}={RAY} needs dagster-ray: pip install -c requirements.lock -e '.[ray]'")
    from dagster_ray.core.executor import ray_executor

    return ray_executor.configured({"ray": {"env_vars": HANDED_ON}}, name="ray")


def without_another_process() -> dict[str, Any]:
    """The configuration of a run of one step: by Dagster's own executor in the run's process. Another executor places the step
    itself, and has no such choice."""
    return {"execution": {"config": {"in_process": {}}}} if executor() is None else {}


def tags_of(pool: str | None, group: str) -> dict[str, Any]:
    """The tags that say what a step asks for where it runs."""
    if os.environ.get(STEPS) != RAY:
        return kubernetes.tags_of(pool)
    return {RAY_CONFIG: json.dumps({"num_gpus": _gpus_of(group) if pool == "accelerator" else 0.0})}


def _gpus_of(group: str) -> float:
    """What a step that computes asks Ray for, itself."""
    each = gpus()
    if group != TRAINING:
        return 0.0 if shards() else each
    return max(each, processes()) if each and processes() > 1 else each
