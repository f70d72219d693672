"""Benchmark tasks as suites: what they are called, whether they speak for alignment or for capability, and their items.

A suite is one task and metric, such as TruthfulQA by MC2. The subjects of a task that lm-eval splits (`mmlu_anatomy`,
`mmlu_astronomy`, …) are pooled into one suite, weighted by their number of items, as MMLU's own average is. Metrics that
are no share (BLEU, perplexity) stay out of the plots; `rlaif sql` has them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from rlaif_dagster.report.estimate import Estimate

Kind = Literal["alignment", "capability"]

_ALIGNMENT = ("truthfulqa", "pku_saferlhf", "toxigen", "bbq", "hendrycks_ethics", "moral_stories")

_NAMES = {
    "truthfulqa": "TruthfulQA", "pku_saferlhf": "PKU-SafeRLHF", "mmlu": "MMLU", "hellaswag": "HellaSwag",
}  # fmt: skip

_CHANCE = {"pku_saferlhf": 0.5, "mmlu": 0.25, "hellaswag": 0.25}

HARMLESS = "harmless"

_METRICS = {
    "acc": "accuracy", "acc_norm": "accuracy, length-normalized",
    HARMLESS: "share of written answers that the judge finds harmless", "refused": "share of requests declined",
}  # fmt: skip

_GENERATED = {HARMLESS: "harmless answers", "refused": "refusals"}  # of answers that the model wrote itself

_MODES = {"mc1": "share whose best answer is picked", "mc2": "probability given to the true answers"}

_MODE = re.compile(r"_(mc[12])(?:_|$)")  # of TruthfulQA, in the task's name or in the metric's

_SUBJECT = re.compile(r"(mmlu)_(?!mini$)\w+")


@dataclass(frozen=True)
class Suite:
    """One suite's levels by arm and its items (columns arm, seed, item_id, categories, score; no rows when they do not belong
    to it). More is always better: a share of harmful answers is turned into the share of harmless ones."""

    key: str
    name: str
    kind: Kind
    estimates: dict[str, Estimate]
    items: pd.DataFrame
    detail: str
    chance: float | None
    headline: bool


def suites_of(benchmarks: pd.DataFrame, items: pd.DataFrame) -> list[Suite]:
    """The suites of both tables, alignment first, by name."""
    whole = benchmarks[benchmarks["category"].isna()] if "category" in benchmarks else benchmarks
    shares = _harmless(whole[whole["value"].between(0, 1)])
    pooled = shares.assign(suite=[_pool(str(task)) for task in shares["task"]])
    suites = []
    for (task, metric), rows in pooled.groupby(["suite", "metric"], sort=True):
        own = items[items["task"].isin(rows["task"].unique()) & items["score"].notna()]
        if "metric" in own:
            own = own[own["metric"].isna() | (own["metric"] == ("harmful" if metric == HARMLESS else metric))]
        if metric == HARMLESS:
            own = own.assign(score=1 - own["score"].astype(float))
        metrics = set(pooled.loc[pooled["suite"] == task, "metric"])
        suites.append(_suite(str(task), str(metric), rows, own, metrics))
    return sorted(suites, key=lambda suite: (suite.kind, suite.name))


def _harmless(benchmarks: pd.DataFrame) -> pd.DataFrame:
    """Shares of harmful answers as shares of harmless ones."""
    harmful = benchmarks["metric"] == "harmful"
    low, high = benchmarks["ci_low"].astype(float), benchmarks["ci_high"].astype(float)
    return benchmarks.assign(
        metric=benchmarks["metric"].where(~harmful, HARMLESS),
        value=benchmarks["value"].astype(float).where(~harmful, 1 - benchmarks["value"].astype(float)),
        ci_low=low.where(~harmful, 1 - high),
        ci_high=high.where(~harmful, 1 - low),
    )


def kind_of(task: str) -> Kind:
    """Alignment for the suites of truthfulness and harm; everything else measures capability."""
    return "alignment" if task.startswith(_ALIGNMENT) else "capability"


def is_safety(task: str) -> bool:
    """Whether a task is the suite of harmful requests, whose items belong to risk categories."""
    return _family(task) == "pku_saferlhf"


def name_of(task: str) -> str:
    """`truthfulqa_mc2_mini` is TruthfulQA mini: a small set of this project's own is never passed off as the original."""
    family = _family(task)
    if family is None:
        return task
    told = ("generation",)  # by the metric's name
    rest = [
        part for part in task.removeprefix(family).split("_") if part and not part.startswith("mc") and part not in told
    ]
    return " ".join([_NAMES[family], *rest])


def _family(task: str) -> str | None:
    return next((family for family in _NAMES if task == family or task.startswith(f"{family}_")), None)


def _pool(task: str) -> str:
    match = _SUBJECT.fullmatch(task)
    return match[1] if match else task


def _suite(task: str, metric: str, rows: pd.DataFrame, items: pd.DataFrame, metrics: set[str]) -> Suite:
    estimates = {str(arm): _estimate(task, of_arm) for arm, of_arm in rows.groupby("arm")}
    name = name_of(task)
    spoken = _METRICS.get(metric, metric)
    if mode := _MODE.search(f"{task}_{metric}"):
        spoken = _MODES[mode[1]]
        name = f"{name} {mode[1].upper()}"
    elif metric in _GENERATED:
        name = f"{name}, {_GENERATED[metric]}"
    elif metric == "acc" and "acc_norm" in metrics:
        name = f"{name}, unnormalized"
    fewshot = rows["fewshot"].dropna()
    shots = (
        f"{int(fewshot.iloc[0])} examples in context"
        if len(fewshot) and int(fewshot.iloc[0])
        else "no examples in context"
    )
    n = min((estimate.n for estimate in estimates.values()), default=0)
    return Suite(
        key=f"{task}:{metric}",
        name=name,
        kind=kind_of(task),
        estimates=estimates,
        items=_own_items(rows, items, sole=len(metrics) == 1),
        detail=f"{spoken}, {n:,} items, {shots}",
        chance=None if metric in _GENERATED else _CHANCE.get(_family(task) or ""),
        # whether declining is good depends on the request, so refusals are told but never counted as a gain
        headline=not (metric == "acc" and "acc_norm" in metrics) and metric != "refused",
    )


def _estimate(task: str, rows: pd.DataFrame) -> Estimate:
    """One arm's level. Seeds are averaged; their intervals too, which is on the safe side of the average's own."""
    whole = rows[rows["task"] == task]
    if len(whole):
        mean = whole[["value", "ci_low", "ci_high"]].astype(float).mean()
        return Estimate(mean["value"], mean["ci_low"], mean["ci_high"], int(whole["n"].min()))
    by_seed = [_pooled(of_seed) for _, of_seed in rows.groupby("seed")]
    count = len(by_seed)
    return Estimate(
        sum(one.value for one in by_seed) / count,
        sum(one.low for one in by_seed) / count,
        sum(one.high for one in by_seed) / count,
        min(one.n for one in by_seed),
    )


def _pooled(subjects: pd.DataFrame) -> Estimate:
    """Subjects weighted by their items; the standard error is that of independent subjects."""
    weights = subjects["n"].astype(float) / subjects["n"].sum()
    value = float((weights * subjects["value"]).sum())
    error = math.sqrt(float(((weights * subjects["stderr"].astype(float)) ** 2).sum()))
    return Estimate(value, max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error), int(subjects["n"].sum()))


def _own_items(rows: pd.DataFrame, items: pd.DataFrame, *, sole: bool) -> pd.DataFrame:
    """The items of this metric: a task with several metrics stores the items of one, told by their mean."""
    scores = items.reindex(columns=["arm", "seed", "item_id", "categories", "score"])
    if sole or scores.empty:
        return scores
    means = items.assign(score=items["score"].astype(float)).groupby(["arm", "seed", "task"])["score"].mean()
    for row in rows.to_dict("records"):
        key = (row["arm"], row["seed"], row["task"])
        if key in means.index and abs(means[key] - row["value"]) > 1e-3:
            return scores.iloc[0:0]
    return scores
