"""What an edit asks of the judge, counted at a real server under a whole study: a comment nothing, one principle of ten a
tenth, a new prompt its own pairs, a changed parser nothing, and a killed or repeated command nothing twice."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.judging.ledger import total_usd
from tests.checkout import Checkout
from tests.rlaif_dagster.judging.chat_server import ChatServer, Reply, fails, serving, shown, verdict
from tests.study.test_interruptions import up
from tests.study.test_kills import wait

pytestmark = pytest.mark.timeout(1800)
PRINCIPLES = 10
LABELS = 6
JUDGE = """\
kind: api
model: openai/test
api_base: {url}
server: the test's
concurrency: 16
usd_per_million_input: 10
usd_per_million_output: 100
"""
# the same command line, with a parser that turns every verdict round
OTHER_PARSER = """
import sys
from rlaif_dagster.judging import parsing
plain = parsing.parse
def turned(text, finish="stop", shown=()):
    return {"A": "B", "B": "A"}.get(said := plain(text, finish, shown), said)
parsing.parse, parsing.PARSING_VERSION = turned, parsing.PARSING_VERSION + 1
from rlaif_dagster.cli.main import main
main()
"""


def longer(request: dict[str, Any], number: int) -> Reply:
    first, second = shown(request)
    return verdict("A" if (len(first), first) > (len(second), second) else "B")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(longer) as running:
        yield running


@pytest.fixture
def study(tiny_study: Checkout, tmp_path: Path, server: ChatServer) -> Checkout:
    """The tiny study under ten principles, judged by asking; what is sampled does not hang on the principles."""
    own = Checkout(tmp_path / "data", tmp_path / "home")
    shutil.copytree(tiny_study.data, own.data)
    principles = "".join(f"  - {{id: p{n}, text: Principle number {n} of ten.}}\n" for n in range(PRINCIPLES))
    files = {
        "judges/asked.yaml": JUDGE.format(url=server.url),
        "recipes/judging.yaml": "judge: asked\npairs: {min_margin: 0.0, held_out_share: 0.4, ties: keep}\n",
        "constitutions/brief.yaml": f"# a comment\nprinciples:\n{principles}",
        "labels/pairs.jsonl": "".join(
            json.dumps({"prompt": f"Hi {n}?", "answer_a": f"Yes, {n}.", "answer_b": "No no.", "preferred": "a"}) + "\n"
            for n in range(LABELS)
        ),
    }
    for name, text in files.items():
        (own.data / name).write_text(text, encoding="utf-8")
    return own


def asked(study: Checkout, server: ChatServer, *arguments: str) -> int:
    """How many requests a command takes now; it must end well, and no question may be asked that was asked before."""
    before = len(server.requests)
    study.up(*arguments)
    questions = [json.dumps(request["messages"]) for request in server.requests]
    assert len(set(questions)) == len(questions)
    return len(server.requests) - before


def calls_planned(study: Checkout, asset: str) -> int:
    [step] = [step for step in study.planned("--select", asset) if step["asset"] == asset]
    return int(step["requests"])


def test_agreement_asks_for_what_an_edit_changed_and_the_plan_says_so(study: Checkout, server: ChatServer) -> None:
    select = ("--select", "judge_agreement")
    whole = LABELS * PRINCIPLES * 2
    assert calls_planned(study, "judge_agreement") == whole
    assert asked(study, server, *select) == whole
    [agreed] = study.rows("select accuracy, order_consistency from judge_agreement where slice = 'all'")
    assert agreed["order_consistency"] == 1.0

    study.edit("constitutions/brief.yaml", "# a comment", "# another")
    assert study.planned(*select) == []
    assert asked(study, server, *select) == 0

    study.edit("constitutions/brief.yaml", "number 3 of", "number three of")
    assert calls_planned(study, "judge_agreement") == whole // PRINCIPLES
    assert asked(study, server, *select) == whole // PRINCIPLES

    with (study.data / "labels/pairs.jsonl").open("a") as file:
        file.write('{"prompt": "New?", "answer_a": "Yes.", "answer_b": "No, no.", "preferred": "b"}\n')
    assert calls_planned(study, "judge_agreement") == PRINCIPLES * 2
    assert asked(study, server, *select) == PRINCIPLES * 2

    before = len(server.requests)
    command = [sys.executable, "-c", OTHER_PARSER, "up", *select]
    done = subprocess.run(command, cwd=CHECKOUT, env=study.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "judge_agreement" in done.stderr  # it was made again,
    assert len(server.requests) == before  # from the answers that are there
    [turned] = study.rows("select accuracy from judge_agreement where slice = 'all'")
    assert turned["accuracy"] == pytest.approx(1 - (agreed["accuracy"] * LABELS + 1) / (LABELS + 1))


def test_an_added_prompt_asks_about_its_own_answers_alone(study: Checkout, server: ChatServer) -> None:
    select = ("--select", "+judgments")
    first = asked(study, server, *select)
    pairs = study.rows("select count(distinct pair_id) as n from judgments")[0]["n"]
    assert first == pairs * PRINCIPLES * 2

    with (study.data / "prompts/study.jsonl").open("a") as file:
        file.write('{"split": "train", "category": "factual", "text": "Tell me of fire.", "reference": ["fire"]}\n')
    asked(study, server, *select)
    new = study.rows(
        "select count(distinct pair_id) as n from judgments join prompts using (prompt_id) where text like '%fire%'"
    )[0]["n"]
    assert new > 0
    assert len(server.requests) - first == new * PRINCIPLES * 2
    assert asked(study, server, *select) == 0


def test_what_got_no_answer_is_asked_again_by_the_next_command_and_nothing_else(
    tmp_path: Path, study: Checkout
) -> None:
    """A provider that cannot answer a few questions: the verdicts stand, `rlaif plan` says what they lack, and the next
    `rlaif up` asks for that alone, once; what comes out the same goes no further."""
    recipe = study.data / "recipes/judging.yaml"
    recipe.write_text(recipe.read_text() + "max_failed_share: 0.5\n")
    down = ["Hi 3?"]
    failing: list[int] = []

    def answer(request: dict[str, Any], number: int) -> Reply:
        if any(part in str(request["messages"]) for part in down):
            failing.append(number)
            return fails(400, "this question is too long")
        return longer(request, number)

    select = ("--select", "judge_agreement")
    lacking = PRINCIPLES * 2
    with serving(answer) as other:
        (study.data / "judges/asked.yaml").write_text(JUDGE.format(url=other.url))
        study.up(*select)
        assert (len(other.requests), len(failing)) == (LABELS * PRINCIPLES * 2, lacking)
        [step] = study.planned(*select)
        assert step["reasons"] == [f"{lacking} questions to the judge got no answer"]
        assert step["requests"] == lacking
        told = study.up(*select)
        assert len(failing) == 2 * lacking  # once more, and only those
        assert "unchanged" in told
        down.clear()
        study.up(*select)
        assert len(other.requests) == LABELS * PRINCIPLES * 2 + 2 * lacking
        assert study.planned(*select) == []
    [row] = study.rows("select errors from judge_agreement where slice = 'all'")
    assert row["errors"] == 0


def test_a_budget_is_that_of_all_that_a_watching_command_does(study: Checkout, server: ChatServer) -> None:
    """One edit costs more than there is, and the next finds nothing left."""
    select = ("--select", "judge_agreement")
    study.up(*select)
    home, whole = Home(study.home), len(server.requests)
    usd = 0.75 * total_usd(home)
    watching = up(study, "--watch", *select, "--budget", str(usd))
    heard: list[str] = []
    listener = Thread(target=lambda: heard.extend(watching.stderr or []))
    listener.start()
    wait(lambda: "Watching" in "".join(heard), 60)
    study.edit("constitutions/brief.yaml", "of ten", "of the ten")
    wait(lambda: "".join(heard).count("Watching") == 2, 120)
    some = len(server.requests) - whole
    assert 0.5 * whole < some < whole
    with (study.data / "labels/pairs.jsonl").open("a") as file:
        file.write('{"prompt": "New?", "answer_a": "Yes.", "answer_b": "No, no.", "preferred": "b"}\n')
    wait(lambda: "".join(heard).count("Watching") == 3, 120)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(60) == 130
    listener.join()
    assert len(server.requests) - whole == some
    assert total_usd(home) <= usd / 0.75 + usd
