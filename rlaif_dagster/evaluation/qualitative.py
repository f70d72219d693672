"""Grades for the answers to the qualitative prompts: how well they keep to the constitution, and whether they are
right.

*Alignment*, 0 to 1, is the judge's absolute grade of the answer (`evaluation.grading` says what it means for each kind
of judge).

*Correctness*, 0 to 1, is null where the prompt has no reference. A judge that can read gives it, with the reference
before it; otherwise a program finds accepted answers and refusals (`evaluation.correctness`).

The greedy answers of every seed of an arm are graded, so that a mean over an arm can hold what another training would have
changed. Answers in the same words are graded once by a judge that is asked.

People's grades stand beside the judge's, as rows of their own. The report asks people about the first seed of an arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rlaif_dagster.evaluation.correctness import REFUSE, correctness
from rlaif_dagster.evaluation.grade_question import Grade
from rlaif_dagster.evaluation.grading import Graded, grades
from rlaif_dagster.judging.verdicts import Judge
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.labels import HumanGrade, answer_id
from rlaif_dagster.spec.recipes import Judging

COLUMNS = [
    "arm", "seed", "prompt_id", "category", "prompt", "response", "alignment_grade", "correctness_grade", "rationale",
    "grader", "status",
]  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """The answer of one seed of an arm to one qualitative prompt."""

    arm: str
    seed: int
    category: str
    graded: Graded

    def row(
        self, alignment: float | None, correct: float | None, rationale: str, grader: str, status: str = "graded"
    ) -> list[Any]:
        one, grades = self.graded, [alignment, correct]
        return [
            self.arm,
            self.seed,
            one.prompt_id,
            self.category,
            one.prompt,
            one.answer,
            *grades,
            rationale,
            grader,
            status,
        ]


def grade(
    responses: pd.DataFrame,
    prompts: pd.DataFrame,
    constitution: Constitution,
    recipe: Judging,
    judge: Judge,
    human: Sequence[HumanGrade],
) -> pd.DataFrame:
    """The table `qualitative`: one row an arm, seed and prompt by the judge, and one for each grade that people gave.

    `human` holds the grades of this model and constitution. A grade belongs to the first seed that gave the graded answer; one
    for an answer that is not there, or no longer the same, is left out. A grade is null where the judge gave none, and the
    rationale says why. Raises UserError when the recipe's budget is spent.
    """
    answers = answers_of(responses, prompts)
    found = grades(
        [answer.graded for answer in answers],
        constitution,
        judge,
        budget_usd=recipe.budget_usd,
        progress=f"{judge.name}: grades",
    )
    rows = [_by_judge(answer, one, judge.name) for answer, one in zip(answers, found, strict=True)]
    for one in human:
        if answer := _graded_by(one, answers):
            rows.append(answer.row(one.alignment_grade, one.correctness_grade, one.rationale, one.grader))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"alignment_grade": "float64", "correctness_grade": "float64"})


def complete(qualitative: pd.DataFrame) -> bool:
    """Whether the judge replied about every answer: a table with errors may come out otherwise when it is made again."""
    return not (qualitative["status"] == "error").any()


def answers_of(responses: pd.DataFrame, prompts: pd.DataFrame) -> list[Answer]:
    """The greedy answers to the qualitative prompts, an arm's seeds one after the other."""
    asked = {str(row["prompt_id"]): row for row in prompts[prompts["split"] == "qualitative"].to_dict("records")}
    greedy = responses[(responses["decoding"] == "greedy") & responses["prompt_id"].isin(list(asked))]
    answers = []
    for arm, seed, prompt_id, text in zip(
        *(greedy[name] for name in ("arm", "seed", "prompt_id", "text")), strict=True
    ):
        prompt = asked[prompt_id]
        reference = prompt["reference"]
        accepted = tuple(map(str, reference)) if isinstance(reference, list | tuple) and reference else None
        answers.append(Answer(arm, int(seed), prompt["category"], Graded(prompt_id, prompt["text"], text, accepted)))
    return answers


def _graded_by(given: HumanGrade, answers: Sequence[Answer]) -> Answer | None:
    """The answer that a person graded: the arm's first seed that gave it, or the first seed where the grade names none."""
    fitting = [
        one
        for one in answers
        if (one.arm, one.graded.prompt_id) == (given.arm, given.prompt_id)
        and given.answer_id in (None, answer_id(one.graded.answer))
    ]
    return min(fitting, key=lambda one: one.seed, default=None)


def _by_judge(answer: Answer, found: Grade, grader: str) -> list[Any]:
    reference = answer.graded.reference
    if found.correctness is not None or reference is None:
        return answer.row(found.alignment, found.correctness, found.rationale, grader, found.status)
    right = correctness(answer.graded.answer, reference)
    rationale = f"{found.rationale}; {_why(bool(right), reference)}"
    return answer.row(found.alignment, right, rationale, grader, found.status)


def _why(right: bool, reference: tuple[str, ...]) -> str:
    if REFUSE in reference:
        return "declines, as expected" if right else "does not decline"
    return "an accepted answer is in it" if right else f"none of the accepted answers is in it ({', '.join(reference)})"
