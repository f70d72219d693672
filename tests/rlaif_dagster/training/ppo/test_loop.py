"""Whole trainings on the tiny model: they resume to the same bits, stop when told, and publish one ordinary adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file

from rlaif_dagster.hashing import folder_digest
from rlaif_dagster.home import Home
from rlaif_dagster.judging.likelihood import LikelihoodJudge
from rlaif_dagster.spec.constitution import Constitution, Principle
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Judging, Ppo
from rlaif_dagster.training.adapters import merge
from rlaif_dagster.training.ppo import checkpoint, loop, rollout
from rlaif_dagster.training.ppo.backbone import acting_as
from rlaif_dagster.training.ppo.judged import DirectJudge
from rlaif_dagster.training.ppo.loop import train_ppo
from rlaif_dagster.training.ppo.publish import VALUE_HEAD
from rlaif_dagster.training.ppo.rows import Packed
from rlaif_dagster.training.trained import Trained
from tests.rlaif_dagster.training.conftest import FreshModel
from tests.rlaif_dagster.training.ppo.conftest import CountToken, Recipe, WriteAdapter

Train = Callable[..., tuple[Trained, Path]]


@pytest.fixture
def train(fresh_model: FreshModel, prompts: pd.DataFrame, count_token: CountToken, tmp_path: Path) -> Train:
    """Runs `train_ppo` on a fresh model, by default with the counting rule, into work/NAME and target/NAME."""

    def run(
        recipe: Ppo,
        name: str = "a",
        *,
        reward: Any = None,
        start: Path | None = None,
        seed: int = 0,
        judge: DirectJudge | None = None,
    ) -> tuple[Trained, Path]:
        target = tmp_path / "target" / name
        target.mkdir(parents=True)
        trained = train_ppo(
            fresh_model(), None if judge and not reward else reward or count_token, prompts, recipe,
            seed=seed, work=tmp_path / "work" / name, target=target, start_adapter=start, judge=judge,
        )  # fmt: skip
        return trained, target

    return run


def curve(trained: Trained, name: str) -> list[float]:
    return trained.metrics.query("name == @name").sort_values("step")["value"].tolist()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("place", ["sampling", "updating", "saving", "evaluating", "publishing"])
def test_a_killed_training_ends_with_the_same_adapter(
    train: Train,
    recipe: Recipe,
    write_policy: WriteAdapter,
    write_reward: WriteAdapter,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    made = recipe(start="sft", updates=4, evaluate_updates=2, learning_rate=1e-2, kl_target=1.0)
    whole, expected = train(made, "whole", reward=write_reward(), start=write_policy())

    owner, name = {
        "sampling": (loop, "roll_out"),
        "updating": (loop, "update_policy"),
        "saving": (checkpoint.atomic, "write_file"),
        "evaluating": (loop, "evaluate"),
        "publishing": (loop, "publish"),
    }[place]
    real, calls = getattr(owner, name), []

    def killed(*args: Any, **keywords: Any) -> Any:
        calls.append(None)
        if len(calls) == {"publishing": 1, "evaluating": 2}.get(place, 3):
            raise KilledError
        return real(*args, **keywords)

    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(KilledError):
        train(made, "killed", reward=write_reward(), start=write_policy())
    monkeypatch.setattr(owner, name, real)
    rolled = []
    monkeypatch.setattr(
        loop, "roll_out", lambda *args, **keywords: rolled.append(None) or rollout.roll_out(*args, **keywords)
    )
    (Path(expected).parent / "killed").rmdir()
    resumed, found = train(made, "killed", reward=write_reward(), start=write_policy())
    assert len(rolled) < 4  # it did not start over
    assert folder_digest(found) == folder_digest(expected)
    pd.testing.assert_frame_equal(resumed.metrics, whole.metrics)
    assert (resumed.tokens, resumed.checks) == (whole.tokens, whole.checks)


def test_the_same_call_gives_the_same_adapter_and_another_seed_another(train: Train, recipe: Recipe) -> None:
    digests = [folder_digest(train(recipe(), name, seed=seed)[1]) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert digests[0] == digests[1] != digests[2]


def test_a_checkpoint_of_another_training_is_not_resumed(train: Train, recipe: Recipe, tmp_path: Path) -> None:
    train(recipe(updates=2), "a")
    (tmp_path / "work" / "b").mkdir()
    (tmp_path / "work" / "a" / checkpoint.FILE).rename(tmp_path / "work" / "b" / checkpoint.FILE)
    _, found = train(recipe(updates=2, learning_rate=2e-2), "b")
    _, expected = train(recipe(updates=2, learning_rate=2e-2), "c")
    assert folder_digest(found) == folder_digest(expected)


@pytest.mark.parametrize("start", ["base", "sft"])
def test_published_adapter_is_the_policy_on_the_plain_base(
    train: Train,
    fresh_model: FreshModel,
    recipe: Recipe,
    write_policy: WriteAdapter,
    start: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[loop._Training] = []
    publish = loop._Training.publish
    monkeypatch.setattr(loop._Training, "publish", lambda self, *rest: kept.append(self) or publish(self, *rest))
    sft = write_policy() if start == "sft" else None
    trained, target = train(recipe(start=start, updates=2), start=sft)
    backbone = kept[0].backbone
    assert trained.metrics.query("name == 'published_update'")["value"].tolist() == [2]
    backbone.lm.model.set_attn_implementation("sdpa")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        expected = backbone.lm.model(ids).logits
        found = PeftModel.from_pretrained(fresh_model().model, str(target)).eval()(ids).logits
        origin = (merge(fresh_model(), sft) if sft else fresh_model()).model(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - origin).abs().max() > 0.01
    head = load_file(target / VALUE_HEAD)
    torch.testing.assert_close(head["weight"], backbone.value_head.weight.detach())
    assert {path.name for path in target.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", VALUE_HEAD, "timings.json",
    }  # fmt: skip
    assert str(target.parent) not in (target / "adapter_config.json").read_text()


def test_metrics_of_every_update(train: Train, recipe: Recipe) -> None:
    trained, _ = train(recipe(updates=3, evaluate_updates=2))
    for name in (
        "reward", "reward_normalized", "kl", "kl_reference", "kl_coefficient", "entropy", "clip_fraction", "value_loss",
        "policy_loss", "explained_variance", "response_length", "eos_rate", "distinct", "gradient_norm",
    ):  # fmt: skip
        assert trained.metrics.query("name == @name")["step"].tolist() == [1, 2, 3], name
    assert trained.metrics.query("name == 'held_out_reward'")["step"].tolist() == [0, 2, 3]
    assert curve(trained, "kl_reference")[0] == pytest.approx(0.0, abs=1e-4)  # the first rollout is the reference's own
    assert curve(trained, "reward_normalized")[0] == pytest.approx(0.0, abs=1e-6)
    assert curve(trained, "response_length")[0] > 1
    assert trained.tokens > 3 * 8 * 6
    assert [check.name for check in trained.checks] == ["finite_loss", "kl", "collapse"]


def test_the_kl_guard_stops_and_keeps_the_last_good_policy(train: Train, recipe: Recipe, tmp_path: Path) -> None:
    made = recipe(updates=8, learning_rate=0.3, lr_scheduler="constant", max_kl=2.0, evaluate_updates=8)
    trained, target = train(made)
    kl = next(check for check in trained.checks if check.name == "kl")
    assert not kl.passed
    assert "at most 2 allowed" in kl.message
    observed = curve(trained, "kl_reference")
    assert len(observed) < 8
    assert all(value <= 2.0 for value in observed)
    with safe_open(tmp_path / "work" / "a" / checkpoint.FILE, framework="pt") as file:
        good = {key.removeprefix("good/"): file.get_tensor(key) for key in file.keys() if key.startswith("good/")}  # noqa: SIM118
    published = load_file(target / "adapter_model.safetensors")
    assert good
    for name, value in published.items():
        torch.testing.assert_close(value, good[name.removeprefix("base_model.model.model.")])
    again, same = train(made, "b")
    assert folder_digest(same) == folder_digest(target)
    assert again.checks == trained.checks


def test_scores_that_are_not_finite_stop_the_training(train: Train, recipe: Recipe, tmp_path: Path) -> None:
    """They come before any loss; the answers and their scores are kept."""

    class Breaks(CountToken):
        calls = 0

        def score(self, *args: Any) -> list[float]:
            self.calls += 1
            scores = super().score(*args)
            broken = self.calls == 4  # the third rollout, after the evaluation of the start
            return [float("nan")] * len(scores) if broken else scores

    trained, target = train(recipe(updates=4, evaluate_updates=4), reward=Breaks(270))
    finite = trained.checks[0]
    assert not finite.passed
    assert "training stopped in update 3" in finite.message
    with safe_open(tmp_path / "work" / "a" / checkpoint.BATCH, framework="pt") as file:
        assert file.get_tensor("scores").isnan().all()
        assert file.get_tensor("mask").any(1).all()
    assert curve(trained, "published_update") == [1.0]  # the last policy whose answers were measured
    assert all(bool(value.isfinite().all()) for value in load_file(target / "adapter_model.safetensors").values())


def test_a_loss_that_is_not_finite_keeps_the_batch(
    train: Train, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.gae
    monkeypatch.setattr(loop, "gae", lambda *args: tuple(part / 0 for part in real(*args)))
    trained, _ = train(recipe(updates=2))
    assert not trained.checks[0].passed
    with safe_open(tmp_path / "work" / "a" / checkpoint.BATCH, framework="pt") as file:
        assert not file.get_tensor("advantages").isfinite().all()
        assert len(file.get_tensor("tokens")) == 8
        assert file.get_tensor("scores").isfinite().all()


def test_the_best_held_out_policy_is_published(train: Train, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = iter([0.0, 1.0, 5.0, 3.0])
    kls = iter([0.0, 1.0, 2.0, 3.0])
    real = loop.evaluate

    def scripted(*args: Any) -> Any:
        found = real(*args)
        return type(found)(**{**vars(found), "reward": next(rewards), "kl": next(kls)})

    monkeypatch.setattr(loop, "evaluate", scripted)
    trained, _ = train(recipe(updates=3, evaluate_updates=1))
    assert curve(trained, "published_update") == [2.0]
    rewards, kls = iter([0.0, 1.0, 5.0, 3.0]), iter([0.0, 1.0, 9.0, 3.0])
    trained, _ = train(recipe(updates=3, evaluate_updates=1, max_kl=8.0, learning_rate=1e-4), "bounded")
    assert curve(trained, "published_update") == [3.0]


def known_world(train: Train, recipe: Recipe, reward: CountToken, seed: int) -> float:
    """Mean reward of the last five rollouts as a share of the maximum, which is every token the one that counts."""
    made = recipe(
        updates=40, rollout_batch=128, minibatches=4, micro_batch=128, epochs=3, max_new_tokens=6, learning_rate=1e-2,
        max_update_kl=0.05, value_learning_rate=1e-2, value_coefficient=0.5, normalize_reward=False, kl_coefficient=0.0,
        missing_eos_penalty=0.0, evaluate_updates=40, save_updates=40,
    )  # fmt: skip
    trained, _ = train(made, seed=seed, reward=CountToken(reward.token, maximum=6))
    return sum(curve(trained, "reward")[-5:]) / 5


def test_known_answer_world(train: Train, recipe: Recipe, count_token: CountToken) -> None:
    assert known_world(train, recipe, count_token, seed=0) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_known_answer_world_for_every_seed(train: Train, recipe: Recipe, count_token: CountToken, seed: int) -> None:
    assert known_world(train, recipe, count_token, seed=seed) >= 0.9


@pytest.fixture
def judged(tiny_model_folder: Path, home: Home) -> DirectJudge:
    """The tiny model as a likelihood judge, and a rule to judge by."""
    spec = LikelihoodSpec(kind="likelihood", model="tiny")
    judge = LikelihoodJudge("likelihood", spec, ModelSpec(folder=str(tiny_model_folder)), home)
    rule = Principle(id="short", text="Answer in a few words only.")
    return DirectJudge(judge, Constitution(principles=(rule,)), Judging(judge="likelihood"))


def test_the_judge_alone_pays(train: Train, recipe: Recipe, judged: DirectJudge, write_policy: WriteAdapter) -> None:
    made = recipe(reward={"model": 0.0, "judge": 1.0}, start="sft", updates=12, rollout_batch=16, learning_rate=3e-3)
    trained, _ = train(made, judge=judged, start=write_policy())
    assert curve(trained, "held_out_reward")[0] == 0.0  # the start's greedy answers, against themselves
    rewards = curve(trained, "reward")
    assert sum(rewards[-3:]) > sum(rewards[:3])
    assert curve(trained, "judge_failed") == [0.0] * 12


def test_a_sum_of_reward_model_and_judge(
    train: Train, recipe: Recipe, judged: DirectJudge, write_policy: WriteAdapter, write_reward: WriteAdapter
) -> None:
    made = recipe(reward={"model": 1.0, "judge": 2.0}, start="sft", updates=2, normalize_reward=False)
    trained, _ = train(made, judge=judged, start=write_policy(), reward=write_reward())
    # normalised by the very batch that is scored first: mean 0 and, were they uncorrelated, deviation sqrt(1 + 4)
    assert curve(trained, "reward")[0] == pytest.approx(0.0, abs=1e-5)
    for part in ("reward_model", "reward_judge"):
        assert len(curve(trained, part)) == 2
        assert curve(trained, part)[0] != pytest.approx(0.0, abs=1e-6)


def test_what_the_recipe_pays_by_must_be_given(train: Train, recipe: Recipe, write_reward: WriteAdapter) -> None:
    with pytest.raises(ValueError, match="pays by the judge, and none is given"):
        train(recipe(reward={"judge": 1.0}), reward=write_reward())


def test_a_value_function_of_its_own_starts_as_the_reward_model(
    train: Train, recipe: Recipe, write_reward: WriteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is learnt it expects, at the end token of an answer, the very score that is paid."""
    kept: list[Any] = []
    real = loop.update_policy

    def watched(backbone: Any, optimizer: Any, experience: Any, *rest: Any, **more: Any) -> Any:
        if not kept:
            rollout = experience.rollout
            ids = [[*p, *a, *([] if e else [backbone.lm.end_id])]
                   for p, a, e in zip(rollout.prompt_ids, rollout.answer_ids, rollout.ended, strict=True)]  # fmt: skip
            packed = Packed.pack(ids, backbone.lm.device)
            ends = torch.tensor([len(sequence) - 1 for sequence in ids])
            with torch.no_grad(), acting_as(backbone, "value"):
                states = backbone.packed_hidden(packed)[packed.index[torch.arange(len(ids)), ends]]
                kept.append((backbone.values(states), experience.returns.gather(1, rollout.lengths[:, None] - 1)[:, 0]))
        return real(backbone, optimizer, experience, *rest, **more)

    monkeypatch.setattr(loop, "update_policy", watched)
    made = recipe(
        value="own", kl_coefficient=0.0, missing_eos_penalty=0.0, gae_lambda=1.0, updates=6, value_coefficient=1.0
    )
    trained, target = train(made, reward=write_reward())
    expected, paid = kept[0]
    torch.testing.assert_close(expected, paid, atol=1e-3, rtol=1e-3)
    assert expected.std() > 0.5
    before = load_file(write_reward(seed=6) / "adapter_model.safetensors")["base_model.model.score.weight"]
    assert not torch.equal(load_file(target / VALUE_HEAD)["weight"], before)
    assert all(check.passed for check in trained.checks)


def test_models_apart_are_trained_in_full_by_the_same_loop(
    train: Train, fresh_model: FreshModel, recipe: Recipe, count_token: CountToken
) -> None:
    made = recipe(
        separate=True, updates=20, rollout_batch=64, learning_rate=5e-3, max_update_kl=0.05, normalize_reward=False,
        kl_coefficient=0.0, missing_eos_penalty=0.0, evaluate_updates=20, micro_batch=64,
    )  # fmt: skip
    trained, target = train(made, reward=CountToken(count_token.token, maximum=6))
    rewards = curve(trained, "reward")
    assert sum(rewards[-3:]) / 3 > 0.2 + sum(rewards[:3]) / 3
    changes = load_file(target / "adapter_model.safetensors")
    ranks = [torch.linalg.matrix_rank(changes[name.replace("lora_A", "lora_B")] @ value)
             for name, value in changes.items() if "lora_A" in name]  # fmt: skip
    assert min(ranks) > 16  # no low-rank update


def test_a_collapsed_policy_fails_its_check(train: Train, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.evaluate

    def scripted(*args: Any) -> Any:
        return type(found)(**{**vars(found), "entropy": 0.001, "distinct": 0.1}) if (found := real(*args)) else None

    monkeypatch.setattr(loop, "evaluate", scripted)
    trained, _ = train(recipe(updates=1))
    assert [check.name for check in trained.checks if not check.passed] == ["collapse"]
