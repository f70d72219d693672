"""PPO in several processes (gloo, as GPUs would with nccl): the answers, curves and adapters of one, and the same after kill -9."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from rlaif_dagster.hashing import folder_digest
from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.ledger import spent_usd
from rlaif_dagster.judging.likelihood import LikelihoodJudge
from rlaif_dagster.judging.verdicts import Judge
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.judge import ApiJudge as ApiSpec
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Judging, Ppo
from rlaif_dagster.training.adapters import WEIGHTS
from rlaif_dagster.training.ppo import checkpoint
from rlaif_dagster.training.ppo.judged import DirectJudge
from rlaif_dagster.training.ppo.loop import train_ppo
from rlaif_dagster.training.ppo.share import Share
from rlaif_dagster.training.ppo.update import NotFiniteError
from rlaif_dagster.training.processes import PROCESSES, Call, rank, train
from rlaif_dagster.training.trained import Trained
from tests.rlaif_dagster.judging.chat_server import ChatServer, Reply, serving, shown, verdict
from tests.rlaif_dagster.training.ppo.conftest import Recipe, WriteAdapter
from tests.rlaif_dagster.training.stages import RULES

PAID = ApiSpec(
    kind="api", model="openai/m", max_tokens=20, concurrency=2, usd_per_million_input=10, usd_per_million_output=100
)
SPAWN = multiprocessing.get_context("spawn")
LONG = {"updates": 4, "learning_rate": 5e-3, "kl_target": 1.0, "start": "sft"}
KINDS: dict[str, dict[str, Any]] = {
    "asked": {**LONG, "reward": {"model": 1.0, "judge": 0.5}, "value": "own"},
    # one held-out prompt leaves the second process without an answer, nine answers in three parts the second with the fewer
    "uneven": {"updates": 4, "rollout_batch": 9, "minibatches": 3, "micro_batch": 1, "held_out_prompts": 1},
    "separate": {"updates": 4, "separate": True, "value": "own", "learning_rate": 1e-3, "max_update_kl": 0.02},
    "quantized": {**LONG, "evaluate_updates": 3},
}
PRICE = 100 * 10e-6 + 20 * 100e-6  # US dollars a verdict


@dataclass(frozen=True)
class Noting:
    """Scores an answer by how often one token stands in it, and notes what it was asked about, in each process."""

    token: int
    folder: Path

    def score(self, prompts: Sequence[str], answers: Sequence[str], token_ids: Sequence[Sequence[int]]) -> list[float]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{rank()}.jsonl").open("a") as file:
            file.write(json.dumps([prompts, token_ids]) + "\n")
        return [float(sum(token == self.token for token in ids)) for ids in token_ids]


@dataclass(frozen=True)
class Given:
    """What every training here is given; `call` makes one whose results lie under a folder."""

    model: Path
    prompts: pd.DataFrame
    sft: Path
    reward: Path
    token: int

    def call(self, kind: str, recipe: Ppo, folder: Path, judge: Judge | None = None) -> Call:
        spec = ModelSpec(folder=str(self.model), quantization="4bit" if kind == "quantized" else "none")
        likelihood = LikelihoodJudge("likelihood", LikelihoodSpec(kind="likelihood", model="tiny"), spec, Home(folder))
        paid = DirectJudge(judge or likelihood, RULES, Judging(judge="any", budget_usd=5.0))
        (folder / "target").mkdir(parents=True, exist_ok=True)
        reward: Any = self.reward if kind != "uneven" else Noting(self.token, folder / "scored")
        where = {"seed": 5, "work": folder / "work", "target": folder / "target", "judge": paid}
        start = {"start_adapter": self.sft if recipe.start == "sft" else None}
        given = (None if recipe.reward.model == 0 else reward, self.prompts, recipe)
        return Call(train_ppo, "tiny", spec, Home(folder), given, where | start)


@pytest.fixture
def given(
    tiny_model_folder: Path,
    tiny_model: LanguageModel,
    prompts: pd.DataFrame,
    write_policy: WriteAdapter,
    write_reward: WriteAdapter,
) -> Given:
    token = tiny_model.answer_ids(" the", end=False)[0]
    return Given(tiny_model_folder, prompts, write_policy(), write_reward(), token)


def in_processes(number: int, call: Call, monkeypatch: pytest.MonkeyPatch) -> Trained:
    monkeypatch.setenv(PROCESSES, str(number))
    return train(call)


def shorter(request: dict[str, Any], number: int) -> Reply:
    first, second = shown(request)
    return verdict("A" if len(first) < len(second) else "B")


def asked_of(server: ChatServer) -> list[str]:
    return sorted(json.dumps(request["messages"]) for request in server.requests)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in ("separate", "quantized") else ()) for kind in KINDS]
)
def test_two_processes_train_what_one_does(
    kind: str, given: Given, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "quantized":
        pytest.importorskip("bitsandbytes")
    made = recipe(**KINDS[kind])
    trained, asked = [], []
    for number in (1, 2):
        folder = tmp_path / str(number)
        with serving(shorter) as server:
            judge = ApiJudge("asked", PAID.model_copy(update={"api_base": server.url}), Home(folder))
            trained.append(in_processes(number, given.call(kind, made, folder, judge), monkeypatch))
            asked.append(asked_of(server))
        assert spent_usd(Home(folder)) == pytest.approx(len(server.requests) * PRICE)  # by whoever started the training
    one, two = trained
    assert asked[0] == asked[1]  # the first process alone asks
    assert bool(asked[0]) == (kind == "asked")
    assert two.tokens == one.tokens  # every answer is as long as it was, in every rollout
    assert [check.passed for check in two.checks] == [check.passed for check in one.checks]
    expected, found = (trained.metrics.set_index(["step", "name"])["value"].to_dict() for trained in (one, two))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    alone, together = (load_file(tmp_path / name / "target" / WEIGHTS) for name in ("1", "2"))
    assert alone.keys() == together.keys()
    assert max(float((tensor - together[name]).abs().max()) for name, tensor in alone.items()) < 1e-5
    assert curve(one, "kl_reference")[-1] > 0.01  # nats that it has moved by: a thousand times the tolerance
    if kind == "uneven":
        the_same_answers(tmp_path)


def curve(trained: Trained, name: str) -> list[float]:
    return trained.metrics.query("name == @name").sort_values("step")["value"].tolist()


def the_same_answers(folder: Path) -> None:
    """Every process scores what one process does, token by token and in its order."""
    [alone], [first, second] = (sorted((folder / name / "scored").iterdir()) for name in ("1", "2"))
    scored = alone.read_text().splitlines()
    assert len(scored) == 4 + 3  # rollouts, and evaluations at 0, 2 and 4
    assert first.read_text().splitlines() == second.read_text().splitlines() == scored


def exchange(lm: LanguageModel) -> dict[str, Any]:
    """What three processes make of seven rows, of one row, of gradients, and of an error in the second of them."""
    share = Share.here()
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    if share.rank:  # the first process had no row
        parameters[0].grad = torch.tensor([1.0, float(share.rank)])
    share.sum_gradients(parameters)

    def fails() -> None:
        if share.rank == 1:
            raise NotFiniteError("in the second")

    with pytest.raises(NotFiniteError) as caught:
        share.each(fails)
    numbers = torch.arange(1.0, 15.0).reshape(7, 2)
    return {
        "gathered": share.gathered(share.of("abcdefg")),
        "few": share.gathered(share.of(["x"])),
        "rows": share.rows(share.of(numbers)[:, : 2 if share.rank else 1]).tolist(),  # the first's are narrower
        "flat": share.rows(share.of(torch.arange(4))).tolist(),
        "sums": share.sums(lambda: {"rows": float(len(share.of(range(7))))}),
        "first": share.gathered([share.in_first(lambda: share.rank)]),
        "told": share.gathered([str(caught.value)]),
        "gradients": [parameter.grad.tolist() for parameter in parameters if parameter.grad is not None],
    }


def test_what_processes_exchange_by_hand(tiny_model_folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = in_processes(
        3, Call(exchange, "tiny", ModelSpec(folder=str(tiny_model_folder)), home, (), {}), monkeypatch
    )
    assert found == {
        "gathered": list("abcdefg"),
        "few": ["x"],
        "rows": [[1, 0], [3, 4], [5, 6], [7, 0], [9, 10], [11, 12], [13, 0]],
        "flat": [0, 1, 2, 3],
        "sums": {"rows": 7.0},
        "first": [0, 0, 0],
        "told": ["in the second"] * 3,
        "gradients": [[2.0, 3.0], [0.0, 0.0]],
    }


def workers(of: int) -> list[psutil.Process]:
    """The processes that a process started, and theirs."""
    return psutil.Process(of).children(recursive=True)


def begin(call: Call, until: Path) -> multiprocessing.process.BaseProcess:
    """A training in a process of its own, two below it, which has gone on for a moment after the file `until` was written anew."""
    before = until.stat().st_mtime_ns if until.exists() else 0
    process = SPAWN.Process(target=train, args=(call,))
    process.start()
    deadline = time.monotonic() + 180
    while not until.exists() or until.stat().st_mtime_ns == before:
        assert process.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_processes_that_are_killed_end_together_and_go_on_to_the_same_adapter(
    given: Given, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(**{**KINDS["asked"], "updates": 16, "learning_rate": 1e-3})
    whole = in_processes(2, given.call("judged", made, tmp_path / "whole"), monkeypatch)
    cut = given.call("judged", made, tmp_path / "cut")
    saved = tmp_path / "cut" / "work" / checkpoint.FILE
    for killed in ("a worker", "the starter"):
        process = begin(cut, saved)
        below = workers(int(process.pid or 0))
        working = [one for one in below if "rlaif_dagster.training.process" in one.cmdline()[1:4]]
        assert len(working) == 2
        (working[1] if killed == "a worker" else psutil.Process(process.pid)).kill()
        process.join(120)
        assert process.exitcode == (1 if killed == "a worker" else -9)
        _, alive = psutil.wait_procs(below, 60)
        assert not alive, killed
    resumed = train(cut)
    assert folder_digest(tmp_path / "cut" / "target") == folder_digest(tmp_path / "whole" / "target")
    pd.testing.assert_frame_equal(resumed.metrics, whole.metrics)
    assert (resumed.tokens, resumed.checks) == (whole.tokens, whole.checks)
