"""Training in two processes (gloo, as two GPUs would with nccl): the steps of one process, whatever the batches come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Dpo, Lora, Reward, Sft
from rlaif_dagster.training.adapters import WEIGHTS
from rlaif_dagster.training.dpo import train_dpo
from rlaif_dagster.training.processes import (
    PATIENCE,
    PROCESSES,
    Call,
    first_process_first,
    own_batches,
    processes,
    rank,
    train,
)
from rlaif_dagster.training.reward import train_reward
from rlaif_dagster.training.sft import train_sft
from rlaif_dagster.training.trained import Trained

# 15 examples of 12: batches of 4, 4, 4 and 3, and the last one cannot be halved
OPTIMIZATION: dict[str, Any] = {
    "lora": Lora(r=4, alpha=8), "epochs": 1.25, "batch_size": 4, "learning_rate": 1e-3, "save_steps": 2, "logging_steps": 1,
}  # fmt: skip
STAGES: dict[str, tuple[Callable[..., Trained], Any, dict[str, Any]]] = {
    "sft": (train_sft, Sft(**OPTIMIZATION), {}),
    "reward": (train_reward, Reward(**OPTIMIZATION), {}),
    "dpo": (train_dpo, Dpo(**OPTIMIZATION, nll_weight=0.5), {"start_adapter": None}),
    "accumulated": (train_dpo, Dpo(**OPTIMIZATION, nll_weight=0.5, gradient_accumulation=2), {"start_adapter": None}),
}


def call(stage: str, model: Path, pairs: pd.DataFrame, folder: Path, **changed: Any) -> Call:
    function, recipe, more = STAGES[stage]
    where = {"seed": 5, "work": folder / "work", "target": folder / "target"}
    spec = ModelSpec(folder=str(model))
    return Call(function, "tiny", spec, Home(folder), (pairs, recipe.model_copy(update=changed)), where | more)


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_train_what_one_does(
    stage: str, tiny_model_folder: Path, pairs: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROCESSES, raising=False)
    one = train(call(stage, tiny_model_folder, pairs, tmp_path / "one"))
    monkeypatch.setenv(PROCESSES, "2")
    two = train(call(stage, tiny_model_folder, pairs, tmp_path / "two"))
    assert two.tokens == one.tokens
    timeless = [frame[~frame["name"].str.contains("runtime|per_second")] for frame in (one.metrics, two.metrics)]
    expected, found = (frame.set_index(["step", "name"])["value"].to_dict() for frame in timeless)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    alone, together = (load_file(tmp_path / name / "target" / WEIGHTS) for name in ("one", "two"))
    assert alone.keys() == together.keys()
    moved = max(float(tensor.abs().max()) for name, tensor in alone.items() if "lora_B" in name)  # which begin at zero
    assert moved > 1e-3
    apart = max(float((tensor - together[name]).abs().max()) for name, tensor in alone.items())
    assert apart < 0.01 * moved
    kept = sorted(path.name for path in (tmp_path / "two" / "work").glob("checkpoint-*/complete.json"))
    assert kept  # and whole: a cut training in two processes resumes from them


def test_what_is_the_users_to_fix_is_told_by_the_first_process(
    tiny_model_folder: Path, pairs: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROCESSES, "2")
    with pytest.raises(UserError, match="RLAIF_PROCESSES: found 2, which does not divide batch_size 3 of the recipe"):
        train(call("sft", tiny_model_folder, pairs, tmp_path, batch_size=3))
    monkeypatch.setenv(PROCESSES, "0")
    with pytest.raises(UserError, match="RLAIF_PROCESSES: found '0', allowed: a whole number, at least 1"):
        processes()


def waits(lm: Any, fails: bool, result: Path) -> Any:
    """In each process: how long it would wait for the others."""
    with first_process_first():
        if fails and rank() == 0:
            raise UserError("a pair is wrong")
    backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
    (result / f"{rank()}.txt").write_text(str(backend.options._timeout))
    return "no Trained, but nobody looks"


def test_the_others_wait_for_the_first_process_as_long_as_it_takes_and_end_with_it(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROCESSES, "2")
    spec = ModelSpec(folder=str(tiny_model_folder))
    train(Call(waits, "tiny", spec, Home(tmp_path), (False, tmp_path), {}))
    assert [(tmp_path / f"{n}.txt").read_text() for n in (0, 1)] == [str(PATIENCE)] * 2
    with pytest.raises(UserError, match="a pair is wrong"):  # although the other one waits at the door
        train(Call(waits, "tiny", spec, Home(tmp_path), (True, tmp_path), {}))


def test_a_batch_is_divided_and_one_that_cannot_be_is_computed_by_all() -> None:
    assert list(own_batches(11, 4, 0, 2)) == [[0, 1], [4, 5], [8, 9, 10]]
    assert list(own_batches(11, 4, 1, 2)) == [[2, 3], [6, 7], [8, 9, 10]]
    assert list(own_batches(6, 4, 1, 2)) == [[2, 3], [5]]
