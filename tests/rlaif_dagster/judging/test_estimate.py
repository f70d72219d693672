from __future__ import annotations

import subprocess
import sys

import pytest

from rlaif_dagster.judging.estimate import CHARACTERS_PER_TOKEN, PRINCIPLE_TOKENS, REPLY_TOKENS, estimate
from rlaif_dagster.judging.prices import price_of
from rlaif_dagster.judging.template import INSTRUCTIONS
from rlaif_dagster.spec.judge import ApiJudge, LikelihoodJudge, PanelJudge

API = ApiJudge(kind="api", model="openai/test", usd_per_million_input=10, usd_per_million_output=100)
UNPRICED = ApiJudge(kind="api", model="openai/test")
MEASURED = LikelihoodJudge(kind="likelihood", model="tiny")


def test_requests_are_pairs_times_principles_times_orders() -> None:
    found = estimate(100, 3, 2, API, 50)
    assert found.requests == 600
    read = found.tokens / 600 - REPLY_TOKENS
    # instructions, the words around the pair, the principle, and the prompt with each answer
    least = len(INSTRUCTIONS) / CHARACTERS_PER_TOKEN + PRINCIPLE_TOKENS + 100
    assert least < read < least + 100
    assert found.usd == pytest.approx(600 * (read * 10e-6 + REPLY_TOKENS * 100e-6))


def test_a_measuring_judge_asks_nobody() -> None:
    found = estimate(100, 3, 2, MEASURED, 50)
    assert (found.requests, found.usd) == (0, 0.0)
    assert found.tokens == 200 * 50 * (1 + 3)


def test_a_panel_is_the_sum_of_its_members() -> None:
    panel = PanelJudge(kind="panel", judges={"x": 1, "y": 2})
    found = estimate(10, 1, 2, panel, 50, {"x": API, "y": MEASURED})
    alone = estimate(10, 1, 2, API, 50)
    assert (found.requests, found.usd) == (alone.requests, alone.usd)
    assert found.tokens == alone.tokens + estimate(10, 1, 2, MEASURED, 50).tokens
    assert estimate(10, 1, 2, panel, 50, {"x": API, "y": UNPRICED}).usd is None


def test_prices_are_the_files_own_else_litellms_else_unknown() -> None:
    own, known, unknown = (price_of(spec) for spec in (API, ApiJudge(kind="api", model="openai/gpt-4o-mini"), UNPRICED))
    assert own is not None
    assert own.of(1e6, 1e6) == pytest.approx(110)
    assert known is not None
    assert (known.input, known.output) == (0.15e-6, 0.60e-6)
    assert unknown is None


def test_an_estimate_imports_neither_litellm_nor_torch() -> None:
    code = (
        "import sys; from rlaif_dagster.judging.estimate import estimate; from rlaif_dagster.spec.judge import ApiJudge;"
        "estimate(1, 1, 2, ApiJudge(kind='api', model='openai/gpt-4o-mini'), 50);"
        "import rlaif_dagster.judging.pairs, rlaif_dagster.judging.aggregate, rlaif_dagster.judging.labels;"
        "import rlaif_dagster.judging.build, rlaif_dagster.judging.agreement, rlaif_dagster.judging.api;"
        "print(sorted({'litellm', 'openai', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
