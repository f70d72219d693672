"""Models held apart are what they are on one backbone, are trained in full, and are published as an adapter all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from rlaif_dagster.errors import UserError
from rlaif_dagster.spec.recipes import Lora
from rlaif_dagster.training.adapters import merge
from rlaif_dagster.training.ppo.backbone import Backbone, Role, acting_as
from rlaif_dagster.training.ppo.publish import publish
from rlaif_dagster.training.ppo.rows import Packed
from rlaif_dagster.training.ppo.separate import SeparateModels
from rlaif_dagster.training.reward_model import reward_parts
from tests.rlaif_dagster.training.conftest import FreshModel
from tests.rlaif_dagster.training.ppo.conftest import WriteAdapter

SEQUENCES = [[1, 40, 41, 42, 43, 44], [1, 40, 50], [1, 40, 41, 60, 61]]


def states(models: Backbone, role: Role) -> torch.Tensor:
    packed = Packed.pack(SEQUENCES, models.lm.device)
    with torch.no_grad(), acting_as(models, role):
        return models.packed_hidden(packed)


@pytest.mark.parametrize("start", ["base", "sft"])
def test_every_role_is_the_backbones(
    fresh_model: FreshModel, write_policy: WriteAdapter, write_reward: WriteAdapter, start: str
) -> None:
    sft = write_policy() if start == "sft" else None
    state, head, config = reward_parts(write_reward())
    asked = {"seed": 0, "start": sft, "reward": (state, config), "reward_head": head, "own_value": True}
    shared, apart = (kind(fresh_model(), Lora(r=4, alpha=8), **asked) for kind in (Backbone, SeparateModels))
    for role in ("policy", "reference", "reward", "value"):
        torch.testing.assert_close(states(apart, role), states(shared, role), atol=1e-4, rtol=1e-4)
    assert (states(apart, "value") - states(apart, "policy")).abs().max() > 0.1
    torch.testing.assert_close(states(apart, "value"), states(apart, "reward"))
    for models in (shared, apart):
        torch.testing.assert_close(models.value_head.weight, head)
    before = states(apart, "reference")
    with torch.no_grad():
        for parameter in apart.policy_parameters().values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    torch.testing.assert_close(states(apart, "reference"), before)
    assert (states(apart, "policy") - before).abs().max() > 0.1


@pytest.mark.parametrize("start", ["base", "sft"])
def test_a_fully_trained_policy_is_published_exactly(
    fresh_model: FreshModel, write_policy: WriteAdapter, tmp_path: Path, start: str
) -> None:
    sft = write_policy() if start == "sft" else None
    models = SeparateModels(fresh_model(), Lora(), seed=0, start=sft)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in models.policy_parameters().values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    kept = models.policy_state()
    (target := tmp_path / "target").mkdir()
    publish(models, kept, [], start_adapter=sft, target=target)
    models.lm.model.set_attn_implementation("sdpa")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        expected = models.lm.model(ids).logits
        found = PeftModel.from_pretrained(fresh_model().model, str(target)).eval()(ids).logits
        merged = merge(fresh_model(), target).model(ids).logits
    for logits in (found, merged):
        torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-3)
    again = SeparateModels(fresh_model(), Lora(), seed=0, start=sft)
    again.load_policy(kept)
    torch.testing.assert_close(states(again, "policy"), states_of(models))


def states_of(models: Backbone) -> torch.Tensor:
    models.lm.model.set_attn_implementation("rlaif_rows")
    return states(models, "policy")


def test_only_float32_is_trained_in_full(fresh_model: FreshModel) -> None:
    with pytest.raises(UserError, match=r"needs dtype float32, found bfloat16; set dtype in data/models/tiny.yaml"):
        SeparateModels(fresh_model("bfloat16"), Lora(), seed=0)
