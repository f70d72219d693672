"""Candidates from a server: the same table, every answer asked for once, and one line for what a user can mend."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.language.candidates import COLUMNS, complete, revise
from rlaif_dagster.language.endpoint import EndpointModel
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Endpoint, Generation, Sampling
from rlaif_dagster.work import Chunks
from tests.rlaif_dagster.judging.chat_server import ChatServer, Reply, fails, says, serving

SPEC = ModelSpec(folder="/none", system_prompt="Be brief.")
PROMPTS = pd.DataFrame(
    {"prompt_id": ["a", "b", "c", "d"], "split": ["train"] * 3 + ["eval"], "text": ["one?", "two?", "three?", "four?"]}
)
CONSTITUTION = Constitution.model_validate(
    {
        "principles": [{"id": "brief", "text": "Prefer the shorter answer."}],
        "exemplars": [{"prompt": "zero?", "response": "nil"}],
    }
)  # fmt: skip


def answers(request: dict[str, Any], number: int) -> Reply:
    """An answer that follows from the question and the seed alone, with the log-probabilities of its two tokens."""
    text = f" {request['messages'][-1]['content']} {request['seed']} "
    tokens = [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []} for token in ("x", "y")]
    reply = says(text, finish_reason="length" if "two" in text else "stop")
    body = json.loads(reply.body or b"")
    body["choices"][0]["logprobs"] = {"content": tokens}
    return Reply(body=json.dumps(body).encode())


def served(server: ChatServer, **fields: Any) -> EndpointModel:
    return EndpointModel("m", SPEC, Endpoint(**{"api_base": server.url, "model": "base", "retries": 2, **fields}))


def test_the_table_is_that_of_weights_in_memory() -> None:
    generation = Generation(completions=Sampling(samples=2, temperature=0.7, top_p=0.9, max_new_tokens=9))
    with serving(answers) as server:
        frame = complete(served(server), PROMPTS, generation, None)
    assert tuple(frame.columns) == COLUMNS
    assert frame["prompt_id"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert frame["finish_reason"].tolist() == ["stop", "stop", "length", "length", "stop", "stop"]
    assert (frame["logprob"] == -1.0).all()
    assert (frame["tokens"] == 20).all()
    assert frame["text"].nunique() == 6  # every sample has a seed of its own
    first = server.requests[0]
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {key: first[key] for key in ("model", "max_tokens", "temperature", "top_p")} == {
        "model": "base", "max_tokens": 9, "temperature": 0.7, "top_p": 0.9
    }  # fmt: skip


def test_revisions_show_the_server_the_constitution() -> None:
    with serving(answers) as server:
        frame = revise(served(server), PROMPTS, pd.DataFrame(), CONSTITUTION, Generation(), None)
    assert len(frame) == 6
    assert [message["content"] for message in server.requests[0]["messages"][:3]] == [
        "Be brief.\n\nPrefer the shorter answer.", "zero?", "nil"
    ]  # fmt: skip


def test_what_was_answered_before_a_failure_is_not_asked_again(tmp_path: Path) -> None:
    chunks, broken = Chunks(tmp_path), threading.Event()

    def until_it_breaks(request: dict[str, Any], number: int) -> Reply:
        if number >= 2 and not broken.is_set():
            return fails(400, "no more today")
        return answers(request, number)

    with serving(until_it_breaks) as server:
        one_by_one = served(server, concurrency=1)
        with pytest.raises(UserError, match=r"answered 400: .*no more today"):
            complete(one_by_one, PROMPTS, Generation(), chunks)
        broken.set()
        before = len(server.requests)
        frame = complete(one_by_one, PROMPTS, Generation(), chunks)
        assert len(server.requests) - before == 1
        complete(served(server, concurrency=4), PROMPTS, Generation(), chunks)
        assert len(server.requests) - before == 1
    with serving(answers) as server:
        pd.testing.assert_frame_equal(complete(served(server), PROMPTS, Generation(), None), frame)


def test_a_busy_server_is_asked_again() -> None:
    def busy(request: dict[str, Any], number: int) -> Reply:
        return fails(503 if number else 429, "busy", Retry_After="0") if number < 2 else answers(request, number)

    with serving(busy) as server:
        assert len(complete(served(server, concurrency=1), PROMPTS, Generation(), None)) == 3
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (fails(401), r"does not accept the key \(401\): give backend.api_key_env"),
        (fails(404), r"does not serve 'base' \(404\): check backend.model"),
        (Reply(body=b'{"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'), "without an answer"),
    ],
)  # fmt: skip
def test_a_refusal_says_in_one_line_what_to_do(reply: Reply, told: str) -> None:
    with serving(lambda request, number: reply) as server, pytest.raises(UserError, match=told) as caught:
        complete(served(server), PROMPTS, Generation(), None)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_and_a_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = EndpointModel("m", SPEC, Endpoint(api_base="http://127.0.0.1:9/v1", model="base", retries=0))
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/v1 .* cannot be reached"):
        complete(nowhere, PROMPTS, Generation(), None)
    monkeypatch.delenv("MY_SERVER_KEY", raising=False)
    with serving(answers) as server, pytest.raises(UserError, match="names MY_SERVER_KEY, which is not set"):
        complete(served(server, api_key_env="MY_SERVER_KEY"), PROMPTS, Generation(), None)


def test_no_key_of_another_provider_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-providers")
    monkeypatch.setenv("MY_SERVER_KEY", "own-key")
    with serving(answers) as server:
        complete(served(server), PROMPTS, Generation(), None)
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer none"}
        complete(served(server, api_key_env="MY_SERVER_KEY"), PROMPTS, Generation(), None)
    assert server.headers[-1]["Authorization"] == "Bearer own-key"


def test_the_field_leaves_older_recipes_alone_and_an_address_is_no_meaning() -> None:
    assert "backend" not in Generation().meaning()
    assert Generation().served_by() == []
    here, there = (
        Generation(backend=Endpoint(api_base=f"http://{host}/v1", model="base", concurrency=n))
        for host, n in (("a", 1), ("b", 9))
    )
    assert here.data_version() == there.data_version() != Generation().data_version()
    assert (
        Generation.model_validate({"backend": {"api_base": "http://a/v1", "model": "other"}}).data_version()
        != here.data_version()
    )
