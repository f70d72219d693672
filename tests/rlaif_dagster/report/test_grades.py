from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.labels import GRADES, read_human_grades
from rlaif_dagster.report.grades import add_grades

GRADE = {
    "model": "m",
    "constitution": "c",
    "arm": "dpo",
    "prompt_id": "p",
    "alignment_grade": 0.75,
    "grader": "human:anna",
}


def download(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "download.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_bringing_a_file_in_twice_changes_nothing(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    file = download(tmp_path, GRADE, GRADE | {"arm": "ppo"})
    assert add_grades(file, labels) == (2, 0)
    before = (labels / GRADES).read_text()
    assert add_grades(file, labels) == (0, 0)
    assert (labels / GRADES).read_text() == before


def test_a_second_thought_replaces_the_first_and_others_grades_stay(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / GRADES).write_text(json.dumps(GRADE | {"grader": "human:bo"}) + "\n" + json.dumps(GRADE) + "\n")
    assert add_grades(download(tmp_path, GRADE | {"alignment_grade": 0.25}), labels) == (0, 1)
    assert {(one.grader, one.alignment_grade) for one in read_human_grades(labels)} == {
        ("human:bo", 0.75),
        ("human:anna", 0.25),
    }


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (json.dumps(GRADE | {"alignment_grade": 5}), r"line 1: field 'alignment_grade'.*found 5"),
        (json.dumps(GRADE) + "\n{", r"line 2: not valid JSON"),
        ("\n", r"no grades in it"),
    ],
)
def test_a_wrong_file_is_one_line_and_changes_nothing(tmp_path: Path, content: str, line: str) -> None:
    file = tmp_path / "download.jsonl"
    file.write_text(content)
    with pytest.raises(UserError, match=line) as caught:
        add_grades(file, tmp_path / "labels")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "labels").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read"):
        add_grades(tmp_path / "none.jsonl", tmp_path)
