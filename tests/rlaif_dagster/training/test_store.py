"""The store publishes whole models under content keys, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from rlaif_dagster.hashing import folder_digest
from rlaif_dagster.training.metrics import frame
from rlaif_dagster.training.store import RECORD, ModelStore
from rlaif_dagster.training.trained import Check, Trained

TRAINED = Trained(
    metrics=frame([(1, "loss", 0.1), (2, "loss", 1 / 3)]),
    tokens=123,
    seconds=4.5,
    peak_memory_bytes=678,
    checks=(Check("finite_loss", True, "fine"), Check("reward_accuracy", False, "ranks 40.0%")),
)


def fill(folder: Path) -> Trained:
    save_file({"w": torch.arange(3.0)}, folder / "adapter_model.safetensors")
    return TRAINED


def refuse(folder: Path) -> Trained:
    raise AssertionError("must not train again")


def test_published_once_and_found_again(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    assert store.get("key") is None
    work = tmp_path / "work"
    work.mkdir()
    stored = store.publish("key", fill, work=work)
    assert stored.path == store.path("key") == tmp_path / "models" / "key"
    assert stored.digest == folder_digest(stored.path)
    assert not work.exists()
    again = store.publish("key", refuse)
    assert again.digest == stored.digest
    assert again.trained.checks == TRAINED.checks
    assert (again.trained.tokens, again.trained.seconds, again.trained.peak_memory_bytes) == (123, 4.5, 678)
    pd.testing.assert_frame_equal(again.trained.metrics, TRAINED.metrics)


def test_a_failed_training_publishes_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")

    def fail(folder: Path) -> Trained:
        fill(folder)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.publish("key", fail)
    assert store.get("key") is None
    assert list((tmp_path / "models").iterdir()) == []


def test_half_a_record_is_no_model_and_is_replaced(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.publish("key", fill)
    record = store.path("key") / RECORD
    record.write_text(record.read_text()[:40])
    assert store.get("key") is None
    stored = store.publish("key", fill)
    assert stored.trained.tokens == 123
