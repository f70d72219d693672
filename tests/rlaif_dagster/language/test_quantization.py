"""A base in 4 bits: loaded by bitsandbytes on a CPU, its adapters beside it, trained by every stage and evaluated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import Home
from rlaif_dagster.language import base_model, quantization
from rlaif_dagster.language.backbone import Backbone
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.memory_plan import Setting, Shape, weights
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Dpo, Lora, Ppo, Reward, Sft

LORA = Lora(r=4, alpha=8)
QUESTIONS = [f"How many legs do {number} spiders have?" for number in range(12)]


@pytest.fixture
def spec(tiny_model_folder: Path) -> ModelSpec:
    return ModelSpec(folder=str(tiny_model_folder), quantization="4bit")


@pytest.fixture
def lm(spec: ModelSpec, home: Home) -> LanguageModel:
    pytest.importorskip("bitsandbytes")
    return base_model.load("tiny", spec, home)


@pytest.fixture
def pairs() -> pd.DataFrame:
    splits = ["train"] * 8 + ["held_out"] * 4
    return pd.DataFrame({"prompt": QUESTIONS, "chosen": "Answer: eight", "rejected": "I do not know.", "split": splits})


def logits(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(torch.arange(3, 40)[None]).logits[0]


def sft(lm: LanguageModel, pairs: pd.DataFrame, folder: Path) -> Path:
    from rlaif_dagster.training.sft import train_sft

    (target := folder / "adapter").mkdir(parents=True)
    recipe = Sft(lora=LORA, learning_rate=2e-2, warmup_ratio=0.0, batch_size=2)
    trained = train_sft(lm, pairs, recipe, seed=0, work=folder / "work", target=target)
    assert all(check.passed for check in trained.checks)
    return target


def test_the_field_leaves_what_other_models_mean_alone() -> None:
    plain, named = ModelSpec(folder="/x"), ModelSpec(folder="/x", quantization="none")
    assert "quantization" not in plain.meaning()
    assert plain.data_version() == named.data_version() != ModelSpec(folder="/x", quantization="4bit").data_version()


def test_without_bitsandbytes_one_line_says_what_to_install(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"model m: field 'quantization' is 4bit.*pip install.*quantized"):
        quantization.keywords("m", spec, torch.device("cpu"))


def test_linear_layers_are_in_4_bits_and_take_the_planned_bytes(lm: LanguageModel, tiny_model: LanguageModel) -> None:
    held = 0
    for name, parameter in lm.model.named_parameters():
        held += parameter.untyped_storage().nbytes()
        if parameter.dtype == torch.uint8:
            state = parameter.quant_state
            held += state.absmax.nbytes + state.state2.absmax.nbytes  # scales, and the scales of the scales
        else:
            assert "proj" not in name
    shape = Shape.of(lm.model.config.to_dict())
    assert held == pytest.approx(weights(shape, Setting(four_bit=True)), rel=0.01)
    whole = weights(shape, Setting())
    assert whole == sum(parameter.nbytes for parameter in tiny_model.model.parameters())
    layer = lm.model.model.layers[0].mlp.up_proj
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    exact = x @ tiny_model.model.model.layers[0].mlp.up_proj.weight.T
    with torch.no_grad():
        error = (layer(x) - exact).norm() / exact.norm()
    assert 0.01 < error < 0.15  # NF4 of a normal distribution is off by some 10%


def test_an_arms_adapter_lies_beside_the_base_and_leaves_no_trace(
    spec: ModelSpec, lm: LanguageModel, home: Home, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    adapter = sft(base_model.load("tiny", spec, home), pairs, tmp_path)
    before, kept = logits(lm), Backbone(lm)
    with_adapter = logits(kept.arm(adapter))
    assert (with_adapter - before).abs().max() > 0.1
    torch.testing.assert_close(with_adapter, logits(base_model.load("tiny", spec, home, adapter=adapter)))
    assert torch.equal(logits(kept.arm(None)), before)


def test_every_stage_trains_upon_it(
    spec: ModelSpec, lm: LanguageModel, home: Home, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    from rlaif_dagster.training.dpo import train_dpo
    from rlaif_dagster.training.ppo.loop import train_ppo
    from rlaif_dagster.training.reward import train_reward

    def fresh() -> LanguageModel:
        return base_model.load("tiny", spec, home)

    start = sft(lm, pairs, tmp_path / "sft")
    for name in ("reward", "dpo", "ppo"):
        (tmp_path / name / "target").mkdir(parents=True)
    train_reward(
        fresh(), pairs, Reward(lora=LORA, learning_rate=1e-2, batch_size=2), seed=0, work=tmp_path / "reward/work",
        target=tmp_path / "reward/target",
    )  # fmt: skip
    dpo = train_dpo(
        fresh(), pairs, Dpo(lora=LORA, learning_rate=1e-2, batch_size=2, warmup_ratio=0), seed=0,
        work=tmp_path / "dpo/work", target=tmp_path / "dpo/target", start_adapter=start,
    )  # fmt: skip
    curve = dpo.metrics[dpo.metrics["name"] == "rewards/margins"].set_index("step")["value"]
    assert curve.iloc[-1] > curve.iloc[0] == pytest.approx(0, abs=1e-5)  # policy and reference begin as the same model
    prompts = pd.DataFrame({"prompt_id": [content_hash(q) for q in QUESTIONS], "split": "train", "text": QUESTIONS})
    recipe = Ppo(
        lora=LORA, updates=2, rollout_batch=4, minibatches=2, max_new_tokens=6, held_out_prompts=2, value="own",
        learning_rate=1e-2, evaluate_updates=1,
    )  # fmt: skip
    ppo = train_ppo(
        fresh(), tmp_path / "reward/target", prompts, recipe, seed=0, work=tmp_path / "ppo/work",
        target=tmp_path / "ppo/target", start_adapter=start,
    )  # fmt: skip
    kl = ppo.metrics[ppo.metrics["name"] == "kl_reference"].set_index("step")["value"]
    assert abs(kl.iloc[0]) < 1e-3  # before a step the policy is the SFT model itself
    assert all(check.passed for check in ppo.checks if check.name != "collapse")
    for name in ("dpo", "ppo"):
        changed = logits(base_model.load("tiny", spec, home, adapter=tmp_path / name / "target"))
        assert (changed - logits(base_model.load("tiny", spec, home, adapter=start))).abs().max() > 0.01


def test_4_bits_do_not_train_whole_weights(lm: LanguageModel) -> None:
    from rlaif_dagster.training.ppo.separate import SeparateModels

    with pytest.raises(UserError, match="needs dtype float32, found float32, quantized"):
        SeparateModels(lm, LORA, seed=0)
