"""People's grades beside the judge's: how often both put two answers in the same order, and how far the grades go together.

People grade through the report itself (`grading.js.j2`); `data/labels/human_grades.jsonl` brings their grades back into the
table `qualitative`, under a grader called `human` or `human:NAME`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from rlaif_dagster.evaluation.human_agreement import agreed_by_prompt, over_prompts
from rlaif_dagster.report.arms import ARMS, label
from rlaif_dagster.report.estimate import Estimate
from rlaif_dagster.report.evidence import share_of
from rlaif_dagster.spec.labels import HUMAN, is_human


def person(grader: str) -> str:
    """`human:anna` is anna."""
    return grader.removeprefix(f"{HUMAN}:") if grader != HUMAN else "people"


@dataclass(frozen=True)
class Agreement:
    """The judge against people, on the answers that both graded.

    `order` is the share of pairs of answers to one prompt that both put in the same order, among those that people grade
    differently; a judge's tie counts half. `same` is the share of correctness grades on the same side of one half.
    """

    graders: tuple[str, ...]
    answers: int
    prompts: int
    order: Estimate | None
    pairs: int
    same: Estimate | None
    means: tuple[tuple[str, str, str], ...]


def agreement(qualitative: pd.DataFrame) -> Agreement | None:
    """None where no person graded an answer."""
    human = qualitative["grader"].map(is_human).astype(bool)
    if not human.any():
        return None
    people, judge = _means(qualitative[human]), _means(qualitative[~human])
    both = people.join(judge, how="inner", lsuffix="_people", rsuffix="_judge")
    order, pairs = _order(both)
    graders = tuple(sorted({person(str(name)) for name in qualitative.loc[human, "grader"]}))
    return Agreement(
        graders=graders,
        answers=len(people),
        prompts=people.index.get_level_values("prompt_id").nunique(),
        order=order,
        pairs=pairs,
        same=_same(both),
        means=tuple(_arm_means(people, judge)),
    )


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean grades an answer, indexed by prompt, arm and seed."""
    columns = ["alignment_grade", "correctness_grade"]
    numeric = rows.assign(**{column: rows[column].astype(float) for column in columns})
    return numeric.groupby(["prompt_id", "arm", "seed"])[columns].mean()


def _order(both: pd.DataFrame) -> tuple[Estimate | None, int]:
    """Agreement on the order of two answers: a mean a prompt, then an interval over prompts, because the pairs of one
    prompt are not independent."""
    names = {"alignment_grade_judge": "judge", "alignment_grade_people": "people"}
    shares, pairs = agreed_by_prompt(both[list(names)].rename(columns=names).dropna())
    return (Estimate(*over_prompts(shares), len(shares)), pairs) if pairs else (None, 0)


def _same(both: pd.DataFrame) -> Estimate | None:
    known = both.dropna(subset=["correctness_grade_people", "correctness_grade_judge"])
    if known.empty:
        return None
    same = (known["correctness_grade_people"] >= 0.5) == (known["correctness_grade_judge"] >= 0.5)
    return share_of(same.astype(float).groupby(level="prompt_id").mean())


def _arm_means(people: pd.DataFrame, judge: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Arm, people's mean alignment grade, the judge's over the same answers."""
    out = []
    for arm in ARMS:
        own = people[people.index.get_level_values("arm") == arm]["alignment_grade"].dropna()
        if len(own):
            judged = judge["alignment_grade"].reindex(own.index).dropna()
            out.append((label(arm), f"{own.mean():.2f}", f"{judged.mean():.2f}" if len(judged) else ""))
    return out
