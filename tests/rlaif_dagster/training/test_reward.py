"""The reward model reads the end token, learns the preferred answers, and comes apart for PPO."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

from rlaif_dagster.errors import UserError
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Lora, Reward
from rlaif_dagster.training.metrics import final
from rlaif_dagster.training.reward import RewardModel, held_out_metrics, quality_checks, reward_parts, train_reward
from rlaif_dagster.training.reward_model import classifier, scoring_tokenizer
from rlaif_dagster.training.trained import Trained
from tests.rlaif_dagster.training.conftest import FreshModel

RECIPE = Reward(lora=Lora(r=4, alpha=8), epochs=4, batch_size=4, learning_rate=5e-3)


@pytest.fixture(scope="module")
def trained(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("reward")
    return train_reward(fresh_model(), pairs, RECIPE, seed=0, work=folder / "w", target=folder / "t"), folder / "t"


def end_state(lm: LanguageModel, prompt: str, answer: str, model: torch.nn.Module | None = None) -> torch.Tensor:
    """Last hidden state at the end token, by a plain pass over one unpadded sequence."""
    ids = lm.prompt_ids(lm.chat(prompt)) + lm.answer_ids(answer)
    assert ids[-1] == lm.end_id
    with torch.no_grad():
        return (model or lm.model.base_model)(torch.tensor([ids])).last_hidden_state[0, -1]


def test_learns_the_preferences(trained: tuple[Trained, Path]) -> None:
    outcome, _ = trained
    values = final(outcome.metrics)
    assert values["eval_accuracy"] == 1
    assert values["eval_margin"] > 1
    names = ["finite_loss", "reward_accuracy", "reward_length", "reward_calibration"]
    assert [check.name for check in outcome.checks] == names
    assert all(check.passed for check in outcome.checks)
    assert "ranks 100.0% of 4 held-out pairs right" in outcome.checks[1].message


@pytest.mark.parametrize("pad_with_end", [False, True])
def test_trains_on_the_score_at_the_end_token(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path, pad_with_end: bool
) -> None:
    """At learning rate 0 (the warm-up's first step) the trainer's numbers are those of the first head at the end tokens, also
    where the tokenizer pads with the end token itself."""
    recipe = RECIPE.model_copy(update={"batch_size": 12, "epochs": 2, "center_rewards": 0.1})
    lm = fresh_model(pad_with_end=pad_with_end)
    outcome = train_reward(lm, pairs, recipe, seed=3, work=tmp_path / "w", target=tmp_path / "t")
    first = outcome.metrics[outcome.metrics["step"] == 1].set_index("name")["value"]
    base = fresh_model()
    head = classifier(base, 0, seed=3).score.weight[0]
    train = pairs[pairs["split"] == "train"]
    chosen, rejected = (
        torch.stack([head @ end_state(base, p, a) for p, a in zip(train["prompt"], train[column], strict=True)])
        for column in ("chosen", "rejected")
    )
    assert first["mean_reward"] == pytest.approx(torch.cat([chosen, rejected]).mean().item(), abs=1e-4)
    assert first["margin"] == pytest.approx((chosen - rejected).mean().item(), abs=1e-4)
    loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean() + 0.1 * ((chosen + rejected) ** 2).mean()
    assert first["loss"] == pytest.approx(loss.item(), abs=1e-4)


def test_loaded_model_scores_as_measured(
    trained: tuple[Trained, Path], fresh_model: FreshModel, pairs: pd.DataFrame
) -> None:
    outcome, folder = trained
    model = RewardModel.load(fresh_model(pad_with_end=True), folder)
    held_out = pairs[pairs["split"] == "held_out"]
    chosen = model.score(held_out["prompt"].tolist(), held_out["chosen"].tolist(), batch=3)
    rejected = model.score(held_out["prompt"].tolist(), held_out["rejected"].tolist())
    assert np.mean(np.subtract(chosen, rejected)) == pytest.approx(final(outcome.metrics)["eval_margin"], abs=1e-4)
    assert chosen == pytest.approx(
        model.score(held_out["prompt"].tolist(), held_out["chosen"].tolist(), batch=1), abs=1e-4
    )


def test_parts_fit_the_causal_model(trained: tuple[Trained, Path], fresh_model: FreshModel) -> None:
    """What PPO does: the reward LoRA on the plain causal model's trunk, times the head, is the reward."""
    lora, head, config = reward_parts(trained[1])
    assert head.shape == (1, 64)
    assert (config.r, config.lora_alpha) == (4, 8)
    assert "layers.0.self_attn.q_proj.lora_A.weight" in lora
    assert len(lora) == 2 * 2 * 7  # A and B, two layers, seven linear modules each
    lm = fresh_model()
    plain = LoraConfig(task_type="CAUSAL_LM", r=config.r, lora_alpha=config.lora_alpha, target_modules="all-linear")
    model = get_peft_model(lm.model, plain)
    set_peft_model_state_dict(model, {f"base_model.model.model.{name}": tensor for name, tensor in lora.items()})
    state = end_state(lm, "Name a fruit.", "An apple.", model.get_base_model().model)
    [expected] = RewardModel.load(fresh_model(), trained[1]).score(["Name a fruit."], ["An apple."])
    assert (head @ state).item() == pytest.approx(expected, abs=1e-4)


def test_held_out_metrics_by_hand() -> None:
    values = held_out_metrics(np.array([1.0, 2.0, 0.0, 1.0]), np.array([0.0, 3.0, 0.0, -1.0]), np.array([5, -3, 0, 2]))
    own = ("accuracy", "margin", "mean_reward", "longer_accuracy", "length_accuracy")
    assert [values[name] for name in own] == [0.5, 0.5, 0.75, 0.625, 0.625]
    shorter = held_out_metrics(np.ones(4), np.zeros(4), np.array([-1, -1, -1, 1]))
    assert (shorter["longer_accuracy"], shorter["length_accuracy"]) == (0.25, 0.75)


@pytest.mark.parametrize(
    ("change", "fields", "failed"),
    [
        ({}, {}, []),
        ({"accuracy": 0.49}, {}, ["reward_accuracy", "reward_length"]),
        ({"accuracy": 0.6}, {}, ["reward_length"]),  # better than chance, worse than length
        ({"accuracy": 0.66}, {}, []),  # worse than length by less than ten points, which so few pairs cannot tell apart
        ({"accuracy": 0.74}, {"min_gain_over_length": 0}, ["reward_length"]),
        ({"accuracy": 0.8}, {"min_gain_over_length": 0.1}, ["reward_length"]),
        ({"accuracy": 0.85}, {"min_gain_over_length": 0.1}, []),
        ({"accuracy": 0.0}, {"min_gain_over_length": -1, "min_accuracy": 0}, []),
        ({"calibration_error": 0.3}, {"max_calibration_error": 0.25}, ["reward_calibration"]),
    ],
)
def test_quality_checks(change: dict[str, float], fields: dict[str, float], failed: list[str]) -> None:
    measured = {
        "accuracy": 0.9, "margin": 1.0, "longer_accuracy": 0.25, "length_accuracy": 0.75, "calibration_error": 0.1,
        "brier": 0.1, "log_loss": 0.2,
    }  # fmt: skip
    checks = quality_checks({**measured, **change}, 20, Reward(**fields))
    assert [check.name for check in checks if not check.passed] == failed
    if "accuracy" in change:
        assert f"{change['accuracy']:.1%} of 20 held-out pairs" in checks[0].message
    assert "length alone 75.0% (the longer answer: 25.0%)" in checks[1].message


def test_worse_than_asked_fails_its_check(fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path) -> None:
    """Held-out pairs turned round: what was learned is now wrong, and the check says by how much."""
    turned = pairs.copy()
    held_out = turned["split"] == "held_out"
    turned.loc[held_out, ["chosen", "rejected"]] = turned.loc[held_out, ["rejected", "chosen"]].to_numpy()
    outcome = train_reward(fresh_model(), turned, RECIPE, seed=0, work=tmp_path / "w", target=tmp_path / "t")
    check = outcome.checks[1]
    assert (check.name, check.passed) == ("reward_accuracy", False)
    assert "ranks 0.0% of 4 held-out pairs right (at least 50.0% asked" in check.message


def test_without_held_out_pairs_nothing_is_trained(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no held-out pairs"):
        train_reward(
            fresh_model(), pairs[pairs["split"] == "train"], RECIPE, seed=0, work=tmp_path / "w", target=tmp_path / "t"
        )


def test_head_starts_small_and_by_its_seed(fresh_model: FreshModel) -> None:
    lm = fresh_model()
    one, again, other = (classifier(lm, 0, seed=seed).score.weight for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.std().item() == pytest.approx(1 / math.sqrt(65), rel=0.3)


def test_padding_token_is_never_the_end_token(fresh_model: FreshModel) -> None:
    assert scoring_tokenizer(fresh_model()).pad_token == "<|pad|>"
    lm = fresh_model(pad_with_end=True)
    assert scoring_tokenizer(lm).pad_token_id != lm.end_id
    assert lm.tokenizer.pad_token_id == lm.end_id  # the model's own tokenizer is left alone
