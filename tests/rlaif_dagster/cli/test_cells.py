"""Which cells a command is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlaif_dagster.cli.cells import cell_name, select
from rlaif_dagster.errors import UserError
from rlaif_dagster.warehouse.store import Cell

pytestmark = pytest.mark.usefixtures("data")


@pytest.mark.parametrize(
    ("models", "constitutions", "cells"),
    [
        (None, None, ["tiny/structured"]),
        ([], [], ["tiny/structured"]),
        (["large"], None, ["large/structured"]),
        (["tiny", "large", "tiny"], ["harmless"], ["tiny/harmless", "large/harmless"]),
        (["all"], ["structured"], ["large/structured", "tiny/structured"]),
        (["tiny", "all"], ["all"], ["large/harmless", "large/structured", "tiny/harmless", "tiny/structured"]),
    ],
)
def test_names_repeat_all_and_the_studys_defaults(
    models: list[str] | None, constitutions: list[str] | None, cells: list[str]
) -> None:
    assert [cell_name(cell) for cell in select(models, constitutions).cells()] == cells


def test_a_wrong_study_file_does_not_matter_to_who_names_everything(data: Path) -> None:
    (data / "study.yaml").write_text("models: [gone]\nconstitutions: [structured]\n")
    assert select(["tiny"], ["harmless"]).one("chat") == ("tiny", "harmless")
    with pytest.raises(UserError, match="'models' names 'gone'"):
        select(["tiny"], None)


def test_a_command_for_one_cell_says_how_to_choose() -> None:
    with pytest.raises(
        UserError, match=r"`rlaif chat` works on one cell; choose with --constitution: harmless, structured"
    ):
        select(["tiny"], ["all"]).one("chat")


def test_cells_without_a_dimension_have_names_too() -> None:
    assert [cell_name(cell) for cell in (Cell("m", "c"), Cell("m"), Cell(None, "c"), Cell())] == ["m/c", "m", "c", "-"]
