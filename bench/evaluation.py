"""Benchmarks: `hf-prefix-sharing` beside lm-eval's own `hf` model (HFLM, batch 8), in items a second.

TruthfulQA MC2, MMLU with five examples (two subjects) and HellaSwag by lm-eval's own definitions, over the first items of
each. Their data come from the folder that RLAIF_BENCHMARK_DATA names (by default `shared/data` beside the checkout's
folder), in subfolders truthfulqa, mmlu and hellaswag as `evaluation.mirrors` describes them, or from the hub where there is
no such folder.

Both sides evaluate the very same loaded tasks, over the same items, with the same model in memory, suite by suite and in
turn: who goes first changes from suite to suite and from round to round, so that neither always meets the warmer machine.
A suite's time is all of lm-eval's `evaluate`: building requests, tokenization, the model, the metrics. Both have the same
budget for a forward pass: 8 sequences on lm-eval's side, and 8 times 512 tokens here.

Speed counts only at equal results: every metric, of the tasks and of each single item, must agree.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from bench.measurement import Measurement, WrongResult, machine
from rlaif_dagster.evaluation.benchmarks import load_task
from rlaif_dagster.evaluation.hf_prefix_sharing import PrefixSharingHFLM
from rlaif_dagster.home import CHECKOUT, Home, current_home
from rlaif_dagster.language.base_model import LanguageModel, load
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
SIDES = ("ours", "peer")

Numbers = dict[str, float]


@dataclass
class Timing:
    """Work on one suite: the items that each side evaluated in all rounds, and the seconds they took it."""

    items: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIDES, 0.0))


def measure() -> Measurement:
    """Measure the study's default model. Raises WrongResult when a metric differs."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    project, home = Project.current(), current_home()
    name = project.study().models[0]
    lm = load(name, project.model(name), home)
    timings = compare(lm, load_suites(data_folder(), home), items=ITEMS, rounds=ROUNDS)
    gpu = torch.cuda.get_device_name(lm.device) if lm.device.type == "cuda" else None
    return summary(timings, name, machine(torch.get_num_threads(), gpu))


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


def compare(
    lm: LanguageModel, suites: Mapping[str, Mapping[str, Any]], *, items: Mapping[str, int], rounds: int
) -> dict[str, Timing]:
    """Seconds of both sides by suite, over the first `items` (by suite) items of each task.

    Raises WrongResult when a metric differs.
    """
    kinds: dict[str, type[HFLM]] = {"ours": PrefixSharingHFLM, "peer": HFLM}
    models: dict[str, LM] = {
        side: kind(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=PEER_BATCH) for side, kind in kinds.items()
    }
    for side in SIDES:  # allocator, threads and lazy imports, which would count against whoever is first
        run_tasks(models[side], suites[min(suites)], 1)
    timings = {suite: Timing() for suite in suites}
    for turn in range(rounds):
        for place, (suite, tasks) in enumerate(suites.items()):
            numbers: dict[str, Numbers] = {}
            spent: dict[str, float] = {}
            for side in SIDES if (turn + place) % 2 == 0 else SIDES[::-1]:
                start = time.perf_counter()
                results = run_tasks(models[side], tasks, items[suite])
                spent[side] = time.perf_counter() - start
                timings[suite].seconds[side] += spent[side]
                numbers[side] = metrics(results)
                evaluated = sum(len(samples) for samples in results["samples"].values())
            timings[suite].items += evaluated
            told = ", ".join(f"{side} {spent[side]:.1f} s" for side in SIDES)
            print(f"{suite}, round {turn + 1} of {rounds}: {told}", file=sys.stderr)
            if wrong := differences(numbers["ours"], numbers["peer"]):
                raise WrongResult(f"{suite}: {len(wrong)} metrics differ from the peer's: {'; '.join(wrong[:5])}")
    return timings


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
    """Items a second of both sides, and ours over the peer's, by suite and overall."""
    total = Timing(
        sum(timing.items for timing in timings.values()),
        {side: sum(timing.seconds[side] for timing in timings.values()) for side in SIDES},
    )
    every = {"overall": total, **timings}
    sides: dict[str, dict[str, Any]] = {
        side: {
            "items_per_second": {name: timing.items / timing.seconds[side] for name, timing in every.items()},
            "seconds": total.seconds[side],
        }
        for side in SIDES
    }
    return Measurement(
        part="evaluation",
        ratios={name: timing.seconds["peer"] / timing.seconds["ours"] for name, timing in every.items()},
        ours={"name": "hf-prefix-sharing", "model": model, "items": total.items, **sides["ours"]},
        peer={
            "name": f"lm-eval {importlib.metadata.version('lm-eval')} HFLM, batch {PEER_BATCH}",
            "model": model,
            "items": total.items,
            **sides["peer"],
        },
        machine=machine,
    )
