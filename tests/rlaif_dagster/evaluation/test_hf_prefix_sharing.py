"""`hf-prefix-sharing` beside lm-eval's `hf`: plain, with LoRA adapters, on models of other kinds, through lm-eval's own
entry points."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from rlaif_dagster.evaluation.hf_prefix_sharing import NAME, PrefixSharingHFLM
from rlaif_dagster.language import scoring
from rlaif_dagster.language.base_model import LanguageModel
from tests.rlaif_dagster.evaluation.test_language_model import PAIRS, instances


def pairs() -> list[tuple[str, str]]:
    """Few-shot questions with several answers, and the odd cases."""
    shots = "Q: Which planet is the largest?\nA: Jupiter\n\nQ: How many legs has a spider?\nA: eight\n\n"
    questions = ["What is the capital of France?", "What is the capital of Australia?", "Why is the sky blue?"]
    answers = [" Paris", " Paris, a city on the Seine", " Canberra", " a", " b"]
    return [*PAIRS, *((f"{shots}Q: {question}\nA:", answer) for question in questions for answer in answers)]


def assert_equal(model: Any, tokenizer: Any) -> None:
    """Log-likelihoods within 1e-4 and the same greedy answers, and so on whole texts."""
    ours = PrefixSharingHFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, max_length=256)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, max_length=256)
    for kind, asked in (("loglikelihood", pairs()), ("loglikelihood_rolling", [("Be brief, be honest. " * 60,)])):
        found, expected = (getattr(lm, kind)(instances(kind, asked), disable_tqdm=True) for lm in (ours, theirs))
        if kind == "loglikelihood_rolling":
            assert found == pytest.approx(expected, rel=1e-5)
            continue
        assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


@pytest.fixture
def fresh(tiny_model_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder)


def with_lora(model: Any, seed: int) -> Any:
    """The model with an adapter that changes what it says."""
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return adapted.eval()


def test_plain(tiny_model: LanguageModel) -> None:
    assert_equal(tiny_model.model, tiny_model.tokenizer)


def test_lora_adapter_stays_active(tiny_model: LanguageModel, fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes through the tree, not through padded passes."""
    monkeypatch.setattr(scoring, "_by_padding", None)
    model = with_lora(fresh, 0)
    assert_equal(model, tiny_model.tokenizer)
    asked = instances("loglikelihood", pairs())
    with_adapter, without = (
        [value for value, _ in PrefixSharingHFLM(pretrained=one, tokenizer=tiny_model.tokenizer).loglikelihood(asked)]
        for one in (model, tiny_model.model)
    )
    assert with_adapter != pytest.approx(without, abs=0.1)


def test_virtual_tokens_are_left_to_hf(tiny_model: LanguageModel, fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prefixed = get_peft_model(fresh, PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")).eval()
    asked: list[int] = []
    monkeypatch.setattr(HFLM, "_loglikelihood_tokens", lambda self, requests, *_: asked.append(len(requests)) or [])
    PrefixSharingHFLM(pretrained=prefixed, tokenizer=tiny_model.tokenizer).loglikelihood(
        instances("loglikelihood", pairs()), disable_tqdm=True
    )
    assert asked == [len(pairs())]


SHAPE: dict[str, Any] = {"vocab_size": 500, "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(
    ("config", "kind", "tree"),
    [
        (GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=512, **SHAPE), GPT2LMHeadModel, True),
        (
            MistralConfig(
                hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, sliding_window=16, **SHAPE,
            ),
            MistralForCausalLM,
            False,
        ),
    ],
    ids=["learned positions", "sliding window"],
)  # fmt: skip
def test_other_causal_models(tiny_model: LanguageModel, config: Any, kind: Any, tree: bool) -> None:
    torch.manual_seed(0)
    model = kind(config).eval()
    assert scoring._fits_tree(model, 100) is tree
    assert_equal(model, tiny_model.tokenizer)


def test_the_batch_size_bounds_the_tokens_of_a_pass(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlaif_dagster.evaluation.hf_prefix_sharing.TOKENS_A_SEQUENCE", 8)
    read: list[int] = []
    hook = tiny_model.model.model.embed_tokens.register_forward_hook(lambda _, args, __: read.append(args[0].numel()))
    try:
        PrefixSharingHFLM(pretrained=tiny_model.model, tokenizer=tiny_model.tokenizer, batch_size=2).loglikelihood(
            instances("loglikelihood", pairs()), disable_tqdm=True
        )
    finally:
        hook.remove()
    assert max(read) == 16


def test_found_by_name_with_lm_evals_arguments(
    tiny_model: LanguageModel, tiny_model_folder: Path, fresh: Any, tmp_path: Path
) -> None:
    """As `--model hf-prefix-sharing --model_args pretrained=…,peft=…` makes it."""
    with_lora(fresh, 1).save_pretrained(tmp_path / "adapter")
    arguments = f"pretrained={tiny_model_folder},peft={tmp_path / 'adapter'},dtype=float32"
    lm = get_model(NAME).create_from_arg_string(arguments, {"batch_size": 3, "device": "cpu"})
    assert isinstance(lm, PrefixSharingHFLM)
    merged = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model_folder), str(tmp_path / "adapter")
    ).merge_and_unload()
    expected = scoring.score(
        dataclasses.replace(tiny_model, model=merged), [lm._encode_pair(*pair) for pair in pairs()[-15:]]
    )
    found = lm.loglikelihood(instances("loglikelihood", pairs()[-15:]), disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([one.logprob for one in expected], abs=1e-3)
