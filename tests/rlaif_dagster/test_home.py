"""Where results and files live, with and without the environment's word."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlaif_dagster.home import CHECKOUT, Home, current_home, data_folder, report_path


def test_without_the_environment_everything_lies_in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAIF_HOME", raising=False)
    monkeypatch.delenv("RLAIF_DATA", raising=False)
    assert (CHECKOUT / "pyproject.toml").exists()
    assert current_home().root == CHECKOUT / ".rlaif"
    assert data_folder() == CHECKOUT / "data"


def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_HOME", "")
    assert current_home().root == CHECKOUT / ".rlaif"


def test_the_environment_decides_and_relative_paths_and_tildes_are_resolved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("RLAIF_HOME", "results")
    monkeypatch.setenv("RLAIF_DATA", "~/study")
    assert current_home().root == tmp_path / "results"
    assert data_folder() == tmp_path / "me" / "study"


def test_naming_folders_creates_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    folders = [home.warehouse, home.models, home.cache, home.work, home.dagster, report_path(home, "m", "c")]
    assert [str(folder.relative_to(home.root)) for folder in folders] == [
        "warehouse",
        "models",
        "cache",
        "work",
        "dagster",
        "warehouse/report/model=m/constitution=c/report.html",
    ]
    assert not home.root.exists()
