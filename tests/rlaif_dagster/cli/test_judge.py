"""`rlaif judge` against a real server: verdicts in terms of the answers as given, their price, the exact requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlaif_dagster.cli.main import app
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from tests.rlaif_dagster.judging.chat_server import ChatServer, Reply, serving, shown, verdict

KEY = "planted-cli-77aa1c"
JUDGE = """\
kind: api
model: openai/test
api_base: {url}
api_key_env: TEST_CLI_KEY
usd_per_million_input: 10
usd_per_million_output: 100
"""
LAW = """\
principles:
  - {id: first, text: Prefer the good answer., weight: 3}
  - {id: second, text: Prefer the bad answer., weight: 1}
"""


def answer(request: dict[str, Any], number: int) -> Reply:
    good, bad = ("A", "B") if "good" in shown(request)[0] else ("B", "A")
    return verdict(bad if "Prefer the bad" in request["messages"][0]["content"] else good)


@pytest.fixture
def server(data: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A judge that asks a server, in the project's data, and a constitution with two principles that disagree."""
    monkeypatch.setenv("TEST_CLI_KEY", KEY)
    with serving(answer) as running:
        (data / "judges/asked.yaml").write_text(JUDGE.format(url=running.url))
        (data / "constitutions/law.yaml").write_text(LAW)
        yield running


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        app(["judge", *arguments, "--judge", "asked", "--constitution", "law"], standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("good_first", [True, False])
def test_verdicts_are_in_terms_of_the_answers_as_given(
    server: ChatServer, ask: Callable[..., str], good_first: bool
) -> None:
    answers = ["a good one", "a poor one"] if good_first else ["a poor one", "a good one"]
    found = json.loads(ask("Why?", *answers, "--json"))
    better = "a" if good_first else "b"
    worse = "b" if good_first else "a"
    verdicts = {(row["principle_id"], row["order"]): row["verdict"] for row in found["verdicts"]}
    assert verdicts == {
        ("first", "ab"): better, ("first", "ba"): better, ("second", "ab"): worse, ("second", "ba"): worse,
    }  # fmt: skip
    assert found["p_a"] == pytest.approx(0.75 if good_first else 0.25)
    assert found["cost_usd"] == pytest.approx(4 * (100 * 10e-6 + 20 * 100e-6))
    # the requests that are told are those that the server got, and in the order "ab" the first answer is shown first
    got = [request["messages"] for request in server.requests]
    assert all(one["request"]["messages"] in got for one in found["requests"])
    assert {shown(one["request"])[0] for one in found["requests"] if one["order"] == "ab"} == {answers[0]}
    assert KEY not in json.dumps(found)


def test_the_table_and_the_requests_are_for_people_and_asking_again_is_free(
    server: ChatServer, ask: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "answer.txt").write_text("a good one")
    first = ask("Why?", f"@{tmp_path / 'answer.txt'}", "a poor one")
    assert "asked on law: p(A is better) = 0.75; spent $0.0120" in first
    assert "--- asked, first, order ab" in first
    assert "<answer_a>\na good one\n</answer_a>" in first
    assert KEY not in first
    asked = len(server.requests)
    again = ask("Why?", "a good one", "a poor one")
    assert len(server.requests) == asked
    assert "spent -" in again
    assert "cached" in again


def test_a_dry_run_asks_nothing(server: ChatServer, ask: Callable[..., str]) -> None:
    told = ask("Why?", "a good one", "a poor one", "--dry-run", "--mode", "joint")
    assert not server.requests
    assert told.count("--- asked, first, second, order") == 2


def test_what_is_wrong_is_told(server: ChatServer, ask: Callable[..., str]) -> None:
    for arguments, message in {
        ("Q?", "same", "same"): "the two answers are the same",
        ("Q?", "x", "y", "--mode", "vote"): "--mode: found 'vote', allowed: per_principle, joint, sampled",
        ("Q?", "@nowhere.txt", "y"): "nowhere.txt: no such file",
        ("Q?", "x", "y", "--budget", "0.001"): "of the budget of $0.001",
    }.items():
        with pytest.raises(UserError, match=message.replace("$", r"\$")):
            ask(*arguments)
