"""Where steps run when not in the run's own process: `RLAIF_STEPS=kubernetes` in the environment of the code location gives
every step a pod of its own (dagster-k8s). What a step of the pool `accelerator` asks for comes from RLAIF_ACCELERATOR_RESOURCES
(`rlaif_dagster.pods`). Without these variables nothing changes, and dagster-k8s is not needed.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import dagster as dg

from rlaif_dagster.errors import UserError
from rlaif_dagster.pods import RESOURCES, resources
from rlaif_dagster.shards import KUBERNETES, STEPS


def executor() -> dg.ExecutorDefinition | None:
    """What runs steps; None is Dagster's own way, processes on the run's machine. Raises UserError on an unknown value."""
    wanted = os.environ.get(STEPS)
    if not wanted:
        return None
    if wanted != KUBERNETES:
        raise UserError(f"{STEPS}: found {wanted!r}, allowed: {KUBERNETES}, ray, or not set")
    if importlib.util.find_spec("dagster_k8s") is None:
        raise UserError(f"{STEPS}={KUBERNETES} needs dagster-k8s: pip install -c requirements.lock -e '.[k8s]'")
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor


def tags_of(pool: str | None) -> dict[str, Any]:
    """The tags of a step's pod: resources for the pool `accelerator`, where steps have pods. Raises UserError on resources that
    are no JSON object of limits and requests."""
    if pool != "accelerator" or os.environ.get(STEPS) != KUBERNETES or not os.environ.get(RESOURCES):
        return {}
    return {"dagster-k8s/config": {"container_config": {"resources": resources()}}}
