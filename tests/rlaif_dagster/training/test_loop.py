"""Interrupted equals uninterrupted, numbers that are not finite stop a training, and a training is quiet."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from rlaif_dagster import atomic
from rlaif_dagster.spec.recipes import Dpo, Lora, Reward, Sft
from rlaif_dagster.training import checkpoints, loop
from rlaif_dagster.training.adapters import WEIGHTS
from rlaif_dagster.training.dpo import train_dpo
from rlaif_dagster.training.reward import train_reward
from rlaif_dagster.training.sft import train_sft
from rlaif_dagster.training.trained import Trained
from tests.rlaif_dagster.training.conftest import FreshModel

# dropout makes the random state part of what a resume must restore; 12 examples by 4, 3 epochs: nine steps
OPTIONS = {
    "lora": Lora(r=4, alpha=8, dropout=0.2), "epochs": 3, "batch_size": 2, "gradient_accumulation": 2, "learning_rate": 5e-3,
    "save_steps": 2,
}  # fmt: skip
Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def train(fresh_model: FreshModel, pairs: pd.DataFrame) -> Train:
    """Trains a stage with its checkpoints and its result under a folder."""

    def run(stage: str, folder: Path, dtype: str = "float32") -> Trained:
        lm, where = fresh_model(dtype), {"seed": 5, "work": folder / "work", "target": folder / "target"}
        if stage == "sft":
            return train_sft(lm, pairs, Sft(**OPTIONS), **where)
        if stage == "reward":
            return train_reward(lm, pairs, Reward(**OPTIONS), **where)
        return train_dpo(lm, pairs, Dpo(**OPTIONS), start_adapter=None, **where)

    return run


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Trained]]:
    """Uninterrupted trainings, one a stage."""

    @cache
    def run(stage: str) -> tuple[Path, Trained]:
        folder = tmp_path_factory.mktemp(stage)
        return folder, train(stage, folder)

    return run


def assert_same(first: Path, second: Path) -> None:
    one, two = load_file(first / "target" / WEIGHTS), load_file(second / "target" / WEIGHTS)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-7, rtol=0)


class Killed(Exception):
    pass


def stop_at_step_5(self: object, args: object, state: Any, control: object, **_: object) -> None:
    if state.global_step == 5:
        raise Killed


def die_in_checkpoint_6(folder: Path, seconds: float) -> None:
    """Before the marker, and with one file cut short."""
    if folder.name == "checkpoint-6":
        (folder / "optimizer.pt").write_bytes(b"half")
        raise Killed
    atomic.write_text(folder / checkpoints.MARKER, json.dumps({"seconds": seconds}))


@pytest.mark.parametrize(
    ("stage", "where", "do"),
    [
        ("sft", (loop._Bar, "on_step_end"), stop_at_step_5),
        ("sft", (checkpoints, "mark_complete"), die_in_checkpoint_6),
        ("reward", (loop._Bar, "on_step_end"), stop_at_step_5),
        ("dpo", (loop._Bar, "on_step_end"), stop_at_step_5),
    ],
)
def test_interrupted_equals_uninterrupted(
    train: Train,
    whole: Callable[[str], tuple[Path, Trained]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    where: tuple[Any, str],
    do: Callable[..., None],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(*where, do)
        with pytest.raises(Killed):
            train(stage, tmp_path)
    resumed_from = checkpoints.latest(tmp_path / "work")
    assert resumed_from is not None
    assert resumed_from.step == 4
    resumed = train(stage, tmp_path)
    folder, uninterrupted = whole(stage)
    assert_same(folder, tmp_path)
    pd.testing.assert_frame_equal(resumed.metrics, uninterrupted.metrics, atol=1e-6)
    assert resumed.tokens == uninterrupted.tokens
    assert resumed.seconds > resumed_from.seconds


def test_a_finished_training_is_not_repeated(
    train: Train, whole: Callable[[str], tuple[Path, Trained]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the last checkpoint and publishing: the second call trains no step and ends with the same adapter."""
    folder, first = whole("dpo")
    shutil.copytree(folder / "work", tmp_path / "work")
    checkpoint = tmp_path / "work" / "checkpoint-9"
    assert sorted(path.name for path in checkpoint.parent.glob("checkpoint-*")) == ["checkpoint-8", "checkpoint-9"]
    assert (checkpoint / WEIGHTS).exists()
    monkeypatch.setattr(loop.Guarded, "training_step", None)  # any step would fail
    again = train("dpo", tmp_path)
    assert_same(folder, tmp_path)
    pd.testing.assert_frame_equal(again.metrics, first.metrics, atol=1e-6)


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_a_single_optimizer_step_learns(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path, stage: str
) -> None:
    """A warm-up's first rate is 0: with the default share of it, the only step would leave the adapter as it began."""
    options = {
        "lora": Lora(r=4, alpha=8), "epochs": 1, "batch_size": 3, "gradient_accumulation": 4, "learning_rate": 5e-3,
    }  # fmt: skip
    where = {"seed": 5, "work": tmp_path / "work", "target": tmp_path / "target"}
    if stage == "sft":
        assert Sft(**options).warmup_ratio > 0
        train_sft(fresh_model(), pairs, Sft(**options), **where)
    elif stage == "reward":
        train_reward(fresh_model(), pairs, Reward(**options), **where)
    else:
        train_dpo(fresh_model(), pairs, Dpo(**options), start_adapter=None, **where)
    resumed = checkpoints.latest(tmp_path / "work")
    assert resumed is not None
    assert resumed.step == 1
    tensors = load_file(tmp_path / "target" / WEIGHTS)
    assert all(tensor.abs().max() > 0 for name, tensor in tensors.items() if "lora_B" in name)


SCRIPT = """
import sys
from pathlib import Path
import pandas as pd
from rlaif_dagster.home import Home
from rlaif_dagster.language.base_model import load
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Sft
from rlaif_dagster.training.sft import train_sft

model, pairs, recipe, folder = sys.argv[1:]
lm = load("tiny", ModelSpec(folder=model), Home(Path(folder)))
train_sft(
    lm, pd.read_json(pairs, orient="records"), Sft.model_validate_json(recipe), seed=5,
    work=Path(folder) / "work", target=Path(folder) / "target",
)
"""


def test_killed_process_goes_on_where_it_was(
    fresh_model: FreshModel, tiny_model_folder: Path, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    """SIGKILL, sent from outside while the training runs, at a time that nobody chose."""
    recipe = Sft(**OPTIONS | {"epochs": 20, "save_steps": 3, "learning_rate": 1e-3})
    pairs.to_json(tmp_path / "pairs.json", orient="records")
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    arguments = [tiny_model_folder, tmp_path / "pairs.json", recipe.model_dump_json(), cut]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, arguments)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while checkpoints.latest(cut / "work") is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (cut / "target").exists()
    for folder in (cut, whole):
        train_sft(fresh_model(), pairs, recipe, seed=5, work=folder / "work", target=folder / "target")
    assert_same(whole, cut)


def test_a_loss_that_is_not_finite_stops_the_training(
    fresh_model: FreshModel, pairs: pd.DataFrame, tmp_path: Path
) -> None:
    recipe = Sft(**OPTIONS | {"learning_rate": 1e30})
    trained = train_sft(fresh_model(), pairs, recipe, seed=0, work=tmp_path / "w", target=tmp_path / "t")
    [check] = trained.checks
    assert (check.name, check.passed) == ("finite_loss", False)
    assert "of 9, learning rate 1e+30" in check.message
    assert "nan" in check.message or "inf" in check.message
    assert trained.metrics["step"].max() < 9
    assert trained.metrics["value"].notna().all()
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "t" / WEIGHTS).values())


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_half_precision_base_trains_quietly(
    train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str], stage: str
) -> None:
    """A base in bfloat16 trains a float32 adapter, on a CPU too; a log file sees nothing of it."""
    trained = train(stage, tmp_path, "bfloat16")
    assert trained.checks[0].passed
    tensors = load_file(tmp_path / "target" / WEIGHTS)
    assert {tensor.dtype for name, tensor in tensors.items() if "lora" in name} == {torch.float32}
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if line.strip() and "Loading weights" not in line] == []


def test_a_terminal_sees_one_bar(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    train("sft", tmp_path)
    lines = [line for line in terminal.getvalue().replace("\r", "\n").splitlines() if line.strip()]
    bars = [line for line in lines if "Loading weights" not in line]
    assert all(line.startswith("sft:") for line in bars)
    assert "9/9" in bars[-1]
    assert "loss=" in bars[-1]


OF_TWO_GPUS = """
import json
from pathlib import Path
from types import SimpleNamespace
import torch
from trl import DPOConfig, RewardConfig, SFTConfig
from rlaif_dagster.spec.recipes import Dpo, Reward, Sft
from rlaif_dagster.training.loop import arguments
torch.cuda.is_available, torch.cuda.device_count, torch.cuda.set_device = lambda: True, lambda: 2, lambda device: None
lm = SimpleNamespace(device=torch.device("cuda"), model=SimpleNamespace(dtype=torch.float32))
for kind, recipe in ((SFTConfig, Sft()), (RewardConfig, Reward()), (DPOConfig, Dpo())):
    made = arguments(kind, recipe, lm, seed=0, work=Path("work"))
    print(json.dumps([made.device.type, made.n_gpu, made.train_batch_size == recipe.batch_size, made.parallel_mode.value]))
"""


def test_a_training_keeps_to_one_of_two_gpus(tmp_path: Path) -> None:
    """Without a launcher transformers would spread it over both in one process, for which TRL stops."""
    done = subprocess.run(
        [sys.executable, "-c", OF_TWO_GPUS], cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [["cuda", 1, True, "not_parallel"]] * 3
