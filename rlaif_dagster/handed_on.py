"""What of the environment a step on a Ray cluster is told, by `rlaif up` (`lineage.remote`) and by runs of Dagster
(`assets.executors`). Never a key: those are in the environment of the cluster's nodes.

vLLM's program is a path, and is told because all nodes have the same installations at the same paths (deploy/ray.md); where none is
named here, what a node's own environment names stays. A pod of Kubernetes has the environment of the code location, and is told
nothing more.
"""

from __future__ import annotations

import os

from rlaif_dagster.bucket.address import STORED_AT
from rlaif_dagster.report.serving import REPORTS
from rlaif_dagster.shards import AS_HERE, GPUS, SHARDS, STEPS
from rlaif_dagster.training.process_count import PROCESSES

PROGRAM = "RLAIF_VLLM"
TO_A_STEP = (*AS_HERE, STEPS, SHARDS, GPUS, PROCESSES, *STORED_AT)
WHERE_SET = (PROGRAM, REPORTS)


def to_a_step() -> dict[str, str | None]:
    """Variables and their values; None is a variable that is not to be set there either."""
    named = {name: value for name in WHERE_SET if (value := os.environ.get(name))}
    return {name: os.environ.get(name) for name in TO_A_STEP} | named
