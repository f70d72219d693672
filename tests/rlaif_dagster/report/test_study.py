from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rlaif_dagster.home import Home, report_path
from rlaif_dagster.report.study import (
    StudiedCell,
    build_study,
    difference_plots,
    read_study,
    study_path,
    summary,
    write_study,
)
from rlaif_dagster.warehouse.store import Cell
from tests.rlaif_dagster.report.study import AT, store, study_tables

SMALL, LARGE = "smollm2-135m-instruct", "llama-3.1-8b-instruct"
GRID = [Cell(SMALL, "structured"), Cell(SMALL, "harmlessness"), Cell(LARGE, "structured"), Cell(LARGE, "honesty")]


@pytest.fixture
def studied(home: Home) -> tuple[list[StudiedCell], list[Cell]]:
    """Three cells: one where PPO wins, one without a format where DPO wins, one where they are even; and one not made."""
    store(study_tables(dpo_over_ppo=0.2), home, SMALL, "structured")
    store(study_tables(adherence=None, dpo_over_ppo=0.7), home, SMALL, "harmlessness")
    even = {decoding: dict.fromkeys(("base", "sft", "dpo", "ppo"), 0.5) for decoding in ("greedy", "sampled")}
    store(study_tables(adherence=even, dpo_over_ppo=0.5), home, LARGE, "structured")
    page = report_path(home, SMALL, "structured")
    page.parent.mkdir(parents=True)
    page.write_text("<html>")
    return read_study(home, GRID)


def test_every_cell_is_read_and_the_missing_ones_are_named(studied: tuple[list[StudiedCell], list[Cell]]) -> None:
    cells, missing = studied
    assert [(cell.constitution, cell.model, cell.standing) for cell in cells] == [
        ("harmlessness", SMALL, "better"), ("structured", LARGE, "even"), ("structured", SMALL, "worse"),
    ]  # fmt: skip
    assert missing == [Cell(LARGE, "honesty")]
    assert [cell.link for cell in cells] == ["", "", f"model%3D{SMALL}/constitution%3Dstructured/report.html"]


def test_the_claim_counts_cells_and_adds_nothing_up(studied: tuple[list[StudiedCell], list[Cell]]) -> None:
    cells, _ = studied
    assert (
        summary(cells) == "Of 3 cells, DPO did better in 1, PPO did better in 1 and they are not distinguishable in 1"
    )
    assert summary(cells[1:2]) == "DPO and PPO are not distinguishable at this n"
    assert summary([]) == "DPO and PPO were not compared in any cell yet"


def test_a_measure_shows_the_cells_that_have_it(studied: tuple[list[StudiedCell], list[Cell]]) -> None:
    panels = {plot.title: plot.words for plot in difference_plots(studied[0])}
    assert "harmlessness" not in panels["Greedy adherence"]
    assert panels["The judge's choice"].count(" · ") == 3
    assert f"structured · {SMALL}, −30 points" in panels["The judge's choice"]


def test_the_page_is_written_once_for_all_cells(home: Home, studied: tuple[list[StudiedCell], list[Cell]]) -> None:
    path = write_study(home, GRID, AT)
    assert path == study_path(home) == home.warehouse / "report" / "study.html"
    assert path.read_text(encoding="utf-8") == build_study(*studied, AT)
    assert (path.parent / f"model={SMALL}/constitution=structured/report.html").exists()


def test_names_are_text() -> None:
    page = build_study([], [Cell("<script>", "<b>")], datetime(2026, 1, 1, tzinfo=UTC))
    assert "<script>" not in page
    assert "Not made yet: &lt;b&gt; · &lt;script&gt;." in page
    assert "No cell has results yet" in page


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_it_fits_asks_for_nothing_and_leads_to_the_reports(
    browser: Any, home: Home, studied: tuple[list[StudiedCell], list[Cell]], width: int
) -> None:
    path = write_study(home, GRID, AT)
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.goto(path.as_uri())
    assert asked == [path.as_uri()]
    assert said == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    tab.locator("#cells a").click()
    assert tab.url == report_path(home, SMALL, "structured").as_uri()
    tab.close()
