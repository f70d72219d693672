"""What people said: labelled pairs (to measure a judge by) and grades, read from data/labels and checked.

A mistake in a file is one line: file, row, field, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import ValidationError

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.rows import check_file, inside, parquet_rows, parse_json
from rlaif_dagster.spec.base import explain
from rlaif_dagster.spec.labels import HumanGrade, LabelledPairs

GRADES = "human_grades.jsonl"


@dataclass(frozen=True)
class LabelledPair:
    """A prompt, two answers, and which of them people prefer."""

    prompt: str
    a: str
    b: str
    preferred: Literal["a", "b"]
    category: str | None = None


def read_labelled(spec: LabelledPairs, folder: Path) -> list[LabelledPair]:
    """The pairs of one file, in its order, the first `limit` of them; UserError for a file or row that is wrong."""
    path = inside(folder, spec.file)
    rows = _rows(path)[: spec.limit]
    if not rows:
        raise UserError(
            f"{path}: no rows; expected columns {spec.prompt}, {spec.answer_a}, {spec.answer_b}, {spec.preferred}"
        )
    return [_pair(spec, row, f"{path}: row {number}") for number, row in enumerate(rows, 1)]


def labels_version(labelled: Mapping[str, LabelledPairs], folder: Path) -> str:
    """Content hash of every file's meaning and rows; the order of rows and the format of the file do not matter."""
    return content_hash({name: [spec.meaning(), _content(spec, folder)] for name, spec in labelled.items()})


def read_human_grades(folder: Path) -> list[HumanGrade]:
    """The grades in data/labels/human_grades.jsonl, none where there is no such file; UserError for a row that is wrong."""
    path = folder / GRADES
    if not path.exists():
        return []
    grades = []
    for number, row in enumerate(_rows(path), 1):
        try:
            grades.append(HumanGrade.model_validate(row))
        except ValidationError as error:
            raise UserError(f"{path}: row {number}: {explain(error, HumanGrade)}") from None
    return grades


def _content(spec: LabelledPairs, folder: Path) -> list[str]:
    pairs = read_labelled(spec, folder)
    return sorted(content_hash(p.prompt, p.a, p.b, p.preferred, p.category) for p in pairs)


def _pair(spec: LabelledPairs, row: Mapping[str, Any], where: str) -> LabelledPair:
    prompt, a, b = (_text(row, column, where) for column in (spec.prompt, spec.answer_a, spec.answer_b))
    if a == b:
        raise UserError(f"{where}: fields '{spec.answer_a}' and '{spec.answer_b}' hold the same answer; remove the row")
    value = str(_value(row, spec.preferred, where))
    sides: dict[str, Literal["a", "b"]] = {spec.preferred_a: "a", spec.preferred_b: "b"}
    if value not in sides:
        raise UserError(f"{where}: field '{spec.preferred}': found {value!r}, allowed: {', '.join(sides)}")
    category = row.get(spec.category) if spec.category else None
    return LabelledPair(prompt, a, b, sides[value], None if category is None else str(category))


def _value(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise UserError(f"{where}: field '{column}' is missing; found: {', '.join(map(str, row))}")
    return row[column]


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = _value(row, column, where)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: field '{column}': found {value!r}, allowed: a text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"{where}: field '{column}': found half of a character (a lone surrogate); allowed: a text")
    return value


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL, JSON, CSV or Parquet file."""
    if not path.exists():
        raise UserError(f"{path}: no such file; create it or correct field 'file'")
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UserError(f"{path}: found a file of kind {path.suffix!r}, allowed: {', '.join(readers)}")
    check_file(path)
    try:
        return readers[path.suffix](path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}: line {number}")
        if not isinstance(row, dict):
            raise UserError(
                f"{path}: line {number}: found {type(row).__name__}, allowed: an object with the row's fields"
            )
        rows.append(row)
    return rows


def _json(path: Path) -> list[dict[str, Any]]:
    content = parse_json(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise UserError(f"{path}: found {type(content).__name__}, allowed: a list of objects with the rows' fields")
    return content


def _csv(path: Path) -> list[dict[str, Any]]:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _parquet(path: Path) -> list[dict[str, Any]]:
    return list(parquet_rows(path))
