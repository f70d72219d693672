"""Sampling against transformers' own decoding, against plain forward passes, and against distributions known by hand."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, MistralConfig

from rlaif_dagster.errors import UserError
from rlaif_dagster.language import sampling as module
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.sampling import Sampled, choose, decode, end_ids, plan_chunks, sample
from rlaif_dagster.spec.recipes import Sampling
from rlaif_dagster.work import Chunks

QUESTIONS = [
    "Why?",
    "Name three fruits.",
    "What is the capital of France?",
    "Imagine that nobody ever forgot anything. What would change?",
    "Write a short poem about the sea and the wind in winter, and say what you know and do not know about it.",
]


def chats(lm: LanguageModel, n: int) -> list[list[dict[str, str]]]:
    return [
        lm.chat(f"{QUESTIONS[i % len(QUESTIONS)]} ({i})" if i >= len(QUESTIONS) else QUESTIONS[i]) for i in range(n)
    ]


def by_generate(lm: LanguageModel, ids: list[int], tokens: int) -> list[int]:
    """Greedy decoding of one prompt alone by transformers."""
    out = lm.model.generate(torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return out[0, len(ids) :].tolist()


def with_model(lm: LanguageModel, model: torch.nn.Module) -> LanguageModel:
    return dataclasses.replace(lm, model=model.eval())


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_greedy_equals_generate(tiny_model: LanguageModel, batch_size: int) -> None:
    questions = chats(tiny_model, 7)
    answers = sample(tiny_model, questions, Sampling(temperature=0, max_new_tokens=12, batch_size=batch_size))
    expected = [by_generate(tiny_model, tiny_model.prompt_ids(chat), 12) for chat in questions]
    assert [answer.token_ids for [answer] in answers] == expected


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(sliding_window=12, num_key_value_heads=2),  # a window shorter than the prompts
        GPT2Config(n_positions=1024),  # positions are learned and absolute
    ],
    ids=["sliding window", "absolute positions"],
)
def test_greedy_equals_generate_on_other_architectures(tiny_model: LanguageModel, config: MistralConfig) -> None:
    for name, value in {"vocab_size": 500, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}.items():
        setattr(config, name, value)
    config.intermediate_size, config.initializer_range = 64, 0.3
    config.bos_token_id, config.eos_token_id = tiny_model.tokenizer.bos_token_id, tiny_model.end_id
    torch.manual_seed(0)
    lm = with_model(tiny_model, AutoModelForCausalLM.from_config(config))
    answers = sample(lm, chats(lm, 5), Sampling(temperature=0, max_new_tokens=10))
    assert [a.token_ids for [a] in answers] == [by_generate(lm, lm.prompt_ids(chat), 10) for chat in chats(lm, 5)]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logprob_is_that_of_a_plain_forward_pass(tiny_model: LanguageModel, temperature: float) -> None:
    settings = Sampling(temperature=temperature, top_p=0.9 if temperature == 0.7 else 1, max_new_tokens=12, samples=2)
    for chat, answers in zip(chats(tiny_model, 5), sample(tiny_model, chats(tiny_model, 5), settings), strict=True):
        context = tiny_model.prompt_ids(chat)
        for answer in answers:
            logits = tiny_model.model(torch.tensor([context + answer.token_ids])).logits[0, len(context) - 1 : -1]
            each = logits.log_softmax(-1).gather(1, torch.tensor(answer.token_ids)[:, None])
            assert answer.logprob == pytest.approx(each.sum().item(), abs=1e-4)


def ending_soon(lm: LanguageModel, folder: Path) -> LanguageModel:
    """The tiny model with its end token made likelier, so that answers end at different steps."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    head = torch.nn.Linear(64, 500)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[lm.end_id] = 4.0
    model.lm_head = head
    return with_model(lm, model)


def test_ends_are_counted_and_cut_off_the_text(tiny_model: LanguageModel, tiny_model_folder: Path) -> None:
    lm = ending_soon(tiny_model, tiny_model_folder)
    answers = [a for inner in sample(lm, chats(lm, 12), Sampling(max_new_tokens=20, samples=3)) for a in inner]
    assert {a.finish_reason for a in answers} == {"stop", "length"}
    assert len({a.tokens for a in answers}) > 5  # they left the batch one after the other
    for answer in answers:
        assert answer.tokens == len(answer.token_ids)
        assert (answer.token_ids[-1] == lm.end_id) == (answer.finish_reason == "stop")
        assert lm.end_id not in answer.token_ids[:-1]
        assert answer.finish_reason == "stop" or answer.tokens == 20
        body = answer.token_ids[:-1] if answer.finish_reason == "stop" else answer.token_ids
        assert answer.text == lm.tokenizer.decode(body, skip_special_tokens=True)


def test_leaving_the_batch_changes_no_one_else(tiny_model: LanguageModel, tiny_model_folder: Path) -> None:
    lm = ending_soon(tiny_model, tiny_model_folder)
    settings = Sampling(max_new_tokens=20, batch_size=16)
    together = sample(lm, chats(lm, 12), settings)
    alone = sample(lm, chats(lm, 12), settings.model_copy(update={"batch_size": 1}))
    assert [a.token_ids for [a] in together] == [a.token_ids for [a] in alone]
    for [first], [second] in zip(together, alone, strict=True):
        assert first.logprob == pytest.approx(second.logprob, abs=1e-4)


def test_generation_config_adds_ends(tiny_model: LanguageModel, tiny_model_folder: Path) -> None:
    lm = with_model(tiny_model, AutoModelForCausalLM.from_pretrained(tiny_model_folder))
    lm.model.generation_config.eos_token_id = [lm.end_id, 77]
    assert end_ids(lm) == {lm.end_id, 77}


def test_samples_differ_and_repeat(tiny_model: LanguageModel) -> None:
    settings = Sampling(max_new_tokens=8, samples=3, batch_size=4)
    questions = [*chats(tiny_model, 5), tiny_model.chat(QUESTIONS[0])]  # the last asks what the first asks
    answers = sample(tiny_model, questions, settings)
    assert [len(inner) for inner in answers] == [3] * 6
    assert len({tuple(a.token_ids) for a in answers[0] + answers[5]}) == 6  # six independent answers to one prompt
    assert sample(tiny_model, questions, settings) == answers
    other = sample(tiny_model, questions, settings.model_copy(update={"seed": 1}))
    for inner, others in zip(answers, other, strict=True):
        assert all(a.token_ids != b.token_ids for a, b in zip(inner, others, strict=True))


def test_other_prompts_change_nothing(tiny_model: LanguageModel) -> None:
    settings = Sampling(max_new_tokens=8, samples=2, batch_size=5)
    questions = chats(tiny_model, 9)
    all_answers = sample(tiny_model, questions, settings)
    order = list(range(9))
    random.Random(0).shuffle(order)
    shuffled = sample(tiny_model, [questions[i] for i in order], settings)
    assert [shuffled[order.index(i)] for i in range(9)] == all_answers  # bit for bit: the chunks are the same
    fewer = sample(tiny_model, questions[3:6], settings)
    assert [[a.token_ids for a in inner] for inner in fewer] == [
        [a.token_ids for a in inner] for inner in all_answers[3:6]
    ]


def test_a_killed_run_ends_with_the_same_answers(
    tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, questions = Sampling(max_new_tokens=8, batch_size=3), chats(tiny_model, 9)
    uncut = sample(tiny_model, questions, settings)
    decoded: list[int] = []

    def killed_at_the_third(model: object, prompts: list[tuple[int, ...]], *args: object, **kwargs: object) -> object:
        decoded.append(len(prompts))
        if len(decoded) == 3:
            raise KeyboardInterrupt
        return decode(model, prompts, *args, **kwargs)

    monkeypatch.setattr(module, "decode", killed_at_the_third)
    chunks = Chunks(tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        sample(tiny_model, questions, settings, chunks=chunks)
    assert len(list(chunks.folder.iterdir())) == 2
    assert sample(tiny_model, questions, settings, chunks=chunks) == uncut
    assert decoded == [3, 3, 3, 3]  # two kept, one lost, that one again: nothing twice but what was cut
    assert sample(tiny_model, questions, settings, chunks=chunks) == uncut
    assert len(decoded) == 4
    sample(tiny_model, questions, settings.model_copy(update={"temperature": 0.5}), chunks=chunks)
    assert len(decoded) == 7  # another setting is other work


def test_shared_prefix_is_computed_once(tiny_model: LanguageModel) -> None:
    system = "Be honest, be harmless and be helpful. " * 5
    questions = [tiny_model.chat(question, system=system) for question in QUESTIONS[:3]]
    lengths = [len(tiny_model.prompt_ids(chat)) for chat in questions]
    shared = len(tiny_model.prompt_ids(tiny_model.chat("", system=system))) - len(
        tiny_model.tokenizer("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    )
    shapes: list[tuple[int, ...]] = []
    layer = tiny_model.model.model.embed_tokens
    hook = layer.register_forward_hook(lambda _, args, __: shapes.append(tuple(args[0].shape)))
    sample(tiny_model, questions, Sampling(max_new_tokens=2, samples=2, batch_size=6))
    hook.remove()
    # the prefix once, the three rests once each although two samples are drawn of each, then six rows a step
    assert shapes == [(1, shared), (3, max(lengths) - shared), (6, 1)]


def test_plan_is_by_content() -> None:
    prompts = [(5, 6), (1,), (5, 6), (9, 9, 9)]
    plan = plan_chunks(prompts, Sampling(samples=2, batch_size=4))
    rows = [[(row.ids, row.repeat, row.chat, row.sample) for row in chunk] for chunk in plan]
    assert rows == [
        [((1,), 0, 1, 0), ((1,), 1, 1, 1), ((5, 6), 0, 0, 0), ((5, 6), 1, 0, 1)],
        [((5, 6), 2, 2, 0), ((5, 6), 3, 2, 1), ((9, 9, 9), 0, 3, 0), ((9, 9, 9), 1, 3, 1)],
    ]


def test_choose_inverts_the_distribution() -> None:
    log_probabilities = torch.tensor([[0.5, 0.0, 0.2, 0.3]]).log().expand(6, 4)
    draws = torch.tensor([0.0, 0.4999, 0.5001, 0.6999, 0.7001, 0.9999], dtype=torch.float64)
    assert choose(log_probabilities, 1.0, 1.0, draws).tolist() == [0, 0, 2, 2, 3, 3]
    assert choose(log_probabilities, 0.0, 1.0, draws).tolist() == [0] * 6
    # at temperature 0.5 the weights are squared: 0.25, 0, 0.04, 0.09 of 0.38; cumulated 0.658, 0.658, 0.763, 1
    at_half = torch.tensor([0.65, 0.66, 0.76, 0.77, 0.0, 0.0], dtype=torch.float64)
    assert choose(log_probabilities, 0.5, 1.0, at_half).tolist() == [0, 2, 2, 3, 0, 0]


@pytest.mark.parametrize("likeliest_few", [1, 256], ids=["whole vocabulary sorted", "likeliest few"])
def test_choose_keeps_to_the_nucleus(likeliest_few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUCLEUS", likeliest_few)
    log_probabilities = torch.tensor([[0.3, 0.1, 0.5, 0.1]]).log().expand(5, 4)
    # 0.7 is reached by tokens 2 (0.5) and 0 (0.3), in this order, rescaled to 0.625 and 0.375
    draws = torch.tensor([0.0, 0.6249, 0.6251, 0.9, 0.9999], dtype=torch.float64)
    assert choose(log_probabilities, 1.0, 0.7, draws).tolist() == [2, 2, 0, 0, 0]
    assert choose(log_probabilities, 1.0, 0.4, draws).tolist() == [2] * 5


def test_frequencies_are_those_of_the_model(tiny_model: LanguageModel) -> None:
    chat, n = tiny_model.chat("Name three fruits."), 4000
    settings = Sampling(max_new_tokens=1, samples=n, batch_size=1000, temperature=1.0)
    [answers] = sample(tiny_model, [chat], settings)
    logits = tiny_model.model(torch.tensor([tiny_model.prompt_ids(chat)])).logits[0, -1]
    expected = logits.softmax(-1)
    counts = torch.bincount(torch.tensor([a.token_ids[0] for a in answers]), minlength=len(expected))
    common = expected * n >= 5
    rest = torch.stack([expected[~common].sum() * n, counts[~common].sum()])
    chi_squared = ((counts - expected * n) ** 2 / (expected * n))[common].sum() + (rest[1] - rest[0]) ** 2 / rest[0]
    degrees = int(common.sum())
    assert abs(chi_squared.item() - degrees) < 4 * (2 * degrees) ** 0.5  # mean and deviation of chi squared


def test_a_prompt_too_long_is_told_in_one_line(tiny_model: LanguageModel) -> None:
    with pytest.raises(
        UserError, match=r"model tiny: a prompt of \d+ tokens and max_new_tokens 8 exceed its context of 1024"
    ):
        sample(tiny_model, [tiny_model.chat("seven " * 2000)], Sampling(max_new_tokens=8))


def test_sampled_says_what_it_is(tiny_model: LanguageModel) -> None:
    assert sample(tiny_model, [], Sampling()) == []
    [[answer]] = sample(tiny_model, [tiny_model.chat("Why?")], Sampling(max_new_tokens=1))
    assert isinstance(answer, Sampled)
    assert answer.tokens == 1
