"""What is judged, and what can come of it.

A *verdict* is always in terms of a pair's own `a` and `b`, whatever the order in which a judge was shown them, and there
are six kinds. Three decide:

    a            the first answer follows the principle better
    b            the second does
    tie          neither does

and three do not. They are stored and counted, and never turned into a preference:

    refused      the judge declined to judge (small and safety-tuned judges do so on just the prompts that matter)
    unparseable  the judge said something in which no verdict can be read
    error        no answer came, after all retries; the next run asks again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.spec.constitution import Constitution

Verdict = Literal["a", "b", "tie", "refused", "unparseable", "error"]
Order = Literal["ab", "ba", "none"]
Mode = Literal["per_principle", "joint", "sampled"]

DECIDED: tuple[Verdict, ...] = ("a", "b", "tie")
FAILED: tuple[Verdict, ...] = ("refused", "unparseable", "error")
P_A: dict[Verdict, float] = {"a": 1.0, "tie": 0.5, "b": 0.0}


@dataclass(frozen=True)
class Pair:
    """A prompt and two answers to it."""

    pair_id: str
    prompt_id: str
    prompt: str
    a_id: str
    a: str
    b_id: str
    b: str


def make_pair(prompt_id: str, prompt: str, first: tuple[str, str], second: tuple[str, str]) -> Pair:
    """The pair of two answers, each given as (id, text). The smaller id comes first, so that content alone decides
    which answer is `a` and no source of answers always stands in the same place."""
    (a_id, a), (b_id, b) = sorted([first, second])
    return Pair(content_hash(prompt_id, a_id, b_id), prompt_id, prompt, a_id, a, b_id, b)


@dataclass(frozen=True)
class Judgment:
    """One verdict on a pair under one principle in one order: a row of the table judgments."""

    pair_id: str
    prompt_id: str
    a_id: str
    b_id: str
    principle_id: str
    order: Order
    verdict: Verdict
    p_a: float | None
    raw: str
    judge: str
    template_version: str
    tokens_in: int
    tokens_out: int
    cost_usd: float
    latency_ms: float
    cached: bool


COLUMNS = list(Judgment.__dataclass_fields__)


def judgments_frame(judgments: Sequence[Judgment]) -> pd.DataFrame:
    """The table judgments, without its keys; `p_a` is a float column, missing where there is no verdict."""
    frame = pd.DataFrame([asdict(judgment) for judgment in judgments], columns=COLUMNS)
    return frame.astype({"p_a": "float64"})


class Judge(Protocol):
    """What compares two answers under each principle of a constitution."""

    @property
    def name(self) -> str:
        """Name in data/judges."""

    @property
    def template_version(self) -> str:
        """Version of how the judge is asked: answers to another wording are other answers."""

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
        """The table judgments: a row for every pair, principle and order, in that nesting.

        `orders` are "ab" and/or "ba"; a judge that scores answers one by one answers once, with order "none". `mode` says
        under which principles a pair is judged, and whether in one request (`judging.questions`).
        `progress` names a bar on stderr. Raises UserError when the next answer could exceed `budget_usd`; what was
        answered until then is kept, and not paid for again.
        """


def verdict_of(p_a: float, tie_margin: float = 0.0) -> Verdict:
    """The verdict that a probability stands for: a tie while `|2 p - 1|` is at most `tie_margin`."""
    if abs(2 * p_a - 1) <= tie_margin:
        return "tie"
    return "a" if p_a > 0.5 else "b"
