"""Which arm does the judge prefer, prompt by prompt: wins, ties, the win rate, and the win rate at equal length.

Judges, and people, like longer answers: always preferring the longer one agrees with people on 62% of AlpacaEval's
pairs, near what good judges reach. So beside the win rate stands the one that the same data predict for answers of
equal length, after AlpacaEval's length-controlled win rate (arXiv 2404.04475), for two arms and without its term for
the difficulty of the instruction:

    logit p(a wins) = theta + phi * tanh((length_a - length_b) / sd)

with `sd` the standard deviation of the length differences (in characters), fitted by logistic regression, ties counting
half; the number reported is sigmoid(theta).
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations, cycle, islice

import numpy as np
import pandas as pd

from rlaif_dagster.evaluation.duels import Duel, Judged, judge_duels
from rlaif_dagster.judging.verdicts import Judge
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Judging
from rlaif_dagster.statistics import Z95, Estimate, logistic_regression, wilson, win_rate_interval

ARMS = ("base", "sft", "dpo", "ppo")
COLUMNS = [
    "arm_a", "arm_b", "wins_a", "wins_b", "ties", "win_rate", "ci_low", "ci_high", "length_controlled_win_rate",
    "length_controlled_low", "length_controlled_high", "n", "unjudged", "errors", "order_consistent", "format_n",
    "format_agreement",
]  # fmt: skip
COUNTS = ("n", "unjudged", "errors", "format_n")
FAR = 64.0  # in theta: no interval reaches further
RIDGE = (1e-3, 1.0)  # on theta, barely, so that it stays finite; on phi, a prior of one unit of log-odds


def head_to_head(
    responses: pd.DataFrame, prompts: pd.DataFrame, constitution: Constitution, recipe: Judging, judge: Judge
) -> pd.DataFrame:
    """The table `head_to_head`: every two arms on the greedy answers to the eval prompts, the later arm (dpo against
    base) first.

    Arms with several seeds meet seed by seed, a single one (base) meeting each; an answer counts as a win when its
    probability exceeds the tie margin, identical answers tie unasked, and meetings whose verdicts all failed count for
    nobody and are counted. Where all failed, the rates are null. The interval is over prompts.
    """
    asked = prompts[prompts["split"] == "eval"]
    questions = dict(zip(asked["prompt_id"], asked["text"], strict=True))
    greedy = responses[(responses["decoding"] == "greedy") & responses["prompt_id"].isin(list(questions))]
    duels = {
        (a, b): [Duel(prompt_id, questions[prompt_id], text_a, text_b) for prompt_id, text_a, text_b in met]
        for b, a in combinations(_arms(greedy), 2)
        if (met := meetings(greedy, a, b))
    }
    every = [duel for own in duels.values() for duel in own]
    found = iter(judge_duels(every, constitution, recipe, judge, progress="head to head"))
    rows = [
        [a, b, *_row(own, list(islice(found, len(own))), recipe.tie_margin, constitution)]
        for (a, b), own in duels.items()
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    rates = [column for column in COLUMNS[5:] if column not in COUNTS]
    return frame.astype(dict.fromkeys(rates, "float64"))


def complete(head_to_head: pd.DataFrame) -> bool:
    """Whether every verdict could be had: a table with errors may come out otherwise when it is made again."""
    return not head_to_head["errors"].astype(int).any()


def _arms(responses: pd.DataFrame) -> list[str]:
    present = set(responses["arm"])
    return [arm for arm in ARMS if arm in present] + sorted(present - set(ARMS))


def meetings(responses: pd.DataFrame, a: str, b: str) -> list[tuple[str, str, str]]:
    """(prompt, answer of a, answer of b) for every prompt that both answered, seed by seed; the arm with fewer seeds
    starts over."""
    first, second = _by_seed(responses, a), _by_seed(responses, b)
    if not first or not second:
        return []
    times = max(len(first), len(second))
    both = zip(islice(cycle(first), times), islice(cycle(second), times), strict=True)
    return [
        (prompt_id, of_a[prompt_id], of_b[prompt_id])
        for of_a, of_b in both
        for prompt_id in sorted(of_a.keys() & of_b.keys())
    ]


def _by_seed(responses: pd.DataFrame, arm: str) -> list[dict[str, str]]:
    own = responses[responses["arm"] == arm]
    return [dict(zip(rows["prompt_id"], rows["text"], strict=True)) for _, rows in own.groupby("seed", sort=True)]


def _row(duels: list[Duel], found: list[Judged], tie_margin: float, constitution: Constitution) -> list[float | None]:
    """The columns after the arms' names."""
    judged = [(duel, one.p) for duel, one in zip(duels, found, strict=True) if one.p is not None]
    outcomes = np.array([outcome(p, tie_margin) for _, p in judged])
    by_prompt = pd.Series(outcomes, dtype=float).groupby([duel.prompt_id for duel, _ in judged]).mean()
    lengths = np.array([len(duel.a) - len(duel.b) for duel, _ in judged], dtype=float)
    rates: list[float | None] = [None] * 6
    if judged:
        interval = win_rate_interval(by_prompt.to_numpy())
        meetings_of = Counter(duel.prompt_id for duel, _ in judged)
        counts = np.array([1 / meetings_of[duel.prompt_id] for duel, _ in judged])
        rates = [float(outcomes.mean()), interval.low, interval.high, *length_controlled(outcomes, lengths, counts)]
    ordered = [one.consistent for one in found if one.consistent is not None]
    format_n, format_agreement = _agreement(judged, tie_margin, constitution)
    return [
        *(int((outcomes == kind).sum()) for kind in (1, 0, 0.5)), *rates, len(by_prompt),
        len(found) - len(judged), sum(one.error for one in found),
        sum(ordered) / len(ordered) if ordered else None, format_n, format_agreement,
    ]  # fmt: skip


def _agreement(
    judged: list[tuple[Duel, float]], tie_margin: float, constitution: Constitution
) -> tuple[int, float | None]:
    """Meetings of which exactly one answer has the format, and the share in which the judge prefers that one."""
    if constitution.format is None:
        return 0, None
    check = constitution.format.missing
    adherent = [(check(duel.a) is None, check(duel.b) is None, outcome(p, tie_margin)) for duel, p in judged]
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
