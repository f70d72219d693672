"""Learning curves in long form: one row a step and name.

The rows are part of a table's data version, so they hold nothing that differs between two runs of the same training:
no times, no speeds, no averages over "this call" that a resumed call would report differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

Row = tuple[int, str, float]

NOT_A_CURVE = {"step", "epoch", "total_flos", "num_tokens"}
SUMMARY = "train_runtime"  # marks the Trainer's closing entry, which covers only the steps of the last call


def curves(log_history: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The numbers of a Trainer's log, by step and name; a resumed Trainer's log begins with that of its checkpoint."""
    return [
        (int(entry["step"]), name, float(value))
        for entry in log_history
        if SUMMARY not in entry
        for name, value in sorted(entry.items())
        if name not in NOT_A_CURVE and isinstance(value, int | float)
    ]


def at(step: int, values: Mapping[str, float]) -> list[Row]:
    """Rows of several values measured at one step."""
    return [(step, name, float(value)) for name, value in values.items()]


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as the columns step (int), name (str), value (float)."""
    table = pd.DataFrame(list(rows), columns=["step", "name", "value"])
    return table.astype({"step": "int64", "name": "str", "value": "float64"})


def final(metrics: pd.DataFrame) -> dict[str, float]:
    """The last value of every name, by name."""
    last = metrics.groupby("name", sort=True)["value"].last()
    return {str(name): float(value) for name, value in last.items()}
