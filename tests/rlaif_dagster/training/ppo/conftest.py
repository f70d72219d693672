"""What the PPO tests share: adapters with an effect, prompts, a rule that scores, a short recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Lora, Ppo
from rlaif_dagster.training import adapters
from rlaif_dagster.training.reward_model import HEAD, classifier

WriteAdapter = Callable[..., Path]
Recipe = Callable[..., Ppo]

TEXTS = (
    "What is a spider?",
    "Name a city.",
    "Why is the sky blue, and why is it red in the evening when the sun goes down?",
    "Count to ten.",
    "Say who you are.",
    "How old is the sun?",
    "Tell me about the sea in winter.",
    "Name three fruits.",
    "What is the largest planet in our solar system?",
)


@pytest.fixture
def prompts() -> pd.DataFrame:
    rows = [{"prompt_id": content_hash(text), "split": "train", "text": text} for text in TEXTS]
    other = {"prompt_id": content_hash("eval"), "split": "eval", "text": "Never to be trained on."}
    return pd.DataFrame([*rows, other])


class CountToken:
    """Scores an answer by how often one token stands in it, as a share of `maximum`: the best policy is known."""

    def __init__(self, token: int, maximum: int = 1) -> None:
        self.token, self.maximum = token, maximum

    def score(self, prompts: Sequence[str], answers: Sequence[str], token_ids: Sequence[Sequence[int]]) -> list[float]:
        return [sum(token == self.token for token in ids) / self.maximum for ids in token_ids]


@pytest.fixture
def count_token(tiny_model: LanguageModel) -> CountToken:
    return CountToken(tiny_model.answer_ids(" the", end=False)[0])


@pytest.fixture
def recipe() -> Recipe:
    """A short recipe whose fields can be overridden."""

    def make(**fields: Any) -> Ppo:
        short = {
            "start": "base", "updates": 3, "rollout_batch": 8, "minibatches": 2, "micro_batch": 3, "epochs": 2,
            "learning_rate": 1e-2, "max_new_tokens": 6, "lora": Lora(r=4, alpha=8), "held_out_prompts": 2,
            "evaluate_updates": 2, "save_updates": 1, "max_kl": 1e6, "min_length_share": 0.0, "max_repetition": 1.0,
        }  # fmt: skip
        return Ppo(**{**short, **fields})

    return make


def randomize(model: torch.nn.Module, seed: int, parts: Sequence[str]) -> None:
    """Fill the parameters whose names hold one of `parts`, so that an adapter changes its model."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in parts):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.fixture
def write_policy(fresh_model: Callable[..., LanguageModel], tmp_path: Path) -> WriteAdapter:
    """A causal LM's adapter with random factors, as SFT would publish it."""

    def write(*, seed: int = 5, r: int = 3) -> Path:
        lm = fresh_model()
        model = get_peft_model(
            lm.model, LoraConfig(r=r, lora_alpha=5, target_modules="all-linear", task_type="CAUSAL_LM")
        )
        randomize(model, seed, ["lora_"])
        adapters.save(model, tmp_path / f"sft-{seed}", lm)
        return tmp_path / f"sft-{seed}"

    return write


@pytest.fixture
def write_reward(fresh_model: Callable[..., LanguageModel], tmp_path: Path) -> WriteAdapter:
    """A reward model's folder with random factors and head, as `train_reward` publishes it."""

    def write(*, seed: int = 6) -> Path:
        lm = fresh_model()
        config = LoraConfig(r=2, lora_alpha=6, target_modules="all-linear", task_type="SEQ_CLS", modules_to_save=[HEAD])
        model = get_peft_model(classifier(lm, int(lm.tokenizer.pad_token_id), seed=seed), config)
        randomize(model, seed, ["lora_", f"{HEAD}.modules_to_save"])
        adapters.save(model, tmp_path / f"reward-{seed}", lm)
        return tmp_path / f"reward-{seed}"

    return write
