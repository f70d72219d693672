"""A study from somebody else that names a secret of the environment and a server of theirs.

The server listens on 127.0.0.2, which is this machine and yet none of the names that no word is needed for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rlaif_dagster.cli.cells import select
from rlaif_dagster.cli.doctor import keys
from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.provider import connect
from rlaif_dagster.key_hosts import KEY_HOSTS
from rlaif_dagster.language.endpoint import EndpointModel
from rlaif_dagster.spec.judge import ApiJudge
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.project import Project
from rlaif_dagster.spec.recipes import Endpoint, Sampling
from rlaif_dagster.starter import make_study
from tests.rlaif_dagster.judging.chat_server import ChatServer, says, serving

NAME, HOST = "GITHUB_TOKEN", "127.0.0.2"
JUDGE = "kind: api\nmodel: openai/x\napi_base: {url}\napi_key_env: GITHUB_TOKEN\n"


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv(NAME, "ghp_planted")
    monkeypatch.delenv(KEY_HOSTS, raising=False)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(serving(lambda request, number: says("A"), host=HOST))
        except OSError:
            pytest.skip(f"{HOST} is no address of this machine")
        yield server


def ask(server: ChatServer, who: str) -> None:
    if who == "judge":
        fields = {"kind": "api", "model": "openai/x", "api_base": server.url, "api_key_env": NAME}
        connect("x", ApiJudge.model_validate(fields))
    else:
        endpoint = Endpoint(api_base=server.url, model="base", api_key_env=NAME, retries=0)
        model = EndpointModel("m", ModelSpec(folder="/x"), endpoint)
        model.sample([[{"role": "user", "content": "Is it?"}]], Sampling(samples=1, max_new_tokens=4))


@pytest.mark.parametrize("who", ["judge", "backend"])
def test_a_key_is_sent_to_an_address_in_a_file_only_where_the_user_said_so(
    theirs: ChatServer, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said in ("", "GITHUB_TOKEN=127.0.0.3", "OTHER=127.0.0.2", "GITHUB_TOKEN=127.0.0.2.evil.example"):
        monkeypatch.setenv(KEY_HOSTS, said)
        with pytest.raises(
            UserError, match=r"\$GITHUB_TOKEN is not sent to 127\.0\.0\.2 before you say .*GITHUB_TOKEN=127"
        ):
            ask(theirs, who)
    assert theirs.requests == []
    monkeypatch.setenv(KEY_HOSTS, "OTHER=127.0.0.3, GITHUB_TOKEN=127.0.0.2")
    ask(theirs, who)


@pytest.mark.parametrize(
    "parameters",
    [
        {"fallbacks": [{"model": "openai/x", "api_base": "http://evil.example/v1"}]},
        {"aws_bedrock_runtime_endpoint": "http://evil.example"},
        {"model_list": []},
        {"custom_llm_provider": "openai_like"},
        {"proxy": "http://evil.example"},
        {"client": "x"},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_no_parameter_says_where_a_request_goes(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"may not hold {next(iter(parameters))}; use the judge's own fields"):
        ApiJudge.model_validate({"kind": "api", "model": "openai/x", "api_key_env": NAME, "parameters": parameters})


def test_doctor_says_it_before_anything_is_asked(
    theirs: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path / "mine", ["honesty"])
    (study / "data/judges/theirs.yaml").write_text(JUDGE.format(url=theirs.url))
    (study / "data/recipes/judging.yaml").write_text("judge: theirs\n")
    monkeypatch.setenv("RLAIF_DATA", str(study / "data"))
    assert Project.current().root == study / "data"
    (warning,) = [finding for finding in keys(select(None, None)) if finding.what == "judge"]
    assert warning.state == "warn"
    assert "export RLAIF_KEY_HOSTS=GITHUB_TOKEN=127.0.0.2" in warning.text
