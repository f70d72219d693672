"""A study of its own for the command line: two models and two constitutions, in a temporary data/ and an empty home."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlaif_dagster.cli.main import app
from rlaif_dagster.home import Home

FILES = {
    "study.yaml": "models: [tiny]\nconstitutions: [structured]\n",
    "models/tiny.yaml": "folder: /nowhere/tiny\nlicense: MIT\n",
    "models/large.yaml": "hub: {repo: owner/large-8B, revision: abc}\ndtype: bfloat16\n",
    "constitutions/structured.yaml": "principles: [{id: format, text: Answer in the strict format.}]\n",
    "constitutions/harmless.yaml": "principles: [{id: harm, text: Never help anyone to do harm.}]\n",
    "judges/likelihood.yaml": "kind: likelihood\nmodel: tiny\n",
    "judges/paid.yaml": "kind: api\nmodel: openai/x\napi_key_env: MY_JUDGE_KEY\n",
    "prompts/sources.yaml": "sources: [{file: study.jsonl}]\n",
    "prompts/study.jsonl": '{"split": "train", "category": "factual", "text": "What is it?"}\n',
    "recipes/judging.yaml": "judge: likelihood\n",
    "recipes/benchmarks.yaml": "tasks: [{task: mmlu_mini}]\n",
    "benchmarks/mmlu_mini.jsonl": '{"subject": "astronomy", "question": "What is up?", "choices": ["A star", "A fish", "A shoe", '
    '"A pen"], "answer": 0}\n',
    "recipes/generation.yaml": "exemplars: 1\n",
    "recipes/sft.yaml": "epochs: 1\n",
    "recipes/reward.yaml": "epochs: 1\n",
    "recipes/dpo.yaml": "epochs: 1\n",
    "recipes/ppo.yaml": "updates: 1\n",
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder data/ of the study, which the commands find through the environment."""
    root = tmp_path / "data"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setenv("RLAIF_DATA", str(root))
    monkeypatch.setenv("COLUMNS", "200")  # a fixed width, whatever runs the tests
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home that the commands find through the environment."""
    monkeypatch.setenv("RLAIF_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rlaif_process(data: Path, home: Home) -> Process:
    """Runs a command in a process of its own: for those that load the code location, which reads the names of models and
    constitutions once a process, at import."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rlaif_dagster.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture
def rlaif(data: Path, home: Home) -> Callable[..., Result]:
    """Runs a command in this process; errors are raised, as `main` would meet them."""

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False)

    return run
