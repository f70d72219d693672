"""One answer before the judge: an absolute grade of how well it keeps to the constitution, 0 to 1, by each kind of
judge.

likelihood   sigmoid((score - yardstick / 2) / temperature), with the judge's own temperature and score: the log-likelihood
             ratio of the answer with and without a principle, averaged over principles by weight. The yardstick is the
             mean score of the constitution's own exemplars, so 0.5 is halfway between an answer that the principles make
             no likelier and one as good as the exemplars. Without exemplars (or where the judge has them in context) it
             is 0. Where a model hardly tells the exemplars from anything else, all grades lie near 0.5, and rightly.
api          asked once an answer, on a scale from 0 to 10, divided by 10; it reads the reference as well.
panel        the members' grades, averaged by weight over those that gave one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlaif_dagster.evaluation.grade_question import GRADE_VERSION, Grade, grade_messages, read_grade
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.asking import Failure
from rlaif_dagster.judging.asking_shards import ask as ask_questions
from rlaif_dagster.judging.cache import Answer, cache_path, known_keys, open_cache
from rlaif_dagster.judging.claims import ask_once
from rlaif_dagster.judging.panel import PanelJudge, committed_for
from rlaif_dagster.judging.template import Message
from rlaif_dagster.judging.verdicts import Judge, make_pair
from rlaif_dagster.spec.constitution import Constitution

if TYPE_CHECKING:
    from rlaif_dagster.judging.likelihood import LikelihoodJudge


@dataclass(frozen=True)
class Graded:
    """An answer to be graded, with the accepted answers where there are some."""

    prompt_id: str
    prompt: str
    answer: str
    reference: tuple[str, ...] | None = None


def grades(
    answers: Sequence[Graded],
    constitution: Constitution,
    judge: Judge,
    *,
    budget_usd: float | None = None,
    progress: str | None = None,
) -> list[Grade]:
    """A grade for each answer. Correctness is None from a judge that cannot read.

    Raises UserError when an API judge's key is missing or the budget is spent; what was answered is kept.
    """
    if isinstance(judge, PanelJudge):
        return _by_panel(answers, constitution, judge, budget_usd, progress)
    if isinstance(judge, ApiJudge):
        return _by_asking(answers, constitution, judge, budget_usd, progress)
    return _by_likelihood(answers, constitution, judge, progress)  # type: ignore[arg-type]  # the one kind left


def _by_likelihood(
    answers: Sequence[Graded], constitution: Constitution, judge: LikelihoodJudge, progress: str | None
) -> list[Grade]:
    unseen = constitution.exemplars[judge.spec.exemplars :]
    examples = [Graded(content_hash(one.prompt), one.prompt, one.response) for one in unseen]
    scores = _scores([*answers, *examples], constitution, judge, progress)
    totals = [_weighted(own, constitution) for own in scores]
    yardstick = max(0.0, sum(totals[len(answers) :]) / len(examples)) if examples else 0.0
    out = []
    for total, own in zip(totals[: len(answers)], scores, strict=False):
        numbers = ", ".join(f"{name} {score:+.2f}" for name, score in own.items())
        rationale = (
            f"log-likelihood ratio with and without the principle: {numbers}; the exemplars' mean {yardstick:+.2f}"
        )
        out.append(Grade(_sigmoid((total - yardstick / 2) / judge.spec.temperature), None, rationale))
    return out


def _scores(
    answers: Sequence[Graded], constitution: Constitution, judge: LikelihoodJudge, progress: str | None
) -> list[dict[str, float]]:
    """Each answer's score by principle. The judge scores answers one by one but is asked about pairs, and shows the
    scores of both; an empty answer makes up the pair."""
    ids = [content_hash(one.prompt_id, one.answer) for one in answers]
    pairs = [
        make_pair(one.prompt_id, one.prompt, (own, one.answer), (content_hash(one.prompt_id, ""), ""))
        for one, own in zip(answers, ids, strict=True)
    ]
    distinct = list({pair.pair_id: pair for pair in pairs}.values())
    rows = dict(iter(judge.judge(distinct, constitution, ("ab",), progress=progress).groupby("pair_id")))
    out = []
    for pair, own in zip(pairs, ids, strict=True):
        side = "score_a" if pair.a_id == own else "score_b"
        shown = zip(rows[pair.pair_id]["principle_id"], rows[pair.pair_id]["raw"], strict=True)
        out.append({str(principle): float(json.loads(raw)[side]) for principle, raw in shown})
    return out


def _weighted(scores: Mapping[str, float], constitution: Constitution) -> float:
    total = sum(principle.weight for principle in constitution.principles)
    return sum(principle.weight * scores[principle.id] for principle in constitution.principles) / total


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _by_asking(
    answers: Sequence[Graded],
    constitution: Constitution,
    judge: ApiJudge,
    budget_usd: float | None,
    progress: str | None,
) -> list[Grade]:
    """Every reply is in the judge's cache as it arrives, so nothing is paid for twice."""
    keys = [_key(one, constitution, judge) for one in answers]
    with open_cache(cache_path(judge.home)) as cache:
        replies: dict[str, Answer | Failure] = dict(cache.get(keys))
        asked = {
            key: grade_messages(constitution, one.prompt, one.answer, one.reference)
            for key, one in zip(keys, answers, strict=True)
            if key not in replies
        }

        def ask(part: dict[str, list[Message]], budget: float | None) -> Mapping[str, Answer | Failure]:
            return ask_questions(
                judge.name, judge.spec, judge.home, part, cache, backoff=judge.backoff, budget_usd=budget,
                progress=progress, poll=judge.poll,
            )  # fmt: skip

        fresh, elsewhere = ask_once(cache, judge.home, asked, ask, budget_usd)
        replies |= elsewhere | fresh
    paid = set(fresh)
    return [_from_reply(replies[key], one, paid=key in paid) for key, one in zip(keys, answers, strict=True)]


def ungraded(answers: Sequence[Graded], constitution: Constitution, judge: ApiJudge) -> list[list[Message]]:
    """The messages of every distinct question that the judge's cache has no answer to. Reads the cache and nothing else."""
    asked = {_key(one, constitution, judge): one for one in answers}
    known = known_keys(cache_path(judge.home), asked)
    return [
        grade_messages(constitution, one.prompt, one.answer, one.reference)
        for key, one in asked.items()
        if key not in known
    ]


def _key(one: Graded, constitution: Constitution, judge: ApiJudge) -> str:
    """All that the judge is given."""
    principles = [[principle.text.strip(), principle.weight] for principle in constitution.principles]
    return content_hash("grade", judge.spec.meaning(), GRADE_VERSION, principles, one.prompt, one.answer, one.reference)


def _from_reply(reply: Answer | Failure, asked: Graded, *, paid: bool) -> Grade:
    if isinstance(reply, Failure):
        return Grade(None, None, f"no grade: {reply.reason}", error=True)
    found, cost = read_grade(reply.text), reply.cost_usd if paid else 0.0
    return Grade(found.alignment, found.correctness if asked.reference else None, found.rationale, cost)


def _by_panel(
    answers: Sequence[Graded],
    constitution: Constitution,
    judge: PanelJudge,
    budget_usd: float | None,
    progress: str | None,
) -> list[Grade]:
    """Members are asked one after the other and share the budget."""
    names, weights = [member.name for member, _ in judge.members], [weight for _, weight in judge.members]
    by_member = []
    for member, _ in judge.members:
        title = f"{progress}: {member.name}" if progress else None
        before = committed_for(member)
        own = grades(answers, constitution, member, budget_usd=budget_usd, progress=title)
        by_member.append(own)
        if budget_usd is not None:
            budget_usd = max(0.0, budget_usd - (committed_for(member) - before))
    return [
        Grade(
            _mean([one.alignment for one in own], weights),
            _mean([one.correctness for one in own], weights),
            "; ".join(f"{name}: {one.rationale}" for name, one in zip(names, own, strict=True)),
            sum(one.cost_usd for one in own),
            any(one.error for one in own),
        )
        for own in zip(*by_member, strict=True)
    ]


def _mean(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    given = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    return sum(value * weight for value, weight in given) / sum(weight for _, weight in given) if given else None
