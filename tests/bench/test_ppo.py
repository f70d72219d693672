"""The comparison of PPO: our side on the tiny model, what counts as equal work, and how the figures are put together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from bench.ppo import Job, Run, differences, summary
from bench.ppo_sides import ours, peak_bytes
from rlaif_dagster.home import Home
from rlaif_dagster.language.base_model import load
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.training import adapters
from rlaif_dagster.training.reward_model import HEAD, classifier

JOB = Job(model="m", reward="r", prompts=[])
RUN = Run(
    seconds=64.0, cpu_seconds=100.0, peak_bytes=2 * 10**9, episodes=32, updates=2,
    entropy=40.0, response_tokens=45.0, moved=0.1, threads=2, device="cpu", phases={},
)  # fmt: skip


def test_our_side_trains_what_it_is_asked(tiny_model_folder: Path, tmp_path: Path) -> None:
    lm = load("tiny", ModelSpec(folder=str(tiny_model_folder)), Home(tmp_path))
    config = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="SEQ_CLS", modules_to_save=[HEAD])
    adapters.save(get_peft_model(classifier(lm, 0, seed=0), config), tmp_path / "reward", lm)
    prompts = [f"Say {word}." for word in ("rain", "salt", "iron", "moss", "wind", "clay")]
    job = replace(
        JOB,
        model=str(tiny_model_folder),
        reward=str(tmp_path / "reward"),
        prompts=prompts,
        rollout_batch=4,
        response_length=5,
    )
    run = Run(**json.loads(json.dumps(ours(job))))
    assert differences(job, run, run) == []
    assert run.entropy > 1
    assert 0 < run.response_tokens <= 5
    assert run.seconds == pytest.approx(sum(run.phases.values()))
    assert 0 < run.peak_bytes <= peak_bytes() + (1 << 20)  # the kernel counts pages in batches


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"entropy": 50.0}, []),
        ({"episodes": 16, "updates": 1}, ["peer: 16 episodes in 1 updates, 32 in 2 were asked for"]),
        ({"moved": 0.0}, ["peer: the policy moved by 0.0"]),
        ({"moved": float("nan")}, ["peer: the policy moved by nan"]),
        ({"entropy": 90.0}, ["entropy of a token: ours 0.889 nats, peer 2"]),
        ({"entropy": float("nan")}, ["entropy of a token: ours 0.889 nats, peer nan"]),
        ({"device": "Some GPU"}, ["peer ran on Some GPU, ours on cpu"]),
    ],
)
def test_only_equal_work_is_compared(change: dict[str, float], told: list[str]) -> None:
    assert differences(JOB, RUN, replace(RUN, **change)) == told


def test_the_summary_divides_seconds_an_episode_and_the_largest_peaks() -> None:
    peer = replace(RUN, seconds=192.0, peak_bytes=6 * 10**9, response_tokens=48.0)
    measured = summary(
        {"ours": [RUN, replace(RUN, seconds=32.0, peak_bytes=3 * 10**9)], "peer": [peer, peer]}, "smollm2"
    )
    assert measured.ratios == {"seconds_per_episode": 1.5 / 6, "peak_memory": 0.5}
    assert measured.ours["rounds"] == [2.0, 1.0]
    assert measured.ours["cpu_seconds_per_episode"] == 200 / 64
    assert measured.peer["name"] == "trl 1.12.0 PPOTrainer"
    assert measured.machine.endswith("threads: 2")
    assert json.loads(measured.line())["part"] == "ppo"
