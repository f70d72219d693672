"""Through `rlaif ui`: Dagster's own daemon, workspace.yaml and web page, seen in headless Chromium."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.daemon import Dagster, made_in
from tests.checkout import Checkout
from tests.study.conftest import make_study

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(900)]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    study = make_study(tmp_path_factory.mktemp("daemon"))
    study.up("--constitution", "all")
    return study


@pytest.fixture(scope="module")
def dagster(study: Checkout) -> Iterator[Dagster]:
    with Dagster(study.environment | {"OMP_NUM_THREADS": "1"}) as dagster:
        yield dagster


@pytest.fixture(scope="module")
def page(dagster: Dagster) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1600, "height": 1000})
        browser.close()


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


def test_an_edit_runs_what_it_makes_stale_once_and_leaves_it_fresh(dagster: Dagster, study: Checkout) -> None:
    dagster.switch_on("follow_edits")
    wait(lambda: dagster.ticks("follow_edits"), 90)
    before = len(dagster.runs())
    study.edit("labels/pairs.jsonl", "No no.", "No, no, no.")
    saved = time.time()
    first = wait(lambda: dagster.runs()[: len(dagster.runs()) - before], 60)[-1]
    print(f"edit to run: {first['creationTime'] - saved:.1f} s")
    assert first["creationTime"] - saved < 45
    wait(lambda: study.planned("--constitution", "all") == [], 400)
    time.sleep(25)  # two more ticks: nothing may be repeated
    runs = dagster.runs()[: len(dagster.runs()) - before]
    assert {run["status"] for run in runs} == {"SUCCESS"}
    assert Counter(name for run in runs for name in made_in(run)) == {
        "judge_agreement": 2, "preference_pairs": 2, "report": 2, "results": 1,
    }  # fmt: skip
    for asset, partition in (
        ("judge_agreement", "brief"),
        ("preference_pairs", "brief|tiny"),
        ("dpo_model", "brief|tiny"),
    ):
        assert dagster.staleness(asset, partition) == "FRESH"


def test_a_backfill_by_hand_is_carried_out_and_shown(page: Any, dagster: Dagster, study: Checkout) -> None:
    before = len(dagster.runs())
    done = study.rlaif("backfill", "--constitution", "all", "--from", "report")
    assert done.returncode == 0, done.stderr
    assert "3 partitions" in done.stdout
    assert "works on it" in done.stdout
    [backfill] = wait(lambda: [b for b in dagster.backfills() if b["status"].startswith("COMPLETED")], 300)
    assert backfill["status"] == "COMPLETED_SUCCESS"
    assert {"key": "rlaif/backfill", "value": "by-hand"} in backfill["tags"]
    runs = dagster.runs()[: len(dagster.runs()) - before]
    assert sorted(name for run in runs for name in made_in(run)) == ["report", "report", "results"]
    open_page(page, dagster, "/runs/backfills", "rlaif backfill --from report", "backfills")
