"""Where the report is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home, report_path
from rlaif_dagster.judging.labels import read_human_grades


def write_report(home: Home, constitution: str) -> str:
    path = report_path(home, "tiny", constitution)
    path.parent.mkdir(parents=True)
    path.write_text("<html>")
    return str(path)


def test_one_path_a_cell(rlaif: Callable[..., Result], home: Home) -> None:
    paths = [write_report(home, name) for name in ("harmless", "structured")]
    assert rlaif("report").stdout == f"{paths[1]}\n"
    assert rlaif("report", "--constitution", "all").stdout.splitlines() == paths


def test_cells_without_a_report_are_named_and_nothing_is_printed(rlaif: Callable[..., Result], home: Home) -> None:
    write_report(home, "structured")
    with pytest.raises(UserError, match=r"no report yet for tiny/harmless; run `rlaif up`"):
        rlaif("report", "--constitution", "all")


def test_open_starts_the_users_browser(
    rlaif: Callable[..., Result], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_report(home, "structured")
    marker = home.root / "opened"
    monkeypatch.setenv("BROWSER", f"/bin/sh -c 'echo %s > {marker}'")
    rlaif("report", "--open")
    assert marker.read_text() == f"{Path(path).as_uri()}\n"


def test_the_study_page_is_written_anew(rlaif: Callable[..., Result], home: Home) -> None:
    (path,) = rlaif("report", "--study").stdout.splitlines()
    assert path == str(home.warehouse / "report" / "study.html")
    assert "Not made yet: harmless · large, harmless · tiny" in Path(path).read_text(encoding="utf-8")


def test_grades_are_taken_in(rlaif: Callable[..., Result], home: Home, data: Path, tmp_path: Path) -> None:
    grade = {"model": "tiny", "constitution": "structured", "arm": "dpo", "prompt_id": "p", "alignment_grade": 1}
    file = tmp_path / "human_grades.jsonl"
    file.write_text(json.dumps(grade) + "\n")
    said = rlaif("report", "--add-grades", str(file)).stdout
    assert said == f"{data / 'labels' / 'human_grades.jsonl'}: 1 new grade, 0 replaced; `rlaif up` takes them in\n"
    (read,) = read_human_grades(data / "labels")
    assert (read.model, read.alignment_grade) == ("tiny", 1.0)
