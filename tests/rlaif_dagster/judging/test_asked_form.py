"""In what form a judge is asked (schema, log-probabilities, reasoning, prompt cache), and what of it names an answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.soft import soft_label
from rlaif_dagster.judging.template import TEMPLATE_VERSION
from rlaif_dagster.spec.judge import ApiJudge as Spec
from tests.rlaif_dagster.judging.chat_server import Reply, serving, shown, verdict
from tests.rlaif_dagster.judging.conftest import constitution, pair

MakeJudge = Callable[..., ApiJudge]
LAW = constitution("Prefer the good answer.")
BOTH = ("ab", "ba")


def judge_of(**fields: Any) -> ApiJudge:
    return ApiJudge("j", Spec.model_validate({"kind": "api", "model": "openai/mine"} | fields), Home(None))  # type: ignore[arg-type]


def request(**fields: Any) -> dict[str, Any]:
    """What a judge with these fields sends."""
    ((_, sent),) = judge_of(**fields).requests([pair(0)], LAW, ("ab",))
    return sent


def key(**fields: Any) -> str:
    """The name under which its answer is kept."""
    judge = judge_of(**fields)
    ((question, _),) = judge.requests([pair(0)], LAW, ("ab",))
    from rlaif_dagster.judging.template import Template

    return judge._key(question, Template(judge.spec.reasoning))


def test_a_model_that_litellm_knows_to_keep_to_a_schema_is_asked_by_one() -> None:
    asked = request(model="openai/gpt-4o-mini")["response_format"]["json_schema"]
    assert asked["strict"]
    assert list(asked["schema"]["properties"]) == ["reason", "verdict"]  # the reason is written first
    assert asked["schema"]["properties"]["verdict"]["enum"] == ["A", "B", "tie"]
    assert "response_format" not in request(model="openai/some-model-of-mine")
    assert "response_format" in request(model="openai/some-model-of-mine", structured=True)
    assert "response_format" not in request(model="openai/gpt-4o-mini", structured=False)
    own = {"response_format": {"type": "json_object"}}
    assert request(model="openai/gpt-4o-mini", parameters=own)["response_format"] == own["response_format"]


def test_a_joint_schema_names_every_principle() -> None:
    law = constitution("The first principle.", "The second principle.")
    ((_, sent),) = judge_of(structured=True).requests([pair(0)], law, ("ab",), "joint")
    verdicts = sent["response_format"]["json_schema"]["schema"]["properties"]["verdicts"]
    assert verdicts["required"] == ["p0", "p1"]


def test_reasoning_is_none_brief_or_long() -> None:
    systems = {kind: request(reasoning=kind)["messages"][0]["content"] for kind in ("none", "brief", "long")}
    assert "reason" not in systems["none"].rpartition("Reply with")[2]
    assert "at most 25 words" in systems["brief"]
    assert "at most 150 words" in systems["long"]
    assert (
        "reason"
        not in judge_of(reasoning="none", structured=True).requests([pair(0)], LAW, ("ab",))[0][1]["response_format"][
            "json_schema"
        ]["schema"]["properties"]
    )


def test_only_anthropics_models_are_told_what_to_cache() -> None:
    block = request(model="anthropic/claude-haiku-4-5")["messages"][0]["content"][0]
    assert block["cache_control"] == {"type": "ephemeral"}
    assert block["text"] == request()["messages"][0]["content"]
    assert isinstance(request(model="openai/gpt-4o-mini")["messages"][0]["content"], str)


def test_the_constant_part_comes_first() -> None:
    """Two pairs under one principle begin with the same characters, up to the prompt."""
    first, second = (judge_of().requests([pair(n)], LAW, ("ab",))[0][1]["messages"] for n in (0, 1))
    assert first[0] == second[0]
    assert first[1]["content"].startswith("<prompt>\n")
    assert first[1] != second[1]


def test_the_server_is_part_of_an_answers_name_unless_it_has_a_name_of_its_own() -> None:
    here, there = "http://127.0.0.1:8000/v1", "http://127.0.0.1:9000/v1"
    assert key(api_base=here) != key(api_base=there)
    assert key(api_base=here) == key(api_base=here + "/")
    assert key(api_base=here, server="mine") == key(api_base=there, server="mine")
    assert key(api_base=here, server="mine") != key(api_base=here, server="yours")
    with pytest.raises(ValueError, match="server 'mine' names what answers at api_base, which is missing"):
        judge_of(server="mine")


def test_what_changes_a_request_changes_the_name_and_what_does_not_leaves_it() -> None:
    plain = key()
    for field in ({"reasoning": "none"}, {"structured": True}, {"soft_labels": True}, {"temperature": 0.5}):
        assert key(**field) != plain, field
    for field in (
        {"concurrency": 99}, {"requests_per_minute": 5}, {"tokens_per_minute": 5}, {"retries": 0}, {"timeout": 1},
        {"description": "x"}, {"api_key_env": "X"}, {"usd_per_million_input": 1, "usd_per_million_output": 1},
    ):  # fmt: skip
        assert key(**field) == plain, field
    assert judge_of().template_version == TEMPLATE_VERSION


def says_with(p: dict[str, float], letter: str) -> Reply:
    """A verdict whose token has these alternatives."""
    tokens = ['{"', "verdict", '":', ' "', letter, '"}']
    content = [
        {"token": token, "logprob": 0.0, "bytes": None, "top_logprobs": []}
        if token != letter
        else {
            "token": token,
            "logprob": math.log(p[token]),
            "bytes": None,
            "top_logprobs": [{"token": t, "logprob": math.log(v), "bytes": None} for t, v in p.items()],
        }
        for token in tokens
    ]
    body = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
        "choices": [{
            "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(tokens)},
            "logprobs": {"content": content},
        }],
    }  # fmt: skip
    return Reply(body=json.dumps(body).encode())


def test_soft_labels_come_from_the_verdicts_token(api_judge: MakeJudge) -> None:
    """Likes the first place a little: 0.7 of the mass that is a verdict, ties counting half."""
    likely = {"A": 0.6, "B": 0.2, "tie": 0.1, "Neither": 0.05}
    with serving(lambda asked, number: says_with(likely, "A")) as server:
        judge = api_judge(server.url, soft_labels=True, reasoning="none")
        judged = judge.judge([pair(0)], LAW, BOTH)
        assert server.requests[0]["logprobs"] is True
        assert server.requests[0]["top_logprobs"] == 5
        again = judge.judge([pair(0)], LAW, BOTH)  # what is stored is read again
        assert len(server.requests) == 2
    p = (0.6 + 0.05) / 0.9
    assert judged["p_a"].tolist() == pytest.approx([p, 1 - p])
    assert judged["verdict"].tolist() == ["a", "b"]
    assert again["p_a"].tolist() == judged["p_a"].tolist()


def test_without_log_probabilities_a_soft_judge_is_a_hard_one(api_judge: MakeJudge) -> None:
    with serving(lambda asked, number: verdict("A" if "good" in shown(asked)[0] else "B")) as server:
        judged = api_judge(server.url, soft_labels=True).judge([pair(0)], LAW, BOTH)
    assert set(judged["p_a"]) <= {0.0, 1.0}


def test_a_provider_that_never_gives_them_is_told_before_anything_is_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "planted")
    spec = Spec(kind="api", model="anthropic/claude-haiku-4-5", api_key_env="SOME_KEY", soft_labels=True)
    with pytest.raises(UserError, match="field 'soft_labels': found true, but anthropic/claude-haiku-4-5 gives no"):
        ApiJudge("j", spec, home).judge([pair(0)], LAW, BOTH)


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ('{"verdict": "B"}', [['{"verdict": "', 0.0, []], ["B", math.log(0.8), [["A", math.log(0.2)]]]], 0.2),
        ('{"verdict": "tie"}', [['{"verdict":', 0.0, []], [' "t', math.log(0.5), [[' "A', math.log(0.5)]]]], 0.75),
        ('{"verdict": "tie"}', [['{"verdict": "', 0.0, []], ["t", math.log(0.5), [["A", math.log(0.5)]]]], 0.75),
        ("B", [["B", 0.0, []]], None),
        ('{"verdict": "A"} or {"verdict": "B"}', [["whatever", 0.0, []]], None),
    ],
)
def test_soft_labels_by_hand(text: str, tokens: list[Any], expected: float | None) -> None:
    found = soft_label(text, json.dumps(tokens))
    assert found == (None if expected is None else pytest.approx(expected))


def test_the_schema_reaches_the_server(api_judge: MakeJudge) -> None:
    with serving(lambda asked, number: verdict("A")) as server:
        judge = api_judge(server.url, structured=True)
        judge.judge([pair(0)], LAW, BOTH)
        ((_, told), _) = judge.requests([pair(0)], LAW, BOTH)
    assert server.requests[0]["response_format"] == told["response_format"]
