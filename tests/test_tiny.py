"""The tiny model is what it says: it chats, ends turns with its own token, and spells every text."""

from __future__ import annotations

import torch

from rlaif_dagster.language.base_model import LanguageModel


def test_chat_template_and_tokens(tiny_model: LanguageModel) -> None:
    tokenizer = tiny_model.tokenizer
    ids = tiny_model.prompt_ids(tiny_model.chat("Why?", system="Be brief."))
    assert tokenizer.decode(ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tiny_model.end_id == tokenizer.convert_tokens_to_ids("<|im_end|>") != tokenizer.pad_token_id
    text = "Ünïcode — 日本 ok"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_next_token_is_far_from_uniform(tiny_model: LanguageModel) -> None:
    ids = tiny_model.prompt_ids(tiny_model.chat("Name three fruits."))
    logits = tiny_model.model(torch.tensor([ids])).logits[0, -1]
    assert logits.log_softmax(-1).max() > -3.5  # uniform over 500 tokens would be -6.2
