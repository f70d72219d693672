"""The base models: what there is, and fetching it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from rlaif_dagster.errors import UserError

Command = Callable[..., Result]


def test_every_model_file_is_listed_with_its_source_and_whether_it_is_here(
    rlaif: Command, data: Path, tiny_model_folder: Path
) -> None:
    (data / "models/tiny.yaml").write_text(f"folder: {tiny_model_folder}\nlicense: MIT\n")
    rows = [line.split() for line in rlaif("models", "list").stdout.splitlines()]
    (large,) = [row for row in rows if row[0] == "large"]
    (tiny,) = [row for row in rows if row[0] == "tiny"]
    assert large == ["large", "hub", "owner/large-8B", "abc", "bfloat16", "no"]
    assert tiny[:2] == ["tiny", "folder"]
    assert tiny[-2:] == ["yes", "MIT"]


def test_pull_prints_the_folder_of_the_studys_model(rlaif: Command, data: Path, tiny_model_folder: Path) -> None:
    (data / "models/tiny.yaml").write_text(f"folder: {tiny_model_folder}\n")
    assert rlaif("models", "pull").stdout == f"tiny: {tiny_model_folder}\n"
    assert rlaif("models", "pull", "tiny").stdout == f"tiny: {tiny_model_folder}\n"


def test_what_cannot_be_had_is_told_with_its_name(rlaif: Command) -> None:
    with pytest.raises(UserError, match=r"model tiny: folder /nowhere/tiny has no config\.json"):
        rlaif("models", "pull", "tiny")
