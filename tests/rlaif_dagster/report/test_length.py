from __future__ import annotations

import pandas as pd

from rlaif_dagster.report.drawing import alone
from rlaif_dagster.report.length import cut_off, length_plots, spreads
from rlaif_dagster.report.svg import inline


def responses(**tokens: list[int]) -> pd.DataFrame:
    rows = [(arm, count) for arm, counts in tokens.items() for count in counts]
    return pd.DataFrame(rows, columns=["arm", "tokens"]).assign(decoding="greedy", seed=0)


def test_a_spread_holds_the_quantiles_of_all_seeds() -> None:
    (spread,) = spreads(responses(dpo=list(range(101))), "greedy")
    assert spread.quantiles == (10, 25, 50, 75, 90)
    assert (spread.mean, spread.median, spread.n) == (50, 50, 101)
    assert spreads(responses(dpo=[1]), "sampled") == []


def test_answers_at_the_longest_length_are_told_when_there_are_many() -> None:
    said = cut_off(responses(base=[48] * 6 + [20] * 4, ppo=[20] * 10))
    assert "exactly 48 tokens long" in said
    assert said.endswith("base 60% and PPO 0%.")
    assert cut_off(responses(base=[*range(20), 48], ppo=[20])) == ""
    assert cut_off(responses()) == ""


def test_a_panel_a_decoding_says_its_medians() -> None:
    (plot,) = length_plots(responses(base=[10, 20, 30], ppo=[5]))
    assert plot.words == "Greedy answers, median tokens and middle half: base 20 (15 to 25), PPO 5 (5 to 5)"
    assert "<path" in inline(alone(plot), plot.key, plot.words)
