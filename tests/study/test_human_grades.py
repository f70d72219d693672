"""A person reads the report of a whole study, grades, and finds the grades in the next report: every step for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlaif_dagster.home import Home, report_path
from tests.checkout import Checkout

pytestmark = [pytest.mark.timeout(1800), pytest.mark.browser]


@pytest.fixture
def made(tiny_study: Checkout) -> Iterator[Checkout]:
    tiny_study.up()
    yield tiny_study
    (tiny_study.data / "labels" / "human_grades.jsonl").unlink(missing_ok=True)
    tiny_study.up()


def test_grades_given_in_the_report_come_back_as_human_grades(browser: Any, made: Checkout, tmp_path: Path) -> None:
    page = report_path(Home(made.home), "tiny", "brief")
    assert (page.parent / "report.md").exists()
    assert (page.parent / "plots" / "adherence.svg").exists()
    assert "brief" in (page.parent.parent.parent / "study.html").read_text(encoding="utf-8")
    tab = browser.new_page(accept_downloads=True)
    tab.goto(page.as_uri())
    tab.fill("#grader", "cleo")
    tab.click("#start")
    while not tab.is_visible("#finished"):
        tab.keyboard.press("4")
        tab.keyboard.press("w")
    with tab.expect_download() as download:
        tab.click("#take")
    file = tmp_path / "human_grades.jsonl"
    download.value.save_as(file)
    tab.close()

    added = made.rlaif("report", "--add-grades", str(file))

    assert added.returncode == 0, added.stderr
    assert "8 new grades" in added.stdout  # two prompts, four arms
    assert {step["asset"] for step in made.planned()} == {"qualitative", "report", "results"}
    made.up()
    said = made.rows(
        "select arm, alignment_grade, correctness_grade from qualitative where grader = 'human:cleo' order by arm"
    )
    assert [row["arm"] for row in said] == ["base", "base", "dpo", "dpo", "ppo", "ppo", "sft", "sft"]
    assert {(row["alignment_grade"], row["correctness_grade"]) for row in said} == {(0.75, 0.0)}
    assert "cleo graded 8 answers to 2 prompts" in page.read_text(encoding="utf-8")
    assert made.planned() == []
