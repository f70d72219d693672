"""One backbone is exactly what separately loaded models are, in every role, and refuses what it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from rlaif_dagster.errors import UserError
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Lora
from rlaif_dagster.training.adapters import merge
from rlaif_dagster.training.ppo.backbone import Backbone, Role, acting_as
from rlaif_dagster.training.ppo.rows import Packed
from rlaif_dagster.training.ppo.sources import RewardModelSource
from rlaif_dagster.training.reward_model import RewardModel, reward_parts
from tests.rlaif_dagster.training.conftest import FreshModel
from tests.rlaif_dagster.training.ppo.conftest import WriteAdapter, randomize

LORA = Lora(r=4, alpha=8)
SEQUENCES = [[1, 40, 41, 42, 43, 44], [1, 40, 50], [1, 40, 41, 60, 61]]


def states(backbone: Backbone, role: Role) -> list[torch.Tensor]:
    packed = Packed.pack(SEQUENCES, backbone.lm.device)
    with torch.no_grad(), acting_as(backbone, role):
        hidden = backbone.packed_hidden(packed)
    return [hidden[packed.index[row, : len(ids)]] for row, ids in enumerate(SEQUENCES)]


def plain(lm: LanguageModel) -> list[torch.Tensor]:
    with torch.no_grad():
        return [lm.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0] for ids in SEQUENCES]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.float(), theirs.float(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("start", ["base", "sft"])
def test_every_role_equals_a_model_of_its_own(
    fresh_model: FreshModel, write_policy: WriteAdapter, write_reward: WriteAdapter, start: str
) -> None:
    sft = write_policy() if start == "sft" else None
    folder = write_reward()
    state, head, config = reward_parts(folder)
    backbone = Backbone(fresh_model(), LORA, seed=0, start=sft, reward=(state, config))
    reference = plain(merge(fresh_model(), sft) if sft else fresh_model())
    assert_same(states(backbone, "reference"), reference, 1e-4)
    assert_same(states(backbone, "policy"), reference, 1e-4)  # the policy starts without effect

    questions, answers = ["Name a city.", "Why is the sky blue?"], ["Paris", "I do not know, I am a spider."]
    ids = [backbone.lm.answer_ids(answer) for answer in answers]
    expected = RewardModel.load(fresh_model(), folder).score(questions, answers)
    found = RewardModelSource(backbone, head, micro_batch=8).score(questions, answers, ids)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)
    assert abs(expected[0] - expected[1]) > 0.1
    plain_base = fresh_model()
    cut_off = RewardModelSource(backbone, head, 8).score(
        questions, answers, [plain_base.answer_ids(a, end=False) for a in answers]
    )
    torch.testing.assert_close(cut_off, found)  # what never ended is read as if it had

    randomize(backbone.trunk, 9, ["lora_A.policy", "lora_B.policy"])
    assert (states(backbone, "policy")[0] - reference[0]).abs().max() > 0.1
    assert_same(states(backbone, "reference"), reference, 1e-4)  # whatever the policy has become
    torch.testing.assert_close(RewardModelSource(backbone, head, 8).score(questions, answers, ids), found)


def test_sixteen_bits_stack_adapters_instead_of_merging(fresh_model: FreshModel, write_policy: WriteAdapter) -> None:
    sft = write_policy()
    lm = fresh_model("bfloat16")
    before = lm.model.model.layers[0].mlp.up_proj.weight.clone()
    backbone = Backbone(lm, LORA, seed=0, start=sft)
    layer = lm.model.model.layers[0].mlp.up_proj
    assert torch.equal(layer.get_base_layer().weight, before)
    assert layer.lora_A["policy"].weight.dtype == torch.float32
    expected = plain(merge(fresh_model(), sft))  # in float32
    assert_same(states(backbone, "reference"), expected, 0.3)
    assert (expected[0] - plain(fresh_model())[0]).abs().max() > 1


def test_only_the_policy_is_trained(
    fresh_model: FreshModel, write_policy: WriteAdapter, write_reward: WriteAdapter
) -> None:
    state, _, config = reward_parts(write_reward())
    backbone = Backbone(fresh_model(), LORA, seed=0, start=write_policy(), reward=(state, config))
    with acting_as(backbone, "reward"), acting_as(backbone, "reference"):
        pass
    trainable = {name for name, parameter in backbone.lm.model.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name in dict(backbone.lm.model.named_parameters()) if ".policy." in name}
    assert len(trainable) == 2 * 7 * 2  # two factors of seven projections in two layers


def test_the_seed_decides_the_start(fresh_model: FreshModel) -> None:
    first, same, other = (Backbone(fresh_model(), LORA, seed=seed).policy_state() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_policy_state_round_trip(fresh_model: FreshModel) -> None:
    backbone = Backbone(fresh_model(), LORA, seed=0)
    randomize(backbone.trunk, 3, ["lora_"])
    torch.nn.init.ones_(backbone.value_head.weight)
    state, expected = backbone.policy_state(), states(backbone, "policy")
    randomize(backbone.trunk, 4, ["lora_"])
    torch.nn.init.zeros_(backbone.value_head.weight)
    backbone.load_policy(state)
    assert_same(states(backbone, "policy"), expected, 0.0)
    assert backbone.value_head.weight.sum().item() == 64


def small(kind: str, lm: LanguageModel) -> LanguageModel:
    shape = {
        "vocab_size": 500, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    model = {
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**shape)),
        "mistral": lambda: MistralForCausalLM(MistralConfig(**shape, sliding_window=8)),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**shape)),
    }[kind]()
    return LanguageModel(kind, lm.spec, lm.tokenizer, model.eval())


def test_another_architecture(tiny_model: LanguageModel) -> None:
    expected = plain(small("qwen2", tiny_model))
    assert_same(states(Backbone(small("qwen2", tiny_model), LORA, seed=0), "policy"), expected, 1e-5)


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_unsupported_architecture_is_told_in_one_line(tiny_model: LanguageModel, kind: str) -> None:
    with pytest.raises(UserError, match=f"model {kind}: PPO does not support"):
        Backbone(small(kind, tiny_model), LORA, seed=0)


def test_adapter_of_another_model_is_refused(
    fresh_model: FreshModel, tiny_model: LanguageModel, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    other = get_peft_model(
        small("qwen2", tiny_model).model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    other.save_pretrained(str(tmp_path / "other"))
    with pytest.raises(UserError, match="adapter sft: 4 tensors do not fit the base model"):
        Backbone(fresh_model(), LORA, seed=0, start=tmp_path / "other")
