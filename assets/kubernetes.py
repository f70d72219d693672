"""Where steps run when not in the run's own process: `RLAIF_STEPS=kubernetes` in the environment of the code location gives
every step a pod of its own (dagster-k8s). What a step of the pool `accelerator` asks for comes from RLAIF_ACCELERATOR_RESOURCES, a
JSON object of a container's limits and requests. Without these variables nothing changes, and dagster-k8s is not needed.
"""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

import dagster as dg

from rlaif_dagster.errors import UserError
from rlaif_dagster.shards import STEPS

RESOURCES = "RLAIF_ACCELERATOR_RESOURCES"
KUBERNETES = "kubernetes"


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
    text = os.environ.get(RESOURCES)
    if pool != "accelerator" or os.environ.get(STEPS) != KUBERNETES or not text:
        return {}
    try:
        resources = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{RESOURCES}: not JSON ({error}): give an object such as {EXAMPLE}") from None
    if not isinstance(resources, dict) or not resources.keys() <= {"limits", "requests"}:
        raise UserError(f"{RESOURCES}: found {text}; give an object such as {EXAMPLE}")
    return {"dagster-k8s/config": {"container_config": {"resources": resources}}}


EXAMPLE = '{"limits": {"nvidia.com/gpu": "1"}}'
