"""Answers are drawn from the policy's own distribution, independently of one another, and described truthfully."""

from __future__ import annotations

import pytest
import torch

from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Lora
from rlaif_dagster.training.ppo.backbone import Backbone, acting_as
from rlaif_dagster.training.ppo.rollout import Rollout, roll_out, score_tokens
from tests.rlaif_dagster.training.conftest import FreshModel
from tests.rlaif_dagster.training.ppo.conftest import TEXTS, randomize


@pytest.fixture
def lm(fresh_model: FreshModel) -> LanguageModel:
    """A model for which every tenth token ends an answer, so that answers end at different lengths."""
    lm = fresh_model()
    lm.model.generation_config.eos_token_id = list(range(7, 500, 10))
    return lm


@pytest.fixture
def backbone(lm: LanguageModel) -> Backbone:
    backbone = Backbone(lm, Lora(r=4, alpha=8), seed=0)
    randomize(backbone.trunk, 1, ["lora_A.policy", "lora_B.policy"])
    return backbone


def answer(backbone: Backbone, texts: list[str], draws: torch.Tensor | None, *, temperature: float = 0.8) -> Rollout:
    ids = [backbone.lm.prompt_ids(backbone.lm.chat(text)) for text in texts]
    return roll_out(backbone, texts, ids, max_new_tokens=12, temperature=temperature, draws=draws)


def test_answers_do_not_depend_on_their_neighbours(backbone: Backbone) -> None:
    draws = torch.rand(9, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    together = answer(backbone, list(TEXTS), draws)
    assert len({len(ids) for ids in together.answer_ids}) > 2  # they end at different steps, so rows left on the way
    for row, text in enumerate(TEXTS):
        alone = answer(backbone, [text], draws[row : row + 1])
        assert alone.answer_ids[0] == together.answer_ids[row]
        mask = together.mask[row]
        torch.testing.assert_close(alone.logprobs[0], together.logprobs[row][mask], atol=1e-5, rtol=1e-5)


def test_log_probabilities_and_states_are_those_of_a_plain_pass(backbone: Backbone, lm: LanguageModel) -> None:
    rollout = answer(
        backbone, list(TEXTS), torch.rand(9, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    )
    again, states = score_tokens(backbone, rollout, temperature=0.8, micro_batch=4)
    torch.testing.assert_close(again, rollout.logprobs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states, rollout.hidden[rollout.mask], atol=1e-4, rtol=1e-4)
    lm.model.set_attn_implementation("eager")  # transformers' own pass, one answer at a time
    with torch.no_grad():
        for row, sequence in enumerate(rollout.sequences(range(9))):
            start, ids = len(rollout.prompt_ids[row]), rollout.answer_ids[row]
            logits = lm.model(input_ids=torch.tensor([sequence])).logits[0, start - 1 : -1]
            expected = (logits / 0.8).log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
            torch.testing.assert_close(rollout.logprobs[row, : len(ids)], expected, atol=1e-4, rtol=1e-4)
            assert not rollout.logprobs[row, len(ids) :].any()


def test_end_tokens(backbone: Backbone, lm: LanguageModel) -> None:
    rollout = answer(
        backbone, list(TEXTS), torch.rand(9, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    )
    ends = set(range(7, 500, 10)) | {lm.end_id}
    assert 0 < int(rollout.ended.sum()) < 9
    for row, ids in enumerate(rollout.answer_ids):
        assert not ends & set(ids[:-1])
        assert bool(rollout.ended[row]) == (ids[-1] in ends)
        assert len(ids) == 12 or bool(rollout.ended[row])
        assert rollout.mask[row].tolist() == [True] * len(ids) + [False] * (rollout.mask.shape[1] - len(ids))
        text = lm.tokenizer.decode(ids[:-1] if rollout.ended[row] else ids, skip_special_tokens=True)
        assert rollout.texts[row] == text
    assert rollout.mask.shape[1] == max(map(len, rollout.answer_ids))


def test_greedy_is_the_likeliest_token_each_time(backbone: Backbone, lm: LanguageModel) -> None:
    rollout = answer(backbone, list(TEXTS[:3]), None)
    lm.model.set_attn_implementation("sdpa")
    for row, sequence in enumerate(rollout.sequences(range(3))):
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([sequence])).logits[0]
        assert logits[len(rollout.prompt_ids[row]) - 1 : -1].argmax(-1).tolist() == rollout.answer_ids[row]


def test_frequencies_follow_the_tempered_distribution(backbone: Backbone) -> None:
    count = 4000
    ids = backbone.lm.prompt_ids(backbone.lm.chat(TEXTS[0]))
    draws = torch.rand(count, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    rollout = roll_out(backbone, [TEXTS[0]] * count, [ids] * count, max_new_tokens=1, temperature=0.7, draws=draws)
    drawn = torch.bincount(rollout.tokens[:, 0], minlength=500).double() / count
    with torch.no_grad():
        logits = torch.nn.functional.linear(rollout.hidden[0, 0], backbone.output_weight)
    expected = (logits / 0.7).softmax(-1).double()
    assert (drawn - expected).abs().max() < 4 * (0.25 / count) ** 0.5  # four standard errors at the most
    assert (drawn - expected).abs().sum() < 0.3


def test_the_reference_answers_otherwise(backbone: Backbone) -> None:
    policy = answer(backbone, list(TEXTS), None)
    with acting_as(backbone, "reference"):
        reference = answer(backbone, list(TEXTS), None)
    assert policy.answer_ids != reference.answer_ids
