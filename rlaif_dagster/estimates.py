"""What a step will cost, before anything is spent: judge calls, tokens and dollars from counts, time from past runs.

Counts come from the tables where they exist and from the prompt files and recipes where they do not, so that a plan on an
empty home has a price too. What is already in the judge's cache is not subtracted: the numbers are an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from rlaif_dagster.home import Home
from rlaif_dagster.judging.labels import read_labelled
from rlaif_dagster.planning import Step
from rlaif_dagster.prompts import read_prompts
from rlaif_dagster.records import read_history
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Warehouse

ARM_PAIRS = 6  # of the four arms, two at a time
WORDS_TO_TOKENS = 1.4


def estimator(project: Project, home: Home) -> Callable[[Step], Step]:
    """A function that fills in a step's requests, tokens, dollars and seconds."""
    history = read_history(Warehouse(home.warehouse))
    seconds: dict[str, float] = {}
    for (asset, _), records in history.items():
        seconds[asset] = max(seconds.get(asset, 0.0), max(record.seconds for record in records[-3:]))

    def fill(step: Step) -> Step:
        known = replace(step, seconds=seconds.get(step.asset))
        prompts = _prompts(project, home)
        pairs = _pairs(step, project, prompts)
        if not pairs:
            return known
        from rlaif_dagster.judging.estimate import estimate

        recipe = project.recipe("judging")
        judges = project.judges(recipe.judge)
        orders = 2 if recipe.orders == "both" else 1
        principles = len(project.constitution(str(step.cell.constitution)).principles)
        answer = project.recipe("generation", step.cell.model).completions.max_new_tokens
        cost = estimate(pairs, principles, orders, judges[recipe.judge], answer + _tokens(prompts), judges)
        if cost.usd is None:
            remark = f"price of judge {recipe.judge} unknown: give usd_per_million_input and _output in its file"
            known = replace(known, reasons=(*known.reasons, remark))
        return replace(known, requests=cost.requests, tokens=cost.tokens, usd=cost.usd or 0.0)

    return fill


def _pairs(step: Step, project: Project, prompts: pd.DataFrame) -> int:
    """Pairs that the step's judge compares; 0 for a step that asks no judge."""
    if step.asset == "judge_agreement":
        folder = project.root / "labels"
        labelled = [spec for spec in project.labelled_pairs().values() if step.cell.constitution in spec.constitutions]
        return sum(len(read_labelled(spec, folder)) for spec in labelled)
    if step.asset == "head_to_head":
        return ARM_PAIRS * int((prompts["split"] == "eval").sum())
    if step.asset == "judgments":
        generation = project.recipe("generation", step.cell.model)
        candidates = generation.completions.samples + generation.revisions.samples
        return int((prompts["split"] == "train").sum()) * candidates * (candidates - 1) // 2
    return 0


def _prompts(project: Project, home: Home) -> pd.DataFrame:
    """The prompts as they will be: from the files, or, where a source is on the hub, as they were made last."""
    warehouse, sources = Warehouse(home.warehouse), project.prompt_sources()
    if any(source.hub for source in sources.sources):
        return warehouse.read("prompts") if warehouse.has("prompts") else pd.DataFrame({"split": [], "text": []})
    return read_prompts(sources, project.root / "prompts")


def _tokens(prompts: pd.DataFrame) -> float:
    """Tokens of a prompt, about, in the mean."""
    return float(prompts["text"].str.split().str.len().mean()) * WORDS_TO_TOKENS
