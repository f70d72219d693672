"""A language model small enough for unit tests, made from scratch in about a second: no download, the real classes.

A randomly initialised Llama (two layers, 64 wide) and a byte-level BPE tokenizer of 500 tokens trained on the sentences
below, with a ChatML template. End token and padding token differ, so a test that confuses them fails.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 500
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCES = (
    "system user assistant Answer: [response] — Confidence: [high/medium/low] — Reasoning: [brief explanation]",
    "What is the capital of France? The capital of France is Paris, a city on the river Seine.",
    "How many legs does a spider have? A spider has eight legs, and an insect has six legs.",
    "Imagine that nobody ever forgot anything. What would change about how people forgive each other?",
    "Explain why the sky is blue in one sentence. Write a short poem about the sea and the wind in winter.",
    "I cannot help with that request because it could hurt someone. Please talk to a person whom you trust.",
    "Which planet is the largest in our solar system? Jupiter is the largest planet, larger than the others together.",
    "Be honest, be harmless and be helpful: say what you know, say what you do not know, and be brief.",
    "Answer: Canberra — Confidence: high — Reasoning: Canberra has been the capital of Australia since 1913.",
    "Name three fruits. Apples, pears and plums. Count from one to ten: one, two, three, four, five, six, seven.",
)


def make_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE over `SENTENCES`; every text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a model and its tokenizer into `folder` in Hugging Face layout; the same seed gives the same weights."""
    tokenizer = make_tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        # ten times the usual spread: a model whose next-token distribution is far from uniform, so that a wrong mask or
        # position shows in its logits
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
