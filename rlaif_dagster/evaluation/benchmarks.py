"""Benchmarks of one model: lm-eval's tasks (or this project's own `_mini` ones) run through `PrefixSharingLM`.

lm-eval owns what a number means: prompts, metrics, aggregation. Added here: an interval and the items behind every
number, a result that survives a kill, and one line that names the remedy when a task is unknown or its data cannot be
had.

Tasks of one suite (MC1 and MC2 of TruthfulQA) are evaluated together, because they ask the same things of the model.
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlaif_dagster.behaviour import BENCHMARKS, LM_EVAL
from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation.items import TASKS, items_version
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Benchmark, Benchmarks
from rlaif_dagster.statistics import Z95, mean_interval
from rlaif_dagster.work import Chunks

BOOTSTRAPS = 1000  # lm-eval's, for metrics whose standard error has no formula
NUMBERS = ["task", "metric", "value", "stderr", "ci_low", "ci_high", "n", "fewshot"]
ITEMS = ["task", "item_id", "correct", "score"]


@dataclass(frozen=True)
class Suite:
    """Entries of the recipe that are evaluated in one go: the same data, few-shot count and limit."""

    name: str
    entries: tuple[Benchmark, ...]


def run_benchmarks(
    lm: LanguageModel, recipe: Benchmarks, folder: Path, *, chunks: Chunks
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `benchmarks` and `benchmark_items` without their keys, arm and seed.

    `folder` holds this project's items (data/benchmarks); `chunks` lies in a folder of this very model's, and keeps
    each finished suite as well as the parts of an unfinished one. A group of tasks (`mmlu`) gives one number over all
    its items. `benchmark_items` holds one metric a task: acc_norm where there is one, else the task's first.

    Raises UserError for an unknown task, for data that cannot be had, and for a few-shot count that a task does not
    allow.
    """
    numbers: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for suite in suites(recipe):
        key = content_hash(
            "benchmarks", BENCHMARKS.version, LM_EVAL.version, recipe.seed,
            [entry.meaning() for entry in suite.entries],
            items_version(recipe.model_copy(update={"tasks": suite.entries}), folder),
        )  # fmt: skip
        compute = functools.partial(_evaluate, lm, suite, recipe, folder, chunks)
        found = chunks.get_or_compute(key, compute)
        numbers += found["numbers"]
        items += found["items"]
    return _frame(numbers, NUMBERS), _frame(items, ITEMS)


def benchmarks_version(recipe: Benchmarks, folder: Path) -> str:
    """Hash of all that can change a number besides the model: tasks, seed, items."""
    return content_hash([entry.meaning() for entry in recipe.tasks], recipe.seed, items_version(recipe, folder))


def suites(recipe: Benchmarks) -> list[Suite]:
    """The recipe's tasks grouped for evaluation, in the order in which their suites first appear."""
    groups: dict[tuple[Any, ...], list[Benchmark]] = {}
    for entry in recipe.tasks:
        if entry.mirror and entry.task in TASKS:
            raise UserError(f"recipe benchmarks: field 'mirror' of {entry.task!r} is for tasks of lm-eval; remove it")
        name = TASKS.get(entry.task) or _source(entry.task)
        groups.setdefault((name, entry.fewshot, entry.limit, entry.mirror), []).append(entry)
    return [Suite(str(key[0]), tuple(entries)) for key, entries in groups.items()]


def _source(task: str) -> str:
    """What tells that two of lm-eval's tasks share their data: the folder of their definition. UserError for an unknown
    task."""
    index = _manager(None).task_index
    if task not in index:
        close = difflib.get_close_matches(task, [*TASKS, *index], n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UserError(
            f"recipe benchmarks: task {task!r} is unknown; {hint}allowed: {', '.join(TASKS)}, or any task of lm-eval, "
            f"such as truthfulqa_mc1, truthfulqa_mc2, mmlu, hellaswag"
        )
    path = index[task].yaml_path
    return Path(path).parent.name if path else task


@functools.cache
def _manager(folder: Path | None) -> Any:
    """lm-eval's index of task definitions: its own 14,000 (seconds to read), or ours alone, with the folder of their
    items."""
    from lm_eval.tasks import TaskManager

    with _quiet():
        if folder is None:
            return TaskManager()
        tasks = Path(__file__).parent / "tasks"
        return TaskManager(include_path=str(tasks), include_defaults=False, metadata={"folder": str(folder)})


def _evaluate(lm: LanguageModel, suite: Suite, recipe: Benchmarks, folder: Path, chunks: Chunks) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    from rlaif_dagster.evaluation.language_model import PrefixSharingLM

    model = PrefixSharingLM(
        lm, batch_size=recipe.batch_size, seed=recipe.seed, chunks=chunks, progress=f"{lm.name} {suite.name}"
    )
    with _quiet():
        loaded = {entry: _load(entry, folder, recipe.seed) for entry in suite.entries}
        together = {
            "tasks": {name: task for one in loaded.values() for name, task in one["tasks"].items()},
            "groups": {name: group for one in loaded.values() for name, group in one["groups"].items()},
        }
        chat = any((task.config.metadata or {}).get("chat", False) for task in together["tasks"].values())
        results = evaluate(
            lm=model,
            task_dict=together,
            limit=suite.entries[0].limit,
            bootstrap_iters=BOOTSTRAPS,
            log_samples=True,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )
    numbers: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for entry, one in loaded.items():
        group = one["groups"].get(entry.task)
        names = [entry.task] if group is not None and group.has_aggregation else list(one["tasks"])
        for name in names:
            leaves = list(one["tasks"]) if name == entry.task else [name]
            samples = [sample for leaf in leaves for sample in results["samples"][leaf]]
            rows, answers = _tables(name, results["results"][name], samples, int(results["n-shot"].get(name) or 0))
            numbers += rows
            items += answers
    return {"numbers": numbers, "items": items}


def _load(entry: Benchmark, folder: Path, seed: int) -> Any:
    """lm-eval's `{"tasks": …, "groups": …}` for one entry, with its few-shot count set."""
    import httpx
    from datasets.exceptions import DatasetsError

    own = entry.task in TASKS
    manager = _manager(folder if own else None)
    try:
        found = manager.load(_mirrored(entry, manager) if entry.mirror else [entry.task])
    except (OSError, ValueError, ImportError, RuntimeError, DatasetsError, httpx.HTTPError) as error:
        where = f"in {entry.mirror}" if entry.mirror else "on the hub"
        raise UserError(
            f"recipe benchmarks: the data of task {entry.task!r} cannot be had {where}: {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}; check the network, or name a local copy in "
            f"the field 'mirror', or take this project's own tasks: {', '.join(TASKS)}"
        ) from error
    for name, task in found["tasks"].items():
        if task.get_config("num_fewshot") == 0 and entry.fewshot:
            raise UserError(
                f"recipe benchmarks: task {name!r} is defined without few-shot examples; set its field 'fewshot' to 0"
            )
        task.set_config("num_fewshot", entry.fewshot)
        task.set_fewshot_seed(seed)
    return found


def _mirrored(entry: Benchmark, manager: Any) -> list[Any]:
    """The task or group (for a tag, its tasks) with its dataset taken from the mirror. lm-eval downloads while it
    builds, and its public `load` hands overrides on to a group's members wrongly, so its factory is asked."""
    overrides = {"dataset_path": str(Path(entry.mirror or "").expanduser())}
    index = manager.task_index
    built = manager._factory.build(index[entry.task], overrides=overrides, registry=index)
    return built if isinstance(built, list) else [built]


def _tables(
    task: str, metrics: dict[str, Any], samples: list[dict[str, Any]], fewshot: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of both tables for one task, from lm-eval's aggregated `metrics` and logged `samples`."""
    numbers = []
    scores: dict[str, list[tuple[str, float]]] = {}
    for key, value in metrics.items():
        metric, _, chosen = key.partition(",")
        if not chosen or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        name = metric if chosen == "none" else key
        logged = [s for s in samples if s["filter"] == chosen and isinstance(s.get(metric), int | float | np.number)]
        scores[name] = [(content_hash(_plain(sample["doc"])), float(sample[metric])) for sample in logged]
        stderr = metrics.get(f"{metric}_stderr,{chosen}")
        interval = _interval(float(value), stderr if isinstance(stderr, float) else None, [s for _, s in scores[name]])
        n = len(scores[name]) or int(metrics.get("sample_len") or len(samples))
        numbers.append(dict(zip(NUMBERS, [task, name, float(value), *interval, n, fewshot], strict=True)))
    primary = "acc_norm" if "acc_norm" in scores else next(iter(scores), None)
    answers = scores[primary] if primary else []
    yes_or_no = all(score in (0.0, 1.0) for _, score in answers)
    return numbers, [
        {"task": task, "item_id": item, "correct": bool(score) if yes_or_no else None, "score": score}
        for item, score in answers
    ]


def _interval(
    value: float, stderr: float | None, scores: list[float]
) -> tuple[float | None, float | None, float | None]:
    """Standard error and 95% interval: from the items where the number is their mean, else from lm-eval's standard
    error. None where there is neither."""
    mean = mean_interval(scores) if scores else None
    if mean is None or not math.isclose(mean.value, value, rel_tol=1e-6, abs_tol=1e-9):
        return (stderr, value - Z95 * stderr, value + Z95 * stderr) if stderr is not None else (None, None, None)
    if math.isnan(mean.stderr):
        return None, (None if math.isnan(mean.low) else mean.low), (None if math.isnan(mean.high) else mean.high)
    bounded = min(scores) >= 0 and max(scores) <= 1
    low, high = (max(0.0, mean.low), min(1.0, mean.high)) if bounded else (mean.low, mean.high)
    return (mean.stderr if stderr is None else stderr), low, high


def _plain(value: Any) -> Any:
    """A document as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"correct": object}) if "correct" in columns else frame


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval without its log lines and without a bar a task: the one bar that says something is the scoring's own."""
    import lm_eval.api.task
    from tqdm import tqdm

    logger = logging.getLogger("lm_eval")
    level, bar = logger.level, lm_eval.api.task.tqdm
    logger.setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = functools.partial(tqdm, disable=True)
    try:
        yield
    finally:
        logger.setLevel(level)
        lm_eval.api.task.tqdm = bar
