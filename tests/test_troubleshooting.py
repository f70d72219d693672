"""docs/troubleshooting.md quotes messages that the code still prints, and that are met as it says."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.starter import make_study
from tests.tutorial import environment

PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [" ".join(text.split()) for text in re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)]


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text of a module, with `…` where a value goes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


@pytest.fixture(scope="module")
def code() -> list[str]:
    """All texts of the code (docstrings among them are too long and too different to match)."""
    found = [(CHECKOUT / "Makefile").read_text(encoding="utf-8")]
    for folder in ("rlaif_dagster", "assets", "resources"):
        for file in (CHECKOUT / folder).rglob("*.py"):
            found += texts(ast.parse(file.read_text(encoding="utf-8")))
    return [" ".join(text.split()) for text in found]


def pattern(message: str) -> str:
    """A regular expression for the message: `…` stands for anything."""
    return ".*".join(re.escape(part.strip()) for part in message.split("…"))


@pytest.mark.parametrize("message", MESSAGES)
def test_every_quoted_message_is_in_the_code(message: str, code: list[str]) -> None:
    assert len(message.replace("…", "").strip()) >= 12, "too little of it is quoted to be found again"
    assert any(re.search(pattern(message), text) for text in code), "the code says it no longer: quote what it says"


def test_a_message_that_is_not_in_the_code_would_be_found(code: list[str]) -> None:
    assert not any(re.search(pattern("arm … of …/… was never trained at all"), text) for text in code)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("troubles") / "mine", ["structured"])


TROUBLES: dict[str, tuple[dict[str, tuple[str, str]], list[str]]] = {
    "work in the folder of a study": ({}, ["plan", "--from-nowhere"]),
    "exists already; nothing was written": ({}, ["init", "."]),
    "found -0.1": ({"recipes/dpo.yaml": ("beta: 0.1", "beta: -0.1")}, ["plan"]),
    "is unknown; allowed": ({"recipes/dpo.yaml": ("beta:", "betta:")}, ["plan"]),
    "not valid YAML": ({"study.yaml": ("models: [", "models: [[")}, ["plan"]),
    "keep one of the two": ({"prompts/sources.yaml": ("sources:", "sources:\n  - file: study.jsonl")}, ["plan"]),
    "is not inside this folder": ({"prompts/sources.yaml": ("file: study.jsonl", "file: ../study.yaml")}, ["plan"]),
    "is not set; put the key there": ({}, ["judge", "a", "b", "c", "--judge", "gpt-4o-mini"]),
    "`rlaif sql` without a query lists the tables": ({}, ["sql", "select nothing from nowhere"]),
    "is not trained yet": ({}, ["export", "out"]),
    "no report yet for": ({}, ["report"]),
    "results were made only once": ({}, ["compare", "dpo@previous", "dpo"]),
}


@pytest.mark.parametrize("told", TROUBLES)
def test_a_trouble_is_met_as_the_page_says(told: str, study: Path, tmp_path: Path) -> None:
    edits, arguments = TROUBLES[told]
    kept = {}
    for name, (old, new) in edits.items():
        file = study / "data" / name
        kept[file] = file.read_text(encoding="utf-8")
        assert old in kept[file]
        file.write_text(kept[file].replace(old, new, 1), encoding="utf-8")
    outside = "--from-nowhere" in arguments
    arguments = [argument for argument in arguments if argument != "--from-nowhere"]
    try:
        # the package alone on the path, so that outside a study there is no checkout to fall back on
        code = "import rlaif_dagster.home as h, pathlib; h.CHECKOUT = pathlib.Path('/nowhere')\n" if outside else ""
        done = subprocess.run(
            [sys.executable, "-c", f"{code}from rlaif_dagster.cli.main import main; main()", *arguments],
            cwd=tmp_path if outside else study, env=environment(tmp_path) | {"PYTHONPATH": str(CHECKOUT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        for file, text in kept.items():
            file.write_text(text, encoding="utf-8")
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    line = " ".join(done.stderr.removeprefix("rlaif: ").split())
    assert any(re.search(pattern(message), line) for message in MESSAGES), line


def test_a_taken_port_is_met_as_the_page_says(study: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "rlaif_dagster.cli.main", "ui", "--port", str(taken.getsockname()[1])], cwd=study,
            env=environment(tmp_path) | {"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert any(re.search(pattern(message), done.stderr) for message in MESSAGES if "cannot listen" in message)
