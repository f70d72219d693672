"""The batch interface, through litellm, against a real server of files and batches."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.batch import FAILED_LOOKS
from rlaif_dagster.judging.ledger import outcomes_since, spent_usd
from rlaif_dagster.spec.judge import ApiJudge as Spec
from tests.rlaif_dagster.judging.chat_server import shown, verdict
from tests.rlaif_dagster.judging.conftest import KEY, constitution, pair

LAW = constitution("Prefer the good answer.")
BOTH = ("ab", "ba")
RUN = """
import os, sys
from pathlib import Path
from tests.rlaif_dagster.judging.conftest import KEY, pair
from tests.rlaif_dagster.judging.test_batch import BOTH, LAW, batched

os.environ["TEST_JUDGE_KEY"] = KEY
batched(sys.argv[1], Path(sys.argv[2])).judge([pair(number) for number in range(3)], LAW, BOTH)
"""


@dataclass
class Batches:
    """Files and batches by id. A batch is `in_progress` for `looks` looks; a question with `lost` in it fails. The next
    `silent` requests that look at something meet a 503. The first request that comes to the moment `holds` gets no answer."""

    url: str = ""
    looks: int = 1
    lost: str = "nothing"
    silent: int = 0
    files: dict[str, str] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    holds: str = ""
    held: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def at(self, moment: str) -> None:
        """Hold this request for ever, if it is the one to be held."""
        if moment == self.holds and not self.held.is_set():
            self.held.set()
            self.free.wait()
            raise ConnectionAbortedError

    def let_go(self) -> None:
        self.free.set()

    def upload(self, body: str) -> dict[str, Any]:
        lines = re.findall(r'^\{"custom_id".*\}\r?$', body, re.MULTILINE)
        name = f"file-{len(self.files)}"
        self.files[name] = "\n".join(line.strip() for line in lines)
        return {
            "id": name,
            "object": "file",
            "bytes": 1,
            "created_at": 1,
            "filename": "x",
            "purpose": "batch",
            "status": "processed",
        }

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {
            "id": name, "object": "batch", "endpoint": request["endpoint"], "input_file_id": request["input_file_id"],
            "completion_window": "24h", "status": "in_progress", "created_at": 1,
        }  # fmt: skip
        return self.batches[name]

    def look(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        self.looks -= 1
        if self.looks < 0 and batch["status"] != "completed":
            batch |= {"status": "completed", "output_file_id": self._answer(batch["input_file_id"])}
        return batch

    def _answer(self, file: str) -> str:
        out = []
        for line in self.files[file].splitlines():
            row = json.loads(line)
            self.asked.append(row["body"])
            if self.lost in row["body"]["messages"][1]["content"]:
                response: dict[str, Any] = {"status_code": 400, "body": {"error": {"message": f"no, says {KEY}"}}}
            else:
                letter = "A" if "good" in shown(row["body"])[0] else "B"
                response = {"status_code": 200, "body": json.loads(verdict(letter).body or b"")}
            out.append({"id": "x", "custom_id": row["custom_id"], "response": response, "error": None})
        name = f"file-{len(self.files)}"
        self.files[name] = "\n".join(map(json.dumps, reversed(out)))  # in whatever order
        return name


@pytest.fixture
def server() -> Iterator[Batches]:
    state = Batches()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path.endswith("/files"):
                found, moment = state.upload(body), "uploaded"
            else:
                state.at("before the order")
                found, moment = state.create(json.loads(body)), "after the order"
            state.at(moment)
            self.send(found)

        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].split("/")
            if state.silent > 0:
                state.silent -= 1
                self.send({"error": {"message": f"busy, {KEY}"}}, 503)
            elif parts[-1] == "batches":
                self.send({"object": "list", "data": list(state.batches.values()), "has_more": False})
            elif parts[-1] == "content":
                self.send(state.files[parts[-2]])
            else:
                state.at("looked")
                self.send(state.look(parts[-1]))

        def send(self, content: Any, status: int = 200) -> None:
            body = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def batched(url: str, root: Path) -> ApiJudge:
    spec = Spec(
        kind="api", model="openai/test-model", api_base=url, api_key_env="TEST_JUDGE_KEY", batch=True,
        usd_per_million_input=10, usd_per_million_output=100, max_tokens=20,
    )  # fmt: skip
    return ApiJudge("batched", spec, Home(root), poll=0.01)


@pytest.fixture
def judge(server: Batches, home: Home, monkeypatch: pytest.MonkeyPatch) -> ApiJudge:
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)
    return batched(server.url, home.root)


def test_a_batch_gives_the_verdicts_that_asking_gives(judge: ApiJudge, server: Batches, home: Home) -> None:
    pairs = [pair(number) for number in range(6)]
    server.looks = 3
    judged = judge.judge(pairs, LAW, BOTH)
    assert judged["verdict"].tolist() == ["a" if "good" in one.a else "b" for one in pairs for _ in BOTH]
    assert len(server.batches) == 1
    assert server.asked[0]["model"] == "test-model"
    assert server.asked[0]["max_tokens"] == 20
    assert outcomes_since(home, {}) == {"answered_in_batch": 12}
    assert spent_usd(home) == pytest.approx(12 * (100 * 10e-6 + 20 * 100e-6))
    again = judge.judge(pairs, LAW, BOTH)
    assert again["cached"].all()
    assert len(server.batches) == 1


def test_a_question_that_fails_in_a_batch_is_an_error_without_the_key(judge: ApiJudge, server: Batches) -> None:
    server.lost = "Question 1?"
    judged = judge.judge([pair(0), pair(1)], LAW, BOTH)
    assert judged["verdict"].tolist()[2:] == ["error", "error"]
    assert judged["raw"].tolist()[2] == "400: no, says ***"
    server.lost = "nothing"
    again = judge.judge([pair(0), pair(1)], LAW, BOTH)
    assert again["cached"].tolist() == [True, True, False, False]
    assert len(server.asked) == 6


def test_a_run_that_stops_waiting_finds_its_batch_again(
    judge: ApiJudge, server: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlaif_dagster.judging import batch

    async def killed(self: Any, name: str, poll: float) -> None:
        raise KeyboardInterrupt

    pairs = [pair(number) for number in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(batch._Calls, "fetch", killed)
        with pytest.raises(KeyboardInterrupt):
            judge.judge(pairs, LAW, BOTH)
    assert len(server.batches) == 1
    judged = judge.judge([*pairs, pair(3)], LAW, BOTH)
    assert judged["verdict"].isin(["a", "b"]).all()
    assert len(server.batches) == 2  # the new pair alone was sent
    assert len(server.asked) == 8


@pytest.mark.parametrize("moment", ["uploaded", "before the order", "after the order", "looked"])
def test_a_killed_run_finds_its_batch_and_orders_none_twice(
    judge: ApiJudge, server: Batches, home: Home, moment: str
) -> None:
    """kill -9 while the server holds back its answer: the run never learns whether there is a file, or an order."""
    server.holds = moment
    run = subprocess.Popen([sys.executable, "-c", RUN, server.url, str(home.root)], cwd=CHECKOUT)
    assert server.held.wait(60), f"the run never came to {moment}"
    run.kill()
    assert run.wait() == -signal.SIGKILL
    server.let_go()
    assert len(server.batches) == (moment in {"after the order", "looked"})
    pairs = [pair(number) for number in range(3)]
    judged = judge.judge(pairs, LAW, BOTH)
    assert judged["verdict"].isin(["a", "b"]).all()
    assert (len(server.batches), len(server.asked)) == (1, 6)
    assert judge.judge(pairs, LAW, BOTH)["cached"].all()


def test_a_provider_that_is_away_for_a_while_is_looked_at_again(judge: ApiJudge, server: Batches) -> None:
    server.silent = FAILED_LOOKS - 1
    judged = judge.judge([pair(0)], LAW, BOTH)
    assert judged["verdict"].isin(["a", "b"]).all()
    server.silent = FAILED_LOOKS + 100
    with pytest.raises(
        UserError, match=r"the batch interface failed: .*; what was sent is fetched by the next run"
    ) as caught:
        judge.judge([pair(1)], LAW, BOTH)
    assert KEY not in str(caught.value)
    assert len(server.batches) == 2
    server.silent = 0
    assert judge.judge([pair(1)], LAW, BOTH)["verdict"].isin(["a", "b"]).all()
    assert len(server.batches) == 2


def test_a_budget_sends_only_what_it_holds(judge: ApiJudge, server: Batches) -> None:
    pairs = [pair(number) for number in range(10)]
    with pytest.raises(UserError, match=r"the budget of \$0.06 does not hold \d+ of 20 requests"):
        judge.judge(pairs, LAW, BOTH, budget_usd=0.06)
    assert 0 < len(server.asked) < 20
    asked = len(server.asked)
    judged = judge.judge(pairs, LAW, BOTH)
    assert judged["cached"].sum() == asked


def test_a_provider_of_another_format_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)
    spec = Spec(kind="api", model="anthropic/claude-haiku-4-5", api_key_env="TEST_JUDGE_KEY", batch=True)
    with pytest.raises(UserError, match="field 'batch': found true, but anthropic/claude-haiku-4-5 is not of openai"):
        ApiJudge("j", spec, home).judge([pair(0)], LAW, BOTH)
