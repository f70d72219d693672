"""Can the judge be trusted? Its preferences against people's, beside what always preferring the longer answer gets.

The longer answer agrees with people on 62% of AlpacaEval's pairs, so a judge's accuracy says little without that baseline.
A judge that likes a place shows it in two numbers: how often both orders say the same, and how often the answer shown first
wins (half the time, for a judge that reads). Every number is given for a whole file of labels, and again for each of
its principles and categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.aggregate import preferences
from rlaif_dagster.judging.judgments import orders_of
from rlaif_dagster.judging.labels import LabelledPair, read_labelled
from rlaif_dagster.judging.verdicts import FAILED, Judge, Pair, make_pair, verdict_of
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.labels import LabelledPairs
from rlaif_dagster.spec.recipes import Judging
from rlaif_dagster.statistics import wilson

COLUMNS = [
    "dataset", "slice", "name", "judge", "n", "accuracy", "ci_low", "ci_high", "kappa", "order_consistency",
    "first_position", "failed", "errors", "longest_baseline",
]  # fmt: skip
WHOLE = "all"  # the slice that is a whole file
Slice = tuple[str, str | None, list[LabelledPair], Constitution]  # kind, name, pairs, principles that count


def agreement(
    constitution_name: str,
    constitution: Constitution,
    labelled: Mapping[str, LabelledPairs],
    folder: Path,
    recipe: Judging,
    judge: Judge,
) -> pd.DataFrame:
    """The table judge_agreement, without its key: for every file of labels that speaks for this constitution one row for
    the whole file, one a principle and one a category (where there are several).

    Accuracy counts a tie as half a hit, and a pair without a verdict as a miss. Raises UserError when a file of labels is
    wrong and when the judge's budget is spent.
    """
    files = labelled_for(constitution_name, labelled, folder)
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
    rows = [
        [dataset, kind, name, judge.name, *_row(own, counted, verdicts, recipe.tie_margin)]
        for dataset, labels in files.items()
        for kind, name, own, counted in _slices(labels, constitution, verdicts)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def labelled_for(
    constitution_name: str, labelled: Mapping[str, LabelledPairs], folder: Path
) -> dict[str, list[LabelledPair]]:
    """The labelled pairs that speak for a constitution, by file."""
    return {
        name: read_labelled(spec, folder) for name, spec in labelled.items() if constitution_name in spec.constitutions
    }


def _slices(labels: list[LabelledPair], constitution: Constitution, verdicts: pd.DataFrame) -> Iterator[Slice]:
    """The whole file, its principles (over the pairs that were judged by them) and its categories."""
    yield WHOLE, None, labels, constitution
    if len(constitution.principles) > 1:
        for principle in constitution.principles:
            judged = set(verdicts.loc[verdicts["principle_id"] == principle.id, "pair_id"])
            own = [one for one in labels if pair_of(one).pair_id in judged]
            if own:
                yield "principle", principle.id, own, constitution.model_copy(update={"principles": (principle,)})
    categories = sorted({one.category for one in labels if one.category is not None})
    if len(categories) > 1:
        for category in categories:
            yield "category", category, [one for one in labels if one.category == category], constitution


def pair_of(labelled: LabelledPair) -> Pair:
    """The pair as the judge is given it: content decides which answer is `a`, so a file that always lists the preferred
    answer first does not favour a judge that likes the first place."""
    prompt_id = content_hash(labelled.prompt)
    answers = [(content_hash(prompt_id, text), text) for text in (labelled.a, labelled.b)]
    return make_pair(prompt_id, labelled.prompt, answers[0], answers[1])


def _row(
    labels: Sequence[LabelledPair], counted: Constitution, verdicts: pd.DataFrame, tie_margin: float
) -> list[float | int | None]:
    """n, accuracy, its interval, kappa, order consistency, first place's share, failed share, errors, longest baseline."""
    pairs = [pair_of(labelled) for labelled in labels]
    own = verdicts[
        verdicts["pair_id"].isin([pair.pair_id for pair in pairs])
        & verdicts["principle_id"].isin([principle.id for principle in counted.principles])
    ]
    known = preferences(own, counted).set_index("pair_id")
    truth, said, consistent = [], [], []
    for labelled, pair in zip(labels, pairs, strict=True):
        preferred = labelled.a if labelled.preferred == "a" else labelled.b
        truth.append("a" if preferred == pair.a else "b")
        p_a = known["p_a"].get(pair.pair_id)
        said.append("none" if p_a is None or pd.isna(p_a) else verdict_of(float(p_a), tie_margin))
        consistent.append(known["order_consistent"].get(pair.pair_id))
    hits = sum(credit(t, s) for t, s in zip(truth, said, strict=True))
    asked = [bool(c) for c in consistent if c is not None and not pd.isna(c)]
    return [
        len(labels),
        hits / len(labels),
        *wilson(hits, len(labels)),
        kappa(truth, said),
        sum(asked) / len(asked) if asked else None,
        first_position(own),
        float(own["verdict"].isin(FAILED).mean()),
        int((own["verdict"] == "error").sum()),
        sum(longest(labelled) for labelled in labels) / len(labels),
    ]


def first_position(verdicts: pd.DataFrame) -> float | None:
    """Share of the answer shown first among verdicts for one of two answers: one half for a judge that reads, 1 for one
    that always says A. None for a judge that scores answers one by one."""
    chosen = verdicts[verdicts["verdict"].isin(["a", "b"]) & verdicts["order"].isin(["ab", "ba"])]
    if chosen.empty:
        return None
    return float(((chosen["verdict"] == "a") == (chosen["order"] == "ab")).mean())


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
