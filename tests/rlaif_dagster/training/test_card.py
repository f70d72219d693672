"""The card is one that Hugging Face reads, with the recipe and the lineage in tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from rlaif_dagster.spec.recipes import Dpo
from rlaif_dagster.training.card import ARMS, write_card


def test_front_matter_recipe_and_lineage(tmp_path: Path) -> None:
    path = write_card(
        tmp_path, title="Structured answers", base="HuggingFaceTB/SmolLM2-135M-Instruct", arm="dpo", license="Apache-2.0",
        recipe=Dpo(beta=0.3).meaning(), lineage=[("preference_pairs", "smollm2|structured", "0123abcd"), ("sft_model", "a|b", "x")],
        metrics={"eval_rewards/accuracies": 0.9375},
    )  # fmt: skip
    card = ModelCard.load(path)
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (card.data.library_name, card.data.license) == ("peft", "apache-2.0")
    assert {"rlaif", "dpo"} <= set(card.data.tags)
    lines = card.text.splitlines()
    assert "| beta | 0.3 |" in lines
    assert "| lora.r | 16 |" in lines
    assert "| preference_pairs | smollm2\\|structured | 0123abcd |" in lines
    assert "| eval_rewards/accuracies | 0.9375 |" in lines


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_every_arm_and_no_license(tmp_path: Path, arm: str) -> None:
    card = ModelCard.load(write_card(tmp_path, title="t", base="b", arm=arm, recipe={}, lineage=[], metrics={}))
    assert card.data.license is None
    assert card.data.pipeline_tag == ("text-classification" if arm == "reward" else "text-generation")
    merged = write_card(tmp_path, title="t", base="b", arm=arm, recipe={}, lineage=[], metrics={}, merged=True)
    assert ModelCard.load(merged).data.library_name == "transformers"
