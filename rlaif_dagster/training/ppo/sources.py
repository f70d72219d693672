"""Where scores come from. PPO knows the interface alone: a reward model, a judge, a rule or a sum may stand behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rlaif_dagster.training.ppo.backbone import Backbone, acting_as
from rlaif_dagster.training.ppo.rows import Packed
from rlaif_dagster.training.ppo.share import ALONE, Share


@dataclass(frozen=True)
class Scale:
    """How raw scores are normalised: (score - mean) / deviation."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, scores: Tensor) -> Scale:
        """Mean and population deviation of `scores` [n]; scores that are all equal are only centred."""
        deviation = float(scores.double().std(correction=0))
        return cls(float(scores.double().mean()), deviation if deviation > 1e-6 else 1.0)

    def apply(self, scores: Tensor) -> Tensor:
        return (scores - self.mean) / self.deviation


class RewardSource(Protocol):
    """Scores answers; higher is better, the scale is its own. Where several processes train, each of them asks for the whole
    batch, and the source divides its work. What else it knows of the batch it scored last stands in an
    optional attribute `told`, by the name that the metrics give it."""

    def score(
        self, prompts: Sequence[str], answers: Sequence[str], token_ids: Sequence[Sequence[int]]
    ) -> Sequence[float] | Tensor:
        """One raw score an answer; `token_ids` are the answer's, with the end token where it ended."""


def told(source: RewardSource) -> Mapping[str, float]:
    """What a source knows of its last batch beside the scores."""
    found: Mapping[str, float] = getattr(source, "told", {})
    return found


class RewardModelSource:
    """The reward model on PPO's own backbone: its adapter switched on, its score head on the last token's state."""

    def __init__(self, backbone: Backbone, head: Tensor, micro_batch: int, share: Share = ALONE) -> None:
        """`head` is the score head's weight, [1, hidden]; `micro_batch` the answers a forward pass."""
        self.backbone, self.share = backbone, share
        self.head = head.float().to(backbone.lm.device)
        self.micro_batch = micro_batch

    @torch.no_grad()
    def score(self, prompts: Sequence[str], answers: Sequence[str], token_ids: Sequence[Sequence[int]]) -> Tensor:
        """An answer that was cut off is read as if it ended there, since a reward model has only seen whole answers; what it
        loses for that is the recipe's `missing_eos_penalty`."""
        lm = self.backbone.lm
        sequences = []
        for prompt, ids in zip(prompts, token_ids, strict=True):
            end = [] if ids and ids[-1] == lm.end_id else [lm.end_id]
            sequences.append([*lm.prompt_ids(lm.chat(prompt)), *ids, *end])
        sequences = self.share.of(sequences)
        scores = []
        with acting_as(self.backbone, "reward"):
            for start in range(0, len(sequences), self.micro_batch):
                packed = Packed.pack(sequences[start : start + self.micro_batch], lm.device)
                lengths = torch.tensor([len(sequence) for sequence in sequences[start : start + self.micro_batch]])
                last = packed.index.gather(1, lengths.to(lm.device)[:, None] - 1)[:, 0]
                scores.append((self.backbone.packed_hidden(packed)[last].float() @ self.head.T)[:, 0])
        return self.share.rows(torch.cat(scores) if scores else self.head.new_zeros(0))


class WeightedSum:
    """sum of weight * (score - mean) / deviation over sources, each normalised by the first batch that `calibrate` is given,
    since a reward model's units and a judge's have nothing to do with each other."""

    def __init__(self, parts: Mapping[str, tuple[float, RewardSource]]) -> None:
        """`parts` holds weight and source by name."""
        self.parts = parts
        self.scales: dict[str, Scale] = {}
        self.told: dict[str, float] = {}

    def calibrate(self, prompts: Sequence[str], answers: Sequence[str], token_ids: Sequence[Sequence[int]]) -> None:
        """Fix every part's scale by these answers."""
        for name, (_, source) in self.parts.items():
            self.scales[name] = Scale.of(torch.as_tensor(source.score(prompts, answers, token_ids)))

    def score(self, prompts: Sequence[str], answers: Sequence[str], token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Raises KeyError before `calibrate` was called, or `scales` set."""
        total = torch.zeros(len(answers))
        self.told = {}
        for name, (weight, source) in self.parts.items():
            scores = torch.as_tensor(source.score(prompts, answers, token_ids), dtype=torch.float32).cpu()
            total += weight * self.scales[name].apply(scores)
            self.told |= {f"reward_{name}": float(scores.mean()), **told(source)}
        return total
