"""Which parts run for which argument, and how a wrong one is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.__main__ import PARTS, choose, made, main
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT


def test_the_parts_are_those_that_have_a_module() -> None:
    assert {"lineage", "evaluation"} <= set(made()) <= set(PARTS)
    assert all((CHECKOUT / "bench" / f"{part}.py").exists() for part in made())


def test_without_an_argument_every_part_runs() -> None:
    assert choose(None, ["lineage", "evaluation"]) == ["lineage", "evaluation"]
    assert choose("evaluation", ["lineage", "evaluation"]) == ["evaluation"]


def test_a_part_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"^part 'ppo' is not made yet; parts are: lineage, evaluation$"):
        choose("ppo", ["lineage", "evaluation"])
    with pytest.raises(UserError, match=r"^part 'machine' is unknown; parts are: lineage$"):
        choose("machine", ["lineage"])


def test_a_wrong_part_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"bench: part 'nonsense' is unknown; parts are: {', '.join(made())}\n"


def test_the_package_runs_as_a_program() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bench", "nonsense"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)
