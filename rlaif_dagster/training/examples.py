"""Preference pairs as the token ids that training sees.

Every stage tokenizes in one way: the prompt as the chat up to where the answer begins, the answer with the token that
ends it. Both are tokenized apart, as at sampling time, so no token spans the boundary, and the end token is always a
trained target: a policy that never learned it answers without end. A pair longer than `max_length` is left out as a whole
and counted: cut answers would teach to stop nowhere, and cut pairs would be compared on what they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import pandas as pd

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Optimization

Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class Demonstration:
    """A prompt and a preferred answer, as token ids; the answer ends with the end token."""

    prompt: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class TokenPair:
    """A prompt and two answers, as token ids, and how many characters longer the chosen answer is."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    longer_by: int

    @property
    def length(self) -> int:
        """Of the longer sequence, which is what a batch is padded to."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def tokens(self) -> int:
        """Of both sequences."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


Example = TypeVar("Example", Demonstration, TokenPair)


@dataclass(frozen=True)
class Examples(Generic[Example]):
    """The examples of a split that fit, and how many were too long."""

    items: list[Example]
    too_long: int


def demonstrations(
    lm: LanguageModel, pairs: pd.DataFrame, split: Split, recipe: Optimization
) -> Examples[Demonstration]:
    """The preferred answers of a split, each prompt and answer once, in the order of their content hash; of `train`, the
    first `recipe.max_examples` that fit."""
    keys = _rows(pairs, split, ["prompt", "chosen"])
    found = [Demonstration(lm.prompt_ids(lm.chat(prompt)), lm.answer_ids(answer)) for prompt, answer in keys]
    return _fitting(found, split, recipe)


def preferences(lm: LanguageModel, pairs: pd.DataFrame, split: Split, recipe: Optimization) -> Examples[TokenPair]:
    """The pairs of a split, each once, in the order of their content hash; of `train`, the first `recipe.max_examples`
    that fit."""
    found = [
        TokenPair(
            lm.prompt_ids(lm.chat(prompt)), lm.answer_ids(chosen), lm.answer_ids(rejected), len(chosen) - len(rejected)
        )
        for prompt, chosen, rejected in _rows(pairs, split, ["prompt", "chosen", "rejected"])
    ]
    return _fitting(found, split, recipe)


def _rows(pairs: pd.DataFrame, split: Split, columns: list[str]) -> list[tuple[str, ...]]:
    rows = set(pairs.loc[pairs["split"] == split, columns].itertuples(index=False, name=None))
    return sorted(rows, key=content_hash)


def _fitting(found: Sequence[Example], split: Split, recipe: Optimization) -> Examples[Example]:
    fitting = [example for example in found if example.length <= recipe.max_length]
    too_long = len(found) - len(fitting)
    if split == "train" and not fitting:
        raise UserError(
            f"no training pairs: {len(found)} preference pairs in split 'train', {too_long} of them longer than max_length "
            f"{recipe.max_length}; raise max_length in the recipe, or lower min_margin in data/recipes/judging.yaml"
        )
    return Examples(fitting[: recipe.max_examples] if split == "train" else fitting, too_long)


def counts(training: Examples[Example], held_out: Examples[Example]) -> dict[str, float]:
    """What a training was given, for its metrics."""
    return {
        "examples": len(training.items),
        "examples_too_long": training.too_long,
        "held_out": len(held_out.items),
        "held_out_too_long": held_out.too_long,
    }
