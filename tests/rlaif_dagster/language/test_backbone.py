"""Arms on one loaded backbone have exactly the weights that loading them afresh gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from rlaif_dagster.home import Home
from rlaif_dagster.language import backbone as module
from rlaif_dagster.language.backbone import backbone, merged_weights
from rlaif_dagster.language.base_model import LanguageModel, load
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.training.adapters import merge


@pytest.fixture
def spec(tiny_model_folder: Path) -> ModelSpec:
    return ModelSpec(folder=str(tiny_model_folder))


@pytest.fixture
def adapters(tiny_model_folder: Path, tmp_path: Path) -> list[Path]:
    """Two adapters, one of all linear layers and one of two."""
    folders = []
    for seed, targets in enumerate(("all-linear", ["q_proj", "up_proj"])):
        model: Any = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
        folders.append(tmp_path / f"adapter{seed}")
        adapted.save_pretrained(folders[-1])
    return folders


def weights(lm: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in lm.model.named_parameters()}


def test_every_arm_in_any_order_is_what_loading_gives(spec: ModelSpec, adapters: list[Path], home: Home) -> None:
    expected = {adapter: weights(load("tiny", spec, home, adapter=adapter)) for adapter in (None, *adapters)}
    kept = backbone("tiny", spec, home)
    for adapter in (None, adapters[0], adapters[1], None, adapters[1], adapters[0], None):
        found = weights(kept.arm(adapter))
        assert found.keys() == expected[adapter].keys()
        assert all(torch.equal(found[name], weight) for name, weight in expected[adapter].items())
    assert not torch.equal(*(expected[a]["model.layers.0.self_attn.q_proj.weight"] for a in adapters))


def test_loaded_once_and_let_go_when_another_is_loaded(
    spec: ModelSpec, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    monkeypatch.setattr(module, "load", lambda *a, **k: loads.append(a[0]) or load(*a, **k))
    first = backbone("tiny", spec, home)
    assert backbone("tiny", spec, home) is first
    assert loads == ["tiny"]
    backbone("other", spec, home)
    assert list(module._kept.values()) != [first]
    load("tiny", spec, home)
    assert module._kept == {}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_16_bits_an_arm_computes_what_training_computed(
    dtype: str, tiny_model_folder: Path, adapters: list[Path], home: Home
) -> None:
    """Nearly every number that a layer gives is that of the peft model, to the last bit; of a merged one, about half."""
    spec = ModelSpec(folder=str(tiny_model_folder), dtype=dtype)
    x = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))

    def outputs(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model.model.layers[0].self_attn.q_proj(x)

    def alike(lm: LanguageModel) -> float:
        return float((outputs(lm.model) == in_training).float().mean())

    kept = backbone("tiny", spec, home)
    base = outputs(kept.arm(None).model)
    in_training = outputs(PeftModel.from_pretrained(load("tiny", spec, home).model, str(adapters[1])).get_base_model())
    assert alike(load("tiny", spec, home, adapter=adapters[1])) > 0.99
    assert alike(kept.arm(adapters[1])) > 0.99
    assert torch.equal(outputs(kept.arm(None).model), base)
    assert alike(merge(load("tiny", spec, home), adapters[1])) < 0.7


def test_a_merge_that_fails_spoils_no_later_arm(spec: ModelSpec, adapters: list[Path], home: Home) -> None:
    kept = backbone("tiny", spec, home)
    before = weights(kept.lm)
    broken = adapters[0].with_name("broken")
    shutil.copytree(adapters[0], broken)
    config = (broken / "adapter_config.json").read_text()
    (broken / "adapter_config.json").write_text(config.replace('"r": 4', '"r": 5'))
    with pytest.raises(RuntimeError):
        kept.arm(broken)
    assert backbone("tiny", spec, home) is not kept
    after = weights(backbone("tiny", spec, home).arm(None))
    assert all(torch.equal(before[name], weight) for name, weight in after.items())
    (broken / "adapter_config.json").write_text(config.replace('"bias": "none"', '"bias": "all"'))
    with pytest.raises(ValueError, match="not a plain LoRA adapter"):
        merged_weights(broken)
