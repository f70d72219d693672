"""`rlaif up` with several steps at a time: a judge behind an API is asked for one cell while another trains. The same tables,
one step a pool, one purse, and nothing that outlives the command."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.checkout import Checkout
from tests.rlaif_dagster.judging.chat_server import ChatServer, Reply, serving, shown, verdict
from tests.study.conftest import make_study
from tests.study.test_interruptions import records, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EVERYTHING = ("--constitution", "all", "--select", "+sft_model")
FEW = ("--constitution", "all", "--select", "+completions", "--select", "judge_agreement")  # four steps
LABELS = 8  # by two principles in two orders, 32 requests a constitution
ACCELERATOR = ("completions", "revisions", "sft_model")
JUDGE = ("judgments", "judge_agreement")
USD = 100 * 10e-6 + 20 * 100e-6  # of a request, by the server's usage and the judge's prices
SPEC = """\
kind: api
model: openai/test
api_base: {url}
server: the test's
concurrency: 1
usd_per_million_input: 10
usd_per_million_output: 100
"""


def slowly(request: dict[str, Any], number: int) -> Reply:
    first, second = shown(request)
    return replace(verdict("A" if (len(first), first) > (len(second), second) else "B"), delay=0.4)


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with serving(slowly) as running:
        yield running


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, server: ChatServer) -> Checkout:
    """Two cells under a judge that is asked."""
    study = make_study(tmp_path_factory.mktemp("side_by_side"))
    pairs = [
        {"prompt": f"Hi {n}?", "answer_a": f"Yes, {n}.", "answer_b": "No no.", "preferred": "a"} for n in range(LABELS)
    ]
    files = {
        "judges/asked.yaml": SPEC.format(url=server.url),
        "recipes/judging.yaml": "judge: asked\npairs: {min_margin: 0.0, held_out_share: 0.4, ties: keep}\n",
        "labels/pairs.jsonl": "".join(json.dumps(pair) + "\n" for pair in pairs),
    }
    for name, text in files.items():
        (study.data / name).write_text(text, encoding="utf-8")
    return study


@pytest.fixture
def fresh(study: Checkout, tmp_path: Path) -> Checkout:
    """The same files with an empty home."""
    return Checkout(study.data, tmp_path / "home")


def spans(study: Checkout, assets: tuple[str, ...]) -> list[tuple[float, float]]:
    """When each of these was made, from when to when."""
    names = ", ".join(f"'{asset}'" for asset in assets)
    sql = f"select epoch(started_at) as began, seconds from lineage where asset in ({names}) order by 1"
    return [(row["began"], row["began"] + row["seconds"]) for row in study.rows(sql)]


def apart(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes in which a command line has steps made."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it has ended, and nobody has taken that in yet
            found += [child] if "rlaif_dagster.cli.apart" in child.cmdline() else []
    return found


def wait(condition: Any, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def test_judging_goes_on_beside_training_and_comes_to_the_same(
    study: Checkout, fresh: Checkout, tmp_path: Path, server: ChatServer
) -> None:
    one_by_one = Checkout(study.data, tmp_path / "one_by_one")
    one_by_one.up(*EVERYTHING)
    before = len(server.requests)
    told = fresh.up("--parallel", "4", *EVERYTHING)
    asked = len(server.requests) - before
    assert fresh.versions() == one_by_one.versions()
    assert set(records(fresh).values()) == {1}
    judged, computed = spans(fresh, JUDGE), spans(fresh, ACCELERATOR)
    for pool in (judged, computed):  # one at a time in each
        assert all(later[0] >= earlier[1] for earlier, later in pairwise(pool))
    both = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in judged for b in computed)
    assert both > 3.0  # seconds in which a judge was asked while the accelerator was in use
    alone = [max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in spans(one_by_one, JUDGE) for b in
             spans(one_by_one, ACCELERATOR)]  # fmt: skip
    assert sum(alone) == 0.0
    [paid] = fresh.rows("select sum(cost_usd) as usd from lineage")
    assert paid["usd"] == pytest.approx(asked * USD)  # each step has its own requests on its bill
    assert told.count("✓") == len(records(fresh))


def test_a_budget_holds_over_steps_side_by_side(fresh: Checkout, server: ChatServer) -> None:
    before = len(server.requests)
    done = fresh.rlaif("up", "--parallel", "4", "--budget", "0.05", *FEW)
    assert done.returncode == 2, done.stderr
    assert "of the budget of $" in done.stderr
    assert 0.02 < (len(server.requests) - before) * USD <= 0.05  # the next could have cost 0.028
    assert set(records(fresh)) == {"prompts", "completions tiny"}  # what asks nobody is made all the same


def test_ctrl_c_ends_every_step_and_the_same_command_goes_on(fresh: Checkout) -> None:
    process = up(fresh, "--parallel", "4", *FEW)
    wait(lambda: any(is_asking(one) for one in apart(process)))
    children = apart(process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Interrupted. What is finished is kept" in told
    assert not any(child.is_running() for child in children)
    fresh.up("--parallel", "4", *FEW)
    assert set(records(fresh).values()) == {1}


def test_a_killed_step_fails_alone_and_a_killed_command_leaves_nobody_behind(fresh: Checkout) -> None:
    process = up(fresh, "--parallel", "4", *FEW)
    [asking] = wait(lambda: [one for one in apart(process) if is_asking(one)])
    asking.kill()
    _, told = process.communicate(timeout=600)
    assert process.returncode == 1, told
    [line] = [line for line in told.splitlines() if line.startswith("failed")]
    assert line.startswith("failed  judge_agreement ")
    assert line.endswith(": its process ended with status -9 before the step did")
    made = records(fresh)
    assert len([name for name in made if name.startswith("judge_agreement")]) == 1  # the other one went on
    assert "completions tiny" in made

    process = up(fresh, "--parallel", "4", *FEW)
    children = wait(lambda: apart(process))
    process.kill()
    process.communicate()
    wait(lambda: not any(child.is_running() for child in children), 10)
    fresh.up("--parallel", "4", *FEW)
    assert set(records(fresh).values()) == {1}
    assert fresh.planned(*FEW) == []


def is_asking(process: psutil.Process) -> bool:
    """Has it a connection to the judge?"""
    with suppress(psutil.NoSuchProcess):
        return any(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp"))
    return False
