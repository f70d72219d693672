"""docs/tutorial.md as a program: its shell blocks run in one shell, in order, and what it says one sees is looked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlaif_dagster.home import CHECKOUT

MARK = "@@ block {number} @@"


@dataclass(frozen=True)
class Step:
    """Commands, and the lines that are said to be among their output."""

    commands: str
    seen: tuple[str, ...]


def steps(document: str) -> list[Step]:
    """The document's ```bash blocks, each with the ```text blocks up to the next."""
    found: list[Step] = []
    for language, content in re.findall(r"^```(bash|text)\n(.*?)^```$", document, re.DOTALL | re.MULTILINE):
        if language == "bash":
            found.append(Step(content, ()))
        else:
            found[-1] = Step(found[-1].commands, (*found[-1].seen, *filter(str.strip, content.splitlines())))
    return found


def missing(step: Step, output: str) -> list[str]:
    """Lines of the step that are not in the output. White space is free, numbers are any numbers, `…` is anything."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    return [line for line in step.seen if not any(re.fullmatch(_pattern(line), found) for found in lines)]


def _pattern(line: str) -> str:
    words = " ".join(line.split())
    parts = []
    for part in words.split("…"):
        parts.append(re.sub(r"\d+(\\\.\d+)?", r"[\\d.]+", re.escape(part.strip())))
    return r"\s*.*\s*".join(parts)


def run(document: str, folder: Path, environment: Mapping[str, str], after_clone: str) -> Iterator[tuple[Step, str]]:
    """Each step with its output (stdout and stderr). AssertionError, with the end of the output, where a command fails."""
    script = ["set -e"]
    every = steps(document)
    for number, step in enumerate(every):
        commands = step.commands.replace("cd rlaif-dagster\n", f"cd rlaif-dagster\n{after_clone}\n")
        script += [f"echo; echo '{MARK.format(number=number)}'", commands]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=dict(environment), text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    outputs = re.split(r"^@@ block \d+ @@$", done.stdout, flags=re.MULTILINE)[1:]
    yield from zip(every, outputs, strict=True)


def fresh_repository(target: Path) -> Path:
    """A clone of this repository with what the working tree has beyond its last commit, committed: what a clone of it gives
    is what stands here.
    """
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "clone", "--quiet", "--no-hardlinks", str(CHECKOUT), str(target)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard", "-z"], cwd=CHECKOUT, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source, copy = CHECKOUT / name, target / name
        copy.unlink(missing_ok=True)
        if source.is_file() and not source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    commit(target)
    return target


def commit(repository: Path) -> None:
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "add", "--all"], cwd=repository, check=True)
    subprocess.run(
        [*git, "commit", "--quiet", "--allow-empty", "--message", "as it stands"], cwd=repository, check=True
    )


def virtual_environment() -> str:
    """Shell commands that put a .venv into the current clone: the packages of the tests' own environment (installing them
    anew would take minutes and a network), and this clone instead of the one that is installed there.
    """
    packages = dict.fromkeys(
        [path for path in sys.path if path.endswith("site-packages")] + [sysconfig.get_paths()["purelib"]]
    )
    # lines of a .pth are folders for the path; the .pth files inside them, an editable install's among them, are not read
    lines = "\\n".join(packages)
    return (
        f"{sys.executable} -m venv --without-pip .venv\n"
        f'printf "%s\\n{lines}\\n" "$PWD" > .venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/clone.pth\n'
        'printf "#!%s/.venv/bin/python\\nfrom rlaif_dagster.cli.main import main\\nmain()\\n" "$PWD" > .venv/bin/rlaif\n'
        "chmod +x .venv/bin/rlaif\n"
        "touch .venv/.ready"
    )


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A newcomer's: nothing of this project is set, and the home folder is empty."""
    left = ("PATH", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    kept = {name: os.environ[name] for name in left if name in os.environ}
    (folder / "home").mkdir(exist_ok=True)
    return kept | {"HOME": str(folder / "home"), "COLUMNS": "200", "HF_HUB_OFFLINE": "1"} | more
