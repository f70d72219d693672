"""YAML files that attack: what they ask for is not done, what they cost is bounded, and one line says what is wrong.

Every file goes through the command line's own check in a process with four gigabytes of memory and a minute of time: a
loader that runs out of memory, of stack or of patience fails the test.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rlaif_dagster.errors import LONGEST
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.spec.base import read_yaml
from rlaif_dagster.spec.project import Project
from rlaif_dagster.starter import make_study

LETTERS = "abcdefghij"
BOMB = "b0: &a0 [xxxxxxxxxx, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
ATTACKS = {
    "python object": ("principles: !!python/object/apply:os.system ['touch {mark}']\n", "could not determine a constructor"),
    "python name": ("principles: !!python/name:os.system\n", "could not determine a constructor"),
    "billion laughs": (BOMB + "principles: *a9\n", "characters once its aliases are written out"),
    "laughs that would be printed": ("principles: &a [&b [*b]]\n", "*b stands inside what it names"),
    "brackets": ("principles: " + "[" * 100_000 + "]" * 100_000 + "\n", "more than 40 lists and mappings inside one another"),
    "aliases inside aliases": (
        "x0: &a0 [x]\n" + "".join(f"x{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100)) + "principles: *a99\n",
        "more than 40 lists and mappings inside one another",
    ),
    "a huge file": ("principles:\n" + "- {id: p, text: xxxxxxxxxxxxx}\n" * 100_000, "bytes, at most 1048576 are read"),
    "a long value": ("principles: " + "x" * 1_000_000 + "\n", "(1000002 characters)"),
    "many mistakes": ("principles:\n" + "- {id: X, text: x}\n" * 20_000, "more"),
    "a number without end": ("principles: [{id: a, weight: " + "9" * 6_000 + "}]\n", "not valid YAML"),
    "a date that is none": ("principles: [{id: a, text: 2001-99-99}]\n", "not valid YAML: month must be in 1..12"),
    "half a character": ('principles: [{id: a, text: "a rule \\ud800 of ours"}]\n', "not valid YAML"),
    "a key twice": ("principles: [{id: a, text: A rule of ours., id: b}]\n", "line 1: key 'id' stands there twice"),
    "escape sequences": ('"\\e]0;owned\\a\\e[2J": 1\nprinciples: [{id: a, text: A rule of ours.}]\n', "\\x1b]0;owned\\x07\\x1b[2J"),
}  # fmt: skip


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study") / "mine", ["structured"])


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_in_one_line_soon(name: str, study: Path) -> None:
    text, expected = ATTACKS[name]
    mark = study / "owned"
    (study / "data/constitutions/structured.yaml").write_text(text.replace("{mark}", str(mark)), encoding="utf-8")
    check = "from rlaif_dagster.spec.project import Project; Project.current().check()"
    code = f"from rlaif_dagster.errors import UserError\ntry:\n {check}\nexcept UserError as e:\n print(e)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=study, preexec_fn=limit_memory, timeout=60, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert expected in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert len(done.stdout) <= LONGEST + 2
    assert "structured.yaml" in done.stdout
    assert done.stdout.rstrip("\n").isprintable()
    assert not mark.exists()


def test_anchors_that_are_meant_well_work(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("one: &lora {r: 8, alpha: 16}\ntwo: *lora\nthree: {<<: *lora, r: 4}\n")
    assert read_yaml(path)["three"] == {"r": 4, "alpha": 16}


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_read(kind: str, study: Path) -> None:
    path = study / "data/constitutions/structured.yaml"
    path.unlink()
    try:
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)  # reading it would wait for ever
        else:
            path.symlink_to("/dev/zero")  # reading it would never end
        with pytest.raises(Exception, match=r"structured\.yaml: not an ordinary file"):
            Project(study / "data").constitution("structured")
    finally:
        path.rmdir() if kind == "folder" else path.unlink()
        path.write_text("")


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "a|b", "a b", "\x1b[2J", "a=b", "a%2Fb", "x" * 101])
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str, study: Path) -> None:
    path = study / "data/constitutions" / f"{name}.yaml"
    path.write_text("principles: [{id: a, text: A rule of ours.}]\n")
    try:
        with pytest.raises(Exception, match=r"allowed in a name: letters, digits") as told:
            Project(study / "data").names("constitutions")
        assert str(told.value).isprintable()
    finally:
        path.unlink()
