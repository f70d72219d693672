"""Can the judge be trusted? Its preferences against people's, beside what always preferring the longer answer gets.

The longer answer agrees with people on 62% of AlpacaEval's pairs, so a judge's accuracy says little without that baseline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.aggregate import preferences
from rlaif_dagster.judging.judgments import orders_of
from rlaif_dagster.judging.labels import LabelledPair, read_labelled
from rlaif_dagster.judging.verdicts import Judge, Pair, make_pair, verdict_of
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.labels import LabelledPairs
from rlaif_dagster.spec.recipes import Judging
from rlaif_dagster.statistics import wilson

COLUMNS = ["dataset", "judge", "n", "accuracy", "ci_low", "ci_high", "kappa", "order_consistency", "longest_baseline"]


def agreement(
    constitution_name: str,
    constitution: Constitution,
    labelled: Mapping[str, LabelledPairs],
    folder: Path,
    recipe: Judging,
    judge: Judge,
) -> pd.DataFrame:
    """The table judge_agreement, without its key: a row for every file of labels that speaks for this constitution.

    Accuracy counts a tie as half a hit, and a pair without a verdict as a miss. Raises UserError when a file of labels is
    wrong and when the judge's budget is spent.
    """
    files = {
        name: read_labelled(spec, folder) for name, spec in labelled.items() if constitution_name in spec.constitutions
    }
    pairs = {pair.pair_id: pair for rows in files.values() for pair in map(pair_of, rows)}
    if not pairs:
        return pd.DataFrame(columns=COLUMNS)
    verdicts = judge.judge(
        list(pairs.values()),
        constitution,
        orders_of(recipe),
        mode=recipe.mode,
        budget_usd=recipe.budget_usd,
        progress=f"{judge.name}: labelled pairs",
    )
    known = preferences(verdicts, constitution).set_index("pair_id")
    rows = [[name, judge.name, *_row(rows, known, recipe.tie_margin)] for name, rows in files.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def pair_of(labelled: LabelledPair) -> Pair:
    """The pair as the judge is given it: content decides which answer is `a`, so a file that always lists the preferred
    answer first does not favour a judge that likes the first place."""
    prompt_id = content_hash(labelled.prompt)
    answers = [(content_hash(prompt_id, text), text) for text in (labelled.a, labelled.b)]
    return make_pair(prompt_id, labelled.prompt, answers[0], answers[1])


def _row(rows: Sequence[LabelledPair], known: pd.DataFrame, tie_margin: float) -> list[float | int | None]:
    """n, accuracy, its interval, kappa, order consistency, longest baseline."""
    truth, said, consistent = [], [], []
    for labelled in rows:
        pair = pair_of(labelled)
        preferred = labelled.a if labelled.preferred == "a" else labelled.b
        truth.append("a" if preferred == pair.a else "b")
        p_a = known["p_a"].get(pair.pair_id)
        said.append("none" if p_a is None or pd.isna(p_a) else verdict_of(float(p_a), tie_margin))
        consistent.append(known["order_consistent"].get(pair.pair_id))
    hits = sum(credit(t, s) for t, s in zip(truth, said, strict=True))
    asked = [bool(c) for c in consistent if c is not None and not pd.isna(c)]
    return [
        len(rows),
        hits / len(rows),
        *wilson(hits, len(rows)),
        kappa(truth, said),
        sum(asked) / len(asked) if asked else None,
        sum(longest(labelled) for labelled in rows) / len(rows),
    ]


def credit(truth: str, said: str) -> float:
    """1 for the same preference, 1/2 for a tie, 0 for the other one or none."""
    return 0.5 if said == "tie" else float(truth == said)


def longest(labelled: LabelledPair) -> float:
    """What always preferring the answer with more characters gets on this pair; 1/2 at equal length."""
    if len(labelled.a) == len(labelled.b):
        return 0.5
    return float((len(labelled.a) > len(labelled.b)) == (labelled.preferred == "a"))


def kappa(truth: Sequence[str], said: Sequence[str]) -> float | None:
    """Cohen's kappa (1960): agreement beyond what the two distributions of labels would give by chance. Ties and missing verdicts
    are labels of their own, which never agree. None where chance alone agrees always."""
    n = len(truth)
    observed = sum(t == s for t, s in zip(truth, said, strict=True)) / n
    first, second = Counter(truth), Counter(said)
    chance = sum(first[label] * second[label] for label in first) / n**2
    return None if chance == 1 else (observed - chance) / (1 - chance)
