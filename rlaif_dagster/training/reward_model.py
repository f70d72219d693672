"""A reward model: the base model's trunk with a LoRA, and a linear head that reads the answer's end token.

    r(x, y) = w . h_end(x, y)        with h_end the last hidden state at the end token of the chat x with its answer y

In memory it is transformers' own sequence classifier with one label around the trunk that is already loaded: no second
copy of the weights. On disk it is an ordinary peft folder, whose LoRA fits the plain causal model's trunk as well.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from rlaif_dagster.errors import UserError
from rlaif_dagster.language import quantization
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.training.adapters import WEIGHTS
from rlaif_dagster.training.quiet import quiet

HEAD = "score"


def scoring_tokenizer(lm: LanguageModel) -> PreTrainedTokenizerBase:
    """The tokenizer with a padding token that is not the end token.

    A sequence classifier reads the last token that is no padding. Chat models often pad with the end token itself; the
    score would then land on the token before the end, and not see whether the answer ends (TRL issue 3750).
    """
    tokenizer = copy.deepcopy(lm.tokenizer)
    if tokenizer.pad_token_id in (None, lm.end_id):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(1 if lm.end_id == 0 else 0)
    return tokenizer


def classifier(lm: LanguageModel, pad_id: int, *, seed: int, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """A sequence classifier with one label on the trunk of `lm` (shared, not copied).

    The head starts as N(0, 1 / (hidden + 1)) (arXiv 2403.17031), in `dtype` (the base's when None). Raises UserError for an
    architecture without such a classifier.
    """
    config = copy.deepcopy(lm.model.config)
    config.num_labels = 1
    config.get_text_config().pad_token_id = pad_id
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise UserError(
            f"model {lm.name}: {config.model_type} has no sequence classifier, so no reward model"
        ) from error
    if not isinstance(getattr(model, HEAD, None), nn.Linear):
        raise UserError(f"model {lm.name}: the sequence classifier of {config.model_type} has no linear head '{HEAD}'")
    setattr(model, model.base_model_prefix, lm.model.base_model)
    hidden = config.get_text_config().hidden_size
    weight = torch.randn(1, hidden, generator=torch.Generator().manual_seed(seed)) / math.sqrt(hidden + 1)
    head = nn.Linear(hidden, 1, bias=False)
    head.weight = nn.Parameter(weight)
    setattr(model, HEAD, head.to(lm.device, dtype or lm.model.dtype))
    return model.eval()


@torch.no_grad()
def rewards(model: PreTrainedModel, sequences: Sequence[list[int]], *, batch: int = 16) -> list[float]:
    """The head's value at the last token of each sequence (token ids of a chat with its answer and end token)."""
    values = [0.0] * len(sequences)
    by_length = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    for first in range(0, len(by_length), batch):
        places = by_length[first : first + batch]
        lengths = torch.tensor([len(sequences[place]) for place in places])
        ids = torch.zeros(len(places), int(lengths.max()), dtype=torch.long)
        for row, place in enumerate(places):
            ids[row, : len(sequences[place])] = torch.tensor(sequences[place])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        trunk = getattr(model, model.base_model_prefix)
        states = trunk(ids.to(model.device), attention_mask=mask.long().to(model.device), use_cache=False)[0]
        ends = states[torch.arange(len(places)), lengths - 1]
        head = getattr(model, HEAD)
        scores = head(ends.to(head.weight.dtype))[:, 0].float().tolist()
        for place, value in zip(places, scores, strict=True):
            values[place] = value
    return values


@dataclass(frozen=True)
class RewardModel:
    """A trained reward model, ready to score."""

    lm: LanguageModel
    model: PreTrainedModel

    @classmethod
    def load(cls, lm: LanguageModel, folder: Path) -> RewardModel:
        """A reward model from its peft folder. Its adapter is laid on the trunk of `lm`, which from then on is the reward
        model's: give it a base of its own."""
        base = classifier(lm, scoring_tokenizer(lm).pad_token_id, seed=0, dtype=torch.float32)
        with quiet():
            model = PeftModel.from_pretrained(base, str(folder))
        if not quantization.merges(lm.model):
            return cls(lm, model.get_base_model().eval())
        with quiet():
            return cls(lm, model.merge_and_unload().eval())

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, batch: int = 16) -> list[float]:
        """Reward of each answer to its prompt."""
        sequences = [
            self.lm.prompt_ids(self.lm.chat(prompt)) + self.lm.answer_ids(answer)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return rewards(self.model, sequences, batch=batch)


def reward_parts(folder: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor, LoraConfig]:
    """A reward model's parts, to be laid on a trunk that is already in memory.

    Returns the LoRA weights by their name under the trunk (`layers.0.self_attn.q_proj.lora_A.weight`; in a peft model of
    the causal LM they stand under `base_model.model.model.`), the head's weight [1, hidden] in float32, and the
    adapter's configuration (its scale is `lora_alpha / r`).
    """
    tensors = load_file(folder / WEIGHTS)
    head = tensors.pop(f"base_model.model.{HEAD}.weight")
    lora = {name.split(".", 3)[3]: tensor for name, tensor in tensors.items()}
    return lora, head.float(), LoraConfig.from_pretrained(str(folder))
