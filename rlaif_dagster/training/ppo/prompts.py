"""The prompts that PPO answers, and those it is judged by while it trains."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from rlaif_dagster.errors import UserError
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Ppo


@dataclass(frozen=True)
class Prompts:
    """Texts and token ids (each a chat up to where the answer begins)."""

    texts: list[str]
    ids: list[list[int]]

    def and_also(self, others: Prompts) -> Prompts:
        """These and `others`."""
        return Prompts(self.texts + others.texts, self.ids + others.ids)


def split_prompts(lm: LanguageModel, prompts: pd.DataFrame, recipe: Ppo) -> tuple[Prompts, Prompts, int]:
    """Prompts to train on, prompts to choose the checkpoint by, and how many were too long.

    Both come from split `train`: a checkpoint chosen by the `eval` prompts would flatter itself on them later. Order and choice
    follow the prompts' content hashes, not the order of the files. Raises UserError when there are too few prompts, or
    when prompt and answer exceed the model's context.
    """
    texts = prompts[prompts["split"] == "train"].sort_values("prompt_id")["text"].tolist()
    tokenized = [(text, lm.prompt_ids(lm.chat(text))) for text in texts]
    fitting = [(text, ids) for text, ids in tokenized if len(ids) <= recipe.max_prompt_tokens]
    if len(fitting) < 2:
        raise UserError(
            f"PPO needs at least 2 prompts of split train with at most {recipe.max_prompt_tokens} tokens, found {len(fitting)} "
            f"of {len(texts)}; add prompts, or raise max_prompt_tokens in data/recipes/ppo.yaml"
        )
    longest = max(len(ids) for _, ids in fitting) + recipe.max_new_tokens
    context = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and longest > context:
        raise UserError(
            f"model {lm.name}: a prompt and {recipe.max_new_tokens} answer tokens need a context of {longest}, it has {context}; "
            "lower max_new_tokens or max_prompt_tokens in data/recipes/ppo.yaml"
        )
    kept = max(1, min(recipe.held_out_prompts, len(fitting) // 4))
    held_out, training = (
        Prompts([t for t, _ in part], [i for _, i in part]) for part in (fitting[:kept], fitting[kept:])
    )
    return training, held_out, len(tokenized) - len(fitting)
