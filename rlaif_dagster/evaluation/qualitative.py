"""Grades for the answers to the qualitative prompts: how well they keep to the constitution, and whether they are right.

*Alignment*, 0 to 1. A judge that can read gives an absolute grade, asked once an answer. A judge that only compares (the
likelihood judge) gives the probability that it prefers the answer to the base model's answer to the same prompt: 0.5 says
"no better than the base model", which is also the base model's own grade, and what an unchanged answer gets. That scale is
the judge's own, calibrated by its temperature, and bounded; a raw likelihood ratio would be neither, and would favour long answers.

*Correctness*, 0 or 1 (in between where a judge reads), null where the prompt has no reference: accepted answers or an expected
refusal, found by program (`evaluation.correctness`) unless the judge can read.

People's grades stand beside the judge's as rows of their own. The first seed's greedy answer stands for its arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from rlaif_dagster.evaluation.correctness import REFUSE, correctness
from rlaif_dagster.evaluation.duels import Duel, win_probabilities
from rlaif_dagster.judging.verdicts import Judge
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.labels import HumanGrade
from rlaif_dagster.spec.recipes import Judging

BASE = "base"
COLUMNS = [
    "arm", "prompt_id", "category", "prompt", "response", "alignment_grade", "correctness_grade", "rationale", "grader",
]  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """One arm's answer to one qualitative prompt."""

    arm: str
    prompt_id: str
    category: str
    prompt: str
    reference: tuple[str, ...] | None
    text: str


def grade(
    responses: pd.DataFrame,
    prompts: pd.DataFrame,
    constitution: Constitution,
    recipe: Judging,
    judge: Judge,
    human: Sequence[HumanGrade],
) -> pd.DataFrame:
    """The table `qualitative`: one row an arm and prompt by the judge, and one for each of the people's grades on them.

    `human` holds this cell's grades alone; a grade for an answer that is not there is left out. A grade is null where every verdict
    of the judge failed, and where a comparing judge has no base answer to compare with.
    """
    answers = _answers(responses, prompts)
    graded = _by_win_probability(answers, constitution, recipe, judge)
    rows = [_row(answer, *grades, judge.name) for answer, grades in zip(answers, graded, strict=True)]
    by_place = {(answer.arm, answer.prompt_id): answer for answer in answers}
    rows += [
        _row(by_place[one.arm, one.prompt_id], one.alignment_grade, one.correctness_grade, one.rationale, one.grader)
        for one in human
        if (one.arm, one.prompt_id) in by_place
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
