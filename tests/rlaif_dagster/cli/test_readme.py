"""The README is tested: no command is undocumented, and every command line in it parses, with real options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from rlaif_dagster.cli.main import app
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.warehouse.sql import query

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
ROOT: Any = typer.main.get_command(app)


def commands(group: Any = ROOT, name: str = "rlaif") -> Iterator[str]:
    for child, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {child}")
        else:
            yield f"{name} {child}"


def command_lines() -> Iterator[str]:
    """Every `rlaif …` line of the README's shell blocks, without comments and without what a shell does beside it."""
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if "|" in words:
                words = words[words.index("|") + 1 :]
            if "<" in words:
                words = words[: words.index("<")]
            if words and words[0] in ("rlaif", ".venv/bin/rlaif"):
                yield shlex.join(["rlaif", *words[1:]])


def parse(line: str) -> tuple[Any, dict[str, Any]]:
    """The command that a line names and the values of its options; raises what the command line would complain about."""
    words = shlex.split(line)[1:]
    command, path = ROOT, "rlaif"
    while hasattr(command, "commands"):
        context = command.make_context(path, [], resilient_parsing=True)
        name, command, words = command.resolve_command(context, words)
        if command is None:
            raise ValueError(f"no such command: {line}")
        path = f"{path} {name}"
    return command, command.make_context(path, list(words)).params


@pytest.mark.parametrize("command", commands())
def test_every_command_has_a_section_with_an_example(command: str) -> None:
    section = re.search(rf"^### {command}$(.*?)(?=^##)", README, re.DOTALL | re.MULTILINE)
    assert section, f"README.md lacks a section '### {command}'"
    assert re.search(rf"^{command}\b", section[1], re.MULTILINE), "the section lacks an example"


@pytest.mark.parametrize("command", commands())
def test_every_option_of_a_command_is_used_somewhere_in_the_readme(command: str) -> None:
    for option in (parameter for parameter in resolve(command).params if parameter.param_type_name == "option"):
        names = [name for name in option.opts if name.startswith("--")]
        assert any(name in README for name in names), f"{command} {names} is not in README.md"


def resolve(path: str) -> Any:
    command = ROOT
    for name in path.split()[1:]:
        command = command.commands[name]
    return command


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_parses(line: str) -> None:
    parse(line)


def test_a_wrong_line_would_be_found() -> None:
    for line in ("rlaif nonsense", "rlaif plan --nonsense", "rlaif export", "rlaif sql x --format xml"):
        with pytest.raises(Exception, match=r"(?i)no such|missing|invalid|not one of"):
            parse(line)


@pytest.mark.parametrize("line", [line for line in command_lines() if line.startswith("rlaif sql ")])
def test_every_query_runs(line: str, home: Home) -> None:
    _, values = parse(line)
    if values["query"] not in (None, "-"):
        assert isinstance(query(home, values["query"]), str)


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test", "check", "bench"} <= named <= targets


def test_every_link_and_picture_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", README):
        assert (CHECKOUT / Path(target)).exists(), target
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for anchor in re.findall(r"\]\(#([^)]+)\)", README):
        assert anchor in anchors


def test_every_yaml_example_is_right() -> None:
    import yaml

    from rlaif_dagster.spec.base import parse as check
    from rlaif_dagster.spec.constitution import Constitution
    from rlaif_dagster.spec.judge import ApiJudge
    from rlaif_dagster.spec.model import ModelSpec
    from rlaif_dagster.spec.prompts import PromptSources
    from rlaif_dagster.spec.recipes import Benchmarks, Generation, Ppo, Trust

    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    kinds = {
        "principles": Constitution, "sources": PromptSources, "hub": ModelSpec, "kind": ApiJudge, "trust": Trust,
        "tasks": Benchmarks, "reward": Ppo, "backend": Generation, "quantization": ModelSpec,
    }  # fmt: skip
    checked = {
        kinds[next(iter(block))]: check(kinds[next(iter(block))], block.get("trust", block), Path("README.md"))
        for block in blocks
    }
    assert set(checked) == set(kinds.values())
