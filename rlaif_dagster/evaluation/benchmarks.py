"""Benchmarks of one model: lm-eval's tasks (or those defined in `tasks`) run through `PrefixSharingLM`.

lm-eval owns what a number means: prompts, metrics, aggregation. Added here: an interval and the items behind every
number, numbers by subject and risk category, requests that survive a kill, and one line that names the remedy when a task
is unknown or its data cannot be had.

Tasks of one suite (MC1 and MC2 of TruthfulQA) are evaluated together, because they ask the same things of the model.
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlaif_dagster.behaviour import BENCHMARKS, LM_EVAL
from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation.items import GRADED_TASKS, PKU_TASKS, TASKS, items_version
from rlaif_dagster.evaluation.mirrors import has_split, hub_layout, mirror_path
from rlaif_dagster.evaluation.tasks.documents import categories_of, reordered, text_of
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Benchmark, Benchmarks
from rlaif_dagster.statistics import Z95, mean_interval
from rlaif_dagster.work import Chunks

BOOTSTRAPS = 1000  # lm-eval's, for metrics whose standard error has no formula
NUMBERS = ["task", "metric", "category", "value", "stderr", "ci_low", "ci_high", "n", "fewshot"]
ITEMS = ["task", "metric", "item_id", "categories", "correct", "score", "text", "answer"]

Grader = Callable[[str, Sequence[tuple[str, str]]], Sequence[float | None]]
"""Given a judge's name, (prompt, answer) pairs: is the answer harmful, 1 or 0, None where no grade could be had."""


@dataclass(frozen=True)
class Suite:
    """Entries of the recipe that are evaluated in one go: the same data, few-shot count and limit."""

    name: str
    entries: tuple[Benchmark, ...]


def run_benchmarks(
    lm: LanguageModel,
    recipe: Benchmarks,
    folder: Path,
    *,
    chunks: Chunks,
    mirrors: Path | None = None,
    grader: Grader | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `benchmarks` and `benchmark_items` without their keys, arm and seed.

    `folder` holds this project's items (data/benchmarks); `chunks` lies in a folder of this very model's, and keeps every
    finished request and suite, so that a killed run goes on where it was and a larger limit only adds; `mirrors` is where
    data of mirrors are kept in the hub's layout. `grader` grades answers for harm, where the recipe asks for it; items
    that it gave no grade have no score, and a suite that has such items is not kept. Raises UserError naming task and
    remedy when a task is unknown or its data cannot be had.
    """
    numbers: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for suite in suites(recipe):
        run = _Run(lm, suite, recipe, folder, chunks, mirrors or chunks.folder / "mirrors", grader)
        found = run.graded() if any(entry.task in GRADED_TASKS for entry in suite.entries) else run.remembered()
        numbers += found["numbers"]
        items += found["items"]
    return _frame(numbers, NUMBERS), _frame(items, ITEMS)


def benchmarks_version(recipe: Benchmarks, folder: Path) -> str:
    """Hash of all that can change a number besides the model: tasks, seed, items, how they are evaluated."""
    return content_hash(
        BENCHMARKS.version, LM_EVAL.version, [entry.meaning() for entry in recipe.tasks], recipe.seed,
        items_version(recipe, folder),
    )  # fmt: skip


def suites(recipe: Benchmarks) -> list[Suite]:
    """The recipe's tasks grouped for evaluation, in the order in which their suites first appear."""
    groups: dict[tuple[Any, ...], list[Benchmark]] = {}
    for entry in recipe.tasks:
        if entry.mirror and entry.task in TASKS:
            raise UserError(
                f"recipe benchmarks: field 'mirror' of {entry.task!r} is for tasks whose data are not in data/benchmarks; "
                "remove it"
            )
        if (entry.task in GRADED_TASKS) != (entry.judge is not None):
            raise UserError(
                f"recipe benchmarks: field 'judge' of {entry.task!r}: found {entry.judge!r}; "
                + (
                    "name a judge of data/judges"
                    if entry.task in GRADED_TASKS
                    else f"it is for {', '.join(GRADED_TASKS)}"
                )
            )
        name = entry.task if entry.task in (*GRADED_TASKS, *PKU_TASKS) else TASKS.get(entry.task) or _source(entry.task)
        groups.setdefault((name, entry.fewshot, entry.limit, entry.mirror), []).append(entry)
    return [Suite(str(key[0]), tuple(entries)) for key, entries in groups.items()]


def _source(task: str) -> str:
    """What tells that two of lm-eval's tasks share their data: the folder of their definition. UserError for an unknown
    task."""
    index = _manager(None).task_index
    if task not in index:
        close = difflib.get_close_matches(task, [*TASKS, *PKU_TASKS, *index], n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UserError(
            f"recipe benchmarks: task {task!r} is unknown; {hint}allowed: {', '.join((*TASKS, *PKU_TASKS))}, or any task "
            f"of lm-eval, such as truthfulqa_mc1, truthfulqa_mc2, truthfulqa_gen, mmlu, hellaswag"
        )
    path = index[task].yaml_path
    return Path(path).parent.name if path else task


@functools.cache
def _manager(folder: Path | None, seed: int = 0) -> Any:
    """lm-eval's index of task definitions: its own 14,000 (seconds to read), or ours alone, with the folder of their
    items and the seed of their order."""
    from lm_eval.tasks import TaskManager

    with _quiet():
        if folder is None:
            return TaskManager()
        tasks = Path(__file__).parent / "tasks"
        return TaskManager(
            include_path=str(tasks), include_defaults=False, metadata={"folder": str(folder), "seed": seed}
        )


@dataclass(frozen=True)
class _Run:
    """One suite on one model."""

    lm: LanguageModel
    suite: Suite
    recipe: Benchmarks
    folder: Path
    chunks: Chunks
    mirrors: Path
    grader: Grader | None

    def remembered(self) -> dict[str, Any]:
        """The suite's rows, found again where they were computed from the same."""
        alone = self.recipe.model_copy(update={"tasks": self.suite.entries})
        key = content_hash(
            "benchmarks", BENCHMARKS.version, LM_EVAL.version, self.recipe.seed,
            [entry.meaning() for entry in self.suite.entries], items_version(alone, self.folder),
        )  # fmt: skip
        found: dict[str, Any] = self.chunks.get_or_compute(key, lambda: self.evaluated(_rows))
        return found

    def graded(self) -> dict[str, Any]:
        """The rows of a suite whose answers a judge grades. What the model wrote and what the judge said are kept
        elsewhere, each by itself, so nothing is asked or paid twice."""
        return self.evaluated(self._graded_rows)

    def evaluated(self, rows: Callable[[str, dict[str, Any], _Samples, int], Tables]) -> dict[str, Any]:
        """lm-eval's results of the suite as rows of both tables, made by `rows` for every task and group."""
        from lm_eval.evaluator import evaluate

        from rlaif_dagster.evaluation.language_model import PrefixSharingLM
        from rlaif_dagster.evaluation.request_store import RequestStore

        model = PrefixSharingLM(
            self.lm, batch_size=self.recipe.batch_size, seed=self.recipe.seed, store=RequestStore(self.chunks.folder),
            progress=f"{self.lm.name} {self.suite.name}",
        )  # fmt: skip
        with _quiet():
            loaded = {
                entry: load_task(entry, self.folder, seed=self.recipe.seed, mirrors=self.mirrors)
                for entry in self.suite.entries
            }
            together = {
                "tasks": {name: task for one in loaded.values() for name, task in one["tasks"].items()},
                "groups": {name: group for one in loaded.values() for name, group in one["groups"].items()},
            }
            chat = any((task.config.metadata or {}).get("chat", False) for task in together["tasks"].values())
            results = evaluate(
                lm=model, task_dict=together, limit=self.suite.entries[0].limit, bootstrap_iters=BOOTSTRAPS,
                log_samples=True, apply_chat_template=chat, fewshot_as_multiturn=chat,
            )  # fmt: skip
        numbers: list[dict[str, Any]] = []
        items: list[dict[str, Any]] = []
        for entry, one in loaded.items():
            for name, leaves in _named(entry.task, one).items():
                samples = [sample for leaf in leaves for sample in results["samples"][leaf]]
                found, answers = rows(name, results["results"][name], samples, int(results["n-shot"].get(name) or 0))
                numbers += found
                items += answers if name == entry.task or entry.task not in one["groups"] else []
        return {"numbers": numbers, "items": items}

    def _graded_rows(self, task: str, metrics: dict[str, Any], samples: _Samples, fewshot: int) -> Tables:
        """The rows of lm-eval's metrics and, for `harmful`, of the judge's grades."""
        numbers, items = _rows(task, metrics, samples, fewshot)
        if self.grader is None:
            raise ValueError(f"task {task} needs a grader")
        judge = next(entry.judge for entry in self.suite.entries if entry.task == task) or ""
        answers = [(str(sample["doc"]["prompt"]), str(sample["filtered_resps"][0])) for sample in samples]
        graded = [
            _item(task, "harmful", sample["doc"], score, answer)
            for sample, (_, answer), score in zip(samples, answers, self.grader(judge, answers), strict=True)
        ]
        told = [float(item["score"]) for item in graded if item["score"] is not None]
        if told:
            value = sum(told) / len(told)
            numbers.append(_number(task, "harmful", None, value, _interval(value, None, told), len(told), fewshot))
            numbers += _by_category(graded, fewshot)
        return numbers, [*items, *graded]


_Samples = list[dict[str, Any]]
Tables = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def load_task(entry: Benchmark, folder: Path, *, seed: int, mirrors: Path) -> Any:
    """lm-eval's `{"tasks": …, "groups": …}` for one entry, with its few-shot count set. `folder` is data/benchmarks, from
    which mirrors are named; `mirrors` keeps their data in the hub's layout. UserError when the data cannot be had."""
    import httpx
    from datasets.exceptions import DatasetsError

    own = entry.task in TASKS or entry.task in PKU_TASKS
    manager = _manager(folder if own else None, seed if own else 0)
    try:
        found = manager.load(_built(manager, entry.task, _overrides(entry, folder, seed, mirrors)))
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


def _overrides(entry: Benchmark, folder: Path, seed: int, mirrors: Path) -> dict[str, Any]:
    """What is changed of lm-eval's definition: where the data come from, and the order of answers where the source
    lists the right one first."""
    overrides: dict[str, Any] = {}
    if entry.mirror:
        path = mirror_path(entry.mirror, folder)
        if entry.task in PKU_TASKS:
            return {"dataset_kwargs": {"mirror": str(path)}}
        path = hub_layout(path, mirrors)
        overrides["dataset_path"] = str(path)
        if entry.task == "hellaswag" and not has_split(path, "train"):
            if entry.fewshot:
                raise UserError(
                    f"recipe benchmarks: field 'mirror' of 'hellaswag': {entry.mirror} has no train split "
                    "(hellaswag_train*.jsonl), from which examples in context are taken; set 'fewshot' to 0"
                )
            overrides["training_split"] = None
    if entry.task in ("truthfulqa_mc1", "truthfulqa_mc2"):
        targets = f"{entry.task.removeprefix('truthfulqa_')}_targets"
        overrides["process_docs"] = reordered(seed)
        overrides["doc_to_target"] = f"{{{{{targets}.labels.index(1)}}}}"
    return overrides


def _built(manager: Any, task: str, overrides: dict[str, Any]) -> list[Any]:
    """The task or group (for a tag, its tasks) with its definition changed. lm-eval downloads while it builds, and its
    public `load` hands overrides on to a group's members wrongly, so its factory is asked."""
    if not overrides:
        return [task]
    index = manager.task_index
    built = manager._factory.build(index[task], overrides=overrides, registry=index)
    return built if isinstance(built, list) else [built]


def _named(task: str, loaded: dict[str, Any]) -> dict[str, list[str]]:
    """What gets a number of its own, and the tasks whose items it is made of: a group that lm-eval averages and its
    subgroups (its subjects come as categories), or else every task."""
    groups = loaded["groups"]
    if task not in groups or not groups[task].has_aggregation:
        return {name: [name] for name in loaded["tasks"]}
    return {
        name: [leaf.task_name for leaf in group.get_all_tasks()]
        for name, group in sorted(groups.items(), key=lambda item: item[0] != task)
        if group.has_aggregation
    }


def _rows(task: str, metrics: dict[str, Any], samples: _Samples, fewshot: int) -> Tables:
    """Rows of both tables for one task, from lm-eval's aggregated `metrics` and logged `samples`."""
    numbers: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for key, value in metrics.items():
        metric, _, chosen = key.partition(",")
        if not chosen or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        name = metric if chosen == "none" else key
        own = [
            _item(task, name, sample["doc"], float(sample[metric]), _answer(sample))
            for sample in samples
            if sample["filter"] == chosen and isinstance(sample.get(metric), int | float | np.number)
        ]
        stderr = metrics.get(f"{metric}_stderr,{chosen}")
        scores = [float(item["score"]) for item in own]
        interval = _interval(float(value), stderr if isinstance(stderr, float) else None, scores)
        n = len(own) or int(metrics.get("sample_len") or len(samples))
        numbers.append(_number(task, name, None, float(value), interval, n, fewshot))
        if own and math.isclose(sum(scores) / len(scores), float(value), rel_tol=1e-6, abs_tol=1e-9):
            numbers += _by_category(own, fewshot)
        items += _with_verdicts(own)
    return numbers, items


def _item(task: str, metric: str, doc: dict[str, Any], score: float | None, answer: str | None) -> dict[str, Any]:
    content = _plain(doc)
    values = [task, metric, content_hash(content), categories_of(content), None, score, text_of(content), answer]
    item = dict(zip(ITEMS, values, strict=True))
    return item | {"correct": bool(score)} if metric == "harmful" and score is not None else item


def _with_verdicts(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`correct` is told where every score of the metric is yes or no."""
    if any(item["score"] not in (0.0, 1.0) for item in items):
        return items
    return [item | {"correct": bool(item["score"])} for item in items]


def _answer(sample: dict[str, Any]) -> str | None:
    """What the model wrote, where it was asked to write."""
    written = sample["filtered_resps"][0] if sample.get("filtered_resps") else None
    return written if isinstance(written, str) else None


def _by_category(items: list[dict[str, Any]], fewshot: int) -> list[dict[str, Any]]:
    """The number of each subject or risk category, where the items have several. An item counts in each of its own."""
    scores: dict[str, list[float]] = {}
    for item in items:
        for category in item["categories"]:
            if item["score"] is not None:
                scores.setdefault(category, []).append(float(item["score"]))
    if len(scores) < 2:
        return []
    rows = []
    for category, own in sorted(scores.items()):
        value = sum(own) / len(own)
        interval = _interval(value, None, own)
        rows.append(_number(items[0]["task"], items[0]["metric"], category, value, interval, len(own), fewshot))
    return rows


def _number(
    task: str,
    metric: str,
    category: str | None,
    value: float,
    interval: tuple[float | None, float | None, float | None],
    n: int,
    fewshot: int,
) -> dict[str, Any]:
    return dict(zip(NUMBERS, [task, metric, category, value, *interval, n, fewshot], strict=True))


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
    return frame.astype({"correct": object, "score": "float64"}) if "correct" in columns else frame


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
