"""A judge that is asked: one question a pair, principle and order, to any provider that litellm reaches.

Every answer is committed to the cache as it arrives; what failed after all retries is a verdict "error", which is not, so
that the next run asks again. A budget is a hard stop: what was answered is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import Home
from rlaif_dagster.judging.asking import Failure, ask_all
from rlaif_dagster.judging.cache import Answer, cache_path, open_cache
from rlaif_dagster.judging.parsing import in_terms_of_pair, parse
from rlaif_dagster.judging.provider import connect
from rlaif_dagster.judging.template import TEMPLATE_VERSION, Message, messages
from rlaif_dagster.judging.verdicts import Judgment, Order, Pair, judgments_frame
from rlaif_dagster.spec.constitution import Constitution, Principle
from rlaif_dagster.spec.judge import ApiJudge as ApiSpec

OUTSIDE_PARAMETERS = {
    "api_key",
    "api_base",
    "base_url",
    "model",
    "messages",
    "temperature",
    "max_tokens",
    "timeout",
    "stream",
}


@dataclass(frozen=True)
class Question:
    """One request: a pair under a principle, in an order."""

    pair: Pair
    principle: Principle
    order: Order

    @property
    def shown(self) -> tuple[str, str]:
        """The answers in the places of A and B."""
        return (self.pair.a, self.pair.b) if self.order == "ab" else (self.pair.b, self.pair.a)

    def messages(self) -> list[Message]:
        return messages(self.principle.text, self.pair.prompt, *self.shown)


@dataclass(frozen=True)
class ApiJudge:
    """A judge behind litellm. `backoff` is the first wait of the retries, in seconds.

    Raises UserError for fields among `parameters` that have a place of their own: a key in a file would reach the cache's keys,
    the lineage and the version control.
    """

    name: str
    spec: ApiSpec
    home: Home
    backoff: float = 1.0
    template_version: str = field(default=TEMPLATE_VERSION, init=False)

    def __post_init__(self) -> None:
        if wrong := sorted(OUTSIDE_PARAMETERS & set(self.spec.parameters)):
            raise UserError(
                f"data/judges/{self.name}.yaml: field 'parameters' may not hold {', '.join(wrong)}; "
                "use the judge's own fields, and api_key_env for a key"
            )

    def judge(
        self,
        pairs: Sequence[Pair],
        constitution: Constitution,
        orders: Sequence[Order],
        *,
        budget_usd: float | None = None,
        progress: str | None = None,
    ) -> pd.DataFrame:
        """The table judgments, a row a pair, principle and order.

        Raises UserError when the key is missing or not accepted, when the model is unknown, and when the budget is
        spent (or cannot be held because no price is known).
        """
        questions = [Question(pair, p, order) for pair in pairs for p in constitution.principles for order in orders]
        keys = [self._key(question) for question in questions]
        with open_cache(cache_path(self.home)) as cache:
            known = cache.get(keys)
            asked = {key: q.messages() for key, q in zip(keys, questions, strict=True) if key not in known}
            fresh: Mapping[str, Answer | Failure] = {}
            if asked:
                provider = connect(self.name, self.spec)
                fresh = asyncio.run(
                    ask_all(provider, asked, cache, backoff=self.backoff, budget_usd=budget_usd, progress=progress)
                )
        answers = {**known, **fresh}
        rows = [
            self._judgment(question, answers[key], cached=key in known)
            for key, question in zip(keys, questions, strict=True)
        ]
        return judgments_frame(rows)

    def _key(self, question: Question) -> str:
        """All that the judge is given. The order shows in which answer comes first, so a pair that is met again with
        its sides exchanged asks nothing twice."""
        meaning, principle = self.spec.meaning(), question.principle.text.strip()
        return content_hash("api", meaning, self.template_version, principle, question.pair.prompt, question.shown)

    def _judgment(self, question: Question, answer: Answer | Failure, *, cached: bool) -> Judgment:
        pair = question.pair
        if isinstance(answer, Answer):
            verdict, p_a = in_terms_of_pair(parse(answer.text, answer.finish), question.order)
        else:
            verdict, p_a, answer = "error", None, Answer(answer.reason, "error", 0, 0, 0.0, 0.0)
        return Judgment(
            pair.pair_id,
            pair.prompt_id,
            pair.a_id,
            pair.b_id,
            question.principle.id,
            question.order,
            verdict,
            p_a,
            raw=answer.text,
            judge=self.name,
            template_version=self.template_version,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            cost_usd=answer.cost_usd,
            latency_ms=answer.latency_ms,
            cached=cached,
        )
