"""The judge as the reward: what a verdict is worth, that nothing is asked twice, and that no second model is needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.judging import likelihood
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.likelihood import LikelihoodJudge
from rlaif_dagster.judging.verdicts import Judgment, Mode, Order, Pair, Verdict, judgments_frame
from rlaif_dagster.spec.constitution import Constitution, Principle
from rlaif_dagster.spec.judge import ApiJudge as ApiSpec
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Judging, Lora
from rlaif_dagster.training.ppo.backbone import Backbone
from rlaif_dagster.training.ppo.judged import DirectJudge, JudgeSource, advantages_of_a, reference_answers
from rlaif_dagster.training.ppo.prompts import Prompts
from rlaif_dagster.training.ppo.rollout import roll_out
from rlaif_dagster.training.ppo.sources import Scale, WeightedSum
from tests.rlaif_dagster.judging.chat_server import serving, verdict
from tests.rlaif_dagster.training.conftest import FreshModel
from tests.rlaif_dagster.training.ppo.conftest import TEXTS, CountToken, WriteAdapter, randomize

RULES = Constitution(
    principles=(
        Principle(id="short", text="Answer in a few words only.", weight=3.0),
        Principle(id="plain", text="Answer in plain words.", weight=1.0),
    )
)
PROMPTS = ["Name a city.", "Count to ten."]
REFERENCES = {"Name a city.": "Paris, or Rome", "Count to ten.": "one, two"}


@dataclass
class Shorter:
    """A judge that compares: it prefers the shorter answer under `short`, the one with fewer commas under `plain`."""

    name: str = "shorter"
    template_version: str = "1"
    verdict: Verdict | None = None
    cost_usd: float = 0.01
    asked: int = 0

    def judge(
        self,
        pairs: Sequence[Pair],
        constitution: Constitution,
        orders: Sequence[Order],
        *,
        mode: Mode = "per_principle",
        budget_usd: float | None = None,
        progress: str | None = None,
    ) -> pd.DataFrame:
        self.asked += len(pairs)
        rows = []
        for pair in pairs:
            for principle in constitution.principles:
                size = len if principle.id == "short" else (lambda text: text.count(","))
                a, b = size(pair.a), size(pair.b)
                p_a = 0.5 if a == b else float(a < b)
                verdict: Verdict = self.verdict or ("tie" if a == b else "a" if a < b else "b")
                rows += [
                    Judgment(
                        pair.pair_id, pair.prompt_id, pair.a_id, pair.b_id, principle.id, order, verdict,
                        None if self.verdict else p_a, "said so", self.name, "1", 1, 1, self.cost_usd, 0.0, False,
                    )
                    for order in orders
                ]  # fmt: skip
        return judgments_frame(rows)


@pytest.fixture
def backbone(fresh_model: FreshModel, write_policy: WriteAdapter) -> Backbone:
    backbone = Backbone(fresh_model(), Lora(r=4, alpha=8), seed=0, start=write_policy())
    randomize(backbone.trunk, 1, ["lora_A.policy", "lora_B.policy"])
    return backbone


@pytest.fixture
def measuring(tiny_model_folder: Path, home: Home) -> LikelihoodJudge:
    return LikelihoodJudge(
        "likelihood", LikelihoodSpec(kind="likelihood", model="tiny"), ModelSpec(folder=str(tiny_model_folder)), home
    )


def test_a_comparing_judge_by_hand(backbone: Backbone) -> None:
    judge = Shorter()
    source = JudgeSource(backbone, DirectJudge(judge, RULES, Judging(judge="shorter")), REFERENCES)
    answers = ["Oslo", "one, two, three", "Paris, or Rome ", "one; two"]
    scores = source.score([*PROMPTS, *PROMPTS], answers, [[1]] * 4)
    # Oslo is shorter (weight 3) and has fewer commas (1); the second is worse in both; the third is the reference itself;
    # "one; two" is as long as "one, two" (p 1/2) with fewer commas (p 1): p = (3/2 + 1) / 4, 2 p - 1 = 1/4
    assert scores.tolist() == [1.0, -1.0, 0.0, 0.25]
    assert judge.asked == 3
    assert source.told == {"judge_failed": 0.0}


def test_the_budget_is_one_over_all_rollouts(backbone: Backbone, home: Home) -> None:
    """A real judge at a cent for three answers: rollout after rollout, never more than the budget is spent."""
    price, budget = 100 * 10e-6 + 20 * 100e-6, 0.03
    with serving(lambda request, number: verdict("A")) as server:
        spec = ApiSpec(
            kind="api", model="openai/m", api_base=server.url, max_tokens=20, concurrency=1,
            usd_per_million_input=10, usd_per_million_output=100,
        )  # fmt: skip
        direct = DirectJudge(ApiJudge("asked", spec, home), RULES, Judging(judge="asked", budget_usd=budget))
        source = JudgeSource(backbone, direct, REFERENCES)
        for number in range(2):
            source.score(PROMPTS[:1], [f"Oslo {number}"], [[1]])
        with pytest.raises(UserError, match="judge asked: spent"):
            source.score(PROMPTS[:1], ["Oslo 2"], [[1]])
        assert budget - 3 * price < len(server.requests) * price <= budget


def test_verdicts_that_fail_are_counted_and_stop_when_there_are_too_many(backbone: Backbone) -> None:
    direct = DirectJudge(Shorter(verdict="refused"), RULES, Judging(judge="shorter", max_failed_share=1.0))
    source = JudgeSource(backbone, direct, REFERENCES)
    assert source.score(PROMPTS[:1], ["Oslo"], [[1]]).tolist() == [0.0]
    assert source.told == {"judge_failed": 1.0}
    strict = JudgeSource(backbone, replace(direct, recipe=Judging(judge="shorter")), REFERENCES)
    with pytest.raises(UserError, match=r"judge shorter: 100% of PPO's questions got no verdict, at most 20% allowed"):
        strict.score(PROMPTS[:1], ["Oslo"], [[1]])


def test_the_likelihood_judge_is_read_on_the_backbone(
    backbone: Backbone, measuring: LikelihoodJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scores are those of the plain base, whatever adapters PPO has on it; the weights are loaded no second time."""
    answers = ["Oslo", "three, four, five"]
    alone = replace(measuring, home=Home(tmp_path / "other"))
    references = [REFERENCES[prompt] for prompt in PROMPTS]
    expected = []
    for prompt, answer, reference in zip(PROMPTS, answers, references, strict=True):
        pair = Pair("x", "p", prompt, "1", answer, "2", reference)
        expected.append(advantages_of_a(alone.judge([pair], RULES, ("none",)), RULES)["x"])
    assert min(map(abs, expected)) > 0.01
    monkeypatch.setattr(likelihood, "load", None)  # any load would fail
    source = JudgeSource(backbone, DirectJudge(measuring, RULES, Judging(judge="likelihood")), REFERENCES)
    found = source.score(PROMPTS, answers, [[1], [1]])
    assert found.tolist() == pytest.approx(expected, abs=2e-3)
    with sqlite3.connect(measuring.cache) as database:
        [before] = database.execute("SELECT count(*) FROM answers").fetchone()
    assert before == 4 * 3  # four answers, plain and under two principles
    assert source.score(PROMPTS, answers, [[1], [1]]).tolist() == found.tolist()
    with sqlite3.connect(measuring.cache) as database:
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (before,)
    roll_out(backbone, PROMPTS, [[1, 2], [1]], max_new_tokens=2, temperature=1.0, draws=None)  # the row layout is back


def test_reference_answers_are_the_starts_and_are_kept(backbone: Backbone, tmp_path: Path) -> None:
    prompts = Prompts(list(TEXTS), [backbone.lm.prompt_ids(backbone.lm.chat(text)) for text in TEXTS])
    found = reference_answers(backbone, prompts, batch=4, max_new_tokens=5, work=tmp_path)
    policy = roll_out(backbone, prompts.texts, prompts.ids, max_new_tokens=5, temperature=1.0, draws=None)
    assert found.keys() == set(TEXTS)
    assert list(found.values()) != policy.texts
    randomize(backbone.trunk, 2, ["lora_A.policy", "lora_B.policy"])
    assert reference_answers(backbone, prompts, batch=4, max_new_tokens=5, work=tmp_path / "again") == found
    backbone.adapters["reference"] = backbone.adapters["policy"]  # what is kept is not answered again
    assert reference_answers(backbone, prompts, batch=4, max_new_tokens=5, work=tmp_path) == found


def test_a_weighted_sum_by_hand() -> None:
    """Two rules in their own units: counts of 7 (mean 1, deviation 1), and shares of 9 (mean 0.25, deviation 0.25)."""
    source = WeightedSum({"sevens": (1.0, CountToken(7)), "nines": (2.0, CountToken(9, maximum=2))})
    tokens = [[7, 7], [9]]
    source.calibrate(["p"] * 2, ["a"] * 2, tokens)
    assert source.scales == {"sevens": Scale(1.0, 1.0), "nines": Scale(0.25, 0.25)}
    assert source.score(["p"] * 2, ["a"] * 2, tokens).tolist() == [1 - 2, -1 + 2]
    assert source.told == {"reward_sevens": 1.0, "reward_nines": 0.25}
    assert torch.equal(source.score(["p"], ["a"], [[7, 9, 9]]), torch.tensor([0.0 + 2 * 3.0]))
