"""Where a step's models lie: on a GPU or in main memory, how many copies of them side by side, and how large that memory is.

Training takes RLAIF_PROCESSES: with GPUs each process has its own, on a CPU all share the main memory. Sampling and evaluation take
RLAIF_SHARDS: Ray gives a shard a core, and of the GPUs what RLAIF_NUM_GPUS says, so that of a fraction as many share one as fit;
without that number Ray keeps no GPU from any shard, and all of them are on the first.

A step that runs on a cluster (RLAIF_STEPS), and shards that do (RAY_ADDRESS, or GPUs asked for that are not here), are planned for
what they ask for. What memory there is on the cluster is not known here, so there is nothing to compare with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from rlaif_dagster.memory_plan import MIB, Device
from rlaif_dagster.pods import asks_for_gpu
from rlaif_dagster.shards import RAY, STEPS, gpus, shards
from rlaif_dagster.training.process_count import processes

CGROUP = Path("/sys/fs/cgroup/memory.max")  # a container's limit, where it has one
TRAINED = ("sft_model", "reward_model", "dpo_model", "ppo_model")


@dataclass(frozen=True)
class Place:
    """What computes, its memory in bytes (None: on a cluster, not known here), and how many copies of a model share that."""

    device: Device
    bytes: int | None = None
    copies: int = 1

    def holds(self, needed: int) -> bool:
        """Whether so many bytes fit, as far as it is known."""
        return self.bytes is None or needed <= self.bytes


@dataclass(frozen=True)
class Places:
    """Where steps train, and where they sample and evaluate."""

    training: Place
    answering: Place

    def of(self, asset: str) -> Place:
        return self.training if asset in TRAINED else self.answering


def places() -> Places:
    """By the environment and this machine. Raises UserError on a variable that is not what it should be."""
    steps = os.environ.get(STEPS)
    if steps:  # shards of a pod are processes of its own; on Ray they are anywhere
        asked: Device = "cuda" if (gpus() if steps == RAY else asks_for_gpu()) else "cpu"
        return Places(_trainings(Place(asked)), Place(asked, copies=_shards_together(1 if steps == RAY else shards())))
    here = machine()
    return Places(_trainings(here), _shards(here) if shards() else here)


def _trainings(place: Place) -> Place:
    return replace(place, copies=1 if place.device == "cuda" else processes())


def _shards(here: Place) -> Place:
    """Where the shards of steps that run here are."""
    if os.environ.get("RAY_ADDRESS") or (gpus() and here.device == "cpu"):
        return Place("cuda" if gpus() else "cpu", copies=_shards_together(1))
    return replace(here, copies=_shards_together(os.cpu_count() or 1))


def _shards_together(most: int) -> int:
    """How many shards share a GPU by the fraction that each asks for; of shards that ask for none, up to `most` share memory."""
    together = max(1, int(1 / gpus())) if gpus() else most
    return max(1, min(shards(), together))


@cache
def machine() -> Place:
    """The first visible GPU by nvidia-smi, else main memory or what a container's limit leaves of it."""
    gpu = _gpu_bytes()
    return Place("cuda", gpu) if gpu else Place("cpu", _main_bytes())


def _gpu_bytes() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None or visible in ("", "-1"):
        return 0
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    command += ["--id=" + visible.split(",")[0]] if visible else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    first = next(iter(done.stdout.split()), "")
    return int(first) * MIB if done.returncode == 0 and first.isdigit() else 0


def _main_bytes() -> int:
    import psutil

    total = int(psutil.virtual_memory().total)
    allowed = CGROUP.read_text(encoding="utf-8").strip() if CGROUP.exists() else "max"
    return min(total, int(allowed)) if allowed.isdigit() else total
