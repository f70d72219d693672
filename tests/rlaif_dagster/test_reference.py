"""docs/reference.md is what the schemas say today."""

from __future__ import annotations

from rlaif_dagster.reference import PATH, reference
from rlaif_dagster.warehouse.schemas import TABLES


def test_the_file_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_fields_say_what_is_allowed_what_is_assumed_and_what_changes_nothing() -> None:
    lines = reference().splitlines()
    for expected in (
        "| `dtype` | `float32`, `bfloat16`, `float16` | `float32` | of the frozen base weights |",
        "| `weight` | number, > 0 | `1.0` | its share in the aggregated preference |",
        "| `seeds` | list of integer | `0` |  |",
        "| `description`° | text | – | for people; changes no result |",
        "| `models` | list of text | required | names in data/models |",
        "| `seconds`° | DOUBLE | training time |",
    ):
        assert expected in lines


def test_every_table_has_a_section_and_every_row_as_many_cells_as_its_header() -> None:
    lines = reference().splitlines()
    assert all(f"### {name}" in lines for name in TABLES)
    width = 0
    for line in lines:
        cells = line.count("|")
        if line.startswith(("| field", "| column")):
            width = cells
        assert not line.startswith("| ") or cells == width, line
