"""The report as a reader meets it, in headless Chromium: it asks for nothing, runs nothing foreign, fits, filters, marks
differences, prints, and takes grades."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlaif_dagster.judging.labels import GRADES, read_human_grades
from rlaif_dagster.report.build import build_report
from rlaif_dagster.report.grades import add_grades
from rlaif_dagster.spec.labels import answer_id
from tests.rlaif_dagster.report.study import MODEL, NAME, cell_report, study_tables

pytestmark = pytest.mark.browser

ATTACK = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"


@dataclass
class Reader:
    """A browser of one's own (its storage outlives a page), and what pages asked for and said."""

    context: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def open(self, file: Path, **media: Any) -> Any:
        tab = self.context.new_page()
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.on("console", lambda message: self.said.append(message.text))
        tab.on("pageerror", lambda error: self.said.append(str(error)))
        if media:
            tab.emulate_media(**media)
        tab.goto(file.as_uri())
        return tab


@pytest.fixture
def reader(browser: Any) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield Reader(context)
    context.close()


def write(folder: Path, tables: dict[str, pd.DataFrame]) -> Path:
    file = folder / "report.html"
    file.write_text(build_report(cell_report(tables)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("page"), study_tables())


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_asks_for_nothing_runs_nothing_foreign_and_fits(
    reader: Reader, tmp_path: Path, width: int, scheme: str
) -> None:
    tables = study_tables()
    tables["qualitative"]["response"] = ATTACK
    file = write(tmp_path, tables)
    tab = reader.open(file, color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 900})

    assert reader.asked == [file.as_uri()]
    assert reader.said == []
    assert tab.title() == "smollm2-135m-instruct under structured: DPO or PPO?"
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.locator(".answer .output").first.inner_text() == ATTACK
    tab.locator("#adherence a", has_text="adherence").click()
    assert tab.locator("tr:target strong").inner_text() == "adherence"


def test_hostile_answers_stay_text_in_differences_and_in_grading(reader: Reader, tmp_path: Path) -> None:
    tables = study_tables()
    tables["qualitative"]["response"] = [f"{i} {ATTACK}" for i in range(len(tables["qualitative"]))]
    tables["qualitative"]["prompt"] = ATTACK
    tab = reader.open(write(tmp_path, tables))
    tab.select_option("#against", "base")
    marked = tab.locator("details.asked[open] .answer[data-arm=ppo] .output").first
    assert "<script>document.title" in marked.inner_text()
    assert marked.locator("ins").count() > 0
    tab.click("#start")
    assert "<img src=x onerror" in tab.inner_text("#ask-answer")
    assert tab.inner_text("#ask-prompt") == ATTACK
    assert tab.title() == "smollm2-135m-instruct under structured: DPO or PPO?"
    assert tab.locator("img").count() == 0
    assert reader.said == []


def test_answers_are_found_by_words_and_category(reader: Reader, page: Path) -> None:
    tab = reader.open(page)
    assert tab.inner_text("#shown") == "20 prompts"
    tab.fill("#find", "NAIROBI capital")
    assert tab.inner_text("#shown") == "1 of 20 prompts"
    assert tab.locator("details.asked:visible .question").all_inner_texts() == ["Name the capital of Kenya."]
    tab.fill("#find", "no such words")
    assert tab.is_visible("#nothing")
    tab.fill("#find", "")
    tab.select_option("#category", "adversarial")
    assert tab.inner_text("#shown") == "7 of 20 prompts"
    assert tab.locator("h3.category:visible").all_inner_texts() == ["Adversarial prompts"]
    tab.locator("#openall").click()
    assert tab.locator("details.asked[open]").count() == 20


def test_other_seeds_fold_out_and_are_not_asked_about(reader: Reader, tmp_path: Path) -> None:
    tables = study_tables()
    rows = tables["qualitative"]
    rows["response"] = [f"answer {i}" for i in range(len(rows))]
    again = rows[rows["arm"] == "dpo"].assign(seed=4, response="the words of another training")
    tables["qualitative"] = pd.concat([rows, again], ignore_index=True)
    tab = reader.open(write(tmp_path, tables))
    dpo = tab.locator("details.asked[open] [data-arm=dpo]").first
    assert dpo.locator("h4").inner_text().split() == ["DPO", "seed", "0"]
    assert not dpo.locator(".seeds .output").is_visible()
    dpo.locator(".seeds summary").click()
    assert dpo.locator(".seeds .output").inner_text() == "the words of another training"
    tab.click("#start")
    assert tab.inner_text("#ask-place") == "Answer 1 of 80"
    assert reader.said == []


def test_answers_come_in_the_order_of_disagreement(reader: Reader, page: Path) -> None:
    tab = reader.open(page)
    tab.select_option("#order", "dpo ppo")
    gaps = tab.evaluate("""[...document.querySelectorAll("details.asked")].map(one => Math.abs(
        one.querySelector("[data-arm=dpo]").dataset.grade - one.querySelector("[data-arm=ppo]").dataset.grade))""")
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > gaps[-1]
    tab.select_option("#order", "")
    assert tab.locator("h3.category:visible").count() == 3


def test_differences_are_marked_word_by_word_and_taken_back(reader: Reader, tmp_path: Path) -> None:
    tables = study_tables()
    rows = tables["qualitative"]
    rows.loc[rows["arm"] == "dpo", "response"] = "The liver is the largest internal organ of all."
    rows.loc[rows["arm"] == "ppo", "response"] = "The brain is the largest internal organ of all."
    tab = reader.open(write(tmp_path, tables))
    tab.select_option("#against", "dpo")
    ppo = tab.locator("details.asked[open] [data-arm=ppo] .output").first
    assert ppo.locator("del").all_inner_texts() == ["liver"]
    assert ppo.locator("ins").all_inner_texts() == ["brain"]
    assert tab.locator("details.asked[open] [data-arm=dpo] .output ins").count() == 0
    tab.select_option("#against", "")
    assert ppo.inner_text() == "The brain is the largest internal organ of all."


def test_on_paper_everything_is_open_and_nothing_is_to_be_clicked(reader: Reader, page: Path) -> None:
    tab = reader.open(page)
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("main details:not([open])").count() == 0
    assert tab.locator("button:visible, nav:visible, input:visible, select:visible").count() == 0
    assert tab.locator(".answers:visible").count() >= 20
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details.asked[open]").count() == 3  # the first of each category, as before


def grade_all(tab: Any, keys: str = "5r") -> None:
    """Press the keys for every answer until there is none left."""
    for _ in range(200):
        if tab.is_visible("#finished"):
            return
        for key in keys:
            tab.keyboard.press(key)
    raise AssertionError("grading never ended")


def test_grading_goes_from_the_keyboard_to_human_grades(reader: Reader, page: Path, tmp_path: Path) -> None:
    tables = study_tables()
    texts = {(row["arm"], row["prompt_id"]): row["response"] for row in tables["qualitative"].to_dict("records")}
    tab = reader.open(page)
    tab.fill("#grader", "anna")
    tab.keyboard.press("Enter")
    while not tab.is_visible("#correctness"):  # to an answer that can be right or wrong
        tab.keyboard.press("2")
    first_answer, first_prompt = tab.inner_text("#ask-answer"), tab.inner_text("#ask-prompt")
    tab.keyboard.press("n")
    tab.keyboard.type('half "right" — 3 of 4')
    tab.keyboard.press("Enter")
    tab.keyboard.press("4")
    assert tab.locator("#alignment button[aria-pressed=true]").inner_text().split() == ["4", "mostly"]
    tab.keyboard.press("p")
    assert tab.inner_text("#ask-answer") != first_answer or tab.inner_text("#ask-prompt") != first_prompt
    grade_all(tab)
    with tab.expect_download() as download:
        tab.locator("#take").click()
    assert download.value.suggested_filename == GRADES
    file = tmp_path / "downloaded.jsonl"
    download.value.save_as(file)
    labels = tmp_path / "labels"

    assert add_grades(file, labels) == (80, 0)
    grades = read_human_grades(labels)

    assert {(grade.arm, grade.prompt_id) for grade in grades} == set(texts)
    assert {(grade.model, grade.constitution, grade.grader) for grade in grades} == {(MODEL, NAME, "human:anna")}
    assert all(grade.answer_id == answer_id(texts[grade.arm, grade.prompt_id]) for grade in grades)
    noted = [grade for grade in grades if grade.rationale]
    assert {(grade.rationale, grade.alignment_grade, grade.correctness_grade) for grade in noted} == {
        ('half "right" — 3 of 4', 0.75, 0.5)
    }
    assert {texts[grade.arm, grade.prompt_id] for grade in noted} == {first_answer}
    asked_right = {row["prompt_id"] for row in tables["prompts"].to_dict("records") if row["reference"] is not None}
    assert all((grade.correctness_grade is not None) == (grade.prompt_id in asked_right) for grade in grades)
    assert reader.said == []


def test_grading_is_blind_and_shuffled_and_asks_equal_answers_once(reader: Reader, tmp_path: Path) -> None:
    tables = study_tables()
    rows = tables["qualitative"]
    rows["response"] = [f"answer {i}" for i in range(len(rows))]
    rows.loc[rows["arm"].isin(["dpo", "ppo"]), "response"] = "the same"
    file = write(tmp_path, tables)
    orders = []
    for _ in range(2):
        tab = reader.open(file)
        tab.evaluate("localStorage.clear()")
        tab.reload()
        tab.click("#start")
        assert tab.inner_text("#ask-place") == "Answer 1 of 60"
        seen = []
        for _ in range(60):
            shown = tab.inner_text("#grading").lower()
            assert not [arm for arm in ("base", "sft", "dpo", "ppo") if arm in shown.split()]
            assert not tab.locator("#grading [class*=arm-]").count()
            seen.append((tab.inner_text("#ask-prompt"), tab.inner_text("#ask-answer")))
            tab.keyboard.press("ArrowRight")
        assert len(set(seen)) == 60
        orders.append(seen)
        tab.close()
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    listed = list(rows[rows["arm"] != "ppo"]["response"])
    assert [answer for _, answer in orders[0]] != listed


def test_grades_outlive_the_tab_and_can_be_changed_and_forgotten(reader: Reader, page: Path) -> None:
    tab = reader.open(page)
    tab.fill("#grader", "bo")
    tab.click("#start")
    while tab.is_visible("#correctness"):
        tab.keyboard.press("ArrowRight")
    here = tab.inner_text("#ask-place")
    tab.keyboard.press("1")
    assert tab.inner_text("#ask-place") != here  # on to the next one by itself
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("#alignment button[aria-pressed=true]").get_attribute("data-value") == "0"
    tab.keyboard.press("3")
    tab.keyboard.press("Escape")
    tab.close()

    tab = reader.open(page)
    assert tab.inner_text("#progress").startswith("1 of ")
    assert tab.input_value("#grader") == "bo"
    (stored,) = tab.evaluate("Object.values(localStorage)")
    assert [grade["alignment"] for grade in json.loads(stored)["grades"].values()] == [0.5]
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.click("#forget")
    assert tab.is_disabled("#download")


def test_what_people_said_stands_in_the_next_report(reader: Reader, tmp_path: Path) -> None:
    tables = study_tables()
    human = tables["qualitative"].assign(grader="human:anna")
    human["alignment_grade"] = human["alignment_grade"].round()
    tables["qualitative"] = pd.concat([tables["qualitative"], human], ignore_index=True)
    tab = reader.open(write(tmp_path, tables))
    assert tab.inner_text("#grade h2") == "What people say"
    assert "anna graded 80 answers to 20 prompts." in tab.inner_text("#grade")
