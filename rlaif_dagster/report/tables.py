"""What the page's tables hold, as plain values: the template only lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rlaif_dagster.report.arms import ARMS, in_order, label
from rlaif_dagster.report.estimate import Estimate, percent
from rlaif_dagster.report.evidence import Evidence, Measure, level, scores_by_arm, table
from rlaif_dagster.spec.labels import is_human

PAIRS = (("sft", "base"), ("dpo", "base"), ("ppo", "base"), ("dpo", "sft"), ("ppo", "sft"), ("dpo", "ppo"))


@dataclass(frozen=True)
class Cell:
    """One number of one arm: its text, its interval, and 1 or -1 where it is distinguishably above or below base."""

    text: str
    interval: str = ""
    sign: int = 0


@dataclass(frozen=True)
class Row:
    """One quantity over the four arms, under a group's heading. `good` says which direction is better, 0 where neither."""

    group: str
    name: str
    cells: tuple[Cell | None, ...]
    good: int = 1


@dataclass(frozen=True)
class Contest:
    """One cell of the win-rate matrix, from the row arm's side."""

    rate: float
    text: str
    interval: str
    counts: str
    controlled: str
    decided: bool
    controlled_interval: str = ""


def key_numbers(evidence: Evidence, tables: Mapping[str, pd.DataFrame]) -> list[Row]:
    """The four arms side by side: target, judge, suites, answers. A row without any number is left out."""
    rows = [_measure_row("Format", measure) for measure in evidence.adherence]
    rows += [_wins_row(evidence), _controlled_row(evidence)]
    groups = {"alignment": "Alignment benchmarks", "capability": "Capability benchmarks"}
    rows += [_measure_row(groups[suite.kind], suite) for suite in evidence.headlines]
    rows += [
        _grade_row(table(tables, "qualitative"), "alignment_grade", "alignment grade"),
        _grade_row(table(tables, "qualitative"), "correctness_grade", "correctness grade"),
        _length_row(table(tables, "responses")),
    ]
    return [row for row in rows if any(row.cells)]


def _measure_row(group: str, measure: Measure) -> Row:
    cells: list[Cell | None] = []
    for arm in ARMS:
        estimate = measure.estimates.get(arm)
        difference = measure.differences.get((arm, "base"))
        sign = difference.sign() if difference else 0
        cells.append(Cell(estimate.share, estimate.share_range, sign) if estimate else None)
    return Row(group, measure.name, tuple(cells))


def _wins_row(evidence: Evidence) -> Row:
    cells: list[Cell | None] = []
    for arm in ARMS:
        wins = evidence.wins.get((arm, "base"))
        cells.append(Cell(wins.rate.share, wins.rate.share_range, wins.rate.sign(0.5)) if wins else None)
    return Row("Judge, head to head", "win rate against base", tuple(cells))


def _controlled_row(evidence: Evidence) -> Row:
    cells: list[Cell | None] = []
    for arm in ARMS:
        wins = evidence.wins.get((arm, "base"))
        one = wins.controlled if wins else None
        cells.append(Cell(one.share, one.share_range, one.sign(0.5)) if one else None)
    return Row("Judge, head to head", "at equal length", tuple(cells))


def _grade_row(qualitative: pd.DataFrame, column: str, name: str) -> Row:
    """Mean grade of the judge (of people where only they graded) over the qualitative prompts."""
    by_judge = qualitative[~qualitative["grader"].map(is_human).astype(bool)]
    graded = by_judge if len(by_judge) else qualitative
    scores = scores_by_arm(graded, "prompt_id", column)
    cells: list[Cell | None] = []
    for arm in ARMS:
        if arm not in scores:
            cells.append(None)
            continue
        mean = level(scores[arm])
        cells.append(Cell(f"{mean.value:.2f}", f"{mean.low:.2f} to {mean.high:.2f}"))
    return Row("Qualitative prompts", name, tuple(cells))


def _length_row(responses: pd.DataFrame) -> Row:
    greedy = responses[responses["decoding"] == "greedy"]
    means = greedy.groupby("arm")["tokens"].mean() if len(greedy) else pd.Series(dtype=float)
    cells = [Cell(f"{means[arm]:.0f}") if arm in means.index else None for arm in ARMS]
    return Row("Answers", "mean length, tokens", tuple(cells), good=0)


def difference_rows(measures: Sequence[Measure]) -> list[tuple[str, list[Cell | None]]]:
    """Every paired difference in points, by measure and pair of arms of `PAIRS`."""
    out = []
    for measure in measures:
        found = [measure.differences.get(pair) for pair in PAIRS]
        if any(found):
            out.append((measure.name, [_points(one) if one else None for one in found]))
    return out


def _points(difference: Estimate) -> Cell:
    return Cell(difference.points.split(" ")[0], difference.points_range, difference.sign())


def pair_names() -> list[str]:
    """Headings of `difference_rows`."""
    return [f"{label(a)} \N{MINUS SIGN} {label(b)}" for a, b in PAIRS]


def win_matrix(evidence: Evidence) -> tuple[list[str], list[list[Contest | None]]]:
    """Arms, and one row an arm with its win rates against each; None on the diagonal and where nothing was compared."""
    arms = in_order({arm for pair in evidence.wins for arm in pair})
    return arms, [[_contest(evidence, a, b) for b in arms] for a in arms]


def _contest(evidence: Evidence, arm: str, other: str) -> Contest | None:
    wins = evidence.wins.get((arm, other))
    if wins is None:
        return None
    controlled, rate = wins.controlled, wins.rate
    return Contest(
        rate=rate.value, text=rate.share, interval=rate.share_range,
        counts=f"{wins.wins} won, {wins.losses} lost, {wins.ties} tied",
        controlled=controlled.share if controlled else "", decided=bool(rate.sign(0.5)),
        controlled_interval=controlled.share_range if controlled else "",
    )  # fmt: skip


def missing_parts(adherence: pd.DataFrame) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Which part of the format the greedy held-out answers lack first: arms, and rows of shares an arm."""
    rows = adherence[(adherence["split"] == "eval") & (adherence["decoding"] == "greedy")]
    arms = [arm for arm in ARMS if arm in set(rows["arm"])]
    reasons = rows["missing"].dropna()
    if reasons.empty:
        return arms, []
    totals = rows.groupby("arm").size()
    counts = rows.groupby(["missing", "arm"]).size()
    parts = sorted(set(reasons), key=lambda part: (-int((reasons == part).sum()), part))
    return arms, [
        (part, [percent(counts.get((part, arm), 0) / totals[arm]) for arm in arms]) for part in parts
    ]  # fmt: skip
