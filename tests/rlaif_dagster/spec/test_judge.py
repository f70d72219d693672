"""A judge's file: what it may not hold, and that no error repeats a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.spec.judge import ApiJudge
from rlaif_dagster.spec.project import Project

KEY = "planted-5pec-0f-a-judge"


def judge(tmp_path: Path, text: str) -> ApiJudge:
    (tmp_path / "judges").mkdir(exist_ok=True)
    (tmp_path / "judges/mine.yaml").write_text(f"kind: api\nmodel: openai/m\n{text}\n", encoding="utf-8")
    found = Project(tmp_path).judge("mine")
    assert isinstance(found, ApiJudge)
    return found


def chain(error: BaseException | None) -> list[BaseException]:
    """An error, what it was raised from and what it was raised in, shown or not."""
    return [] if error is None else [error, *chain(error.__cause__), *chain(error.__context__)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"parameters: {{api_key: {KEY}}}", "field 'parameters' may not hold api_key; use the judge's own fields"),
        (f"parameters: {{extra_headers: {{Authorization: Bearer {KEY}}}}}", "may not hold Authorization; use"),
        (f"parameters: {{extra_headers: {{x-api-key: {KEY}}}}}", "may not hold x-api-key; use"),
        (
            f"parameters: {{aws_secret_access_key: {KEY}, vertex_credentials: {KEY}}}",
            "may not hold aws_secret_access_key, vertex",
        ),
        (f"parameters: {{tools: [{{auth_token: {KEY}}}]}}", "may not hold auth_token; use"),
        ("parameters: {model: x, messages: []}", "may not hold messages, model; use"),
        ("parameters: {n: 5, max_completion_tokens: 9000}", "may not hold max_completion_tokens, n; use"),
        (
            f"api_key_env: {KEY}",
            "field 'api_key_env' takes the name of an environment variable in capitals, such as OPENAI_API_KEY",
        ),
        ("api_key_env: AIzaSyA0123456789abcdef", "field 'api_key_env' takes the name of an environment variable"),
        (
            f"api_base: https://me:{KEY}@example.com/v1",
            "field 'api_base' may hold no user, password or key, and is not shown",
        ),
        (
            f"api_base: https://example.com/v1?key={KEY}",
            "field 'api_base' may hold no user, password or key, and is not shown",
        ),
        (f"api_base: https://example.com/v1?access_token={KEY}", "field 'api_base' may hold no user, password or key"),
        (f"api_key: {KEY}", "field 'api_key' is unknown; allowed: kind"),
    ],
)
def test_a_key_in_a_file_is_refused_and_not_repeated(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        judge(tmp_path, text)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/judges/mine.yaml: ")
    assert told in line
    assert "\n" not in line
    for error in chain(caught.value):
        assert KEY not in f"{error} {error!r} {error.args}"
        assert "AIza" not in f"{error} {error!r}"


@pytest.mark.parametrize(
    "text",
    [
        "parameters: {seed: 7, top_p: 0.9, thinking: {type: enabled, budget_tokens: 1024}, prompt_cache_key: study}",
        "parameters: {response_format: {type: json_object}, extra_body: {stop_token_ids: [2]}, api_version: '2024-10-21'}",
        "api_key_env: MY_KEY_2",
        "api_base: https://example.com/v1?api-version=2024-10-21",
    ],
)
def test_what_is_no_secret_is_let_through(tmp_path: Path, text: str) -> None:
    assert judge(tmp_path, text).model == "openai/m"
