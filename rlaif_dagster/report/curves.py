"""Learning curves: which recorded metrics a reader should see, and the series behind them.

TRL and our PPO name metrics their own way (`rewards/margins`, `kl_reference`); a panel lists the names that it accepts, and
the first that was recorded wins. Behind the prefix `eval_` or `held_out_` the same quantity was measured on held-out data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

MAX_POINTS = 200  # a curve's: more cannot be seen at its size, and the page stays small
_HELD_OUT = ("eval_", "held_out_")


@dataclass(frozen=True)
class Panel:
    """One quantity of one arm's training."""

    arm: str
    title: str
    names: tuple[str, ...]
    hint: str
    zero: bool = False

    @property
    def key(self) -> str:
        return f"curve-{self.arm}-{self.names[0].replace('/', '-').replace('_', '-')}"


@dataclass(frozen=True)
class Curve:
    """One line: an arm's values over steps for one seed."""

    arm: str
    held_out: bool
    steps: list[int]
    values: list[float]


PANELS = (
    Panel("sft", "SFT loss", ("loss",), "lower: the preferred answers have become likely"),
    Panel("reward", "Reward model loss", ("loss",), "0.69 is a coin toss"),
    Panel("reward", "Reward model accuracy", ("accuracy",), "share of pairs scored the right way round"),
    Panel("dpo", "DPO loss", ("loss",), "0.69 is where it starts without an added term"),
    Panel(
        "dpo", "DPO margin", ("rewards/margins", "margin", "margins"), "how far chosen is ahead of rejected", zero=True
    ),
    Panel("dpo", "DPO accuracy", ("rewards/accuracies", "accuracy"), "share of pairs ranked the right way round"),
    Panel("ppo", "PPO reward", ("reward", "score", "scores"), "reward model's score of an answer"),
    Panel("ppo", "PPO KL", ("kl_reference", "kl"), "nats an answer from the start; high: reward hacking", zero=True),
    Panel("ppo", "PPO entropy", ("entropy",), "nats a token; near zero: collapse"),
    Panel("ppo", "PPO answer length", ("response_length", "length"), "tokens"),
    Panel("ppo", "PPO answers that end", ("eos_rate",), "share within the token limit"),
    Panel("ppo", "PPO distinct answers", ("distinct",), "share of a batch; falling: collapse"),
)


def unit_of(arm: str) -> str:
    """What a step of an arm's training is."""
    return "update" if arm == "ppo" else "optimizer step"


def panels(metrics: pd.DataFrame) -> list[tuple[Panel, list[Curve]]]:
    """The panels that have something recorded, with their curves."""
    out = []
    for panel in PANELS:
        of_arm = metrics[metrics["arm"] == panel.arm]
        held_out_names = [prefix + name for name in panel.names for prefix in _HELD_OUT]
        curves = [*_curves(of_arm, panel.names, held_out=False), *_curves(of_arm, held_out_names, held_out=True)]
        if curves:
            out.append((panel, curves))
    return out


def first_recorded(of_arm: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The first of `names` that the arm's metrics hold, for a quantity that has several names."""
    recorded = set(of_arm["name"])
    return next((name for name in names if name in recorded), None)


def _curves(of_arm: pd.DataFrame, names: Sequence[str], *, held_out: bool) -> Iterable[Curve]:
    """The curves of the first of `names` that was recorded, one a seed."""
    name = first_recorded(of_arm, names)
    rows = of_arm[(of_arm["name"] == name) & np.isfinite(of_arm["value"].astype(float))].sort_values("step")
    for _, of_seed in rows.groupby("seed", dropna=False):
        steps, values = _thinned(of_seed["step"].astype(int).tolist(), of_seed["value"].astype(float).tolist())
        yield Curve(str(of_seed["arm"].iloc[0]), held_out, steps, values)


def _thinned(steps: list[int], values: list[float]) -> tuple[list[int], list[float]]:
    """At most `MAX_POINTS` points, each the mean of a run of neighbours and placed at the run's last step."""
    if len(steps) <= MAX_POINTS:
        return steps, values
    size = -(-len(steps) // MAX_POINTS)
    runs = [values[i : i + size] for i in range(0, len(values), size)]
    ends = [steps[min(i + size, len(steps)) - 1] for i in range(0, len(steps), size)]
    return ends, [sum(run) / len(run) for run in runs]
