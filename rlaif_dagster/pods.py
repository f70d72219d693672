"""What a step that computes asks for where steps are pods on Kubernetes: RLAIF_ACCELERATOR_RESOURCES, a JSON object of a
container's limits and requests."""

from __future__ import annotations

import json
import os
from typing import Any

from rlaif_dagster.errors import UserError

RESOURCES = "RLAIF_ACCELERATOR_RESOURCES"
EXAMPLE = '{"limits": {"nvidia.com/gpu": "1"}}'


def resources() -> dict[str, Any]:
    """Limits and requests; empty where none are given. Raises UserError on what is no JSON object of these."""
    text = os.environ.get(RESOURCES)
    if not text:
        return {}
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{RESOURCES}: not JSON ({error}): give an object such as {EXAMPLE}") from None
    known = isinstance(found, dict) and found.keys() <= {"limits", "requests"}
    if not known or not all(isinstance(amounts, dict) for amounts in found.values()):
        raise UserError(f"{RESOURCES}: found {text}; give an object such as {EXAMPLE}")
    return found


def asks_for_gpu() -> bool:
    """Whether a device is among the limits: Kubernetes names devices `vendor/kind`, and nothing else of a container so."""
    limits = resources().get("limits", {})
    return any("/" in name and str(amount) != "0" for name, amount in limits.items())
