"""Where steps run when not in the run's own process, by `RLAIF_STEPS` in the environment of the code location:

kubernetes   every step is a pod of its own (dagster-k8s; `assets.kubernetes`)
ray          every step is a job of its own on a Ray cluster (dagster-ray), which RAY_ADDRESS names; `rlaif up` hands its steps
             to the same cluster (`lineage.remote`)

A step that computes asks Ray for RLAIF_NUM_GPUS. With shards those ask, and the step that hands them their work does not: it
would keep the GPU from them. Without the variable nothing changes, and neither package is needed.
"""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

import dagster as dg

from assets import kubernetes
from rlaif_dagster.bucket.address import STORED_AT
from rlaif_dagster.errors import UserError
from rlaif_dagster.shards import AS_HERE, GPUS, RAY, RAY_CONFIG, SHARDS, STEPS, gpus, shards, threads_as_here

TRAINING = "policies"  # the group whose steps compute themselves, shards or not
HANDED_ON = [
    *AS_HERE,
    STEPS,
    SHARDS,
    GPUS,
    *STORED_AT,
    "DAGSTER_HOME",
]  # keys are in the environment of the cluster's nodes

threads_as_here()


def executor() -> dg.ExecutorDefinition | None:
    """What runs steps; None is Dagster's own way, processes on the run's machine. Raises UserError on an unknown value."""
    if os.environ.get(STEPS) != RAY:
        return kubernetes.executor()
    if importlib.util.find_spec("dagster_ray") is None or importlib.util.find_spec("ray") is None:
        raise UserError(f"{STEPS}={RAY} needs dagster-ray: pip install -c requirements.lock -e '.[ray]'")
    from dagster_ray.core.executor import ray_executor

    return ray_executor.configured({"ray": {"env_vars": HANDED_ON}}, name="ray")


def tags_of(pool: str | None, group: str) -> dict[str, Any]:
    """The tags that say what a step asks for where it runs."""
    if os.environ.get(STEPS) != RAY:
        return kubernetes.tags_of(pool)
    computes = pool == "accelerator" and (group == TRAINING or not shards())
    return {RAY_CONFIG: json.dumps({"num_gpus": gpus() if computes else 0.0})}
