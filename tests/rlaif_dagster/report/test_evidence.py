from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rlaif_dagster.report.evidence import gather, paired, scores_by_arm
from rlaif_dagster.statistics import share_over_seeds


def adherence(rows: list[tuple[str, int, str, bool]], split: str = "eval") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["arm", "seed", "prompt_id", "adherent"])
    return frame.assign(split=split, decoding="greedy", missing=None, model="m", constitution="c")


def test_adherence_counts_held_out_prompts_with_wilsons_interval() -> None:
    rows = [("dpo", 0, f"p{i}", i < 3) for i in range(4)] + [("base", 0, f"p{i}", False) for i in range(4)]
    tables = {"adherence": pd.concat([adherence(rows), adherence([("dpo", 0, "q", False)], "qualitative")])}

    (measure,) = gather(tables).adherence

    dpo = measure.estimates["dpo"]
    assert (dpo.value, dpo.n) == (0.75, 4)
    # Wilson for 3 of 4: (0.75 + 1.96²/8 ± 1.96 sqrt(0.75·0.25/4 + 1.96²/64)) / (1 + 1.96²/4)
    assert (dpo.low, dpo.high) == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))
    assert measure.differences["dpo", "base"].value == 0.75
    assert measure.differences["base", "dpo"].value == -0.75
    assert measure.detail == "4 held-out prompts"


def test_seeds_are_averaged_by_prompt_and_do_not_add_prompts() -> None:
    rows = [("dpo", seed, f"p{i}", i < (3 if seed else 1)) for seed in (0, 1) for i in range(4)]
    evidence = gather({"adherence": adherence(rows)})
    dpo = evidence.adherence[0].estimates["dpo"]
    assert (dpo.value, dpo.n) == (0.5, 4)
    crossed = share_over_seeds(np.array([[1.0, 0, 0, 0], [1, 1, 1, 0]]))
    assert (dpo.low, dpo.high, dpo.seed_share) == (crossed.low, crossed.high, crossed.seed_share)
    assert 0 < dpo.low < 0.1
    assert 0.9 < dpo.high < 1
    assert evidence.seeds == {"dpo": 2}


def test_pairs_only_the_items_that_both_arms_have() -> None:
    scores = {
        "base": (np.array([[0.0, 0.0, 1.0]]), pd.Index(["a", "b", "c"])),
        "ppo": (np.array([[1.0, 1.0, 0.0]]), pd.Index(["b", "c", "d"])),
    }
    assert paired(scores)["ppo", "base"].value == 0.5
    assert paired(scores)["ppo", "base"].n == 2


def test_a_difference_and_its_reverse_never_contradict_each_other() -> None:
    names = pd.Index(range(4))
    scores = {"dpo": (np.array([[0.1, 0.9, 0.5, 0.7]]), names), "ppo": (np.array([[0.3, 0.2, 0.6, 0.4]]), names)}
    one, other = paired(scores)["dpo", "ppo"], paired(scores)["ppo", "dpo"]
    assert (one.value, one.low, one.high) == (-other.value, -other.high, -other.low)


def test_items_without_a_score_are_left_out() -> None:
    frame = pd.DataFrame({"arm": "sft", "seed": 0, "item_id": ["a", "b"], "score": [1.0, None]})
    values, names = scores_by_arm(frame, "item_id", "score")["sft"]
    assert (values.tolist(), list(names)) == ([[1.0]], ["a"])


def test_a_win_rate_reads_from_both_sides() -> None:
    row = {"arm_a": "dpo", "arm_b": "ppo", "wins_a": 6, "wins_b": 2, "ties": 2, "win_rate": 0.7, "ci_low": 0.45, "ci_high": 0.9,
           "length_controlled_win_rate": None, "seed_a": None}  # fmt: skip
    wins = gather({"head_to_head": pd.DataFrame([row])}).wins
    ppo = wins["ppo", "dpo"]
    assert (ppo.wins, ppo.losses, ppo.ties, ppo.length_controlled) == (2, 6, 2, None)
    assert (ppo.rate.value, ppo.rate.low, ppo.rate.high) == (
        pytest.approx(0.3),
        pytest.approx(0.1),
        pytest.approx(0.55),
    )
