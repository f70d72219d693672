from __future__ import annotations

import pandas as pd

from rlaif_dagster.report.drawing import alone
from rlaif_dagster.report.svg import inline
from rlaif_dagster.report.training_plots import reward_against_kl, reward_paths


def metrics(*rows: tuple[int, str, float], seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["step", "name", "value"]).assign(arm="ppo", seed=seed)


ROWS = (
    (2, "reward", 1.0), (1, "reward", 0.5), (1, "kl_reference", 0.1), (2, "kl_reference", 3.0), (3, "reward", 2.0),
    (1, "kl", 9.0), (0, "held_out_reward", 0.4), (0, "held_out_kl", 0.0), (2, "held_out_reward", 0.9),
    (2, "held_out_kl", 2.0), (3, "published_update", 2.0),
)  # fmt: skip


def test_a_path_joins_reward_and_kl_update_by_update() -> None:
    training, held_out = reward_paths(metrics(*ROWS))
    assert (training.updates, training.kl, training.reward) == ([1, 2], [0.1, 3.0], [0.5, 1.0])
    assert (held_out.updates, held_out.kl, held_out.held_out, held_out.published) == ([0, 2], [0.0, 2.0], True, 2)


def test_every_seed_has_its_own_path() -> None:
    both = pd.concat([metrics(*ROWS), metrics(*ROWS, seed=1)])
    assert len(reward_paths(both)) == 4
    assert reward_paths(metrics((1, "reward", 0.5))) == []


def test_the_plot_names_its_lines_and_the_published_update() -> None:
    plot = reward_against_kl(reward_paths(metrics(*ROWS)))
    svg = inline(alone(plot), plot.key, plot.words)
    for text in ("training", "held-out prompts", "update 2, published", "KL to the start, nats an answer"):
        assert f">{text}<" in svg
    assert "training, reward from 0.5 to 1.0 at 3.0 nats from the start" in plot.words


def test_with_several_seeds_each_kind_of_line_is_named_once() -> None:
    plot = reward_against_kl(reward_paths(pd.concat([metrics(*ROWS), metrics(*ROWS, seed=1)])))
    svg = inline(alone(plot), plot.key, plot.words)
    assert svg.count(">training<") == svg.count(">held-out prompts<") == 1
    assert "update 2, published<" not in svg  # the names of several would lie on one another; their points are filled
