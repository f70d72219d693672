"""`rlaif plan` as a user waits for it: wall seconds of a new process, on a study where everything was made.

No peer plans a study's recomputation over models and constitutions, so there is nothing to divide by. Two figures:
`plan_noop_s` where nothing is to be done, and `plan_stale_s` after a principle was edited, which adds the reasons and
the prices. The study is the default cell of a copy of `data/`; its home holds a record of every asset, made in the
order and with the versions that a real run would note, and the tables without rows.

Speed counts only if the plans are right, and if planning loads none of the libraries that train, sample or evaluate.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench.measurement import Measurement, WrongResult, machine
from rlaif_dagster import atomic
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.inputs import INPUTS
from rlaif_dagster.records import Record, Version, append_record, partition_key, remember_meaning
from rlaif_dagster.resolver import Node, State
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, Warehouse

RUNS = 5
SECONDS = 60.0  # that each asset is said to have taken: a plan sums them up
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "lm_eval", "litellm", "ray")
PLAN_AND_WHAT_IT_LOADED = """
import json, sys
from rlaif_dagster.cli.main import app
app(["plan", "--json"], standalone_mode=False)
print(json.dumps([name for name in sys.argv[1:] if name in sys.modules]), file=sys.stderr)
"""


@dataclass(frozen=True)
class Sandbox:
    """A copy of `data/` and a home of its own."""

    project: Project
    home: Home

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"RLAIF_DATA": str(self.project.root), "RLAIF_HOME": str(self.home.root)}


def measure() -> Measurement:
    """Medians of RUNS cold plans each. Raises WrongResult when a plan is not what it must be."""
    source = Project.current()
    source.check()
    study = source.study()
    with tempfile.TemporaryDirectory(prefix="rlaif-bench-") as folder:
        sandbox = Sandbox(Project(Path(folder) / "data"), Home(Path(folder) / "home"))
        shutil.copytree(source.root, sandbox.project.root)
        assets = prepare(sandbox.project, sandbox.home, study.models, study.constitutions)
        if steps := planned(sandbox):
            raise WrongResult(f"nothing was edited, but {len(steps)} steps are planned: {_told(steps)}")
        noop = plan_seconds(sandbox)
        edit(sandbox.project, study.constitutions[0])
        steps = planned(sandbox)
        if not any("principles.0.text" in reason for step in steps for reason in step["reasons"]):
            raise WrongResult(f"the edited principle is no reason of the {len(steps)} planned steps: {_told(steps)}")
        stale = plan_seconds(sandbox)
    return Measurement(
        part="lineage",
        ratios={},
        ours={"plan_noop_s": noop, "plan_stale_s": stale, "assets": assets, "stale_steps": len(steps), "runs": RUNS},
        peer={},
        machine=machine(threads=1),
    )


def prepare(project: Project, home: Home, models: Sequence[str], constitutions: Sequence[str]) -> int:
    """Make `home` one in which every asset of these cells was made from `project` as it is; returns how many there
    are."""
    with warnings.catch_warnings():
        # which parts of Dagster are beta is the developer's concern, and every asset would print it
        warnings.filterwarnings("ignore", message=".* is currently in (beta|preview)")
        from assets.graph import graph_state

    warehouse = Warehouse(home.warehouse)
    records: dict[tuple[str, str | None], Record] = {}
    state = replace(graph_state(project, warehouse), records=records)  # it sees each record as soon as it is there
    for node in state.nodes.values():
        if node.code_version is None:
            continue
        for cell in node.cells(models, constitutions):
            key = (node.asset, partition_key(cell))
            records[key] = Record(
                *key, content_hash(*key), node.code_version,
                tuple(_read_by(state, node, cell, project, home, models, constitutions)),
                "bench", datetime.now(UTC), SECONDS, 0.0,
            )  # fmt: skip
            append_record(warehouse, records[key])
            for name in node.writes:
                _write(warehouse, name, cell)
    return len(records)


def _read_by(
    state: State,
    node: Node,
    cell: Cell,
    project: Project,
    home: Home,
    models: Sequence[str],
    constitutions: Sequence[str],
) -> list[Version]:
    """Versions of what an asset's partition reads. Inputs' meanings are remembered: a later plan names changed fields
    by them."""
    versions = []
    for name in node.parents:
        for parent in state.parent_cells(node, cell, state.nodes[name], models, constitutions):
            version = str(state.current_version(name, parent))
            versions.append(Version(name, partition_key(parent), version))
            if name in INPUTS:
                remember_meaning(home, version, INPUTS[name].meaning(project, parent))
    return versions


def _write(warehouse: Warehouse, name: str, cell: Cell) -> None:
    """What an asset leaves in the warehouse: a table without rows, or an empty file."""
    path = Path(name.format(model=cell.model, constitution=cell.constitution))
    table = TABLES.get(path.parts[0])
    if table is None:
        atomic.write_text(warehouse.root / path, "")
    else:
        frame = pd.DataFrame(columns=[column.name for column in table.columns])
        warehouse.write(table.name, frame, cell, path.stem)


def edit(project: Project, constitution: str) -> None:
    """Add a sentence to the first principle of a constitution."""
    path = project.root / "constitutions" / f"{constitution}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["principles"][0]["text"] += " Do so always."
    atomic.write_text(path, yaml.safe_dump(content, allow_unicode=True, sort_keys=False))


def planned(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The steps of a plan in a process of its own. Raises WrongResult when it fails, or loads a heavy library."""
    command = [sys.executable, "-W", "ignore", "-c", PLAN_AND_WHAT_IT_LOADED, *HEAVY]
    done = _process(command, sandbox)
    if loaded := json.loads(done.stderr.splitlines()[-1]):
        raise WrongResult(f"planning imports {', '.join(loaded)}")
    steps: list[dict[str, Any]] = json.loads(done.stdout)
    return steps


def plan_seconds(sandbox: Sandbox, runs: int = RUNS) -> float:
    """Median wall seconds of `rlaif plan`, from starting the interpreter to its end."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        _process([sys.executable, "-m", "rlaif_dagster.cli.main", "plan"], sandbox)
        seconds.append(time.perf_counter() - start)
    print(f"plan: {', '.join(f'{one:.2f}' for one in seconds)} s", file=sys.stderr)
    return statistics.median(seconds)


def _process(command: list[str], sandbox: Sandbox) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=CHECKOUT, env=sandbox.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]  # the error itself, below its traceback
        raise WrongResult(f"`rlaif plan` ended with status {done.returncode}: {last}")
    return done


def _told(steps: list[dict[str, Any]]) -> str:
    return ", ".join(f"{step['asset']} ({'; '.join(step['reasons'])})" for step in steps[:5]) or "none"
