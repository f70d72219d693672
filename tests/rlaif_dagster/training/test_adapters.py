"""Joining adapters is exact: the joined one does what both do, whatever their ranks, scales and modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from rlaif_dagster.errors import UserError
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Lora
from rlaif_dagster.training.adapters import WEIGHTS, concatenate, lora_config, merge, save
from tests.rlaif_dagster.training.conftest import FreshModel


def write_adapter(lm: LanguageModel, folder: Path, *, seed: int, **config: Any) -> Path:
    """A LoRA with random factors (both of them, so that it changes the model)."""
    generator = torch.Generator().manual_seed(seed)
    model = get_peft_model(lm.model, LoraConfig(task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    save(model, folder, lm)
    return folder


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(3, 40)[None]).logits


EVERYWHERE = {"target_modules": "all-linear"}
CASES = {
    "alike": ({"r": 4, "lora_alpha": 8, **EVERYWHERE}, {"r": 4, "lora_alpha": 8, **EVERYWHERE}),
    "ranks, scales and modules differ": (
        {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj"]},
        {"r": 8, "lora_alpha": 4, **EVERYWHERE},
    ),
    "no module in common": (
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]},
        {"r": 2, "lora_alpha": 7, "target_modules": ["down_proj"]},
    ),
    "rsLoRA and patterns": (
        {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["q_proj", "o_proj"]},
        {
            "r": 2, "lora_alpha": 2, "rank_pattern": {"q_proj": 6}, "alpha_pattern": {"q_proj": 3},
            "target_modules": ["q_proj", "up_proj"],
        },
    ),
}  # fmt: skip

# float32 sums in another order (1.2e-5 was seen; processors differ); what the adapters do is a thousand times this bound
ROUNDING = {"atol": 1e-4, "rtol": 1e-5}


@pytest.mark.parametrize(("first", "second"), CASES.values(), ids=CASES.keys())
def test_joined_adapter_equals_one_upon_the_other(
    fresh_model: FreshModel, tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    start = write_adapter(fresh_model(), tmp_path / "first", seed=1, **first)
    trained = write_adapter(fresh_model(), tmp_path / "second", seed=2, **second)
    both = merge(merge(fresh_model(), start), trained).model
    (tmp_path / "joined").mkdir()
    concatenate(start, trained, tmp_path / "joined")
    joined = PeftModel.from_pretrained(fresh_model().model, str(tmp_path / "joined")).eval()
    expected = logits(both)
    assert (expected - logits(fresh_model().model)).abs().max() > 0.1  # the adapters do something
    torch.testing.assert_close(logits(joined), expected, **ROUNDING)
    merged = merge(fresh_model(), tmp_path / "joined").model
    torch.testing.assert_close(logits(merged), expected, **ROUNDING)


def test_joined_factors_by_hand(tmp_path: Path) -> None:
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    for name, a, b, alpha in (("first", [[1.0, 2.0]], [[3.0], [4.0]], 2), ("second", [[5.0, 6.0]], [[7.0], [8.0]], 3)):
        (tmp_path / name).mkdir()
        LoraConfig(task_type="CAUSAL_LM", r=1, lora_alpha=alpha, target_modules=["q_proj"]).save_pretrained(
            str(tmp_path / name)
        )
        tensors = {f"{module}.lora_A.weight": torch.tensor(a), f"{module}.lora_B.weight": torch.tensor(b)}
        save_file(tensors, tmp_path / name / WEIGHTS)
    concatenate(tmp_path / "first", tmp_path / "second", tmp_path / "joined")
    joined = load_file(tmp_path / "joined" / WEIGHTS)
    assert joined[f"{module}.lora_A.weight"].tolist() == [[1, 2], [5, 6]]
    assert joined[f"{module}.lora_B.weight"].tolist() == [[6, 21], [8, 24]]
    config = LoraConfig.from_pretrained(str(tmp_path / "joined"))
    assert (config.r, config.lora_alpha) == (2, 2)
    assert config.target_modules == {"q_proj"}


def test_what_is_no_plain_lora_is_refused(fresh_model: FreshModel, tmp_path: Path) -> None:
    plain = write_adapter(fresh_model(), tmp_path / "plain", seed=1, target_modules=["q_proj"])
    dora = write_adapter(fresh_model(), tmp_path / "dora", seed=1, target_modules=["q_proj"], use_dora=True)
    with pytest.raises(ValueError, match="not a plain LoRA"):
        concatenate(plain, dora, tmp_path / "joined")


def test_saved_adapter_names_the_base_and_no_path(fresh_model: FreshModel, tmp_path: Path) -> None:
    lm = fresh_model()
    save(get_peft_model(lm.model, lora_config(lm, Lora(r=2), task="CAUSAL_LM")), tmp_path / "adapter", lm)
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == ["adapter_config.json", WEIGHTS]
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert '"base_model_name_or_path": "tiny"' in text
    assert str(tmp_path) not in text


def test_a_target_that_is_no_layer_is_told_with_what_is_allowed(tiny_model: LanguageModel) -> None:
    for wrong in ("query", "lm_head"):
        with pytest.raises(
            UserError, match=f"names {wrong}; allowed: all-linear, or some of down_proj, gate_proj, k_proj"
        ):
            lora_config(tiny_model, Lora(target_modules=("q_proj", wrong)), task="CAUSAL_LM")
    assert lora_config(tiny_model, Lora(target_modules=("q_proj",)), task="CAUSAL_LM").target_modules == {"q_proj"}
