"""A judge that measures: how much likelier does a principle make an answer?

    score(y) = [log p(y | principle, x) - log p(y | x)] / |y|^k        p(a) = sigmoid((score(a) - score(b)) / temperature)

under the judge's base model, y with its end token, the principle as system message. It is the pointwise mutual
information of answer and principle; what the model finds fluent or long either way cancels. A model too small to be asked
can be measured: the 135M default prefers the right one of two answers in the strict format where its own verdicts,
asked for, are at chance.

k is 0 (`normalize: sum`), 1/2 (`sqrt`) or 1 (`mean`). The sum grows with the length of an answer, the mean forgives what is
missing in a short one; the root is right most often (docs/experiments.md holds the numbers).

Exemplars can stand beside the principle. They help where it is a value and hurt where it is a form: with them in context
an answer that copies one beats any other, which a policy would find out. So none are shown unless the judge's file asks.

log p(y | x) is computed once for a distinct prompt and answer and serves every principle. Sequences are scored in fixed
chunks that follow from content alone, and a chunk is committed to the cache as a whole: a killed run resumes with the same
numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.judging.cache import Answer, AnswerCache, cache_path, open_cache
from rlaif_dagster.judging.measuring import Condition, Question, conditions_of, key_with, questions_of
from rlaif_dagster.judging.questions import Question as Asked
from rlaif_dagster.judging.questions import judged_by
from rlaif_dagster.judging.template import LIKELIHOOD_VERSION
from rlaif_dagster.judging.verdicts import Judgment, Mode, Order, Pair, judgments_frame, verdict_of
from rlaif_dagster.language.base_model import LanguageModel, load
from rlaif_dagster.language.scoring import score
from rlaif_dagster.language.sharded import Weights
from rlaif_dagster.shards import shards, spread
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec

CHUNK = 64  # answers scored, and committed, together
POWERS = {"sum": 0.0, "sqrt": 0.5, "mean": 1.0}
DIGITS = 4  # of a score; further ones depend on how sequences were batched


@dataclass(frozen=True)
class Likelihood:
    """log p(answer), summed over its tokens (nats), how many they are, and how many were read with their context."""

    logprob: float
    tokens: int
    read: int


@dataclass(frozen=True)
class LikelihoodJudge:
    """A judge from a base model; the weights are loaded when the first answer is scored that the cache does not know."""

    name: str
    spec: LikelihoodSpec
    model: ModelSpec
    home: Home
    lm: LanguageModel | None = None  # the model, where it is in memory already
    template_version: str = field(default=LIKELIHOOD_VERSION, init=False)

    @property
    def cache(self) -> Path:
        return cache_path(self.home)

    def judge(
        self,
        pairs: Sequence[Pair],
        constitution: Constitution,
        orders: Sequence[Order],
        *,
        mode: Mode = "per_principle",
        budget_usd: float | None = None,
        progress: str | None = None,
    ) -> pd.DataFrame:
        """The table judgments, one row a pair and principle, order "none". `orders` and `budget_usd` do not apply:
        answers are scored one by one, and scoring is free. Raises UserError in mode joint: a likelihood under all
        principles at once would say nothing of any of them."""
        if mode == "joint":
            raise UserError(
                f"judge {self.name} measures one principle at a time; data/recipes/judging.yaml: field 'mode': found "
                "'joint', allowed: per_principle, sampled"
            )
        plain = Condition()
        conditions = self.conditions(constitution)
        judged = [(pair, principle.id) for pair in pairs for principle in judged_by(pair, constitution, mode)]
        with open_cache(self.cache) as cache:
            found, known = self._likelihoods(questions_of(judged, conditions), cache, progress)

        rows = []
        for pair, principle_id in judged:
            condition = conditions[principle_id]
            asked = [[(c, pair.prompt, text) for c in (condition, plain)] for text in (pair.a, pair.b)]
            (with_a, plain_a), (with_b, plain_b) = ([found[question] for question in both] for both in asked)
            score_a, score_b = self._score(with_a, plain_a), self._score(with_b, plain_b)
            p_a = sigmoid((score_a - score_b) / self.spec.temperature)
            rows.append(
                Judgment(
                    pair.pair_id,
                    pair.prompt_id,
                    pair.a_id,
                    pair.b_id,
                    principle_id,
                    "none",
                    verdict_of(p_a),
                    p_a,
                    json.dumps({"score_a": score_a, "score_b": score_b}),
                    self.name,
                    self.template_version,
                    tokens_in=sum(part.read for part in (with_a, plain_a, with_b, plain_b)),
                    tokens_out=0,
                    cost_usd=0.0,
                    latency_ms=0.0,
                    cached=all(question in known for both in asked for question in both),
                )
            )
        return judgments_frame(rows)

    def requests(
        self, pairs: Sequence[Pair], constitution: Constitution, orders: Sequence[Order], mode: Mode = "per_principle"
    ) -> list[tuple[Asked, dict[str, Any]]]:
        """What is read for each pair and principle: the messages before the answer, with the principle and without. Loads
        nothing."""
        conditions = self.conditions(constitution)
        return [
            (
                Asked(pair, (principle,), "none"),
                {
                    "model": self.spec.model,
                    "messages": conditions[principle.id].messages(self.model, pair.prompt),
                    "against": Condition().messages(self.model, pair.prompt),
                    "answers": [pair.a, pair.b],
                },
            )
            for pair in pairs
            for principle in judged_by(pair, constitution, mode)
        ]

    def conditions(self, constitution: Constitution) -> dict[str, Condition]:
        """What answers are conditioned on, by principle."""
        return conditions_of(self.spec, constitution)

    def _score(self, given: Likelihood, plain: Likelihood) -> float:
        ratio = given.logprob - plain.logprob
        return round(ratio / given.tokens ** POWERS[self.spec.normalize], DIGITS)

    def _key(self, question: Question) -> str:
        return key_with(self.model.meaning(), question)

    def _likelihoods(
        self, questions: Sequence[Question], cache: AnswerCache, progress: str | None
    ) -> tuple[dict[Question, Likelihood], set[Question]]:
        """Every question's likelihood, and which of them the cache knew."""
        meaning = self.model.meaning()
        keys = {question: key_with(meaning, question) for question in questions}
        stored = cache.get(keys.values())
        known = {question for question, key in keys.items() if key in stored}
        missing = len(keys) - len(known)
        if missing:
            asked = [left for chunk in chunks(questions) if (left := [q for q in chunk if q not in known])]
            with tqdm(total=missing, desc=progress, unit="answer", disable=None if progress else True) as bar:
                for measured in self._measured(asked, cache):
                    bar.update(measured)
            stored.update(cache.get(keys.values()))  # of two processes' numbers the first committed ones stand
        return {question: _likelihood(stored[key]) for question, key in keys.items()}, known

    def _measured(self, asked: Sequence[list[Question]], cache: AnswerCache) -> Iterator[int]:
        """Measure every chunk here or in the shards, and keep it; how many answers it has, as it is kept."""
        if shards() and self.lm is None:
            weights = Weights(self.spec.model, self.model, self.home)
            yield from (number for _, number in spread(partial(_measure_in_shard, weights), asked))
            return
        lm = self.lm or load(self.spec.model, self.model, self.home)
        for chunk in asked:
            cache.put({self._key(question): answer for question, answer in read(lm, chunk)})
            yield len(chunk)


def _measure_in_shard(weights: Weights, chunk: list[Question]) -> int:
    """Measure a chunk, unless a shard that died had come to the end of it; how many answers it has."""
    keys = {question: key_with(weights.spec.meaning(), question) for question in chunk}
    with open_cache(cache_path(weights.home)) as cache:
        if len(cache.get(keys.values())) < len(keys):
            cache.put({keys[question]: answer for question, answer in read(weights.load(), chunk)})
    return len(chunk)


def chunks(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """The questions in groups of at most CHUNK, none across two conditions: a group shares its condition's prefix."""
    for condition in dict.fromkeys(question[0] for question in questions):
        own = [question for question in questions if question[0] == condition]
        yield from (own[start : start + CHUNK] for start in range(0, len(own), CHUNK))


def read(lm: LanguageModel, questions: Sequence[Question]) -> Iterator[tuple[Question, Answer]]:
    """Score the questions together, as the cache keeps them."""
    requests = [(condition.context(lm, prompt), lm.answer_ids(answer)) for condition, prompt, answer in questions]
    for question, request, scored in zip(questions, requests, score(lm, requests), strict=True):
        text = json.dumps({"logprob": scored.logprob, "tokens": scored.tokens})
        yield question, Answer(text, "stop", len(request[0]) + len(request[1]), 0, 0.0, 0.0)


def _likelihood(answer: Answer) -> Likelihood:
    content = json.loads(answer.text)
    return Likelihood(content["logprob"], content["tokens"], answer.tokens_in)


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
