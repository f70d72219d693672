"""PPO: `train_ppo` beside TRL 1.12.0's PPOTrainer, in seconds an episode and peak memory.

1.12.0 is the last release of TRL that has a PPO trainer. It is installed into a folder of its own under RLAIF_HOME/cache and
put before the project's own TRL, which stays as it is; torch, transformers and peft are the same for both.

Both sides train the embedded default with a LoRA of rank 16 from the same prompts, answers of the same length at the same
temperature, rollouts, minibatches, micro-batches, epochs and rates; the reward models are untrained, since what is measured is
cost. Each side runs in a process of its own, so that a peak is its own, and in turn; who goes first changes from round to
round.

Ours evaluates the start and the end on held-out prompts, which TRL is not asked to do: that time is reported, and no part of
the comparison. Otherwise one thing favours the peer: its time is `PPOTrainer.train()` alone, ours is the whole of `train_ppo`,
with adapters laid on the base, a checkpoint, the adapter published. And one favours us, by design: answers that ended leave
our sampling batch, TRL goes on to the longest one and pads. The mean lengths are reported. Ours multiplies as all training of
the project does, by oneDNN where that is faster (`RLAIF_ONEDNN=0 make bench PART=ppo` measures without).

TRL accumulates gradients over a whole rollout, so it takes one optimizer step an epoch where ours takes one a minibatch; the
passes are the same.

Speed counts only at equal work: episodes and updates as asked, policies that moved by a finite amount, and answers whose
entropy is the same on both sides up to what sampling explains.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.measurement import AS_ITS_USERS, Measurement, WrongResult, machine
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT, Home, current_home
from rlaif_dagster.prompts import read_prompts
from rlaif_dagster.spec.project import Project

TRL = "1.12.0"
ROUNDS = 2
SIDES = ("ours", "peer")
TOLERANCE = (
    0.3  # of a token's entropy: two samples of 32 answers differ by up to 0.2; temperature 1 for 0.7 would double it
)


@dataclass(frozen=True)
class Job:
    """What both sides are asked to do. `model` is a folder in Hugging Face layout, `reward` a reward adapter on it."""

    model: str
    reward: str
    prompts: list[str]
    updates: int = 2
    rollout_batch: int = 16
    minibatches: int = 2
    micro_batch: int = 4
    epochs: int = 2
    response_length: int = 48
    temperature: float = 0.7
    learning_rate: float = 1e-4
    kl_coefficient: float = 0.05
    rank: int = 16
    alpha: int = 32

    @property
    def episodes(self) -> int:
        return self.updates * self.rollout_batch


@dataclass(frozen=True)
class Run:
    """One side's training: wall seconds, processor seconds of all threads (which say more on a machine that is not idle), the
    process's largest memory, and what it did. `phases` are parts of `seconds`, `evaluating` (seconds) comes on top.

    `entropy` is the mean of an answer's negative log-probability (nats, at the sampling temperature), `moved` the norm of the
    adapter's B matrices, which start at zero.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    episodes: int
    updates: int
    entropy: float
    response_tokens: float
    moved: float
    threads: int
    device: str
    phases: Mapping[str, float]
    evaluating: float = 0.0


def measure() -> Measurement:
    """Measure the study's default model. Raises WrongResult when a side did not do the work."""
    project, home = Project.current(), current_home()
    name = project.study().models[0]
    trl = install_trl(home)
    frame = read_prompts(project.prompt_sources(), project.root / "prompts")
    texts = frame.loc[frame["split"] == "train", "text"].tolist()
    with tempfile.TemporaryDirectory(prefix="rlaif-bench-") as folder:
        prepared = _child("prepare", {"model": name, "folder": folder}, trl)
        prompts = texts[: Job.updates * Job.rollout_batch + 1]  # ours keeps one of them for its evaluations
        runs = compare(Job(prompts=prompts, **prepared), trl, rounds=ROUNDS)
    return summary(runs, name)


def install_trl(home: Home) -> Path:
    """The folder that holds the peer, fetched from the package index when it is not there yet, without dependencies."""
    target = home.cache / "bench" / f"trl-{TRL}"
    if not (target / "trl" / "experimental" / "ppo").is_dir():
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(target)]
        done = subprocess.run([sys.executable, *pip, f"trl=={TRL}"], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason told"])[-1]
            raise UserError(
                f"trl {TRL}, the peer of bench ppo, could not be installed into {target}: {last}; check the network"
            )
    return target


def compare(job: Job, trl: Path, *, rounds: int) -> dict[str, list[Run]]:
    """Runs of both sides in turn. Raises WrongResult when one did not do what was asked."""
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    for turn in range(rounds):
        for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
            run = Run(**_child(side, asdict(job), trl))
            runs[side].append(run)
            told = f"{run.seconds / run.episodes:.2f} s an episode, {run.peak_bytes / 1e9:.2f} GB"
            phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in run.phases.items())
            print(f"round {turn + 1} of {rounds}, {side}: {told}{f' ({phases})' if phases else ''}", file=sys.stderr)
        if wrong := differences(job, runs["ours"][-1], runs["peer"][-1]):
            raise WrongResult("; ".join(wrong))
    return runs


def differences(job: Job, ours: Run, peer: Run) -> list[str]:
    """What a side did otherwise than it was asked, or than the other."""
    out = []
    for side, run in zip(SIDES, (ours, peer), strict=True):
        if (run.episodes, run.updates) != (job.episodes, job.updates):
            asked = f"{job.episodes} in {job.updates} were asked for"
            out.append(f"{side}: {run.episodes} episodes in {run.updates} updates, {asked}")
        if not (math.isfinite(run.moved) and run.moved > 0):
            out.append(f"{side}: the policy moved by {run.moved}")
        if run.device != ours.device:
            out.append(f"{side} ran on {run.device}, ours on {ours.device}")
    a_token = [run.entropy / run.response_tokens for run in (ours, peer)]
    if not abs(a_token[0] - a_token[1]) <= TOLERANCE * a_token[1]:
        out.append(f"entropy of a token: ours {a_token[0]:.3g} nats, peer {a_token[1]:.3g}")
    return out


def summary(runs: Mapping[str, Sequence[Run]], model: str) -> Measurement:
    """Mean seconds an episode and the largest peak of each side, and ours over the peer's."""
    sides: dict[str, dict[str, Any]] = {}
    for side, done in runs.items():
        episodes = sum(run.episodes for run in done)
        sides[side] = {
            "model": model,
            "episodes": episodes,
            "seconds_per_episode": sum(run.seconds for run in done) / episodes,
            "cpu_seconds_per_episode": sum(run.cpu_seconds for run in done) / episodes,
            "peak_memory_bytes": max(run.peak_bytes for run in done),
            "rounds": [run.seconds / run.episodes for run in done],
            "evaluating_seconds": sum(run.evaluating for run in done),
            "response_tokens": sum(run.response_tokens for run in done) / len(done),
        }
    names = {"seconds_per_episode": "seconds_per_episode", "peak_memory": "peak_memory_bytes"}
    first = runs["ours"][0]
    return Measurement(
        part="ppo",
        ratios={ratio: sides["ours"][name] / sides["peer"][name] for ratio, name in names.items()},
        ours={"name": "train_ppo", **sides["ours"]},
        peer={"name": f"trl {TRL} PPOTrainer", **sides["peer"]},
        machine=machine(first.threads, None if first.device == "cpu" else first.device),
    )


def _child(side: str, job: Mapping[str, Any], trl: Path) -> dict[str, Any]:
    """What `bench.ppo_sides` prints as its last line, in a process of its own. Raises WrongResult with the end of its
    stderr when it fails."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled"}
    environment |= AS_ITS_USERS if side == "peer" else {}
    done = subprocess.run(
        [sys.executable, "-m", "bench.ppo_sides", side, str(trl)],
        input=json.dumps(job), capture_output=True, text=True, check=False, cwd=CHECKOUT, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise WrongResult(f"{side} failed: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
