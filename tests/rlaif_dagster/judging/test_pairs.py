from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from rlaif_dagster.judging.pairs import COLUMNS, build_pairs
from rlaif_dagster.judging.verdicts import Judgment, judgments_frame
from rlaif_dagster.spec.recipes import PairBuilding
from tests.rlaif_dagster.judging.conftest import constitution

LAW = constitution("Be kind to people.")


def judged(*rows: tuple[str, str, str, float | None], order: str = "none") -> pd.DataFrame:
    """Rows of (prompt, a, b, p(a)); None is a refusal."""
    return judgments_frame([
        Judgment(f"{a}{b}", prompt, a, b, "p0", order, "refused" if p is None else "a", p, "", "j", "v", 1, 1, 0.0, 0.0, False)  # type: ignore[arg-type]
        for prompt, a, b, p in rows
    ])  # fmt: skip


def build(judgments: pd.DataFrame, **recipe: Any) -> pd.DataFrame:
    ids = sorted({*judgments["a_id"], *judgments["b_id"]})
    candidates = pd.DataFrame({"completion_id": ids, "text": [f"text of {i}" for i in ids]})
    prompt_ids = sorted(set(judgments["prompt_id"]))
    prompts = pd.DataFrame({"prompt_id": prompt_ids, "text": [f"prompt {i}" for i in prompt_ids]})
    return build_pairs(judgments, candidates, prompts, LAW, PairBuilding(**recipe))


def brief(pairs: pd.DataFrame) -> list[tuple[str, str, float]]:
    return [
        (c, r, round(p, 6)) for c, r, p in zip(pairs["chosen_id"], pairs["rejected_id"], pairs["p_chosen"], strict=True)
    ]


def test_the_winner_is_chosen_on_either_side() -> None:
    pairs = build(judged(("1", "w", "l", 0.9), ("2", "x", "y", 0.2)))
    assert brief(pairs) == [("w", "l", 0.9), ("y", "x", 0.8)]
    assert pairs["margin"].tolist() == pytest.approx([0.8, 0.6])
    assert pairs[["prompt", "chosen", "rejected"]].iloc[1].tolist() == ["prompt 2", "text of y", "text of x"]
    assert list(pairs.columns) == COLUMNS


def test_best_against_worst_by_the_mean_probability_of_winning() -> None:
    # means: u (0.7 + 0.9) / 2 = 0.8, v (0.3 + 0.8) / 2 = 0.55, w (0.1 + 0.2) / 2 = 0.15
    rows = judged(("1", "u", "v", 0.7), ("1", "u", "w", 0.9), ("1", "v", "w", 0.8))
    assert brief(build(rows)) == [("u", "w", 0.9)]
    assert len(build(rows, pairs_per_prompt="all")) == 3


def test_where_best_and_worst_have_no_verdict_the_next_pair_stands_in() -> None:
    # means: u 0.7, v (0.3 + 0.8) / 2 = 0.55, w 0.2: v and w lie 0.35 apart, u and v 0.15
    rows = judged(("1", "u", "v", 0.7), ("1", "u", "w", None), ("1", "v", "w", 0.8))
    assert brief(build(rows)) == [("v", "w", 0.8)]


def test_a_pair_within_the_margin_is_a_tie() -> None:
    rows = judged(("1", "u", "v", 0.54), ("2", "x", "y", 0.375), ("3", "m", "n", 0.5))
    assert build(rows, min_margin=0.25)["chosen_id"].tolist() == ["y"]  # |2 * 0.375 - 1| is 0.25: not below the margin
    kept = build(rows, min_margin=0.25, ties="keep")
    assert brief(kept) == [("u", "v", 0.5), ("y", "x", 0.625), ("m", "n", 0.5)]
    assert kept["margin"].tolist() == [0, 0.25, 0]


def test_an_exact_tie_is_a_tie_without_any_margin() -> None:
    rows = judged(("1", "u", "v", 0.5))
    assert build(rows, min_margin=0).empty
    assert brief(build(rows, min_margin=0, ties="keep")) == [("u", "v", 0.5)]


def test_pairs_that_the_order_decides_can_be_required_out() -> None:
    flips = pd.concat([judged(("1", "u", "v", 1.0), order="ab"), judged(("1", "u", "v", 0.2), order="ba")])
    stands = pd.concat([judged(("2", "x", "y", 1.0), order="ab"), judged(("2", "x", "y", 0.8), order="ba")])
    both = pd.concat([flips, stands], ignore_index=True)
    assert brief(build(both)) == [("u", "v", 0.6), ("x", "y", 0.9)]
    strict = build(both, require_order_consistent=True)
    assert brief(strict) == [("x", "y", 0.9)]
    assert strict["order_consistent"].tolist() == [True]


def test_a_judge_without_orders_is_not_required_out() -> None:
    pairs = build(judged(("1", "u", "v", 0.9)), require_order_consistent=True)
    assert brief(pairs) == [("u", "v", 0.9)]
    assert pairs["order_consistent"].isna().all()


def test_refused_pairs_are_no_pairs() -> None:
    assert build(judged(("1", "u", "v", None))).empty


def test_the_split_is_the_prompts_and_stays_when_prompts_are_added() -> None:
    rows = [(str(n), f"{n}u", f"{n}v", 0.9) for n in range(400)] + [(str(n), f"{n}u", f"{n}w", 0.8) for n in range(400)]
    every = build(judged(*rows), pairs_per_prompt="all", held_out_share=0.2)
    by_prompt = every.groupby("prompt_id")["split"].unique()
    assert {len(split) for split in by_prompt} == {1}
    assert 0.14 < (every["split"] == "held_out").mean() < 0.26  # three standard deviations around 0.2
    few = build(judged(*rows[:50]), pairs_per_prompt="all", held_out_share=0.2)
    split = dict(zip(every["prompt_id"], every["split"], strict=True))
    assert few["split"].tolist() == [split[prompt] for prompt in few["prompt_id"]]
