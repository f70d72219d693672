from __future__ import annotations

import math

import pandas as pd

from rlaif_dagster.report.curves import MAX_POINTS, panels


def metrics(*rows: tuple[str, int, int, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["arm", "seed", "step", "name", "value"])


def test_a_panel_takes_the_first_recorded_name_and_its_held_out_values() -> None:
    frame = metrics(
        ("dpo", 0, 2, "rewards/margins", 0.5), ("dpo", 0, 1, "rewards/margins", 0.1), ("dpo", 0, 2, "eval_rewards/margins", 0.4),
        ("dpo", 0, 2, "grad_norm", 9.0),
    )  # fmt: skip
    ((panel, curves),) = panels(frame)
    assert panel.title == "DPO margin"
    assert [(curve.held_out, curve.steps, curve.values) for curve in curves] == [
        (False, [1, 2], [0.1, 0.5]),
        (True, [2], [0.4]),
    ]


def test_ppos_kl_is_the_one_to_the_reference_with_its_held_out_values() -> None:
    frame = metrics(("ppo", 0, 1, "kl", 0.01), ("ppo", 0, 1, "kl_reference", 3.0), ("ppo", 0, 0, "held_out_kl", 0.0))
    ((panel, curves),) = panels(frame)
    assert panel.title == "PPO KL"
    assert [(curve.held_out, curve.values) for curve in curves] == [(False, [3.0]), (True, [0.0])]


def test_each_seed_is_a_line() -> None:
    ((_, curves),) = panels(metrics(("ppo", 0, 1, "kl", 1.0), ("ppo", 1, 1, "kl", 2.0)))
    assert [curve.values for curve in curves] == [[1.0], [2.0]]


def test_values_that_are_no_numbers_are_left_out() -> None:
    assert panels(metrics(("ppo", 0, 1, "kl", math.nan), ("ppo", 0, 2, "kl", math.inf))) == []


def test_a_long_curve_is_thinned_by_means_and_keeps_its_last_step() -> None:
    count = 3 * MAX_POINTS
    ((_, (curve,)),) = panels(metrics(*(("sft", 0, step, "loss", float(step)) for step in range(1, count + 1))))
    assert len(curve.steps) == MAX_POINTS
    assert (curve.steps[0], curve.values[0]) == (3, 2.0)  # the mean of 1, 2 and 3
    assert curve.steps[-1] == count
