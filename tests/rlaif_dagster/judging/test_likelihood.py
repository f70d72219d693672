"""The measuring judge on a real (tiny) model: its numbers against the model's own, its cache, its resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif_dagster.home import Home
from rlaif_dagster.judging import likelihood
from rlaif_dagster.judging.cache import open_cache
from rlaif_dagster.judging.likelihood import CHUNK, LikelihoodJudge, sigmoid
from rlaif_dagster.judging.verdicts import Pair, make_pair
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec
from tests.rlaif_dagster.judging.conftest import constitution

ONE = make_pair(
    "p", "What is the capital of France?", ("1", "Paris."), ("2", "The capital of France is Paris, a city.")
)
TWO = make_pair("q", "Name three fruits.", ("3", "Apples, pears and plums."), ("4", "Count from one to ten."))
LAW = constitution("Answer in the strict format.", "Be brief and honest.")
EXAMPLES = Constitution.model_validate({
    "principles": [{"id": "p0", "text": "Answer in the strict format."}],
    "exemplars": [{"prompt": "How many legs does a spider have?", "response": "Eight."},
                  {"prompt": "Which planet is the largest?", "response": "Jupiter."}],
})  # fmt: skip


@pytest.fixture
def make_judge(tiny_model_folder: Path, home: Home) -> Callable[..., LikelihoodJudge]:
    def make(home: Home = home, system_prompt: str | None = None, **fields: Any) -> LikelihoodJudge:
        spec = LikelihoodSpec.model_validate({"kind": "likelihood", "model": "tiny"} | fields)
        return LikelihoodJudge(
            "measured", spec, ModelSpec(folder=str(tiny_model_folder), system_prompt=system_prompt), home
        )

    return make


def by_hand(lm: LanguageModel, messages: list[dict[str, str]], answer: str) -> float:
    """log p(answer and end token | messages) by one plain forward pass."""
    context = lm.prompt_ids(messages)
    target = lm.answer_ids(answer)
    with torch.inference_mode():
        logits = lm.model(torch.tensor([context + target])).logits[0, len(context) - 1 : -1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(target)[:, None]).sum())


def ratio(lm: LanguageModel, one: Pair, answer: str, system: str, history: tuple[dict[str, str], ...] = ()) -> float:
    user = {"role": "user", "content": one.prompt}
    given = by_hand(lm, [{"role": "system", "content": system}, *history, user], answer)
    return given - by_hand(lm, [user], answer)


@pytest.mark.parametrize(("normalize", "power"), [("sum", 0.0), ("sqrt", 0.5), ("mean", 1.0)])
def test_scores_are_the_models_own_likelihood_ratios(
    tiny_model: LanguageModel, make_judge: Callable[..., LikelihoodJudge], normalize: str, power: float
) -> None:
    judged = make_judge(normalize=normalize, temperature=2.0).judge([ONE, TWO], LAW, ("ab", "ba"))
    assert judged[["pair_id", "principle_id", "order"]].to_numpy().tolist() == [
        [one.pair_id, principle, "none"] for one in (ONE, TWO) for principle in ("p0", "p1")
    ]
    for number, (one, principle) in enumerate((one, p) for one in (ONE, TWO) for p in LAW.principles):
        system = f"Follow this principle: {principle.text}"
        expected = [
            ratio(tiny_model, one, text, system) / len(tiny_model.answer_ids(text)) ** power for text in (one.a, one.b)
        ]
        row = judged.iloc[number]
        assert list(json.loads(row["raw"]).values()) == pytest.approx(expected, abs=2e-3)
        p_a = 1 / (1 + math.exp(-(expected[0] - expected[1]) / 2.0))
        assert row["p_a"] == pytest.approx(p_a, abs=2e-3)
        assert row["verdict"] == ("a" if p_a > 0.5 else "b")


def test_exemplars_are_earlier_turns_on_the_principles_side_alone(
    tiny_model: LanguageModel, make_judge: Callable[..., LikelihoodJudge]
) -> None:
    judged = make_judge(normalize="sum", exemplars=1).judge([ONE], EXAMPLES, ("ab",))
    shown = (
        {"role": "user", "content": "How many legs does a spider have?"},
        {"role": "assistant", "content": "Eight."},
    )
    system = "Follow this principle: Answer in the strict format."
    expected = [ratio(tiny_model, ONE, text, system, shown) for text in (ONE.a, ONE.b)]
    assert list(json.loads(judged["raw"][0]).values()) == pytest.approx(expected, abs=2e-3)


def test_the_models_own_system_message_stands_on_both_sides(
    tiny_model: LanguageModel, make_judge: Callable[..., LikelihoodJudge]
) -> None:
    judged = make_judge(normalize="sum", system_prompt="Be helpful.").judge(
        [ONE], constitution("Be very brief."), ("ab",)
    )
    user = {"role": "user", "content": ONE.prompt}
    given = [{"role": "system", "content": "Be helpful.\n\nFollow this principle: Be very brief."}, user]
    plain = [{"role": "system", "content": "Be helpful."}, user]
    expected = [by_hand(tiny_model, given, text) - by_hand(tiny_model, plain, text) for text in (ONE.a, ONE.b)]
    assert list(json.loads(judged["raw"][0]).values()) == pytest.approx(expected, abs=2e-3)


def test_it_reads_four_sequences_a_verdict_and_costs_nothing(
    tiny_model: LanguageModel, make_judge: Callable[..., LikelihoodJudge]
) -> None:
    judged = make_judge().judge([ONE], constitution("Be very brief."), ("ab", "ba"))
    contexts = [
        len(tiny_model.prompt_ids(tiny_model.chat(ONE.prompt, system=system)))
        for system in (None, "Follow this principle: Be very brief.")
    ]
    answers = sum(len(tiny_model.answer_ids(text)) for text in (ONE.a, ONE.b))
    assert judged["tokens_in"].tolist() == [2 * sum(contexts) + 2 * answers]
    assert judged[["tokens_out", "cost_usd"]].to_numpy().tolist() == [[0, 0.0]]


def count_scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers every call of the scorer was given."""
    sizes: list[int] = []
    real = likelihood.score

    def counting(lm: LanguageModel, requests: Any, **keywords: Any) -> Any:
        sizes.append(len(requests))
        return real(lm, requests, **keywords)

    monkeypatch.setattr(likelihood, "score", counting)
    return sizes


def test_each_answer_is_scored_once_a_principle_and_once_plainly(
    make_judge: Callable[..., LikelihoodJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = count_scored(monkeypatch)
    answers = [("1", "one"), ("2", "two"), ("3", "three")]
    pairs = [make_pair("p", "Count.", first, second) for first, second in combinations(answers, 2)]
    judge = make_judge()
    judge.judge(pairs, constitution("Be very brief."), ("ab",))
    assert sum(sizes) == 3 * 2
    judge.judge(pairs, LAW, ("ab",))
    assert sum(sizes) == 3 * 2 + 3 * 2  # two new principles; the plain side serves them too


def test_a_second_run_reads_the_cache_and_loads_no_weights(
    make_judge: Callable[..., LikelihoodJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_judge().judge([ONE, TWO], LAW, ("ab",))

    def unwanted(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(likelihood, "load", unwanted)
    again = make_judge(temperature=9.0).judge([ONE, TWO], LAW, ("ab",))
    assert first["cached"].tolist() == [False] * 4
    assert again["cached"].tolist() == [True] * 4
    assert again["raw"].tolist() == first["raw"].tolist()  # another temperature changes probabilities, not scores
    assert again["p_a"].tolist() != first["p_a"].tolist()


def test_a_killed_run_resumes_with_the_same_numbers(
    make_judge: Callable[..., LikelihoodJudge], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("winter", "the sea", "a spider", "one, two, three", "the sky is blue")
    pairs = [
        make_pair(f"p{n}", f"Question {n}?", (f"{n}x", f"{words[n % 5]} {n}"), (f"{n}y", f"{words[n % 3]}, no {n}"))
        for n in range(CHUNK)
    ]  # fmt: skip
    law = constitution("Be very brief.")
    uninterrupted = make_judge(Home(tmp_path / "other")).judge(pairs, law, ("ab",))

    real, calls = likelihood.score, []

    def dying(lm: LanguageModel, requests: Any, **keywords: Any) -> Any:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(requests))
        return real(lm, requests, **keywords)

    monkeypatch.setattr(likelihood, "score", dying)
    judge = make_judge()
    with pytest.raises(KeyboardInterrupt):
        judge.judge(pairs, law, ("ab",))
    with open_cache(judge.cache) as cache:
        kept = cache.get(judge._key(q) for q in every_question(pairs, law))
    assert len(kept) == 3 * CHUNK == sum(calls)

    monkeypatch.setattr(likelihood, "score", real)
    sizes = count_scored(monkeypatch)
    resumed = judge.judge(pairs, law, ("ab",))
    assert sum(sizes) == CHUNK  # of 4 chunks, three were there
    assert resumed["raw"].tolist() == uninterrupted["raw"].tolist()


def every_question(pairs: list[Pair], law: Constitution) -> list[likelihood.Question]:
    conditions = [likelihood.Condition(), *(likelihood.Condition(p.text) for p in law.principles)]
    return [(condition, one.prompt, text) for condition in conditions for one in pairs for text in (one.a, one.b)]


def test_the_sigmoid_neither_overflows_nor_loses_its_symmetry() -> None:
    assert (sigmoid(0.0), sigmoid(1e4), sigmoid(-1e4)) == (0.5, 1.0, 0.0)
    assert sigmoid(1.5) + sigmoid(-1.5) == pytest.approx(1.0)
