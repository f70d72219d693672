"""Item files are checked line by line, and the shipped ones are sound."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation.items import SUITES, items_version, read_items, shuffled
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.spec.recipes import Benchmarks

SHIPPED = CHECKOUT / "data" / "benchmarks"
GOOD = {"subject": "anatomy", "question": "How many?", "choices": ["1", "2", "3", "4"], "answer": 2}


def write(folder: Path, *rows: object) -> Path:
    (folder / "mmlu_mini.jsonl").write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return folder


@pytest.mark.parametrize("suite", list(SUITES))
def test_shipped_items(suite: str) -> None:
    assert len(read_items(suite, SHIPPED)) >= 60


def test_no_position_tells_the_right_answer() -> None:
    """The right answer's place after shuffling (where the file does not fix it) is no constant."""
    first = Counter(
        shuffled(item["question"], [item["best"], *item["incorrect"]]).index(item["best"])
        for item in read_items("truthfulqa_mini", SHIPPED)
    )
    assert max(first.values()) < 0.6 * sum(first.values())
    assert shuffled("q", ["a", "b", "c"]) == shuffled("q", ["c", "a", "b"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{not json", r"mmlu_mini.jsonl, line 2: not valid JSON"),
        (GOOD | {"question": "Else?", "answer": 4}, r"line 2: field 'answer': .*less than or equal to 3, found 4"),
        (GOOD | {"hint": "x"}, r"line 2: field 'hint' is unknown; allowed: subject, question, choices, answer"),
        (GOOD | {"choices": ["1", "1", "2", "3"]}, r"line 2: .*answers must differ"),
        (GOOD, r"line 2: the same item as in line 1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_items("mmlu_mini", write(tmp_path, GOOD, row))


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_items("mmlu_mini", tmp_path)
    with pytest.raises(UserError, match="holds no items"):
        read_items("mmlu_mini", write(tmp_path, ""))


def test_version_is_of_the_items_read(tmp_path: Path) -> None:
    recipe = Benchmarks.model_validate({"tasks": [{"task": "mmlu_mini"}, {"task": "hellaswag"}]})
    before = items_version(recipe, write(tmp_path, GOOD))
    reordered = "\n" + json.dumps(dict(reversed(GOOD.items())), indent=None) + "\n"
    assert items_version(recipe, write(tmp_path, reordered)) == before
    assert items_version(recipe, write(tmp_path, GOOD | {"answer": 1})) != before
