"""A judge that is asked, by any provider that litellm reaches.

Every answer is committed to the cache as it arrives; what failed after all retries is a verdict "error", which is not, so
that the next run asks again. A budget is a hard stop: what was answered is kept. Verdicts are read out of the answers
afterwards, each time anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import Home
from rlaif_dagster.judging.asking import Failure
from rlaif_dagster.judging.asking_shards import ask as ask_questions
from rlaif_dagster.judging.batch import POLL_SECONDS
from rlaif_dagster.judging.cache import Answer, cache_path, known_keys, open_cache
from rlaif_dagster.judging.claims import ask_once
from rlaif_dagster.judging.parsing import Said, in_terms_of_pair, parse, parse_joint
from rlaif_dagster.judging.prices import supports_schema
from rlaif_dagster.judging.provider import request_of
from rlaif_dagster.judging.questions import Question, questions_of
from rlaif_dagster.judging.soft import ALTERNATIVES, soft_label
from rlaif_dagster.judging.template import Message, Template
from rlaif_dagster.judging.verdicts import Judgment, Mode, Order, Pair, Verdict, judgments_frame, verdict_of
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import ApiJudge as ApiSpec


@dataclass(frozen=True)
class ApiJudge:
    """A judge behind litellm. `backoff` is the first wait of the retries and `poll` that between looks at a batch, in
    seconds."""

    name: str
    spec: ApiSpec
    home: Home
    backoff: float = 1.0
    poll: float = POLL_SECONDS

    @cached_property
    def template_version(self) -> str:
        """Version of the wording and, where there is any, of the form in which the reply is asked for."""
        return self._version(Template(self.spec.reasoning))

    def _version(self, template: Template) -> str:
        extra = self._extra(template, [])
        return content_hash(template.version, extra) if extra else template.version

    @cached_property
    def structured(self) -> bool:
        """Whether the provider is made to keep to a JSON schema: as the file says, else where litellm knows that the
        model can (and the file's own parameters do not ask for a format)."""
        if self.spec.structured is None:
            return "response_format" not in self.spec.parameters and supports_schema(self.spec.model)
        return self.spec.structured

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
        """The table judgments, a row a pair, principle and order.

        Raises UserError when the key is missing or not accepted, when the model is unknown, and when the budget is
        spent (or cannot be held because no price is known).
        """
        template = Template(self.spec.reasoning, joint=mode == "joint")
        questions = questions_of(pairs, constitution, orders, mode)
        keys = [self._key(question, template) for question in questions]
        by_key = dict(zip(keys, questions, strict=True))
        with open_cache(cache_path(self.home)) as cache:
            known = cache.get(keys)
            asked = {key: self._messages(q, template) for key, q in by_key.items() if key not in known}

            def ask(part: dict[str, list[Message]], budget: float | None) -> Mapping[str, Answer | Failure]:
                return ask_questions(
                    self.name,
                    self.spec,
                    self.home,
                    part,
                    cache,
                    backoff=self.backoff,
                    budget_usd=budget,
                    progress=progress,
                    poll=self.poll,
                    extra=lambda key: self._extra(template, list(by_key[key].texts)),
                    label=lambda key, answer: "/".join(
                        sorted({verdict for verdict, _ in self._read(by_key[key], answer, template).values()})
                    ),
                )

            fresh, elsewhere = ask_once(cache, self.home, asked, ask, budget_usd)
        known |= elsewhere
        answers = {**known, **fresh}
        rows = [
            judgment
            for key, question in zip(keys, questions, strict=True)
            for judgment in self._judgments(question, answers[key], template, cached=key in known)
        ]
        return judgments_frame(rows if mode != "joint" else _nested(rows, len(orders)))

    def requests(
        self, pairs: Sequence[Pair], constitution: Constitution, orders: Sequence[Order], mode: Mode = "per_principle"
    ) -> list[tuple[Question, dict[str, Any]]]:
        """Exactly what `judge` sends for each question, but for the key."""
        template = Template(self.spec.reasoning, joint=mode == "joint")
        return [
            (q, request_of(self.spec, self._messages(q, template), self._extra(template, list(q.texts))))
            for q in questions_of(pairs, constitution, orders, mode)
        ]

    def unanswered(
        self, pairs: Sequence[Pair], constitution: Constitution, orders: Sequence[Order], mode: Mode = "per_principle"
    ) -> list[list[Message]]:
        """The messages of every distinct question that the cache has no answer to. Reads the cache and nothing else."""
        template = Template(self.spec.reasoning, joint=mode == "joint")
        asked = {self._key(q, template): q for q in questions_of(pairs, constitution, orders, mode)}
        known = known_keys(cache_path(self.home), asked)
        return [self._messages(q, template) for key, q in asked.items() if key not in known]

    def _messages(self, question: Question, template: Template) -> list[Message]:
        return template.messages(question.texts, question.pair.prompt, *question.shown)

    def _extra(self, template: Template, names: list[str]) -> dict[str, Any]:
        """What is sent beside the messages and the file's own parameters."""
        out: dict[str, Any] = {}
        if self.structured:
            schema = {"name": "verdict", "strict": True, "schema": template.schema(names)}
            out["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.spec.soft_labels:
            out |= {"logprobs": True, "top_logprobs": ALTERNATIVES}
        return out

    def _key(self, question: Question, template: Template) -> str:
        """All that the judge is given. The order shows in which answer comes first, so a pair that is met again with
        its sides exchanged asks nothing twice. A principle asked about by itself goes by its text, so a new name for it
        asks nothing; asked about together, the names are in the question."""
        principles: Any = question.texts if template.joint else question.principles[0].text.strip()
        meaning, version = self.spec.meaning(), self._version(template)
        return content_hash("api", meaning, version, principles, question.pair.prompt, question.shown)

    def _read(self, question: Question, answer: Answer, template: Template) -> dict[str, tuple[Verdict, float | None]]:
        """Verdict and probability of a, by principle."""
        names, shown = list(question.texts), question.shown
        said: Mapping[str, Said]
        if template.joint:
            said = parse_joint(answer.text, names, answer.finish, shown)
        else:
            said = {names[0]: parse(answer.text, answer.finish, shown)}
        out = {}
        for name, one in said.items():
            verdict, p_a = in_terms_of_pair(one, question.order)
            soft = soft_label(answer.text, answer.logprobs, name if template.joint else "verdict")
            if p_a is not None and soft is not None and self.spec.soft_labels:
                p_a = soft if question.order == "ab" else 1 - soft
                verdict = verdict_of(p_a)
            out[name] = verdict, p_a
        return out

    def _judgments(
        self, question: Question, answer: Answer | Failure, template: Template, *, cached: bool
    ) -> Iterator[Judgment]:
        """A row a principle of the question; what the request took is shared out among them."""
        pair, n = question.pair, len(question.principles)
        if isinstance(answer, Answer):
            found = self._read(question, answer, template)
        else:
            found = dict.fromkeys(question.texts, ("error", None))
            answer = Answer(answer.reason, "error", 0, 0, 0.0, 0.0)
        for place, (name, (verdict, p_a)) in enumerate(found.items()):
            yield Judgment(
                pair.pair_id,
                pair.prompt_id,
                pair.a_id,
                pair.b_id,
                name,
                question.order,
                verdict,
                p_a,
                raw=answer.text,
                judge=self.name,
                template_version=self._version(template),
                tokens_in=share(answer.tokens_in, place, n),
                tokens_out=share(answer.tokens_out, place, n),
                cost_usd=answer.cost_usd / n,
                latency_ms=answer.latency_ms,
                cached=cached,
            )


def share(total: int, place: int, n: int) -> int:
    """The share of one of `n` in a whole number; the shares add up to it."""
    return total * (place + 1) // n - total * place // n


def _nested(rows: Sequence[Judgment], orders: int) -> list[Judgment]:
    """The rows of joint questions (order by order, principle by principle) as every judge gives them: a pair's
    principles one after the other, each in its orders."""
    place: dict[tuple[str, str], int] = {}
    for row in rows:
        place.setdefault((row.pair_id, row.principle_id), len(place))
    return sorted(rows, key=lambda row: place[row.pair_id, row.principle_id]) if orders > 1 else list(rows)
