"""What every training stage returns beside the adapter it wrote."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Trained:
    """Learning curves and costs of one finished training.

    `metrics` has columns step (int), name (str), value (float). `checks` are named guards with a verdict and a sentence
    with the numbers; a failed one blocks what depends on the model.
    """

    metrics: pd.DataFrame
    tokens: int
    seconds: float
    peak_memory_bytes: int
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Check:
    """A guard's outcome: name, verdict, and the numbers in one sentence."""

    name: str
    passed: bool
    message: str
