"""What a likelihood judge measures: an answer to a prompt, plainly and under each principle, and the name of each number.

Apart from the judge itself, so that a plan can look up what is measured already without the libraries that measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import Home
from rlaif_dagster.judging.cache import cache_path, known_keys
from rlaif_dagster.judging.questions import judged_by
from rlaif_dagster.judging.template import LIKELIHOOD_VERSION, PRINCIPLE
from rlaif_dagster.judging.verdicts import Mode, Pair
from rlaif_dagster.spec.constitution import Constitution, Exemplar
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec

if TYPE_CHECKING:
    from rlaif_dagster.language.base_model import LanguageModel


@dataclass(frozen=True)
class Condition:
    """What an answer's likelihood is conditioned on beside its prompt: nothing, or a principle and exemplars of it."""

    principle: str | None = None
    exemplars: tuple[Exemplar, ...] = ()

    def context(self, lm: LanguageModel, prompt: str) -> list[int]:
        """Token ids up to where the answer begins."""
        return lm.prompt_ids(lm.chat(prompt, system=self.system(lm.spec), history=self.turns))

    def messages(self, model: ModelSpec, prompt: str) -> list[dict[str, str]]:
        """The same as messages, before the model's template writes them."""
        system = self.system(model) or model.system_prompt
        first = [{"role": "system", "content": system}] if system else []
        return [*first, *self.turns, {"role": "user", "content": prompt}]

    def system(self, model: ModelSpec) -> str | None:
        """The system message. The model file's own, where it has one, stays in front; without a principle it is all there
        is (the template's default, where the file has none)."""
        if self.principle is None:
            return None
        own = [model.system_prompt] if model.system_prompt else []
        return "\n\n".join([*own, PRINCIPLE.format(principle=self.principle.strip())])

    @property
    def turns(self) -> tuple[dict[str, str], ...]:
        """The exemplars as earlier turns."""
        return tuple(
            {"role": role, "content": text}
            for exemplar in self.exemplars
            for role, text in (("user", exemplar.prompt), ("assistant", exemplar.response))
        )


Question = tuple[Condition, str, str]  # condition, prompt, answer


def conditions_of(spec: LikelihoodSpec, constitution: Constitution) -> dict[str, Condition]:
    """What a judge conditions answers on, by principle."""
    exemplars = constitution.exemplars[: spec.exemplars]
    return {p.id: Condition(p.text, exemplars) for p in constitution.principles}


def questions_of(judged: Sequence[tuple[Pair, str]], conditions: Mapping[str, Condition]) -> list[Question]:
    """Every answer once plainly and once under each condition that it is judged by: by condition, then in the order of
    prompt and answer, so that neighbours share their beginnings."""
    asked: dict[Condition, set[tuple[str, str]]] = {c: set() for c in (Condition(), *conditions.values())}
    for pair, principle_id in judged:
        for text in (pair.a, pair.b):
            asked[Condition()].add((pair.prompt, text))
            asked[conditions[principle_id]].add((pair.prompt, text))
    return [(condition, *answer) for condition, answers in asked.items() for answer in sorted(answers)]


def key_with(meaning: Mapping[str, object], question: Question) -> str:
    """The name under which a question's likelihood is kept: the model, by its meaning, and all that it is given."""
    condition, prompt, answer = question
    exemplars = [exemplar.meaning() for exemplar in condition.exemplars]
    version = None if condition.principle is None else LIKELIHOOD_VERSION
    return content_hash("likelihood", meaning, version, condition.principle, exemplars, prompt, answer)


def unmeasured(
    pairs: Sequence[Pair], constitution: Constitution, mode: Mode, spec: LikelihoodSpec, model: ModelSpec, home: Home
) -> list[Question]:
    """The questions of judging these pairs that the cache has no number for. Reads the cache and nothing else."""
    judged = [(pair, principle.id) for pair in pairs for principle in judged_by(pair, constitution, mode)]
    meaning = model.meaning()
    keys = {
        key_with(meaning, question): question for question in questions_of(judged, conditions_of(spec, constitution))
    }
    known = known_keys(cache_path(home), keys)
    return [question for key, question in keys.items() if key not in known]
