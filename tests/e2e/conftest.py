"""A whole study on the real embedded model, small: the project's own data with fewer prompts, shorter training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlaif_dagster.home import CHECKOUT, current_home
from tests.checkout import Checkout

PROMPTS = {"train": 20, "eval": 8, "qualitative": 4}
SMALL = {
    "generation": {"completions": {"max_new_tokens": 40}, "revisions": {"max_new_tokens": 40, "samples": 2}},
    "sft": {"epochs": 1, "max_examples": 8},
    "reward": {"epochs": 1, "min_accuracy": 0.0, "min_gain_over_length": -1, "max_calibration_error": 1},
    "dpo": {"epochs": 1, "max_examples": 8},
    "ppo": {"updates": 2, "rollout_batch": 8, "max_new_tokens": 32},
    "benchmarks": {"responses": {"max_new_tokens": 40}},
}


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Small data and an empty home; the base model is fetched once into the default home and shared from there."""
    folder = tmp_path_factory.mktemp("study")
    data, home = folder / "data", folder / "home"
    shutil.copytree(CHECKOUT / "data", data)
    _fewer_prompts(data / "prompts" / "study.jsonl")
    for stage, changes in SMALL.items():
        _change(data / "recipes" / f"{stage}.yaml", changes)
    _limit_tasks(data / "recipes" / "benchmarks.yaml", 6)
    pulled = subprocess.run(
        [sys.executable, "-m", "rlaif_dagster.cli.main", "models", "pull", "smollm2-135m-instruct"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert pulled.returncode == 0, pulled.stderr
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "models").symlink_to(current_home().cache / "models")
    return Checkout(data, home)


def _fewer_prompts(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [row for split, n in PROMPTS.items() for row in [r for r in rows if r["split"] == split][:n]]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")


def _change(path: Path, changes: dict) -> None:
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        recipe[key] = recipe.get(key, {}) | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")


def _limit_tasks(path: Path, limit: int) -> None:
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["tasks"] = [task | {"limit": limit} for task in recipe["tasks"]]
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
