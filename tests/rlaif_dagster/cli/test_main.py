"""The front of the command line: quick, quiet, and one line with status 2 for what the user must fix."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlaif_dagster import __version__
from rlaif_dagster.cli.main import main
from rlaif_dagster.home import Home

HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "lm_eval",
    "litellm",
    "ray",
    "accelerate",
    "boto3",
    "botocore",
)


def imported(code: str) -> set[str]:
    """Top-level packages that are loaded after `code` ran in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=dict(os.environ),
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.usefixtures("data", "home")
class TestImports:
    """What a command loads is what its user waits for."""

    def test_help_loads_neither_dagster_nor_anything_that_computes(self) -> None:
        loaded = imported("from rlaif_dagster.cli.main import app\napp(['--help'], standalone_mode=False)")
        assert not loaded & {*HEAVY, "dagster", "duckdb", "pandas", "numpy", "pydantic"}

    def test_help_answers_at_once(self) -> None:
        def seconds(*command: str) -> float:
            """Processor time, which does not depend on what else the machine does."""
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        runs = [
            (seconds("-m", "rlaif_dagster.cli.main", "--help"), seconds("-c", "import typer.rich_utils"))
            for _ in range(3)
        ]
        ours, least = (min(side) for side in zip(*runs, strict=True))
        assert ours < 3 * least  # what any command line of typer takes, on this machine

    def test_loading_the_code_location_loads_nothing_that_computes(self) -> None:
        loaded = imported("import rlaif_dagster.definitions")
        assert not loaded & set(HEAVY)

    def test_planning_loads_nothing_that_computes(self) -> None:
        loaded = imported("from rlaif_dagster.cli.main import app\napp(['plan'], standalone_mode=False)")
        assert "dagster" in loaded
        assert not loaded & {*HEAVY, "sqlalchemy", "duckdb"}

    def test_what_is_loaded_for_a_plan_ends_quietly_with_the_process(self) -> None:
        """DuckDB tells on stderr of what was not collected; it may be loaded before the graph or after it."""
        for code in ("import duckdb; graph()", "graph(); import duckdb"):
            code = f"from rlaif_dagster.cli.study import graph; {code}; duckdb.connect().sql('select 1').df()"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
            assert done.stderr == ""


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def rlaif_main(
    data: Path, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """The installed command's own function, with the command line that a shell would give it."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["rlaif", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    return run


def test_the_version_is_the_packages(rlaif_main: Callable[..., Ended]) -> None:
    assert rlaif_main("--version") == Ended(0, f"rlaif {__version__}\n", "")


def test_the_command_is_installed_under_its_name() -> None:
    command = Path(sys.executable).parent / "rlaif"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"rlaif {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["report", "--model", "gpt-9"], ["--model", "'gpt-9'", "allowed: large, tiny, all"]),
        (["plan", "--constitution", "x"], ["--constitution", "'x'", "allowed: harmless, structured, all"]),
        (["sql", "select nonsense"], ["SQL: ", "nonsense"]),
        (["sql", "select 1", "--model", "gpt-9"], ["'gpt-9'"]),
        (["report"], ["no report yet for tiny/structured", "rlaif up"]),
        (["compare", "dpo", "gpt"], ["'gpt' is neither an arm (base, sft, dpo, ppo) nor a cell"]),
        (["compare", "dpo", "ppo"], ["nothing was measured"]),
        (["chat", "--arm", "dpo"], ["arm dpo of tiny/structured is not trained yet", "rlaif up"]),
        (["export", "--arm", "ppo", "out"], ["arm ppo of tiny/structured is not trained yet"]),
        (["export", "--arm", "ppo", "out", "--model", "all"], ["one cell", "--model", "large, tiny"]),
        (["models", "pull", "gpt-9"], ["'gpt-9'", "allowed: large, tiny, all"]),
    ],
)
def test_what_the_user_must_fix_is_one_line_on_stderr_with_status_2(
    rlaif_main: Callable[..., Ended], home: Home, arguments: list[str], parts: list[str]
) -> None:
    ended = rlaif_main(*arguments)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith("rlaif: ")
    assert ended.stderr.count("\n") == 1
    for part in parts:
        assert part in ended.stderr
    assert not home.root.exists()


@pytest.mark.parametrize("command", ["plan", "status", "up", "ui"])
def test_with_a_wrong_file_in_data_nothing_runs(
    rlaif_main: Callable[..., Ended], data: Path, home: Home, command: str
) -> None:
    (data / "constitutions/harmless.yaml").write_text("principles: none\n")
    ended = rlaif_main(command)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"rlaif: {data / 'constitutions/harmless.yaml'}: field 'principles'")
    assert ended.stderr.count("\n") == 1
    assert not home.root.exists()


BROKEN = {
    "models/large.yaml": ("hub: {repo: nowhere}\n", "field 'hub.repo'"),
    "judges/paid.yaml": ("kind: oracle\n", "allowed: likelihood, api, panel"),
    "recipes/dpo.yaml": ("beta: none\n", "field 'beta'"),
    "prompts/sources.yaml": ("sources: [{}]\n", "exactly one of file, hub"),
    "prompts/study.jsonl": ('{"split": "dev", "category": "factual", "text": "What?"}\n', "'dev'"),
    "benchmarks/mmlu_mini.jsonl": ('{"subject": "x", "question": "?", "choices": ["a"], "answer": 0}\n', "choices"),
    "labels/pairs.yaml": ("file: pairs.jsonl\nconstitutions: []\n", "field 'constitutions'"),
    "labels/human_grades.jsonl": ('{"model": "tiny"}\n', "constitution"),
    "study.yaml": ("models: [gpt]\nconstitutions: [structured]\n", "'gpt'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_kind_of_input_is_checked_before_anything_runs(
    rlaif_main: Callable[..., Ended], data: Path, home: Home, name: str
) -> None:
    text, told = BROKEN[name]
    (data / name).parent.mkdir(exist_ok=True)
    (data / name).write_text(text)
    ended = rlaif_main("up")
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith("rlaif: ")
    assert ended.stderr.count("\n") == 1
    assert Path(name).name in ended.stderr
    assert told in ended.stderr
    assert not home.root.exists()


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["sql", "--nonsense"], ["export"], ["sql", "x", "--format", "xml"]]
)
def test_a_command_line_that_is_wrong_has_status_2_too(rlaif_main: Callable[..., Ended], arguments: list[str]) -> None:
    ended = rlaif_main(*arguments)
    assert ended.status == 2
    assert "Usage: " in ended.stderr


def test_a_bug_keeps_its_traceback(rlaif_main: Callable[..., Ended], data: Path) -> None:
    (data / "benchmarks/mmlu_mini.jsonl").unlink()
    (data / "benchmarks/mmlu_mini.jsonl").mkdir()  # nobody foresaw this
    with pytest.raises(IsADirectoryError):
        rlaif_main("plan")
