"""Pairs as token ids: prompt and answer apart, the end token at the end, duplicates and too long ones out."""

from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Sft
from rlaif_dagster.training.examples import counts, demonstrations, preferences


def test_tokens_are_those_of_sampling(tiny_model: LanguageModel, pairs: pd.DataFrame) -> None:
    first = demonstrations(tiny_model, pairs, "train", Sft()).items[0]
    text = tiny_model.tokenizer.decode(first.prompt)
    assert text.startswith("<|im_start|>user\nQuestion ")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert first.answer == [
        *tiny_model.answer_ids(tiny_model.tokenizer.decode(first.answer[:-1]), end=False),
        tiny_model.end_id,
    ]


def test_an_answer_that_would_merge_with_the_prompt_stays_apart(tiny_model: LanguageModel) -> None:
    rows = pd.DataFrame([{"prompt": "Why?", "chosen": "\n\nBecause.", "rejected": "\nno", "split": "train"}])
    [pair] = preferences(tiny_model, rows, "train", Sft()).items
    assert pair.prompt == tiny_model.prompt_ids(tiny_model.chat("Why?"))
    assert tiny_model.tokenizer.decode(pair.chosen) == "\n\nBecause.<|im_end|>"


def test_each_answer_once_in_the_order_of_its_hash(tiny_model: LanguageModel) -> None:
    texts = [("p", "one"), ("p", "two"), ("q", "one"), ("p", "one")]
    rows = pd.DataFrame(
        [{"prompt": p, "chosen": c, "rejected": str(n), "split": "train"} for n, (p, c) in enumerate(texts)]
    )
    found = demonstrations(tiny_model, rows, "train", Sft()).items
    expected = sorted(set(texts), key=content_hash)
    assert [tiny_model.tokenizer.decode(item.answer[:-1]) for item in found] == [answer for _, answer in expected]
    shuffled = demonstrations(tiny_model, rows[::-1], "train", Sft(max_examples=2)).items
    assert shuffled == found[:2]
    assert len(preferences(tiny_model, rows, "train", Sft()).items) == 4  # the rejected answers differ


def test_what_is_too_long_is_left_out_and_counted(tiny_model: LanguageModel) -> None:
    rows = pd.DataFrame(
        [
            {"prompt": "Why?", "chosen": "Yes", "rejected": "No", "split": "train"},
            {"prompt": "Why?", "chosen": "Yes", "rejected": "No " * 60, "split": "train"},
            {"prompt": "Why?", "chosen": "So " * 60, "rejected": "No", "split": "held_out"},
        ]
    )
    recipe = Sft(max_length=60)
    training, held_out = (preferences(tiny_model, rows, split, recipe) for split in ("train", "held_out"))
    assert counts(training, held_out) == {"examples": 1, "examples_too_long": 1, "held_out": 0, "held_out_too_long": 1}
    pair = training.items[0]
    assert pair.longer_by == 1
    assert pair.tokens == 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected)
    assert pair.length == len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def test_nothing_to_train_on_is_told_in_one_line(tiny_model: LanguageModel, pairs: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="12 of them longer than max_length 5"):
        preferences(tiny_model, pairs, "train", Sft(max_length=5))
    with pytest.raises(UserError, match="0 preference pairs in split 'train'"):
        demonstrations(tiny_model, pairs[pairs["split"] == "held_out"], "train", Sft())
