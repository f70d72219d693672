from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge as Asked
from rlaif_dagster.judging.cache import cache_path, open_cache
from rlaif_dagster.judging.estimate import (
    NOTHING,
    PRINCIPLE_TOKENS,
    REPLY_SECONDS,
    REPLY_TOKENS,
    estimate,
    estimate_grades,
    estimate_pairs,
)
from rlaif_dagster.judging.ledger import Entry
from rlaif_dagster.judging.prices import price_of
from rlaif_dagster.judging.provider import endpoint_of
from rlaif_dagster.judging.template import INSTRUCTIONS
from rlaif_dagster.judging.tokens import TOKENS_PER_CHARACTER, counter, openai_encoding, tokens_of
from rlaif_dagster.judging.verdicts import Mode
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import ApiJudge, LikelihoodJudge, PanelJudge
from rlaif_dagster.spec.model import ModelSpec
from tests.rlaif_dagster.judging.chat_server import serving, shown, verdict
from tests.rlaif_dagster.judging.conftest import constitution, pair

API = ApiJudge(kind="api", model="openai/test", usd_per_million_input=10, usd_per_million_output=100)
UNPRICED = ApiJudge(kind="api", model="openai/test")
MEASURED = LikelihoodJudge(kind="likelihood", model="tiny")
REPLY = REPLY_TOKENS["brief"]
JUDGES = {"api": API, "unpriced": UNPRICED, "measured": MEASURED}
LAW = constitution("Prefer the good answer.", "Prefer the short answer.")
BOTH = ("ab", "ba")


def test_requests_are_pairs_times_principles_times_orders(home: Home) -> None:
    found = estimate(100, 3, 2, "api", JUDGES, 50, home)
    assert found.requests == 600
    read = found.tokens / 600 - REPLY
    # instructions, the words around the pair, the principle, and the prompt with each answer
    least = len(INSTRUCTIONS) * TOKENS_PER_CHARACTER + PRINCIPLE_TOKENS + 100
    assert least < read < least + 100
    assert found.usd == pytest.approx(600 * (read * 10e-6 + REPLY * 100e-6))
    assert found.seconds == pytest.approx(600 * REPLY_SECONDS / 8)


def test_other_modes_ask_once_a_pair_and_order(home: Home) -> None:
    assert estimate(100, 3, 2, "api", JUDGES, 50, home, "joint").requests == 200
    assert estimate(100, 3, 2, "api", JUDGES, 50, home, "sampled").requests == 200
    joint, sampled = (estimate(100, 3, 2, "api", JUDGES, 50, home, mode).tokens for mode in ("joint", "sampled"))
    assert joint > sampled


def test_a_measuring_judge_asks_nobody(home: Home) -> None:
    found = estimate(100, 3, 2, "measured", JUDGES, 50, home)
    assert (found.requests, found.usd, found.seconds) == (0, 0.0, None)
    assert found.tokens == 200 * 50 * (1 + 3)


def test_a_panel_is_the_sum_of_its_members(home: Home) -> None:
    judges = JUDGES | {
        "panel": PanelJudge(kind="panel", judges={"api": 1, "measured": 2}),
        "unknown": PanelJudge(kind="panel", judges={"api": 1, "unpriced": 2}),
    }
    found = estimate(10, 1, 2, "panel", judges, 50, home)
    alone = estimate(10, 1, 2, "api", judges, 50, home)
    assert (found.requests, found.usd, found.seconds) == (alone.requests, alone.usd, alone.seconds)
    assert found.tokens == alone.tokens + estimate(10, 1, 2, "measured", judges, 50, home).tokens
    assert estimate(10, 1, 2, "unknown", judges, 50, home).usd is None


def test_a_grade_is_one_request_an_answer(home: Home) -> None:
    assert estimate_grades(80, 3, "api", JUDGES, 60, home).requests == 80


def test_the_accounts_limits_set_the_time(home: Home) -> None:
    def seconds(**limits: float) -> float | None:
        slow = API.model_copy(update={"concurrency": 100} | limits)
        return estimate(100, 3, 2, "api", {"api": slow}, 50, home).seconds

    assert seconds() == pytest.approx(600 * REPLY_SECONDS / 100)
    assert seconds(requests_per_minute=60.0) == pytest.approx(600)
    tokens = estimate(100, 3, 2, "api", JUDGES, 50, home).tokens
    assert seconds(tokens_per_minute=1000.0) == pytest.approx(60 * tokens / 1000, rel=1e-3)


def test_what_is_cached_is_not_counted(api_judge: Callable[..., Asked], home: Home) -> None:
    pairs = [pair(number) for number in range(10)]
    with serving(lambda request, number: verdict("A" if "good" in shown(request)[0] else "B")) as server:
        judge = api_judge(server.url)
        judges = {"asked": judge.spec}
        whole = estimate_pairs(pairs, LAW, BOTH, "per_principle", "asked", judges, {}, home)
        assert whole.requests == 40
        assert not cache_path(home).exists()  # an estimate writes nothing
        judge.judge(pairs[:4], LAW, BOTH)
        rest = estimate_pairs(pairs, LAW, BOTH, "per_principle", "asked", judges, {}, home)
        assert rest.requests == 24
        edited = constitution("Prefer the good answer.", "Prefer the brief answer.")
        assert estimate_pairs(pairs[:4], edited, BOTH, "per_principle", "asked", judges, {}, home).requests == 8
        before = len(server.requests)
        judged = judge.judge(pairs, LAW, BOTH)
        assert len(server.requests) - before == rest.requests
        assert estimate_pairs(pairs, LAW, BOTH, "per_principle", "asked", judges, {}, home) == NOTHING
    paid = judged[~judged["cached"]]["cost_usd"].sum()
    assert rest.usd == pytest.approx(paid, rel=0.05)  # by then the judge's own answers had told what one takes
    assert rest.seconds is not None
    assert rest.seconds < whole.seconds


def test_what_a_measuring_judge_has_measured_is_not_counted(tiny_model_folder: Path, home: Home) -> None:
    from rlaif_dagster.judging.likelihood import LikelihoodJudge as Measuring

    pairs, model = [pair(number) for number in range(4)], ModelSpec(folder=str(tiny_model_folder))

    def tokens(law: Constitution, mode: Mode = "per_principle") -> int:
        return estimate_pairs(pairs, law, BOTH, mode, "measured", JUDGES, {"tiny": model}, home).tokens

    texts = sum(2 * len(one.prompt) + len(one.a) + len(one.b) for one in pairs)
    assert tokens(LAW) == pytest.approx(3 * texts * TOKENS_PER_CHARACTER, abs=1)  # plainly, and under two principles
    assert tokens(LAW, "sampled") == pytest.approx(2 * texts * TOKENS_PER_CHARACTER, abs=1)
    assert not cache_path(home).exists()
    Measuring("measured", MEASURED, model, home).judge(pairs, LAW, BOTH)
    assert tokens(LAW) == 0
    edited = constitution("Prefer the good answer.", "Prefer the brief answer.")
    assert tokens(edited) == pytest.approx(texts * TOKENS_PER_CHARACTER, abs=1)


def test_the_judges_own_answers_measure_tokens_replies_and_seconds(home: Home) -> None:
    with open_cache(cache_path(home)) as cache:
        cache.put({}, Entry(endpoint_of(API), "answered", 10, 0.1, 3000, 400, 10_000, 50.0))
        cache.put({}, Entry(endpoint_of(API), "timeout", 5, 0.0, 0, 0, 5_000, 0.0))
    assert counter(API, home)("x" * 100) == pytest.approx(30)
    found = estimate(1, 1, 1, "api", JUDGES, 50, home)
    assert found.seconds == pytest.approx(5.0)
    assert found.usd is not None
    assert found.usd > 40 * 100e-6


def test_openais_tokens_are_counted_by_its_own_tokenizer(home: Home) -> None:
    spec = ApiJudge(kind="api", model="openai/gpt-4o-mini")
    assert openai_encoding("openai/gpt-4o-mini").name == "o200k_base"
    assert counter(spec, home)("The quick brown fox jumps.") == 6
    assert openai_encoding("anthropic/claude-haiku-4-5") is None
    served = spec.model_copy(update={"api_base": "http://127.0.0.1:1/v1"})  # whatever answers there, it is not OpenAI
    assert counter(served, home)("x" * 40) == pytest.approx(10)
    many = [[{"role": "user", "content": f"Number {n}: one two three four five."}] for n in range(1000)]
    exact = sum(counter(spec, home)(one[0]["content"]) + 4 for one in many)
    assert tokens_of(spec, many, home) == pytest.approx(exact, rel=0.01)


def test_prices_are_the_files_own_else_litellms_else_unknown() -> None:
    own, known, unknown = (price_of(spec) for spec in (API, ApiJudge(kind="api", model="openai/gpt-4o-mini"), UNPRICED))
    assert own is not None
    assert own.of(1e6, 1e6) == pytest.approx(110)
    assert known is not None
    assert (known.input, known.output) == (0.15e-6, 0.60e-6)
    assert unknown is None


def test_a_batch_has_its_own_price_and_a_written_prompt_cache_is_the_dearest() -> None:
    claude = price_of(ApiJudge(kind="api", model="anthropic/claude-haiku-4-5"))
    batch = price_of(ApiJudge(kind="api", model="openai/gpt-4o-mini", batch=True))
    assert claude is not None
    assert claude.most(1e6, 0) == pytest.approx(1.25)
    assert batch is not None
    assert batch.of(1e6, 1e6) == pytest.approx(0.375)


def test_an_estimate_imports_neither_litellm_nor_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from rlaif_dagster.home import Home;"
        "from rlaif_dagster.judging.estimate import estimate, estimate_pairs; from rlaif_dagster.spec.judge import ApiJudge;"
        "from tests.rlaif_dagster.judging.conftest import constitution, pair;"
        "from rlaif_dagster.spec.judge import LikelihoodJudge; from rlaif_dagster.spec.model import ModelSpec;"
        "judges = {'j': ApiJudge(kind='api', model='openai/gpt-4o-mini'), 'm': LikelihoodJudge(kind='likelihood', model='t')};"
        "home = Home(Path('/nowhere')); model = ModelSpec(hub={'repo': 'a/b', 'revision': 'c'});"
        "estimate_pairs([pair(0)], constitution('Prefer the good.'), ('ab',), 'per_principle', 'm', judges, {'t': model}, home);"
        "estimate(1, 1, 2, 'j', judges, 50, home);"
        "estimate_pairs([pair(0)], constitution('Prefer the good.'), ('ab',), 'per_principle', 'j', judges, {}, home);"
        "import rlaif_dagster.judging.pairs, rlaif_dagster.judging.aggregate, rlaif_dagster.judging.labels;"
        "import rlaif_dagster.estimates;"
        "import rlaif_dagster.judging.build, rlaif_dagster.judging.agreement, rlaif_dagster.judging.api;"
        "print(sorted({'litellm', 'openai', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
