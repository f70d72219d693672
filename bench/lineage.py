"""Plans as a user waits for them, and the daemon's answer to an edit.

No peer plans a study's recomputation over models and constitutions, so there is nothing to divide by.

- `plan_noop_s`: a new process's `rlaif plan` where nothing is to be done; `plan_stale_s` after a principle was edited,
  which adds the reasons and the prices. The default cell of a copy of `data/`.
- `plan_200_cells_s`, `plan_200_cells_stale_s`, `peak_200_cells_mib`: the same on a grid of 40 constitutions by 5 models,
  where an edited DPO recipe makes 200 cells stale, and the memory that takes. `growth_200_cells_mib`: what TICKS quiet ticks
  in one process, which the daemon's code location is, add to its memory.
- `edit_to_run_s`: `rlaif ui` on the default study, the sensor switched on; seconds from saving an edited constitution to
  the first run that the daemon has requested. `tick_200_cells_s`: one evaluation of the sensor over the 200 cells.

A home holds a record of every asset, made in the order and with the versions that a real run would note, and the tables
without rows. Speed counts only if the plans are right, and if planning loads none of the libraries that train, sample or
evaluate.
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
from dataclasses import dataclass, field, replace
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
from rlaif_dagster.records import Record, Version, append_records, partition_key, remember_meaning
from rlaif_dagster.resolver import Node, State
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, Warehouse

RUNS = 5
MODELS, CONSTITUTIONS = 5, 40
TICKS = 60  # ten minutes of the daemon
SECONDS = 60.0  # that each asset is said to have taken: a plan sums them up
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "lm_eval", "litellm", "ray")
PLAN_AND_WHAT_IT_LOADED = """
import json, sys
from rlaif_dagster.cli.main import app
app(["plan", "--json", *json.loads(sys.argv[1])], standalone_mode=False)
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]), file=sys.stderr)
"""
TICK = """
import json, re, resource, sys, time
from pathlib import Path
import dagster as dg
import psutil
from assets.sensors import follow_edits
from rlaif_dagster.definitions import defs
with dg.DagsterInstance.ephemeral() as instance:
    for number in range(int(sys.argv[1])):
        with dg.build_sensor_context(instance=instance, definitions=defs, resources=dict(defs.resources)) as context:
            started = time.perf_counter()
            result = follow_edits(context)
            seconds = time.perf_counter() - started
        for event in result.asset_events:
            instance.report_runless_asset_event(event)
        if number == 1:
            early = psutil.Process().memory_info().rss
growth = (psutil.Process().memory_info().rss - early) / 2**20
status = Path("/proc/self/status")  # getrusage's peak is never below the size of whoever started this process
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024 if status.exists() else (
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
print(json.dumps({"seconds": round(seconds, 3), "requested": len(result.run_requests), "peak_mib": round(peak),
                  "growth_mib": round(growth, 1)}))
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
        seconds_to_run = edit_to_run(sandbox, study.constitutions[0])
    return Measurement(
        part="lineage",
        ratios={},
        ours={
            "plan_noop_s": noop, "plan_stale_s": stale, "assets": assets, "stale_steps": len(steps), "runs": RUNS,
            "edit_to_run_s": seconds_to_run, **measure_grid(source),
        },
        peer={},
        machine=machine(threads=1),
    )  # fmt: skip


def measure_grid(source: Project) -> dict[str, float]:
    """Plans and a tick over MODELS x CONSTITUTIONS cells of synthetic content."""
    with tempfile.TemporaryDirectory(prefix="rlaif-bench-") as folder:
        sandbox = Sandbox(Project(Path(folder) / "data"), Home(Path(folder) / "home"))
        models, constitutions = multiply(source, sandbox.project)
        assets = prepare(sandbox.project, sandbox.home, models, constitutions)
        every = ("--model", "all", "--constitution", "all")
        if steps := planned(sandbox, *every):
            raise WrongResult(f"nothing was edited, but {len(steps)} steps are planned: {_told(steps)}")
        noop = plan_seconds(sandbox, 3, *every)
        quiet = tick(sandbox, TICKS)
        recipe = sandbox.project.root / "recipes" / "dpo.yaml"
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        atomic.write_text(recipe, yaml.safe_dump(content | {"beta": 0.321}))
        steps = planned(sandbox, *every)
        certain = [step for step in steps if step["certain"]]
        if {step["asset"] for step in certain} != {"dpo_model"} or len(certain) != len(models) * len(constitutions):
            raise WrongResult(f"the DPO recipe was edited, and {len(certain)} steps are certain: {_told(certain)}")
        stale = plan_seconds(sandbox, 3, *every)
        busy = tick(sandbox)
    return {
        "cells": len(models) * len(constitutions), "cells_assets": assets, "plan_200_cells_s": noop,
        "plan_200_cells_stale_s": stale, "stale_200_cells": len(steps), "tick_200_cells_s": quiet["seconds"],
        "tick_200_cells_stale_s": busy["seconds"], "requested": busy["requested"], "peak_200_cells_mib": busy["peak_mib"],
        "growth_200_cells_mib": quiet["growth_mib"],
    }  # fmt: skip


def multiply(source: Project, target: Project) -> tuple[list[str], list[str]]:
    """A copy of `data/` with CONSTITUTIONS constitutions and MODELS models, each a little different."""
    shutil.copytree(source.root, target.root)
    study = source.study()
    names: dict[str, list[str]] = {}
    for kind, first, count in (
        ("models", study.models[0], MODELS), ("constitutions", study.constitutions[0], CONSTITUTIONS),
    ):  # fmt: skip
        content = yaml.safe_load((target.root / kind / f"{first}.yaml").read_text(encoding="utf-8"))
        names[kind] = [first, *(f"{first}-{number:02}" for number in range(1, count))]
        for name in names[kind][1:]:
            if kind == "constitutions":
                content["principles"][0]["text"] = f"Answer as {name} asks, in short sentences."
            atomic.write_text(target.root / kind / f"{name}.yaml", yaml.safe_dump(content, allow_unicode=True))
        for other in (target.root / kind).glob("*.yaml"):
            if other.stem not in names[kind]:
                other.unlink()
    for labels in (target.root / "labels").glob("*.yaml"):
        content = yaml.safe_load(labels.read_text(encoding="utf-8"))
        content["constitutions"] = names["constitutions"]
        atomic.write_text(labels, yaml.safe_dump(content))
    for recipe in (target.root / "recipes").glob("*.yaml"):
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        if others := content.pop("models", {}):
            content["models"] = {name: fields for name, fields in others.items() if name in names["models"]}
            atomic.write_text(recipe, yaml.safe_dump(content))
    return names["models"], names["constitutions"]


def tick(sandbox: Sandbox, times: int = 2) -> dict[str, float]:
    """Evaluations of the sensor on an instance of its own, at least two: seconds of the last (as in a daemon that has been up
    for a while), runs requested, the process's peak memory and its growth since the second, in MiB."""
    done = _process([sys.executable, "-W", "ignore", "-c", TICK, str(times)], sandbox)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def edit_to_run(sandbox: Sandbox, constitution: str) -> float:
    """Seconds from saving a constitution to the first run that the daemon has requested for it."""
    from bench.daemon import Dagster

    study = sandbox.project.study()
    prepare(sandbox.project, sandbox.home, study.models, study.constitutions)
    with Dagster(sandbox.environment) as dagster:
        dagster.switch_on("follow_edits")
        while not any(found["status"] == "SKIPPED" for found in dagster.ticks("follow_edits")):
            time.sleep(1)
        if dagster.runs():
            raise WrongResult("nothing was edited, but the daemon has requested runs")
        edit(sandbox.project, constitution)
        saved = time.time()
        while not (runs := dagster.runs()):
            if time.time() - saved > 120:
                raise WrongResult(f"no run within 120 s of an edit; last ticks: {dagster.ticks('follow_edits')[:3]}")
            time.sleep(0.5)
    return max(float(runs[-1]["creationTime"]) - saved, 0.0)


def prepare(project: Project, home: Home, models: Sequence[str], constitutions: Sequence[str]) -> int:
    """Make `home` one in which every asset of these cells was made from `project` as it is; returns how many there
    are."""
    with warnings.catch_warnings():
        # which parts of Dagster are beta is the developer's concern, and every asset would print it
        warnings.filterwarnings("ignore", message=".* is currently in (beta|preview)")
        from assets.graph import graph_state

    warehouse = Warehouse(home.warehouse)
    records: dict[tuple[str, str | None], Record] = {}
    files = _Files(warehouse)
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
            for name in node.writes:
                files.write(name, cell)
    append_records(warehouse, records.values())
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
            if name in INPUTS and not (home.cache / "inputs" / f"{version}.json").exists():
                remember_meaning(home, version, INPUTS[name].shown(project, parent))
    return versions


@dataclass
class _Files:
    """What assets leave in the warehouse: a table without rows (written once, then linked), or an empty file."""

    warehouse: Warehouse
    first: dict[str, Path] = field(default_factory=dict)

    def write(self, name: str, cell: Cell) -> None:
        path = Path(name.format(model=cell.model, constitution=cell.constitution))
        target, table = self.warehouse.root / path, TABLES.get(path.parts[0])
        if table is None:
            atomic.write_text(target, "")
        elif path.parts[0] not in self.first:
            frame = pd.DataFrame(columns=[column.name for column in table.columns])
            self.warehouse.write(table.name, frame, cell, path.stem)
            self.first[path.parts[0]] = target
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(self.first[path.parts[0]], target)


def edit(project: Project, constitution: str) -> None:
    """Add a sentence to the first principle of a constitution."""
    path = project.root / "constitutions" / f"{constitution}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["principles"][0]["text"] += " Do so always."
    atomic.write_text(path, yaml.safe_dump(content, allow_unicode=True, sort_keys=False))


def planned(sandbox: Sandbox, *options: str) -> list[dict[str, Any]]:
    """The steps of a plan in a process of its own. Raises WrongResult when it fails, or loads a heavy library."""
    command = [sys.executable, "-W", "ignore", "-c", PLAN_AND_WHAT_IT_LOADED, json.dumps(options), *HEAVY]
    done = _process(command, sandbox)
    if loaded := json.loads(done.stderr.splitlines()[-1]):
        raise WrongResult(f"planning imports {', '.join(loaded)}")
    steps: list[dict[str, Any]] = json.loads(done.stdout)
    return steps


def plan_seconds(sandbox: Sandbox, runs: int = RUNS, *options: str) -> float:
    """Median wall seconds of `rlaif plan`, from starting the interpreter to its end."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        _process([sys.executable, "-m", "rlaif_dagster.cli.main", "plan", *options], sandbox)
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
