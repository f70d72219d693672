"""Which arm does the judge prefer, prompt by prompt: wins, ties, the win rate, and the win rate at equal length.

Judges, and people, like longer answers: always preferring the longer one agrees with people on 62% of AlpacaEval's
pairs, near what good judges reach. So beside the win rate stands the one that the same data predict for answers of
equal length, after AlpacaEval's length-controlled win rate (arXiv 2404.04475), for two arms and without its term for
the difficulty of the instruction:

    logit p(a wins) = theta + phi * tanh((length_a - length_b) / sd)

with `sd` the standard deviation of the length differences (in characters), fitted by logistic regression, ties counting
half; the number reported is sigmoid(theta).

Training seeds are a level of their own. Arms meet seed by seed, each such meeting has a row, and one row pools them: its
intervals are about the methods, and hold what another training would have changed (`statistics.share_over_seeds`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, cycle, islice
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlaif_dagster.evaluation.duels import Duel, Judged, judge_duels
from rlaif_dagster.judging.verdicts import Judge
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Judging
from rlaif_dagster.statistics import (
    Z95,
    Crossed,
    Estimate,
    logistic_regression,
    share_over_seeds,
    wilson,
    win_rate_interval,
)

ARMS = ("base", "sft", "dpo", "ppo")
COLUMNS = [
    "arm_a", "arm_b", "seed_a", "seed_b", "wins_a", "wins_b", "ties", "win_rate", "ci_low", "ci_high", "seed_share",
    "length_controlled_win_rate", "length_controlled_low", "length_controlled_high", "n", "unjudged", "errors",
    "order_consistent", "format_n", "format_agreement",
]  # fmt: skip
RATES = (
    "win_rate", "ci_low", "ci_high", "seed_share", "length_controlled_win_rate", "length_controlled_low",
    "length_controlled_high", "order_consistent", "format_agreement",
)  # fmt: skip
FAR = 64.0  # in theta: no interval reaches further
RIDGE = (1e-3, 1.0)  # on theta, barely, so that it stays finite; on phi, a prior of one unit of log-odds


class Meeting(NamedTuple):
    """Answers of two policies to one prompt; unpacks as seeds, prompt and texts."""

    seed_a: int
    seed_b: int
    prompt_id: str
    a: str
    b: str


@dataclass(frozen=True)
class Fought:
    """A meeting before the judge: the duel, what came of it, and the outcome for a (None where no verdict came)."""

    meeting: Meeting
    duel: Duel
    judged: Judged
    outcome: float | None


def head_to_head(
    responses: pd.DataFrame, prompts: pd.DataFrame, constitution: Constitution, recipe: Judging, judge: Judge
) -> pd.DataFrame:
    """The table `head_to_head`: every two arms on the greedy answers to the eval prompts, the later arm (dpo against
    base) first; a row that pools all their seeds (seed_a and seed_b are null), then one for each two seeds that met.

    Arms with several seeds meet seed by seed, a single one (base) meeting each; an answer counts as a win when its
    probability exceeds the tie margin, identical answers tie unasked, and meetings whose verdicts all failed count for
    nobody and are counted. Where all failed, the rates are null. Intervals are over prompts and, where a row pools
    several seeds, over these.
    """
    asked = prompts[prompts["split"] == "eval"]
    questions = dict(zip(asked["prompt_id"], asked["text"], strict=True))
    greedy = responses[(responses["decoding"] == "greedy") & responses["prompt_id"].isin(list(questions))]
    met = {(a, b): own for b, a in combinations(_arms(greedy), 2) if (own := meetings(greedy, a, b))}
    duels = [Duel(one.prompt_id, questions[one.prompt_id], one.a, one.b) for own in met.values() for one in own]
    found = iter(zip(duels, judge_duels(duels, constitution, recipe, judge, progress="head to head"), strict=True))
    rows: list[list[object]] = []
    for (a, b), own in met.items():
        fought = [
            Fought(one, duel, judged, None if judged.p is None else outcome(judged.p, recipe.tie_margin))
            for one, (duel, judged) in zip(own, islice(found, len(own)), strict=True)
        ]
        rows.append([a, b, None, None, *_row(fought, constitution)])
        for seeds in dict.fromkeys(one[:2] for one in own):
            rows.append([a, b, *seeds, *_row([one for one in fought if one.meeting[:2] == seeds], constitution)])
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype(dict.fromkeys(RATES, "float64") | dict.fromkeys(("seed_a", "seed_b"), "Int64"))


def pooled(head_to_head: pd.DataFrame) -> pd.DataFrame:
    """The rows about two arms with all their seeds, one a pair."""
    return head_to_head[head_to_head["seed_a"].isna()]


def complete(head_to_head: pd.DataFrame) -> bool:
    """Whether every verdict could be had: a table with errors may come out otherwise when it is made again."""
    return not head_to_head["errors"].astype(int).any()


def _arms(responses: pd.DataFrame) -> list[str]:
    present = set(responses["arm"])
    return [arm for arm in ARMS if arm in present] + sorted(present - set(ARMS))


def meetings(responses: pd.DataFrame, a: str, b: str) -> list[Meeting]:
    """Every prompt that both answered, seed by seed; the arm with fewer seeds starts over."""
    first, second = _by_seed(responses, a), _by_seed(responses, b)
    if not first or not second:
        return []
    times = max(len(first), len(second))
    both = zip(islice(cycle(first.items()), times), islice(cycle(second.items()), times), strict=True)
    return [
        Meeting(seed_a, seed_b, prompt_id, of_a[prompt_id], of_b[prompt_id])
        for (seed_a, of_a), (seed_b, of_b) in both
        for prompt_id in sorted(of_a.keys() & of_b.keys())
    ]


def _by_seed(responses: pd.DataFrame, arm: str) -> dict[int, dict[str, str]]:
    own = responses[responses["arm"] == arm]
    return {
        int(seed): dict(zip(rows["prompt_id"], rows["text"], strict=True))
        for seed, rows in own.groupby("seed", sort=True)
    }


def _row(fought: Sequence[Fought], constitution: Constitution) -> list[object]:
    """The columns after the arms' names and their seeds."""
    decided = [one for one in fought if one.outcome is not None]
    outcomes = np.array([one.outcome for one in decided], dtype=float)
    ordered = [one.judged.consistent for one in fought if one.judged.consistent is not None]
    return [
        *(int((outcomes == kind).sum()) for kind in (1, 0, 0.5)), *(_rates(decided) if decided else [None] * 7),
        len({one.meeting.prompt_id for one in decided}), len(fought) - len(decided), sum(one.judged.error for one in fought),
        sum(ordered) / len(ordered) if ordered else None, *_agreement(decided, constitution),
    ]  # fmt: skip


def _rates(decided: Sequence[Fought]) -> list[float | None]:
    """Win rate with its interval and the seeds' share in it, and the win rate at equal length with its own."""
    outcomes = np.array([one.outcome for one in decided], dtype=float)
    lengths = np.array([len(one.duel.a) - len(one.duel.b) for one in decided], dtype=float)
    prompts = [one.meeting.prompt_id for one in decided]
    times = Counter(prompts)
    counts = np.array([1 / times[prompt] for prompt in prompts])
    value, crossed = float(outcomes.mean()), _crossed(decided)
    if crossed is None:
        _, low, high = win_rate_interval(pd.Series(outcomes).groupby(prompts).mean().to_numpy())
        return [value, low, high, None, *length_controlled(outcomes, lengths, counts)]
    low, high = min(value, crossed.low), max(value, crossed.high)
    controlled = length_controlled(outcomes, lengths, counts * _discount(crossed))
    return [value, low, high, crossed.seed_share, *controlled]


def _crossed(decided: Sequence[Fought]) -> Crossed | None:
    """The win rate over prompts and seeds; None where one seed met one seed, or fewer than two prompts were decided by all.

    A level of the seeds is a seed of the arm that has fewer of them (of the other one, where that is a single seed): what
    two levels hold was trained apart, so that they are independent, although a seed may have met two others.
    """
    seeds = [{one.meeting[side] for one in decided} for side in (0, 1)]
    if max(map(len, seeds)) == 1:
        return None
    side = min((0, 1), key=lambda side: (len(seeds[side]) == 1, len(seeds[side])))
    frame = pd.DataFrame(
        [(one.meeting[side], one.meeting.prompt_id, one.outcome) for one in decided], columns=["seed", "prompt", "outcome"]
    )  # fmt: skip
    table = frame.pivot_table("outcome", index="seed", columns="prompt").dropna(axis=1)
    return share_over_seeds(table.to_numpy()) if table.shape[1] > 1 else None


def _discount(crossed: Crossed) -> float:
    """How much less a meeting says about two methods than about two policies: the share of the plain win rate's variance
    that is not the seeds', over what the interval reaches further than a normal one."""
    return max(1e-3, (1 - (crossed.seed_share or 0.0)) * (Z95 / crossed.reach) ** 2)


def _agreement(decided: Sequence[Fought], constitution: Constitution) -> tuple[int, float | None]:
    """Meetings of which exactly one answer has the format, and the share in which the judge prefers that one."""
    if constitution.format is None:
        return 0, None
    check = constitution.format.missing
    adherent = [(check(one.duel.a) is None, check(one.duel.b) is None, one.outcome or 0.0) for one in decided]
    agreed = [won if a else 1 - won for a, b, won in adherent if a != b]
    return len(agreed), sum(agreed) / len(agreed) if agreed else None


def outcome(p: float, tie_margin: float) -> float:
    """1 for a win, 0 for a loss, 0.5 for a tie: a probability within `tie_margin` of even, `|2p - 1| <= tie_margin`."""
    if abs(2 * p - 1) <= tie_margin:
        return 0.5
    return 1.0 if p > 0.5 else 0.0


def length_controlled(outcomes: np.ndarray, differences: np.ndarray, weights: np.ndarray | None = None) -> Estimate:
    """Win rate at equal length with its 95% interval, from outcomes [n] in 0..1, length differences [n] (a minus b, any
    unit) and what each meeting counts (one over its prompt's meetings, so that seeds do not pass for prompts).

    The interval is that of the profile likelihood: the thetas for which the best phi leaves the log-likelihood within
    z^2 / 2 of its maximum. It has a width where one side always wins. Where all differences are the same, length and arm
    cannot be told apart, and the plain win rate is returned.
    """
    counts = np.ones(len(outcomes)) if weights is None else weights
    spread = differences.std()
    if spread == 0:
        mean = float(np.average(outcomes, weights=counts))
        return Estimate(mean, *wilson(mean * counts.sum(), counts.sum()))
    length = np.tanh(differences / spread)
    design = np.column_stack([np.ones(len(outcomes)), length])
    theta, phi = logistic_regression(design, outcomes, ridge=np.array(RIDGE))
    most = _profile(theta, phi, length, outcomes, counts)

    def bound(sign: int) -> float:
        inside, outside = 0.0, 1.0
        while outside < FAR and most - _profile(theta + sign * outside, phi, length, outcomes, counts) < Z95**2 / 2:
            inside, outside = outside, 2 * outside
        for _ in range(40):
            middle = (inside + outside) / 2
            within = most - _profile(theta + sign * middle, phi, length, outcomes, counts) < Z95**2 / 2
            inside, outside = (middle, outside) if within else (inside, middle)
        return float(1 / (1 + np.exp(-(theta + sign * outside))))

    return Estimate(float(1 / (1 + np.exp(-theta))), bound(-1), bound(1))


def _profile(theta: float, phi: float, length: np.ndarray, outcomes: np.ndarray, counts: np.ndarray) -> float:
    """The log-likelihood at `theta` with the best phi, found by Newton's method from the one given."""
    for _ in range(50):
        p = 1 / (1 + np.exp(-(theta + phi * length)))
        gradient = (counts * (outcomes - p) * length).sum() - RIDGE[1] * phi
        step = gradient / ((counts * p * (1 - p) * length**2).sum() + RIDGE[1])
        phi += float(np.clip(step, -2, 2))
        if abs(step) < 1e-9:
            break
    logits = theta + phi * length
    return float((counts * (outcomes * logits - np.logaddexp(0, logits))).sum() - RIDGE[1] / 2 * phi**2)
