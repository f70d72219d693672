"""Benchmarks: `hf-prefix-sharing` beside lm-eval's own `hf` model (HFLM, batch 8), in items a second.

TruthfulQA MC2, MMLU with five examples (two subjects) and HellaSwag by lm-eval's own definitions, over the first items of
each. Their data come from the folder that RLAIF_BENCHMARK_DATA names (by default `shared/data` beside the checkout's
folder), in subfolders truthfulqa, mmlu and hellaswag as `evaluation.mirrors` describes them, or from the hub where there is
no such folder.

Each side is a process of its own with the model in memory, as lm-eval's users have it. They take turns, suite by suite, while
the others wait; who goes first changes from suite to suite and from round to round. A suite's time is all of lm-eval's
`evaluate`: building requests, tokenization, the model, the metrics. All have the same budget for a forward pass: 8 sequences
on lm-eval's side, and 8 times 512 tokens here.

On some processors our class also multiplies matrices faster (`language.onednn`), which lm-eval's users could have without any
sharing. So there is a third side, ours without that (`RLAIF_ONEDNN=0`): its ratios, under `without_onednn`, are what
sharing prefixes alone brings.

Speed counts only at equal results: every metric, of the tasks and of each single item, must agree.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate

from bench.measurement import AS_ITS_USERS, Measurement, WrongResult, machine
from rlaif_dagster.evaluation.benchmarks import load_task
from rlaif_dagster.home import CHECKOUT, Home, current_home
from rlaif_dagster.language.base_model import weights_location
from rlaif_dagster.language.onednn import SWITCH
from rlaif_dagster.spec.project import Project
from rlaif_dagster.spec.recipes import Benchmark

DATA = "RLAIF_BENCHMARK_DATA"
SUITES = {
    "truthfulqa_mc2": ("truthfulqa", ("truthfulqa_mc2",), 0),
    "mmlu_5shot": ("mmlu", ("mmlu_high_school_biology", "mmlu_college_chemistry"), 5),
    "hellaswag": ("hellaswag", ("hellaswag",), 0),
}
"""Name of a suite: folder of its data, lm-eval's tasks, examples in context."""

ITEMS = {"truthfulqa_mc2": 16, "mmlu_5shot": 32, "hellaswag": 16}
"""Of each task, some minutes on two cores. More of MMLU, whose examples differ by subject and are computed once a subject:
subjects have 100 questions and more, and over a few the examples alone would be measured."""

ROUNDS = 1
PEER_BATCH = 8
TOLERANCE = 1e-4  # of rounding; one item answered otherwise moves an accuracy by over 1e-2
PLAIN = "ours_without_onednn"
SIDES = ("ours", "peer", PLAIN)

Numbers = dict[str, float]


@dataclass
class Timing:
    """Work on one suite: the items that each side evaluated in all rounds, and the seconds they took it."""

    items: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIDES, 0.0))


class Side:
    """One side's process, which waits until it is asked for a suite. `about` is what it says of its device and threads."""

    def __init__(self, side: str, job: Mapping[str, Any]) -> None:
        environment = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment |= AS_ITS_USERS if side == "peer" else {}
        if side == PLAIN:
            environment[SWITCH] = "0"
        self.name = side
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.evaluation_sides", side.partition("_")[0]], cwd=CHECKOUT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        self.about = self._asked(json.dumps(job))

    def run(self, suite: str) -> dict[str, Any]:
        """Seconds, items and metrics of one suite. Raises WrongResult with the end of its stderr when it fails."""
        return self._asked(suite)

    def _asked(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(line, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            raise WrongResult(f"{self.name} failed: {' | '.join(self._errors.read().strip().splitlines()[-3:])}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def measure() -> Measurement:
    """Measure the study's default model. Raises WrongResult when a metric differs."""
    project, home = Project.current(), current_home()
    name = project.study().models[0]
    weights, _ = weights_location(project.model(name), home)
    data = data_folder()
    load_suites(data, home)  # mirrors are converted once, before several processes look for them
    job = {"weights": weights, "data": str(data) if data else None, "items": ITEMS, "batch": PEER_BATCH}
    timings, about = compare(job, rounds=ROUNDS)
    ours = about["ours"]
    gpu = None if ours["device"] == "cpu" else str(ours["device"])
    return summary(timings, name, machine(int(ours["threads"]), gpu))


def data_folder() -> Path | None:
    """Where the suites' data lie; None where they come from the hub."""
    named = os.environ.get(DATA)
    folder = Path(named).expanduser() if named else CHECKOUT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def load_suites(data: Path | None, home: Home) -> dict[str, dict[str, Any]]:
    """lm-eval's task objects by suite and name."""
    suites: dict[str, dict[str, Any]] = {}
    for suite, (folder, tasks, fewshot) in SUITES.items():
        mirror = str((data / folder).resolve()) if data else None
        entries = [Benchmark(task=task, fewshot=fewshot, mirror=mirror) for task in tasks]
        loaded = [load_task(entry, Path(), seed=0, mirrors=home.cache / "mirrors") for entry in entries]
        suites[suite] = {name: task for one in loaded for name, task in one["tasks"].items()}
    return suites


def compare(job: Mapping[str, Any], *, rounds: int) -> tuple[dict[str, Timing], dict[str, Any]]:
    """Seconds of all sides by suite, over the first `items` (by suite) items of each task, and what each says of itself.

    Raises WrongResult when a metric differs, or where a side ran on another device.
    """
    timings = {suite: Timing() for suite in SUITES}
    with Side("ours", job) as ours, Side("peer", job) as peer, Side(PLAIN, job) as plain:
        sides = {side.name: side for side in (ours, peer, plain)}
        if len({side.about["device"] for side in sides.values()}) > 1:
            raise WrongResult(f"devices differ: {', '.join(f'{n} {s.about}' for n, s in sides.items())}")
        for turn in range(rounds):
            for place, suite in enumerate(SUITES):
                first = (turn + place) % len(SIDES)
                found = {name: sides[name].run(suite) for name in (*SIDES[first:], *SIDES[:first])}
                for name, one in found.items():
                    timings[suite].seconds[name] += one["seconds"]
                    if wrong := differences(one["metrics"], found["peer"]["metrics"]):
                        raise WrongResult(
                            f"{suite}: {len(wrong)} metrics differ from the peer's ({name}): {'; '.join(wrong[:5])}"
                        )
                timings[suite].items += found["ours"]["items"]
                told = ", ".join(f"{name} {found[name]['seconds']:.1f} s" for name in SIDES)
                print(f"{suite}, round {turn + 1} of {rounds}: {told}", file=sys.stderr)
        return timings, {name: side.about for name, side in sides.items()}


def run_tasks(model: LM, tasks: Mapping[str, Any], items: int) -> dict[str, Any]:
    """lm-eval's results of one suite."""
    results: dict[str, Any] = evaluate(
        model,
        {"tasks": dict(tasks), "groups": {}},
        limit=items,
        bootstrap_iters=0,  # standard errors follow from the items, which are compared
        log_samples=True,
    )
    return results


def metrics(results: Mapping[str, Any]) -> Numbers:
    """Every metric of lm-eval's results by name: of each task, and of each item (known by its content)."""
    numbers = {
        f"{task} {metric.removesuffix(',none')}": float(value)
        for task, values in results["results"].items()
        for metric, value in values.items()
        if "," in metric and isinstance(value, Real)
    }
    for task, samples in results["samples"].items():
        for sample in samples:
            for metric in sample["metrics"]:
                numbers[f"{task} {metric} of item {sample['doc_id']} ({sample['doc_hash'][:8]})"] = float(
                    sample[metric]
                )
    return numbers


def differences(ours: Numbers, peer: Numbers) -> list[str]:
    """What one side lacks, or has otherwise by more than rounding."""
    missing = object()
    out = []
    for name in sorted({*ours, *peer}):
        one, other = ours.get(name, missing), peer.get(name, missing)
        if not (isinstance(one, float) and isinstance(other, float) and abs(one - other) <= TOLERANCE):
            shown = [f"{value:.6g}" if isinstance(value, float) else "none" for value in (one, other)]
            out.append(f"{name}: ours {shown[0]}, peer {shown[1]}")
    return out


def summary(timings: Mapping[str, Timing], model: str, machine: str) -> Measurement:
    """Items a second of all sides, and ours over the peer's, by suite and overall."""
    total = Timing(
        sum(timing.items for timing in timings.values()),
        {side: sum(timing.seconds[side] for timing in timings.values()) for side in SIDES},
    )
    every = {"overall": total, **timings}

    def figures(side: str) -> dict[str, Any]:
        rates = {name: timing.items / timing.seconds[side] for name, timing in every.items()}
        return {"items_per_second": rates, "seconds": total.seconds[side]}

    def ratios(side: str) -> dict[str, float]:
        return {name: timing.seconds["peer"] / timing.seconds[side] for name, timing in every.items()}

    shared: dict[str, Any] = {"model": model, "items": total.items}
    plain = {"ratios": ratios(PLAIN), **figures(PLAIN)}
    return Measurement(
        part="evaluation",
        ratios=ratios("ours"),
        ours={"name": "hf-prefix-sharing", **shared, **figures("ours"), "without_onednn": plain},
        peer={
            "name": f"lm-eval {importlib.metadata.version('lm-eval')} HFLM, batch {PEER_BATCH}",
            **shared,
            **figures("peer"),
        },
        machine=machine,
    )
