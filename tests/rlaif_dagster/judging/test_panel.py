"""Panels of real judges: servers that disagree, and the measuring judge beside a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.likelihood import LikelihoodJudge
from rlaif_dagster.judging.panel import PanelJudge
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec
from tests.rlaif_dagster.judging.chat_server import Reply, fails, says, serving, shown, verdict
from tests.rlaif_dagster.judging.conftest import constitution, pair
from tests.rlaif_dagster.judging.test_api import PRICE

LAW = constitution("Prefer the good answer.")
MakeJudge = Callable[..., ApiJudge]


def by_model(**answers: Callable[[dict[str, Any]], Reply]) -> Callable[[dict[str, Any], int], Reply]:
    """A server on which each model answers in its own way."""
    return lambda request, number: answers[request["model"]](request)


def good(request: dict[str, Any]) -> Reply:
    return verdict("A" if "good" in shown(request)[0] else "B")


def bad(request: dict[str, Any]) -> Reply:
    return verdict("B" if "good" in shown(request)[0] else "A")


def refuses(request: dict[str, Any]) -> Reply:
    return says("I cannot judge this.")


def breaks(request: dict[str, Any]) -> Reply:
    return fails(400)


def p_good(judged: Any, number: int = 0) -> list[float]:
    """Probability of the good answer, a row each."""
    return [p if "good" in pair(number).a else 1 - p for p in judged["p_a"]]


def test_votes_are_averaged_by_weight(api_judge: MakeJudge) -> None:
    with serving(by_model(one=good, two=bad)) as server:
        one, two = (api_judge(server.url, name, model=f"openai/{name}") for name in ("one", "two"))
        judged = PanelJudge("panel", ((one, 3.0), (two, 1.0))).judge([pair(0)], LAW, ("ab", "ba"))
        even = PanelJudge("even", ((one, 1.0), (two, 1.0))).judge([pair(0)], LAW, ("ab", "ba"))
    assert p_good(judged) == pytest.approx([0.75, 0.75])
    assert judged["order"].tolist() == ["ab", "ba"]
    assert even["verdict"].tolist() == ["tie", "tie"]
    votes = json.loads(judged["raw"][0])
    assert set(votes) == {"one", "two"}
    assert {votes["one"]["verdict"], votes["two"]["verdict"]} == {"a", "b"}
    assert judged["cost_usd"].tolist() == pytest.approx([2 * PRICE] * 2)


def test_a_member_that_fails_is_left_out(api_judge: MakeJudge) -> None:
    with serving(by_model(one=good, two=refuses, three=breaks)) as server:
        members = [(api_judge(server.url, name, model=f"openai/{name}"), 1.0) for name in ("one", "two", "three")]
        judged = PanelJudge("panel", tuple(members)).judge([pair(0)], LAW, ("ab",))
        failed = PanelJudge("panel", tuple(members[1:])).judge([pair(0)], LAW, ("ab",))
        refused = PanelJudge("panel", tuple(members[1:2])).judge([pair(0)], LAW, ("ab",))
    assert p_good(judged) == [1.0]
    assert failed["p_a"].isna().all()
    assert failed["verdict"].tolist() == ["error"]  # the worst of what happened: the next run asks again
    assert refused["verdict"].tolist() == ["refused"]


def test_a_member_without_orders_votes_in_both(api_judge: MakeJudge, tiny_model_folder: Path, home: Home) -> None:
    spec = LikelihoodSpec(kind="likelihood", model="tiny")
    measured = LikelihoodJudge("measured", spec, ModelSpec(folder=str(tiny_model_folder)), home)
    own = measured.judge([pair(0)], LAW, ("ab", "ba"))
    with serving(by_model(one=good)) as server:
        asked = api_judge(server.url, "one", model="openai/one")
        judged = PanelJudge("panel", ((measured, 1.0), (asked, 1.0))).judge([pair(0)], LAW, ("ab", "ba"))
    (p_a,) = own["p_a"]
    expected = (p_a + (1.0 if "good" in pair(0).a else 0.0)) / 2
    assert judged["p_a"].tolist() == pytest.approx([expected] * 2)
    # what the measuring member read is counted in one of the two rows
    assert judged["tokens_in"].tolist() == [100 + own["tokens_in"][0], 100]
    alone = PanelJudge("panel", ((measured, 1.0), (measured, 2.0))).judge([pair(0)], LAW, ("ab", "ba"))
    assert alone["order"].tolist() == ["none"]


def test_the_budget_is_shared(api_judge: MakeJudge) -> None:
    pairs = [pair(number) for number in range(5)]
    with serving(by_model(one=good, two=good)) as server:
        members = [(api_judge(server.url, name, model=f"openai/{name}", max_tokens=20), 1.0) for name in ("one", "two")]
        panel = PanelJudge("panel", tuple(members))
        with pytest.raises(UserError, match="judge two: spent"):
            panel.judge(pairs, LAW, ("ab", "ba"), budget_usd=15 * PRICE)
        assert 10 < len(server.requests) < 15
        judged = panel.judge(pairs, LAW, ("ab", "ba"), budget_usd=15 * PRICE)  # what was kept costs nothing now
    assert len(server.requests) == 20
    assert judged["verdict"].isin(["a", "b"]).all()


def test_its_version_follows_its_members(api_judge: MakeJudge) -> None:
    one, two = api_judge("http://127.0.0.1:1", "one"), api_judge("http://127.0.0.1:1", "two")
    versions = {
        PanelJudge("p", members).template_version
        for members in (((one, 1.0),), ((two, 1.0),), ((one, 1.0), (two, 1.0)))
    }
    assert len(versions) == 3
