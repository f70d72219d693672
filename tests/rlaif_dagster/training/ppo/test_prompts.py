"""Which prompts are trained on, and which the checkpoint is chosen by."""

from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.training.ppo.prompts import split_prompts
from tests.rlaif_dagster.training.ppo.conftest import TEXTS, Recipe


def test_held_out_prompts_are_kept_from_training(
    tiny_model: LanguageModel, prompts: pd.DataFrame, recipe: Recipe
) -> None:
    training, held_out, too_long = split_prompts(tiny_model, prompts, recipe(held_out_prompts=2))
    assert sorted(training.texts + held_out.texts) == sorted(TEXTS)  # none from the eval split
    assert len(held_out.texts) == 2
    assert too_long == 0
    assert held_out.ids[0] == tiny_model.prompt_ids(tiny_model.chat(held_out.texts[0]))
    # at most a quarter, and the order of the file does not matter
    training, held_out, _ = split_prompts(tiny_model, prompts.iloc[::-1], recipe(held_out_prompts=100))
    again = split_prompts(tiny_model, prompts, recipe(held_out_prompts=100))
    assert (training, held_out) == again[:2]
    assert len(held_out.texts) == len(TEXTS) // 4


def test_long_prompts_are_left_out_and_counted(
    tiny_model: LanguageModel, prompts: pd.DataFrame, recipe: Recipe
) -> None:
    lengths = sorted(len(tiny_model.prompt_ids(tiny_model.chat(text))) for text in TEXTS)
    training, held_out, too_long = split_prompts(tiny_model, prompts, recipe(max_prompt_tokens=lengths[-2]))
    assert too_long == 1
    assert len(training.texts) + len(held_out.texts) == len(TEXTS) - 1


def test_too_few_prompts_and_too_little_context(
    tiny_model: LanguageModel, prompts: pd.DataFrame, recipe: Recipe
) -> None:
    with pytest.raises(UserError, match="found 0 of 9; add prompts, or raise max_prompt_tokens"):
        split_prompts(tiny_model, prompts, recipe(max_prompt_tokens=1))
    with pytest.raises(UserError, match="context"):
        split_prompts(tiny_model, prompts, recipe(max_new_tokens=10_000))
