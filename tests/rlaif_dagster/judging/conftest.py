"""A constitution, pairs and judges for the tests of judging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.verdicts import Pair, make_pair
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import ApiJudge as ApiSpec

KEY = "planted-f00dcafe-9d1e77"  # a key in no provider's form, so that only its value can give it away


def constitution(*texts: str, weights: tuple[float, ...] = ()) -> Constitution:
    """Principles p0, p1, … with these texts."""
    principles = [
        {"id": f"p{number}", "text": text, "weight": weights[number] if weights else 1.0}
        for number, text in enumerate(texts)
    ]
    return Constitution.model_validate({"principles": principles})


def pair(number: int, good: str = "good", bad: str = "bad") -> Pair:
    """Pair number `number`: two answers, one of which holds the word `good`. Which one is `a` depends on the number."""
    answers = [(f"{number}-x", f"{good} answer {number}"), (f"{number}-y", f"{bad} answer {number}")]
    if number % 2:
        answers = [(f"{number}-x", answers[1][1]), (f"{number}-y", answers[0][1])]
    return make_pair(f"prompt-{number}", f"Question {number}?", answers[0], answers[1])


@pytest.fixture
def api_judge(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ApiJudge]:
    """Makes a judge that asks the server at an address; its key is planted in the environment."""
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)

    def make(url: str, name: str = "asked", **fields: Any) -> ApiJudge:
        content = {
            "kind": "api",
            "model": "openai/test-model",
            "api_base": url,
            "server": "a test's",  # one server by meaning, on whatever port a test starts it again
            "api_key_env": "TEST_JUDGE_KEY",
            "retries": 2,
            "timeout": 5,
            "usd_per_million_input": 10,
            "usd_per_million_output": 100,
        }
        return ApiJudge(name, ApiSpec.model_validate(content | fields), home, backoff=0.01)

    return make
