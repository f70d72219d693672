"""Two thousand verdicts from a server that misbehaves in every way at once, and from one that does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pandas as pd

from bench.chat_server import KINDS, PASSING, Behaviour
from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.ledger import outcomes_since
from rlaif_dagster.judging.questions import questions_of
from rlaif_dagster.judging.verdicts import DECIDED
from rlaif_dagster.warehouse.schemas import TABLES
from tests.rlaif_dagster.judging.conftest import constitution, pair
from tests.rlaif_dagster.judging.faulty import served

LAW = constitution("Prefer the good answer.")
BOTH = ("ab", "ba")
PAIRS = [pair(number) for number in range(1000)]
KEY = ["pair_id", "principle_id", "order"]
OUTCOME = {  # what the ledger calls each trouble of the server
    "rate_limit": "rate_limited",
    "server_error": "server_error",
    "hang": "timeout",
    "reset": "connection",
    "truncated": "unreadable",
    "empty": "empty",
}


def stored(judged: pd.DataFrame) -> pd.DataFrame:
    """The columns that make the table's version."""
    return judged[[c.name for c in TABLES["judgments"].columns if not c.volatile and c.name in judged]]


def test_two_thousand_verdicts_none_lost_none_doubled(api_judge: Callable[..., ApiJudge], home: Home) -> None:
    judge = api_judge("http://127.0.0.1:1/v1")
    sent = [request["messages"] for _, request in judge.requests(PAIRS, LAW, BOTH)]
    kinds = [Behaviour(faults=True).kind({"messages": messages}) for messages in sent]
    expected = Counter(kinds)
    assert set(expected) == set(KINDS)
    assert all(150 < n < 250 for n in expected.values())

    with served("--faults") as server:
        faulty = api_judge(server.url, concurrency=64, timeout=2, retries=4).judge(PAIRS, LAW, BOTH)
        counted = server.stats()
    troubles = {kind: expected[kind] for kind in PASSING}
    assert counted["kinds"] == {
        **dict(expected - Counter(troubles)),
        **troubles,
        "well": expected["well"] + sum(troubles.values()),
    }
    assert counted["requests"] == 2000 + sum(troubles.values())
    assert counted["answered"] == counted["questions"] == 2000
    assert outcomes_since(home, {}) == {"answered": 2000} | {OUTCOME[kind]: n for kind, n in troubles.items()}

    assert len(faulty) == 2000
    assert not faulty.duplicated(KEY).any()
    assert [(q.pair.pair_id, q.principles[0].id, q.order) for q in questions_of(PAIRS, LAW, BOTH, "per_principle")] == [
        tuple(row) for row in faulty[KEY].itertuples(index=False)
    ]
    failed = faulty[~faulty["verdict"].isin(DECIDED)]["verdict"].value_counts().to_dict()
    assert failed == {"unparseable": expected["prose"], "refused": expected["refusal"]}

    with served() as server:
        faultless = api_judge(server.url, concurrency=64, server="another").judge(PAIRS, LAW, BOTH)
        assert server.stats()["requests"] == 2000
    answered = [kind not in {"prose", "refusal"} for kind in kinds]
    pd.testing.assert_frame_equal(stored(faulty)[answered], stored(faultless)[answered])
    assert faultless["verdict"].isin(["a", "b"]).all()
