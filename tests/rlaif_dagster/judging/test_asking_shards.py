"""A provider asked by shards on real Ray: the verdicts of one process, each question once, one account and one budget."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rlaif_dagster import shards
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.ledger import outcomes, spent_usd
from rlaif_dagster.judging.verdicts import Order
from tests.local_ray import local_ray
from tests.rlaif_dagster.judging.chat_server import ChatServer, Reply, serving, verdict
from tests.rlaif_dagster.judging.conftest import constitution, pair

__all__ = ["local_ray"]
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("local_ray")]
UNSET = "NO_SUCH_VARIABLE"
PAIRS = [pair(number) for number in range(12)]
LAW = constitution("Prefer the good answer.")
ORDERS: tuple[Order, ...] = ("ab", "ba")
PRICE = (100 * 10 + 20 * 100) / 1e6  # US dollars a request, by the server's own count of tokens


@pytest.fixture(autouse=True)
def in_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(shards.SHARDS, "2")
    yield
    shards.release()


def better(request: dict[str, Any], number: int) -> Reply:
    shown = request["messages"][-1]["content"]
    return verdict("A" if "good" in re.findall(r"<answer_a>\n(.*?)\n</answer_a>", shown, re.S)[0] else "B")


def without_key(api_judge: Callable[..., ApiJudge], server: ChatServer, **fields: Any) -> ApiJudge:
    """Shards have the keys of the environment that Ray was started in, which is not this test's."""
    return api_judge(server.url, api_key_env=None, **fields)


def test_verdicts_are_those_of_one_process_and_every_question_is_asked_once(
    api_judge: Callable[..., ApiJudge], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(better) as server:
        judge = without_key(api_judge, server)
        spent = spent_usd(home)
        judged = judge.judge(PAIRS, LAW, ORDERS)
        assert len(server.requests) == 2 * len(PAIRS)
        assert set(judged["verdict"]) == {"a", "b"}
        assert not judged["cached"].any()
        assert spent_usd(home) - spent == pytest.approx(
            2 * len(PAIRS) * PRICE
        )  # the shards' spending is this process's
        assert outcomes(home) == {"answered": 2 * len(PAIRS)}
        monkeypatch.delenv(shards.SHARDS)
        again = judge.judge(PAIRS, LAW, ORDERS)
        assert len(server.requests) == 2 * len(PAIRS)
        assert again.drop(columns="cached").equals(judged.drop(columns="cached"))


def test_a_budget_holds_over_all_shards_and_what_one_leaves_another_spends(
    api_judge: Callable[..., ApiJudge], home: Home
) -> None:
    with serving(better) as server:
        judge = without_key(api_judge, server, concurrency=1)
        with pytest.raises(UserError, match=r"spent \$\S+ of the budget of \$0.05; \d+ of 24 requests remain") as told:
            judge.judge(PAIRS, LAW, ORDERS, budget_usd=0.05)
        assert 0 < spent_usd(home) <= 0.05
        assert len(server.requests) == round(spent_usd(home) / PRICE)
        left = int(re.findall(r"(\d+) of 24 requests remain", str(told.value))[0])
        assert left == 24 - len(server.requests)
        assert len(judge.judge(PAIRS, LAW, ORDERS, budget_usd=1.0)) == 24
        assert len(server.requests) == 24  # nothing was asked twice


def test_a_missing_key_is_told_in_the_usual_line(api_judge: Callable[..., ApiJudge], home: Home) -> None:
    with serving(better) as server, pytest.raises(UserError, match=UNSET):
        api_judge(server.url, api_key_env=UNSET).judge(PAIRS, LAW, ORDERS)
