from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.judging.labels import LabelledPair, labels_version, read_human_grades, read_labelled
from rlaif_dagster.spec.labels import LabelledPairs
from rlaif_dagster.spec.project import Project

ROW = {"prompt": "Why?", "answer_a": "Because.", "answer_b": "No idea.", "preferred": "a", "category": "plain"}
OTHER = ROW | {"prompt": "How?", "preferred": "b"}
READ = [
    LabelledPair("Why?", "Because.", "No idea.", "a", "plain"),
    LabelledPair("How?", "Because.", "No idea.", "b", "plain"),
]


def spec(file: str = "pairs.jsonl", **fields: Any) -> LabelledPairs:
    return LabelledPairs.model_validate({"file": file, "constitutions": ["kind"]} | fields)


def write_jsonl(folder: Path, *rows: object, file: str = "pairs.jsonl") -> None:
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


WRITERS: dict[str, Callable[[Path], object]] = {
    "pairs.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, (ROW, OTHER))) + "\n\n"),
    "pairs.json": lambda path: path.write_text(json.dumps([ROW, OTHER])),
    "pairs.csv": lambda path: pd.DataFrame([ROW, OTHER]).to_csv(path, index=False),
    "pairs.parquet": lambda path: pd.DataFrame([ROW, OTHER]).to_parquet(path),
}


@pytest.mark.parametrize("file", WRITERS)
def test_the_same_rows_from_every_kind_of_file(tmp_path: Path, file: str) -> None:
    WRITERS[file](tmp_path / file)
    assert read_labelled(spec(file), tmp_path) == READ


def test_columns_and_values_are_what_the_spec_says(tmp_path: Path) -> None:
    row = {"q": "Why?", "r0": "Because.", "r1": "No idea."}
    rows = [row | {"safer": 0}, row | {"safer": 1}]
    write_jsonl(tmp_path, *rows)
    own = spec(
        prompt="q", answer_a="r0", answer_b="r1", preferred="safer", preferred_a="0", preferred_b="1", category=None
    )
    assert [pair.preferred for pair in read_labelled(own, tmp_path)] == ["a", "b"]
    assert read_labelled(own.model_copy(update={"limit": 1}), tmp_path)[0].category is None


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([ROW, ROW | {"preferred": "c"}], "row 2: field 'preferred': found 'c', allowed: a, b"),
        ([ROW, {"prompt": "Why?"}], "row 2: field 'answer_a' is missing; found: prompt"),
        ([ROW | {"prompt": ""}], "row 1: field 'prompt': found '', allowed: a text"),
        ([ROW | {"answer_b": 7}], "row 1: field 'answer_b': found 7, allowed: a text"),
        ([ROW | {"answer_b": "Because."}], "row 1: fields 'answer_a' and 'answer_b' hold the same answer"),
        ([ROW, ["x"]], "line 2: found list, allowed: an object"),
        ([], "no rows; expected columns prompt, answer_a, answer_b, preferred"),
    ],
)
def test_a_wrong_row_is_one_line_with_file_row_field_and_what_is_allowed(
    tmp_path: Path, rows: list[Any], line: str
) -> None:
    write_jsonl(tmp_path, *rows)
    with pytest.raises(UserError) as caught:
        read_labelled(spec(), tmp_path)
    assert line in str(caught.value)
    assert str(tmp_path / "pairs.jsonl") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"prompt": \n')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.parquet").write_text("not parquet")
    (tmp_path / "notes.txt").write_text("x")
    for file, line in {
        "broken.jsonl": "line 1: not valid JSON",
        "broken.json": "not valid JSON",
        "broken.parquet": "not a Parquet file",
        "notes.txt": "found a file of kind '.txt', allowed: .jsonl, .json, .csv, .parquet",
        "none.jsonl": "no such file",
    }.items():
        with pytest.raises(UserError, match=line):
            read_labelled(spec(file), tmp_path)


def test_the_version_is_of_the_rows_and_of_how_they_are_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path, ROW, OTHER)
    version = labels_version({"x": spec()}, tmp_path)
    assert labels_version({"x": spec(description="new words")}, tmp_path) == version
    assert labels_version({"x": spec(limit=1)}, tmp_path) != version
    write_jsonl(tmp_path, OTHER, ROW)
    assert labels_version({"x": spec()}, tmp_path) == version
    write_jsonl(tmp_path, OTHER, ROW | {"preferred": "b"})
    assert labels_version({"x": spec()}, tmp_path) != version


def test_grades_are_read_and_their_absence_is_none(tmp_path: Path) -> None:
    assert read_human_grades(tmp_path) == []
    grade = {"model": "m", "constitution": "c", "arm": "dpo", "prompt_id": "p", "alignment_grade": 0.75}
    write_jsonl(tmp_path, grade, file="human_grades.jsonl")
    (read,) = read_human_grades(tmp_path)
    assert (read.arm, read.alignment_grade, read.correctness_grade, read.grader) == ("dpo", 0.75, None, "human")
    write_jsonl(tmp_path, grade, grade | {"arm": "rlhf", "alignment_grade": 5}, file="human_grades.jsonl")
    with pytest.raises(UserError, match=r"row 2: field 'arm'.*found 'rlhf'; field 'alignment_grade'.*found 5"):
        read_human_grades(tmp_path)


def test_the_shipped_labels_favour_neither_place_nor_length() -> None:
    for name, labelled in Project(CHECKOUT / "data").labelled_pairs().items():
        pairs = read_labelled(labelled, CHECKOUT / "data/labels")
        first = sum(pair.preferred == "a" for pair in pairs) / len(pairs)
        longer = sum((len(pair.a) > len(pair.b)) == (pair.preferred == "a") for pair in pairs) / len(pairs)
        assert 0.4 <= first <= 0.6, name
        assert 0.4 <= longer <= 0.6, name
