"""How far the judge's grades of the qualitative answers agree with people's.

Two questions, because a judge may rank well and yet grade on another scale:

    preference   of two arms' answers to one prompt that people grade differently, does the judge prefer the same one?
                 A tie of the judge counts half. The mean a prompt, then over prompts with an interval over them: the
                 pairs of one prompt share their answers and are not independent. Chance is one half.
    level        mean absolute difference of the grades (0 to 1), and Cohen's kappa of good against bad, cut at one half

Several people's grades of one answer are averaged first. The report tells the same numbers.
"""

from __future__ import annotations

from itertools import combinations

import pandas as pd

from rlaif_dagster.statistics import Estimate, bootstrap_mean, wilson

KINDS = ("alignment", "correctness")
COLUMNS = [
    "kind", "judge", "people", "answers", "mean_difference", "difference_low", "difference_high", "kappa", "preferences",
    "accuracy", "ci_low", "ci_high",
]  # fmt: skip


def agreement_with_people(qualitative: pd.DataFrame, judge: str | None = None) -> pd.DataFrame:
    """One row a kind of grade that both the judge and people gave; no rows where people graded nothing.

    `qualitative` is the table of that name. The judge is the grader of most rows unless it is named. `answers` are those
    graded by both, `people` the graders among people, `preferences` the pairs of arms' answers that people tell apart.
    """
    if qualitative.empty:
        return pd.DataFrame(columns=COLUMNS)
    judge = judge or str(qualitative["grader"].value_counts().idxmax())
    by_judge = qualitative[qualitative["grader"] == judge]
    by_people = qualitative[qualitative["grader"] != judge]
    rows = []
    for kind in KINDS:
        column, key = f"{kind}_grade", ["prompt_id", "arm", "seed"]
        both = pd.concat(
            {
                "judge": by_judge.dropna(subset=column).groupby(key)[column].mean(),
                "people": by_people.dropna(subset=column).groupby(key)[column].mean(),
            },
            axis=1,
        ).dropna()
        if len(both):
            graders = by_people.loc[by_people[column].notna(), "grader"].nunique()
            rows.append([kind, judge, graders, len(both), *_levels(both), *_preferences(both)])
    return pd.DataFrame(rows, columns=COLUMNS)


def _levels(both: pd.DataFrame) -> tuple[float, float, float, float | None]:
    difference = bootstrap_mean((both["judge"] - both["people"]).abs().to_numpy())
    judge, people = both["judge"] >= 0.5, both["people"] >= 0.5
    observed = float((judge == people).mean())
    chance = float(judge.mean() * people.mean() + (1 - judge.mean()) * (1 - people.mean()))
    return *difference, None if chance == 1 else (observed - chance) / (1 - chance)


def agreed_by_prompt(both: pd.DataFrame) -> tuple[pd.Series, int]:
    """For every prompt with answers that people tell apart, the share of those pairs that the judge puts in the same order,
    and how many pairs they are together. `both` has the columns judge and people and an index level prompt_id."""
    shares: dict[str, float] = {}
    pairs = 0
    for prompt_id, own in both.groupby(level="prompt_id"):
        agreed = []
        for (judge_a, people_a), (judge_b, people_b) in combinations(own[["judge", "people"]].to_numpy().tolist(), 2):
            if people_a != people_b:
                said = (judge_a > judge_b) - (judge_a < judge_b)
                agreed.append(0.5 if said == 0 else float((said > 0) == (people_a > people_b)))
        if agreed:
            shares[str(prompt_id)] = sum(agreed) / len(agreed)
            pairs += len(agreed)
    return pd.Series(shares, dtype=float), pairs


def over_prompts(shares: pd.Series) -> Estimate:
    """Their mean with its interval: Wilson's for plain yes and no, or where all prompts came out alike, else a bootstrap's."""
    values = shares.to_numpy()
    if shares.isin([0.0, 1.0]).all() or shares.nunique() == 1:
        return Estimate(float(values.mean()), *wilson(float(values.sum()), len(values)))
    return bootstrap_mean(values)


def _preferences(both: pd.DataFrame) -> tuple[int, float | None, float | None, float | None]:
    """Pairs told apart by people, and the judge's share of agreement with its interval."""
    shares, pairs = agreed_by_prompt(both)
    return (pairs, *over_prompts(shares)) if pairs else (0, None, None, None)
