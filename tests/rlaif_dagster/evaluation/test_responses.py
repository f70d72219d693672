"""Answers to the eval and qualitative prompts, in both decodings."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rlaif_dagster.evaluation.responses import respond
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Responses
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, to_arrow
from rlaif_dagster.work import Chunks

PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["a", "b", "c"],
        "split": ["eval", "train", "qualitative"],
        "text": ["Why is the sky blue?", "Not asked.", "Name three fruits."],
    }
)


def test_respond(tiny_model: LanguageModel, tmp_path: Path) -> None:
    recipe = Responses(max_new_tokens=8)
    found = respond(tiny_model, PROMPTS, recipe, chunks=Chunks(tmp_path))
    assert list(zip(found["prompt_id"], found["decoding"], strict=True)) == [
        ("a", "greedy"), ("c", "greedy"), ("a", "sampled"), ("c", "sampled"),
    ]  # fmt: skip
    assert found["tokens"].between(1, 8).all()
    greedy, sampled = (list(found[found["decoding"] == name]["text"]) for name in ("greedy", "sampled"))
    assert greedy != sampled
    again = respond(tiny_model, PROMPTS, Responses(max_new_tokens=8, seed=1))
    assert list(again[again["decoding"] == "greedy"]["text"]) == greedy
    assert list(again[again["decoding"] == "sampled"]["text"]) != sampled
    assert to_arrow(TABLES["responses"], found.assign(arm="base", seed=0), Cell("m")).num_rows == 4
    assert len(respond(tiny_model, PROMPTS, Responses(max_new_tokens=2, decodings=("greedy",)))) == 2
