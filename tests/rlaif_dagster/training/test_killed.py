"""SIGKILL from outside at times that nobody chose, again and again: the adapter is that of an uninterrupted run, bit by bit.

Children are forked from a server that has imported everything already, so that a kill lands in the training.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from rlaif_dagster.hashing import folder_digest
from rlaif_dagster.training import checkpoints
from rlaif_dagster.training.ppo import checkpoint
from rlaif_dagster.training.store import ModelStore, StoredModel
from tests.rlaif_dagster.training.stages import PPO_KINDS, STAGES, train_quietly

KILLS = 4
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.rlaif_dagster.training.stages"])

Run = Callable[[str, Path], multiprocessing.Process]


@pytest.fixture(scope="module")
def run(tiny_model_folder: Path, pairs: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Starts a stage in a child, its results under a folder. The adapters it starts from are made first."""
    shared = tmp_path_factory.mktemp("shared")
    pairs.to_json(shared / "pairs.json", orient="records")
    first: dict[str, str] = {}

    def start(stage: str, folder: Path) -> multiprocessing.Process:
        for earlier in ("sft", "reward"):
            if stage not in ("sft", "reward") and earlier not in first:
                finish(begin(earlier, shared / earlier))
                first[earlier] = str(published(shared / earlier).path)
        return begin(stage, folder)

    def begin(stage: str, folder: Path) -> multiprocessing.Process:
        arguments = (stage, str(tiny_model_folder), str(shared / "pairs.json"), str(folder))
        process = CONTEXT.Process(target=train_quietly, args=(*arguments, first.get("sft"), first.get("reward")))
        process.start()
        return process

    return start


def finish(process: multiprocessing.Process) -> None:
    process.join(120)
    assert process.exitcode == 0


def published(folder: Path) -> StoredModel:
    model = ModelStore(folder / "models").get("key")
    assert model is not None
    return model


def has_checkpoint(stage: str, folder: Path) -> bool:
    work = folder / "work" / stage
    return (work / checkpoint.FILE).exists() if stage in PPO_KINDS else checkpoints.latest(work) is not None


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_killed_ends_with_the_same_adapter(stage: str, run: Run, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(stage, tmp_path / "warm").join(120)  # the server's start, and the adapters to start from, are not timed
    begun = time.monotonic()
    finish(run(stage, whole))
    seconds = time.monotonic() - begun
    seed = random.SystemRandom().randrange(1 << 30)
    moments = random.Random(seed)
    resumed = killed = 0
    for turn in range(20):
        process = run(stage, cut)
        if turn < KILLS or not resumed:
            process.join(moments.uniform(0.1, 0.7) * seconds)
            process.kill()
        process.join(120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        resumed += has_checkpoint(stage, cut)
        assert not (cut / "models" / "key").exists()
    told = f"{stage}, kills drawn from seed {seed}: {killed} of which {resumed} left a checkpoint"
    assert killed, told
    one, other = published(whole), published(cut)
    assert folder_digest(other.path) == folder_digest(one.path), told
    assert other.digest == one.digest
    pd.testing.assert_frame_equal(other.trained.metrics, one.trained.metrics)
    assert [check.name for check in other.trained.checks if check.passed] == [
        check.name for check in one.trained.checks if check.passed
    ]
    assert other.trained.tokens == one.trained.tokens
