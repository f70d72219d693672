"""How an arm answers the study's own prompts: greedy (what a user of the model would see) and sampled at temperature 1
(what it believes: a policy that follows a format in three of four samples may do so always when it decodes
greedily)."""

from __future__ import annotations

import pandas as pd

from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.sampling import sample
from rlaif_dagster.spec.recipes import Responses, Sampling
from rlaif_dagster.work import Chunks

ANSWERED_SPLITS = ("eval", "qualitative")


def respond(
    lm: LanguageModel, prompts: pd.DataFrame, recipe: Responses, *, chunks: Chunks | None = None
) -> pd.DataFrame:
    """The table `responses` without its keys, arm and seed: one row a prompt (of the eval and qualitative splits) and
    decoding.

    `chunks` must lie in a folder of this very model's (adapter included); a killed run finds its finished chunks there.
    """
    asked = prompts[prompts["split"].isin(ANSWERED_SPLITS)]
    chats = [lm.chat(text) for text in asked["text"]]
    frames = []
    for decoding in recipe.decodings:
        answers = sample(
            lm, chats, _sampling(recipe, decoding), chunks=chunks, progress=f"{lm.name} {decoding} answers"
        )
        frames.append(
            pd.DataFrame(
                {
                    "prompt_id": list(asked["prompt_id"]),
                    "text": [answer.text for (answer,) in answers],
                    "tokens": [answer.tokens for (answer,) in answers],
                    "decoding": decoding,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _sampling(recipe: Responses, decoding: str) -> Sampling:
    return Sampling(
        max_new_tokens=recipe.max_new_tokens,
        temperature=recipe.temperature if decoding == "sampled" else 0.0,
        seed=recipe.seed,
        batch_size=recipe.batch_size,
    )
