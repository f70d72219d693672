"""A run that the sensor, a schedule or `rlaif backfill` asks for is one that its job's executor accepts, wherever steps run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from rlaif_dagster.home import CHECKOUT

ASKED = """
import json
import dagster as dg
from assets.graph import made_by
from assets.partitions import BY_DIMS
from assets.sensors import run_request
from rlaif_dagster.automation import Request
from rlaif_dagster.definitions import defs
from rlaif_dagster.lineage.backfills import start_backfill
from rlaif_dagster.warehouse.store import Cell

model, constitution = (BY_DIMS[dim,].get_partition_keys()[0] for dim in ("model", "constitution"))
cells = {dims: Cell(model if "model" in dims else None, constitution if "constitution" in dims else None) for dims in BY_DIMS}
with dg.DagsterInstance.ephemeral() as instance:
    start_backfill(instance, defs.resolve_asset_graph(), [("report", cells["model", "constitution"])], "", "", {})
    [backfill] = instance.get_backfills()
found = {}
for dims, cell in cells.items():
    request = run_request(Request(made_by(dims)[0], cell, "hash", "key:1"))
    job = defs.resolve_job_def(request.job_name)
    chosen = [dg.validate_run_config(job, config)["execution"] for config in (request.run_config, backfill.run_config)]
    found[request.job_name] = {"asked": request.run_config, "sensor": chosen[0], "backfill": chosen[1]}
print(json.dumps(found, default=str))
"""


def asked(steps: str) -> dict[str, Any]:
    """What runs of every job are asked with, and the executor that Dagster then takes."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env=os.environ | {"RLAIF_STEPS": steps}, capture_output=True, text=True, cwd=CHECKOUT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_on_one_machine_the_sensors_step_has_no_process_beside_the_runs_own() -> None:
    for found in asked("").values():
        [executor] = found["sensor"].values()
        assert list(executor) == ["in_process"]
        [executor] = found["backfill"].values()
        assert list(executor) == ["multiprocess"]


@pytest.mark.parametrize(("steps", "package", "executor"), [
    ("ray", "dagster_ray", "ray"),
    ("kubernetes", "dagster_k8s", "k8s"),
])  # fmt: skip
def test_where_steps_run_elsewhere_their_executor_is_left_as_it_is(steps: str, package: str, executor: str) -> None:
    pytest.importorskip(package)
    for found in asked(steps).values():
        assert found["asked"] == {}
        assert list(found["sensor"]) == list(found["backfill"]) == [executor]
