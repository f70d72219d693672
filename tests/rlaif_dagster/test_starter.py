"""`rlaif init` writes a study that works where it stands, from a checkout and from an installed wheel, and overwrites nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT, current_home, data_folder, study_folder
from rlaif_dagster.spec.project import Project
from rlaif_dagster.starter import make_study


def without_variables() -> dict[str, str]:
    left = {name: value for name, value in os.environ.items() if not name.startswith(("RLAIF_", "DAGSTER_"))}
    return left | {"PYTHONPATH": str(CHECKOUT), "COLUMNS": "200"}


def rlaif(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in `folder`, which no variable of the environment names."""
    command = [sys.executable, "-m", "rlaif_dagster.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=without_variables(), capture_output=True, text=True, check=False)


def test_a_new_study_reads_without_errors_and_holds_what_its_constitution_needs(tmp_path: Path) -> None:
    made = make_study(tmp_path / "mine", ["honesty"])
    project = Project(made / "data")
    project.check()
    assert project.names("constitutions") == ["honesty"]
    assert list(project.study().constitutions) == ["honesty"]
    assert project.names("labels") == ["honesty"]  # those about other constitutions would measure nothing here
    for kind in ("models", "judges", "recipes"):
        assert project.names(kind) == Project(CHECKOUT / "data").names(kind)
    readme = (made / "README.md").read_text()
    assert len(readme.splitlines()) <= 12
    assert "://" not in readme  # the package is on no index that a link could lead to
    assert ".rlaif/" in (made / ".gitignore").read_text().splitlines()


def test_the_shipped_files_are_copied_with_their_comments(tmp_path: Path) -> None:
    made = make_study(tmp_path / "mine", ["structured"])
    for name in (
        "constitutions/structured.yaml",
        "recipes/ppo.yaml",
        "judges/gpt-4o-mini.yaml",
        "prompts/sources.yaml",
    ):
        assert (made / "data" / name).read_bytes() == (CHECKOUT / "data" / name).read_bytes()


def test_plan_and_sql_work_in_it_and_below_it_without_the_environment(tmp_path: Path) -> None:
    done = rlaif(tmp_path, "init", "studies/mine", "--constitution", "structured", "--constitution", "honesty")
    assert done.returncode == 0, done.stderr
    study = tmp_path / "studies" / "mine"
    assert str(study) in done.stdout
    planned = rlaif(study / "data", "plan", "--constitution", "honesty", "--json")
    assert planned.returncode == 0, planned.stderr
    steps = {step["asset"] for step in json.loads(planned.stdout)}
    assert {"revisions", "dpo_model", "report"} <= steps
    assert not (study / ".rlaif").exists()  # a plan writes nothing
    assert not (study / "data" / ".rlaif").exists()
    listed = rlaif(study, "doctor")
    assert str(study / "data") in listed.stdout
    assert str(study / ".rlaif") in listed.stdout


def test_the_folder_decides_and_the_environment_overrules_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAIF_HOME", raising=False)
    monkeypatch.delenv("RLAIF_DATA", raising=False)
    made = make_study(tmp_path / "mine", ["structured"])
    monkeypatch.chdir(made / "data" / "recipes")
    assert (study_folder(), data_folder(), current_home().root) == (made, made / "data", made / ".rlaif")
    monkeypatch.setenv("RLAIF_DATA", str(tmp_path / "elsewhere"))
    assert data_folder() == tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLAIF_DATA")
    assert study_folder() == CHECKOUT


def test_nothing_is_overwritten_and_nothing_is_left_behind(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    (target / ".git").mkdir(parents=True)
    make_study(target, ["structured"])  # beside what is there already
    (target / "data" / "study.yaml").write_text("mine\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match=r"\.gitignore exists already; nothing was written: name another folder"):
        make_study(target, ["structured"])
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"file: cannot be written \(Not a directory\)|file: cannot be written \(File exists\)"
    ):
        make_study(tmp_path / "file", ["structured"])
    with pytest.raises(
        UserError, match="'nonsense' does not come with the package; allowed: harmlessness, honesty, structured"
    ):
        make_study(tmp_path / "other", ["nonsense"])
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "file"}
    assert after == before


def test_the_command_says_it_in_one_line_with_status_2(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = rlaif(tmp_path, "init", ".")
    assert done.returncode == 2
    assert done.stderr == f"rlaif: {tmp_path / 'data'} exists already; nothing was written: name another folder\n"


def test_dagster_loads_the_study_by_its_own_workspace(tmp_path: Path) -> None:
    made = make_study(tmp_path / "mine", ["harmlessness"])
    assert yaml.safe_load((made / "workspace.yaml").read_text())["load_from"]
    code = (
        "from rlaif_dagster.definitions import defs; from assets.partitions import CONSTITUTIONS;"
        "print(CONSTITUTIONS.get_partition_keys())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=made, env=without_variables(), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "['harmlessness']"
    valid = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"], cwd=made,
        env=without_variables() | {"DAGSTER_DISABLE_TELEMETRY": "yes"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert valid.returncode == 0, valid.stderr


def test_an_installed_wheel_makes_a_study_too(tmp_path: Path) -> None:
    """The wheel alone, installed without the checkout anywhere on the path; other packages are the tests' own."""
    tree = tmp_path / "tree"
    copy = [
        "cp",
        "-r",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "rlaif_dagster",
        "assets",
        "resources",
        "data",
        str(tree),
    ]
    tree.mkdir()
    subprocess.run(copy, cwd=CHECKOUT, check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree)]
    if int(importlib.metadata.version("setuptools").partition(".")[0]) < 77:  # as pyproject.toml asks; pip fetches it
        wheel.remove("--no-build-isolation")
    done = subprocess.run(wheel, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    # pip runs from the tests' environment and would take the checkout there for what is asked for
    install = [*pip, "--python", str(python), "install", "--ignore-installed", "--no-deps", "--no-index"]
    installed = subprocess.run(
        [*install, str(next(tmp_path.glob("*.whl")))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    # paths of a .pth, in which the other environment's own .pth files (the editable checkout) are not read
    (site / "others.pth").write_text("\n".join({path for path in sys.path if path.endswith("site-packages")} | {
        sysconfig.get_paths()["purelib"]}) + "\n")  # fmt: skip
    environment = {key: value for key, value in without_variables().items() if key != "PYTHONPATH"}

    def installed_rlaif(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / "venv" / "bin" / "rlaif"), *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    outside = installed_rlaif(tmp_path, "plan")
    assert outside.returncode == 2
    assert (
        "data/study.yaml: no such file; work in the folder of a study, or make one with `rlaif init DIR`"
        in outside.stderr
    )
    made = installed_rlaif(tmp_path, "init", "mine")
    assert made.returncode == 0, made.stderr
    for file in (CHECKOUT / "data").rglob("*.yaml"):
        name = file.relative_to(CHECKOUT / "data")
        shipped = next((tmp_path / "venv" / "share" / "rlaif-dagster" / "data").rglob(str(name)), None)
        assert shipped is not None, f"{name} is not in the wheel: see data-files in pyproject.toml"
    planned = installed_rlaif(tmp_path / "mine", "plan", "--json")
    assert planned.returncode == 0, planned.stderr
    assert "ppo_model" in planned.stdout
