"""Scores equal plain forward passes, whatever the requests share, however they are cut."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

from rlaif_dagster.language import scoring
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.scoring import Request, Scored, score
from rlaif_dagster.work import Chunks


def plain(lm: LanguageModel, requests: Sequence[Request]) -> list[Scored]:
    """The definition: one forward pass a request, nothing shared."""
    out = []
    for context, continuation in requests:
        with torch.inference_mode():
            logits = lm.model(torch.tensor([context + continuation], device=lm.device)).logits[0, len(context) - 1 : -1]
        logprobs = logits.double().log_softmax(-1)
        target = torch.tensor(continuation, device=lm.device)
        value = logprobs.gather(-1, target[:, None]).sum().item()
        out.append(Scored(value, bool((logits.argmax(-1) == target).all()), len(continuation)))
    return out


def ragged(seed: int, n: int = 40) -> list[Request]:
    """Requests over a small alphabet, so that prefixes are shared at every depth, with repeats, single-token and prefix-of-
    another continuations among them."""
    rng = random.Random(seed)
    tree = [[rng.randrange(5, 9) for _ in range(rng.randint(1, 40))] for _ in range(4)]
    requests: list[Request] = []
    for _ in range(n):
        context = rng.choice(tree) + [rng.randrange(5, 8) for _ in range(rng.randint(0, 12))]
        requests.append((context, [rng.randrange(5, 8) for _ in range(rng.randint(1, 9))]))
    context, continuation = requests[0]
    return [
        *requests,
        requests[3],
        (context, continuation[:1]),
        (context, [*continuation, 5]),
        (context[:1], context[1:] or [5]),
    ]


def assert_same(found: list[Scored], expected: list[Scored]) -> None:
    assert [s.logprob for s in found] == pytest.approx([s.logprob for s in expected], abs=1e-4)
    assert [(s.greedy, s.tokens) for s in found] == [(s.greedy, s.tokens) for s in expected]


@pytest.mark.parametrize("batch_tokens", [1, 7, 64, 8192])
def test_equals_plain_forward(tiny_model: LanguageModel, batch_tokens: int) -> None:
    requests = ragged(seed=batch_tokens)
    assert_same(score(tiny_model, requests, batch_tokens=batch_tokens), plain(tiny_model, requests))


def test_greedy_is_found(tiny_model: LanguageModel) -> None:
    context = tiny_model.prompt_ids(tiny_model.chat("Why is the sky blue?"))
    ids = tiny_model.model.generate(torch.tensor([context]), max_new_tokens=6, do_sample=False)[
        0, len(context) :
    ].tolist()
    other = [*ids[:-1], (ids[-1] + 1) % 400]
    assert [s.greedy for s in score(tiny_model, [(context, ids), (context, other)])] == [True, False]


def test_every_shared_token_is_computed_once(tiny_model: LanguageModel) -> None:
    shared = list(range(10, 60))
    requests = [([*shared, question], [answer, 99]) for question in (3, 4) for answer in (5, 6, 7)]
    read = []
    hook = tiny_model.model.model.embed_tokens.register_forward_hook(lambda _, args, __: read.append(args[0].numel()))
    try:
        score(tiny_model, requests)
    finally:
        hook.remove()
    assert sum(read) == 50 + 2 + 2 * 3  # the shared tokens, two questions, and three answers' first tokens after each


def test_logits_only_where_asked(tiny_model: LanguageModel) -> None:
    computed = []
    hook = tiny_model.model.lm_head.register_forward_hook(lambda _, __, out: computed.append(out.shape[1]))
    try:
        score(tiny_model, [(list(range(30)), [7]), (list(range(30)), [8, 9])])
    finally:
        hook.remove()
    assert computed == [2]  # after the context (for both), and after token 8


def test_eager_attention(tiny_model_folder: Path, tiny_model: LanguageModel) -> None:
    eager = AutoModelForCausalLM.from_pretrained(tiny_model_folder, attn_implementation="eager").eval()
    requests = ragged(seed=5)
    assert_same(
        score(dataclasses.replace(tiny_model, model=eager), requests, batch_tokens=16), plain(tiny_model, requests)
    )


def test_window_shorter_than_a_sequence(tiny_model: LanguageModel) -> None:
    """Sliding-window attention does not fit the tree: such a model is scored by padded passes, and rightly."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=500, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, initializer_range=0.2,
    )  # fmt: skip
    lm = dataclasses.replace(tiny_model, model=MistralForCausalLM(config).eval())
    requests = ragged(seed=6)
    assert not scoring._fits_tree(lm.model, 30)
    assert scoring._fits_tree(lm.model, 8)
    assert_same(score(lm, requests, batch_tokens=100), plain(lm, requests))


def test_resume_finds_finished_chunks(
    tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run cut in the middle recomputes only what it had not stored and ends with the very same numbers."""
    monkeypatch.setattr(scoring, "CHUNK_TOKENS", 150)
    requests = ragged(seed=8)
    uncut = score(tiny_model, requests, chunks=Chunks(tmp_path / "uncut"))
    stored = sorted((tmp_path / "uncut").glob("*.json"))
    assert len(stored) > 2
    stored[0].unlink()
    read: list[int] = []
    hook = tiny_model.model.model.embed_tokens.register_forward_hook(lambda _, args, __: read.append(args[0].numel()))
    try:
        assert score(tiny_model, requests, chunks=Chunks(tmp_path / "uncut")) == uncut
    finally:
        hook.remove()
    assert 0 < sum(read) <= 150


def test_empty_continuation_and_context(tiny_model: LanguageModel) -> None:
    assert score(tiny_model, [([1], [])]) == [Scored(0.0, True, 0)]
    assert score(tiny_model, []) == []
    with pytest.raises(ValueError, match="at least one token"):
        score(tiny_model, [([], [1])])
