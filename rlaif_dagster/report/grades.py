"""People's grades on their way from the report's download into data/labels/human_grades.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from rlaif_dagster import atomic
from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.labels import GRADES, read_human_grades
from rlaif_dagster.spec.base import explain
from rlaif_dagster.spec.labels import HumanGrade


def read_download(path: Path) -> list[HumanGrade]:
    """The grades in a file that the report wrote; UserError with file, line and field for what is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read: {error}; give the file that the report's Download button wrote"
        ) from None
    grades = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            grades.append(HumanGrade.model_validate(json.loads(line)))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: line {number}: not valid JSON: {error}") from None
        except ValidationError as error:
            raise UserError(f"{path}: line {number}: {explain(error, HumanGrade)}") from None
    if not grades:
        raise UserError(f"{path}: no grades in it; give the file that the report's Download button wrote")
    return grades


def add_grades(download: Path, labels: Path) -> tuple[int, int]:
    """Add a download to the folder's grades; returns how many are new and how many took an older one's place.

    A person's grade of an answer replaces that person's earlier one, so bringing the same file in twice changes nothing.
    """
    known = {_place(grade): grade for grade in read_human_grades(labels)}
    before = len(known)
    added = {_place(grade): grade for grade in read_download(download)}
    replaced = sum(place in known and known[place] != grade for place, grade in added.items())
    known |= added
    text = "".join(json.dumps(grade.model_dump(), ensure_ascii=False) + "\n" for grade in known.values())
    atomic.write_text(labels / GRADES, text)
    return len(known) - before, replaced


def _place(grade: HumanGrade) -> tuple[str | None, ...]:
    return grade.model, grade.constitution, grade.arm, grade.prompt_id, grade.answer_id, grade.grader
