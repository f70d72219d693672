"""Through `rlaif ui`: Dagster's own daemon, workspace.yaml and web page, seen in headless Chromium."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.daemon import Dagster, made_in, targeted
from tests.checkout import Checkout
from tests.study.conftest import make_study
from tests.study.test_edits import EDITS, JUDGED, POLICIES

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(1200)]
IN_A_CELL = JUDGED - {"results"}

READERS = {
    "revisions", "judgments", "preference_pairs", "judge_agreement", "ppo_model", "adherence", "head_to_head", "qualitative",
    "report",
}  # of the constitution's file  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    study = make_study(tmp_path_factory.mktemp("daemon"))
    study.up("--constitution", "all")
    return study


@pytest.fixture(scope="module")
def dagster(study: Checkout) -> Iterator[Dagster]:
    with Dagster(study.environment | {"OMP_NUM_THREADS": "1"}) as dagster:
        yield dagster


def click_switch(page: Any, dagster: Dagster, name: str) -> None:
    """The switch of a sensor or schedule on the page Automation."""
    open_page(page, dagster, "/automation", name, "automation")
    row = page.locator("div").filter(has=page.get_by_text(name, exact=True)).filter(has=page.locator("label")).last
    row.locator("label").last.click()


@pytest.fixture(scope="module")
def page(browser: Any) -> Any:
    return browser.new_page(viewport={"width": 1600, "height": 1000})


def open_page(page: Any, dagster: Dagster, path: str, until: str, name: str) -> None:
    """Open a page and wait for a text on it; RLAIF_SCREENSHOTS names a folder for its picture."""
    page.goto(f"{dagster.url}{path}")
    page.get_by_text(until, exact=False).first.wait_for(timeout=60_000)
    page.wait_for_timeout(2_000)  # the graph is laid out after its texts are there
    shoot(page, name)


def shoot(page: Any, name: str) -> None:
    if folder := os.environ.get("RLAIF_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png")


def wait(condition: Callable[[], Any], seconds: float) -> Any:
    """What the condition comes to, once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)
    return found


def partitions(*constitutions: str) -> dict[tuple[str, str | None], None]:
    """Every asset's partition in these cells of the tiny study, inputs aside."""
    of_cell = {"revisions", *IN_A_CELL}
    whole = [
        ("prompts", None),
        ("results", None),
        *((name, "tiny") for name in ("completions", "base_benchmarks", "base_responses")),
    ]
    cells = [(name, f"{one}|tiny") for name in sorted(of_cell) for one in constitutions]
    return dict.fromkeys([*whole, *cells, *(("judge_agreement", one) for one in constitutions)])


def not_fresh(dagster: Dagster) -> set[tuple[str, str | None]]:
    """The partitions that the UI does not show as fresh."""
    return {key for key in partitions("brief", "other") if dagster.staleness(*key) != "FRESH"}


def planned(study: Checkout) -> set[tuple[str, str | None]]:
    """The partitions that `rlaif plan` names."""
    steps = study.planned("--constitution", "all")
    cells = [(step["asset"], step["cell"]["constitution"], step["cell"]["model"]) for step in steps]
    return {(asset, "|".join(part for part in cell if part) or None) for asset, *cell in cells}


def made_since(dagster: Dagster, before: int) -> Counter[tuple[str, str | None]]:
    """How often each partition was run since there were so many runs, all of which must have gone well."""
    runs = dagster.runs()
    new = runs[: len(runs) - before]
    assert {run["status"] for run in new} <= {"SUCCESS"}
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in new]
    return Counter(
        (name, tag.get("dagster/partition")) for run, tag in zip(new, tags, strict=True) for name in made_in(run)
    )


def finished_backfill(dagster: Dagster, kind: str, seconds: float) -> dict[str, Any]:
    """The one backfill of a kind, once it has ended; it must have ended well."""
    mine = [b for b in dagster.backfills() if {"key": "rlaif/backfill", "value": kind} in b["tags"]]
    [backfill] = wait(
        lambda: [b for b in dagster.backfills() if b["id"] == mine[0]["id"] and b["status"].startswith(("COMPLETED", "FAILED"))],
        seconds,
    )  # fmt: skip
    assert backfill["status"] == "COMPLETED_SUCCESS"
    found: dict[str, Any] = backfill
    return found


def test_the_graph_is_shown_with_its_groups(page: Any, dagster: Dagster) -> None:
    open_page(page, dagster, "/asset-groups", "preferences", "graph")
    text = page.inner_text("body")
    for group in ("inputs", "data", "preferences", "policies", "evaluation", "results"):
        assert group in text


def test_a_materialization_shows_its_preview_and_its_plot(page: Any, dagster: Dagster) -> None:
    open_page(
        page, dagster, "/assets/ppo_model?view=partitions&partition=brief%7Ctiny", "learning curves", "materialization"
    )
    shown = page.inner_text("body")
    assert "preview of models" in shown
    assert "seconds" in shown
    widths = page.eval_on_selector_all("img[src^='data:image/svg']", "found => found.map(one => one.naturalWidth)")
    assert len(widths) >= 5  # reward, KL, entropy, length, ended: in place, without a click
    assert set(widths) == {300}
    assert any(pictures_behind(page, place) for place in range(page.get_by_text("Show Markdown").count()))
    shoot(page, "plot")


def pictures_behind(page: Any, place: int) -> bool:
    """Does the Markdown behind this button hold a picture that was really drawn? Leaves it open where it does."""
    page.get_by_text("Show Markdown").nth(place).click()
    page.wait_for_timeout(1_000)
    widths = page.eval_on_selector_all("img[src^='data:image/png']", "found => found.map(one => one.naturalWidth)")
    if not any(widths):
        page.keyboard.press("Escape")
        page.wait_for_timeout(500)
    return any(widths)


def test_an_edit_is_seen_at_once_and_stops_where_the_content_comes_out_the_same(
    dagster: Dagster, study: Checkout
) -> None:
    dagster.switch_on("follow_edits")
    wait(lambda: dagster.ticks("follow_edits"), 90)
    before = len(dagster.runs())
    study.edit("labels/pairs.jsonl", "No no.", "No, no, no.")
    saved = time.time()
    first = wait(lambda: dagster.runs()[: len(dagster.runs()) - before], 60)[-1]
    assert first["creationTime"] - saved < 45
    wait(lambda: planned(study) == set(), 400)
    time.sleep(25)
    expected = [(name, f"{one}|tiny") for name in ("preference_pairs", "report") for one in ("brief", "other")]
    assert made_since(dagster, before) == Counter(
        [*expected, ("judge_agreement", "brief"), ("judge_agreement", "other"), ("results", None)]
    )


def test_a_comment_and_a_wrong_file_run_nothing(dagster: Dagster, study: Checkout) -> None:
    before = len(dagster.runs())
    study.edit("constitutions/brief.yaml", "# a comment", "# another")
    study.edit("recipes/dpo.yaml", "max_length: 400", "max_length: -1")
    [tick] = wait(lambda: [tick for tick in dagster.ticks("follow_edits")[:1] if tick["status"] == "FAILURE"], 60)
    assert "field 'max_length'" in str(tick["error"]["errorChain"])
    study.edit("recipes/dpo.yaml", "max_length: -1", "max_length: 400")
    wait(lambda: dagster.ticks("follow_edits")[0]["status"] == "SKIPPED", 60)
    assert len(dagster.runs()) == before
    dagster.switch_off("follow_edits")


def test_an_edited_constitution_makes_exactly_what_follows_from_it_stale(
    page: Any, dagster: Dagster, study: Checkout
) -> None:
    """With the sensor off, the page's own button looks at the files. What reads the constitution itself is shown as stale;
    what follows from that is planned, and turns stale in the page when its parents have new content."""
    assert not_fresh(dagster) == set()
    file, old, new, follow = EDITS["a word of a principle"]
    study.edit(file, old, new)
    open_page(page, dagster, "/assets/constitution", "Observe", "observe")
    page.get_by_role("button", name="Observe").first.click()
    wait(lambda: dagster.staleness("revisions", "brief|tiny") == "STALE", 120)
    assert not_fresh(dagster) == {key for key in partitions("brief") if key[0] in READERS}
    assert planned(study) == {key for key in partitions("brief") if key[0] in follow}
    open_page(page, dagster, "/assets/revisions?view=partitions&partition=brief%7Ctiny", "Unsynced", "stale")
    open_page(
        page, dagster, "/assets/revisions?view=partitions&partition=other%7Ctiny", "preview of revisions", "fresh"
    )
    assert "Unsynced" not in page.inner_text("body")


def test_with_the_sensor_on_it_runs_once_a_partition_and_turns_fresh(
    page: Any, dagster: Dagster, study: Checkout
) -> None:
    before = len(dagster.runs())
    possible = planned(study)
    click_switch(page, dagster, "follow_edits")
    wait(lambda: planned(study) == set(), 900)
    time.sleep(25)  # two more ticks: nothing may be repeated
    ran = made_since(dagster, before)
    assert set(ran.values()) == {1}
    assert {("judgments", "brief|tiny"), ("judge_agreement", "brief"), ("results", None)} <= ran.keys() <= possible
    assert not_fresh(dagster) == set()
    open_page(
        page, dagster, "/assets/revisions?view=partitions&partition=brief%7Ctiny", "preview of revisions", "again"
    )
    assert "Unsynced" not in page.inner_text("body")


def test_the_report_opens_from_its_materialization(page: Any, dagster: Dagster) -> None:
    """The one that the daemon made: what the command line made leads to the usual port, which may be another UI's here."""
    open_page(page, dagster, "/assets/report?view=partitions&partition=brief%7Ctiny", "report.html", "report")
    with page.expect_popup() as opened:
        page.locator("a[href*='report.html']").first.click()
    report = opened.value
    report.wait_for_load_state()
    assert report.inner_text("h1") == "tiny under the constitution “brief”"
    report.close()


def test_a_backfill_of_two_constitutions_by_hand_is_carried_out_and_shown(
    page: Any, dagster: Dagster, study: Checkout
) -> None:
    before, versions = len(dagster.runs()), study.versions()
    done = study.rlaif("backfill", "--constitution", "all", "--from", "judgments")
    assert done.returncode == 0, done.stderr
    wanted = {(name, f"{one}|tiny") for name in IN_A_CELL for one in ("brief", "other")} | {("results", None)}
    assert f"{len(wanted)} partitions" in done.stdout
    assert "works on it" in done.stdout
    backfill = finished_backfill(dagster, "by-hand", 900)
    assert targeted(backfill) == len(wanted)
    assert made_since(dagster, before) == Counter(wanted)
    assert study.versions() == versions  # nothing was edited: it comes out the same
    open_page(page, dagster, "/runs", backfill["id"], "backfills")
    assert "rlaif/backfill: by-hand" in page.inner_text("body")


def test_a_backfill_of_two_constitutions_is_started_in_the_page(page: Any, dagster: Dagster, study: Checkout) -> None:
    before, versions, known = len(dagster.runs()), study.versions(), {one["id"] for one in dagster.backfills()}
    open_page(page, dagster, "/assets/judgments", "Materialize", "asset")
    page.get_by_role("button", name="Materialize").first.click()
    every = page.get_by_role("button", name="All", exact=True)
    every.nth(1).wait_for(timeout=60_000)
    for dimension in range(2):
        every.nth(dimension).click()
    shoot(page, "backfill")
    page.get_by_role("button", name="Launch backfill").click()
    [backfill] = wait(lambda: [one for one in dagster.backfills() if one["id"] not in known], 60)
    assert targeted(backfill) == 2
    wait(lambda: {one["id"]: one["status"] for one in dagster.backfills()}[backfill["id"]] == "COMPLETED_SUCCESS", 300)
    assert made_since(dagster, before) == {("judgments", "brief|tiny"): 1, ("judgments", "other|tiny"): 1}
    assert study.versions() == versions


def test_the_nightly_schedule_brings_up_to_date_what_is_stale(dagster: Dagster, study: Checkout) -> None:
    dagster.switch_off("follow_edits")
    study.edit("labels/pairs.jsonl", "No, no, no.", "No no.")
    stale = planned(study)
    assert stale
    dagster.tick_now("every_night")
    assert targeted(finished_backfill(dagster, "nightly", 600)) == len(stale)
    assert planned(study) == set()


def test_the_weekly_schedule_measures_the_benchmarks_of_all_cells(dagster: Dagster, study: Checkout) -> None:
    before, versions = len(dagster.runs()), study.versions()
    dagster.tick_now("every_week")
    finished_backfill(dagster, "weekly", 600)
    cells = [(f"{arm}_benchmarks", f"{one}|tiny") for arm in POLICIES for one in ("brief", "other")]
    assert made_since(dagster, before) == Counter([*cells, ("base_benchmarks", "tiny")])
    assert study.versions() == versions
