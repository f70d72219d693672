"""Curves hold what a second run would report too, as floats."""

from __future__ import annotations

from rlaif_dagster.training.metrics import at, curves, final, frame


def test_a_trainers_log_becomes_rows_without_times() -> None:
    log = [
        {"loss": 2.0, "learning_rate": 1e-3, "epoch": 0.5, "num_tokens": 10, "step": 1},
        {"loss": 1, "note": "text", "epoch": 1.0, "step": 2},
        {"train_runtime": 3.2, "train_loss": 1.5, "total_flos": 1e9, "epoch": 1.0, "step": 2},
    ]
    rows = curves(log)
    assert rows == [(1, "learning_rate", 1e-3), (1, "loss", 2.0), (2, "loss", 1.0)]
    table = frame(at(0, {"examples": 12}) + rows)
    assert table["step"].tolist() == [0, 1, 1, 2]
    assert [str(kind) for kind in table.dtypes] == ["int64", "str", "float64"]
    assert final(table) == {"examples": 12.0, "learning_rate": 1e-3, "loss": 1.0}


def test_no_rows_are_a_table_too() -> None:
    assert frame([]).columns.tolist() == ["step", "name", "value"]
