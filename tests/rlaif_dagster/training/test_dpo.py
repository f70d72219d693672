"""DPO starts where it says, moves the right way, and publishes one adapter on the plain base."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from rlaif_dagster.spec.recipes import Dpo, Lora, Sft
from rlaif_dagster.training.adapters import WEIGHTS, merge
from rlaif_dagster.training.dpo import LogProbs, log_probs, preference_metrics, train_dpo
from rlaif_dagster.training.examples import preferences
from rlaif_dagster.training.metrics import final
from rlaif_dagster.training.sft import train_sft
from rlaif_dagster.training.trained import Trained
from tests.rlaif_dagster.training.conftest import FreshModel

RECIPE = Dpo(lora=Lora(r=4, alpha=8), epochs=4, batch_size=4, learning_rate=5e-3, beta=0.2, nll_weight=0.5)


@pytest.fixture
def start(fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path) -> Path:
    """An SFT adapter of another rank than DPO's."""
    recipe = Sft(lora=Lora(r=2, alpha=3), epochs=2, batch_size=4, learning_rate=1e-2)
    train_sft(fresh_model(), pairs, recipe, seed=0, work=tmp_path / "ws", target=tmp_path / "start")
    return tmp_path / "start"


def train(fresh_model: FreshModel, pairs: pd.DataFrame, recipe: Dpo, folder: Path, start: Path | None) -> Trained:
    return train_dpo(fresh_model(), pairs, recipe, seed=0, work=folder / "w", target=folder / "t", start_adapter=start)


@pytest.mark.parametrize(("from_sft", "dtype"), [(False, "float32"), (True, "float32"), (True, "bfloat16")])
def test_published_adapter_is_the_trained_policy_on_the_plain_base(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path, start: Path, from_sft: bool, dtype: str
) -> None:
    begin = start if from_sft else None
    target = tmp_path / "t"
    trained = train_dpo(
        fresh_model(dtype), pairs, RECIPE, seed=0, work=tmp_path / "w", target=target, start_adapter=begin
    )
    held_out = preferences(fresh_model(), pairs, "held_out", RECIPE).items

    def measured(adapter: Path | None) -> LogProbs:
        lm = fresh_model(dtype)
        on_top = PeftModel.from_pretrained(lm.model, str(adapter)).get_base_model() if adapter else lm.model
        return log_probs(replace(lm, model=on_top), held_out)

    expected = preference_metrics(measured(target), measured(begin), beta=0.2, nll_weight=0.5)
    values = final(trained.metrics)
    tolerance = 1e-3 if dtype == "float32" else 0.05
    assert {name: values[f"eval_{name}"] for name in expected} == pytest.approx(expected, abs=tolerance, rel=tolerance)
    assert values["eval_rewards/accuracies"] == 1
    assert values["eval_rewards/margins"] > 0.5


def test_half_precision_start_is_frozen_and_survives_a_resume(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path, start: Path
) -> None:
    """In 16 bits the start stays beside the weights: trained through, never trained, and there again after a resume."""
    recipe = RECIPE.model_copy(update={"save_steps": 6})
    for folder in ("whole", "cut"):
        where = {"work": tmp_path / folder / "w", "target": tmp_path / folder / "t"}
        if folder == "cut":
            shutil.copytree(tmp_path / "whole" / "w" / "checkpoint-6", where["work"] / "checkpoint-6")
        trained = train_dpo(fresh_model("bfloat16"), pairs, recipe, seed=0, start_adapter=start, **where)
        assert trained.metrics.query("name == 'rewards/margins' and step == 1")["value"].item() == pytest.approx(
            0, abs=0.05
        )
    whole, cut = (load_file(tmp_path / folder / "t" / WEIGHTS) for folder in ("whole", "cut"))
    begun = load_file(start / WEIGHTS)
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, atol=1e-6, rtol=0)
        if name.endswith("lora_A.weight"):
            assert torch.equal(tensor[:2], begun[name])  # rank 2 of the start, then rank 4 of DPO


def test_first_step_is_at_the_reference(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path, start: Path
) -> None:
    """Policy and reference are the same model there: no margin, loss log 2, plus the weighted NLL of the chosen answers."""
    recipe = RECIPE.model_copy(update={"batch_size": 12, "epochs": 2})
    trained = train(fresh_model, pairs, recipe, tmp_path, start)
    first = trained.metrics[trained.metrics["step"] == 1].set_index("name")["value"]
    reference = log_probs(merge(fresh_model(), start), preferences(fresh_model(), pairs, "train", recipe).items)
    nll = -reference.chosen.sum() / reference.chosen_tokens.sum()
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert first["logps/chosen"] == pytest.approx(reference.chosen.mean(), abs=1e-3)
    assert first["logps/rejected"] == pytest.approx(reference.rejected.mean(), abs=1e-3)
    assert first["loss"] == pytest.approx(math.log(2) + 0.5 * nll, abs=1e-4)


def test_without_the_nll_term(fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path) -> None:
    trained = train(fresh_model, pairs, RECIPE.model_copy(update={"nll_weight": 0.0}), tmp_path, None)
    assert trained.metrics.query("name == 'loss' and step == 1")["value"].item() == pytest.approx(math.log(2), abs=1e-4)
    values = final(trained.metrics)
    plain = train(fresh_model, pairs, RECIPE, tmp_path / "with", None)
    assert values["eval_logps/chosen"] < final(plain.metrics)["eval_logps/chosen"]


def test_preference_metrics_by_hand() -> None:
    policy = LogProbs(np.array([-10.0, -6.0]), np.array([-14.0, -9.0]), np.array([4, 4]))
    reference = LogProbs(np.array([-12.0, -6.0]), np.array([-12.0, -10.0]), np.array([4, 4]))
    values = preference_metrics(policy, reference, beta=0.5, nll_weight=0.1)
    # rewards: chosen 1, 0; rejected -1, 0.5; margins 2, -0.5; NLL 16 nats over 8 tokens
    assert values == pytest.approx(
        {
            "loss": (math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5))) / 2 + 0.1 * 2,
            "nll": 2.0,
            "rewards/chosen": 0.5,
            "rewards/rejected": -0.25,
            "rewards/margins": 0.75,
            "rewards/accuracies": 0.5,
            "logps/chosen": -8.0,
            "logps/rejected": -11.5,
        }
    )
