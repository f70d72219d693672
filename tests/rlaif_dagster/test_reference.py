"""docs/reference.md is what the schemas say today."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch

import pytest

from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.reference import FILES, PATH, VARIABLES, commands, reference
from rlaif_dagster.warehouse.schemas import TABLES


def test_the_file_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_fields_say_what_is_allowed_what_is_assumed_and_what_changes_nothing() -> None:
    lines = reference().splitlines()
    for expected in (
        "| `dtype` | `float32`, `bfloat16`, `float16` | `float32` | of the frozen base weights |",
        "| `weight` | number, > 0 | `1.0` | its share in the aggregated preference |",
        "| `seeds` | list of integer | `0` | one training each, and a policy each; numbers of an arm are over all of them |",
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
        if line.startswith(("| field", "| column", "| option", "| variable")):
            width = cells
        assert not line.startswith("| ") or cells == width, line


def section(title: str) -> str:
    found = re.search(rf"^### {re.escape(title)}$(.*?)(?=^##|\Z)", reference(), re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def test_every_file_in_data_has_a_section() -> None:
    """A file that nobody described fails here: each is a pattern's, or is named by one that is."""
    patterns = [name.removeprefix("a line of ").replace("NAME", "*") for name in FILES]
    patterns.append("data/labels/*_pairs.jsonl")  # what a labels file names; "a row of a file that …" tells its columns
    listed = subprocess.run(["git", "ls-files", "data"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    files = listed.stdout.split()
    assert len(files) > 25
    for file in files:
        assert any(fnmatch(file, pattern) for pattern in patterns), f"{file} is in no section of docs/reference.md"
    for name in FILES:
        section(name)


def test_every_field_of_every_spec_stands_there() -> None:
    told: set[type] = set()

    def check(spec: type) -> None:
        if spec in told:
            return
        told.add(spec)
        for name, field in spec.model_fields.items():  # type: ignore[attr-defined]
            assert f"| `{name}`" in reference(), (spec, name)
            for inner in re.findall(r"rlaif_dagster\.[\w.]+", repr(field.annotation)):
                module, _, kind = inner.rpartition(".")
                found = getattr(__import__(module, fromlist=[kind]), kind, None)
                if isinstance(found, type) and hasattr(found, "model_fields"):
                    check(found)

    for specs in FILES.values():
        for spec in specs:
            check(spec)
    assert len(told) > 30


def test_every_field_of_every_spec_has_a_meaning() -> None:
    files = reference().partition("## Files in data/")[2].partition("## Tables")[0]
    where, told = "", 0
    for line in files.splitlines():
        if line.startswith(("### ", "**")):
            where = line
        elif line.startswith("| `"):
            _, name, _, _, meaning, _ = line.split("|")
            assert meaning.strip(), f"{where}: {name.strip()} has no description"
            told += 1
    assert told > 200


@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_a_table_stands_there_with_its_meaning(table: str) -> None:
    text = section(table)
    for column in TABLES[table].all_columns:
        row = re.search(rf"^\| `{column.name}`°? \| (.*?) \| (.+) \|$", text, re.MULTILINE)
        assert row, f"{table}.{column.name}"
        assert row[2].strip(), f"{table}.{column.name} has no comment"


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_option_of_a_command_stands_there_with_its_meaning(name: str) -> None:
    command = dict(commands())[name]
    text = section(name)
    assert " ".join(command.help.split()) in text
    for parameter in command.params:
        said = (
            parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name.upper()
        )
        row = re.search(rf"^\| `{re.escape(said)}`(.*) \| (.+) \|$", text, re.MULTILINE)
        assert row, f"{name} {said}"
        assert row[2].strip(), f"{name} {said} has no help"


def test_every_variable_that_is_read_stands_there() -> None:
    read = set()
    for folder in ("rlaif_dagster", "resources", "assets", "bench"):
        for file in (CHECKOUT / folder).rglob("*.py"):
            read |= set(re.findall(r"[\"'](RLAIF_[A-Z_]+|HF_TOKEN)[\"']", file.read_text(encoding="utf-8")))
    assert read == {name for name in VARIABLES if name.startswith("RLAIF_") or name == "HF_TOKEN"}
