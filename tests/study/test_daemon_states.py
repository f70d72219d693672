"""Through `rlaif ui`, what no single edit of a file is: two edits at once, an edit while a run is under way, a lost table, a
step that fails, a new constitution and a removed one, another code version. Each against the exact runs that it must make.

The project is a copy, so that its code can be edited, too.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from bench.daemon import Dagster, made_in
from rlaif_dagster.home import CHECKOUT
from tests.checkout import Checkout
from tests.study.conftest import CONSTITUTION, make_study
from tests.study.test_daemon import IN_A_CELL, made_since, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SENSOR = "follow_edits"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    study = make_study(tmp_path_factory.mktemp("daemon_states"))
    study.up()
    return study


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for name in ("rlaif_dagster", "assets", "resources"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "workspace.yaml", folder)
    return folder


@pytest.fixture(scope="module")
def dagster(study: Checkout, copy: Path) -> Iterator[Dagster]:
    with Dagster(study.environment | {"OMP_NUM_THREADS": "1"}, copy) as dagster:
        dagster.switch_on(SENSOR)
        wait(lambda: dagster.ticks(SENSOR), 90)
        yield dagster


def brief(*assets: str) -> dict[tuple[str, str | None], int]:
    """Each once, in the study's cell."""
    return {(asset, "brief|tiny"): 1 for asset in assets}


def under_way(dagster: Dagster) -> list[str]:
    """Assets that a run is making, or will."""
    going_on = [run for run in dagster.runs() if run["status"] not in ("SUCCESS", "FAILURE", "CANCELED")]
    return [asset for run in going_on for asset in made_in(run)]


def settled(dagster: Dagster, study: Checkout, before: int, seconds: float = 900) -> Counter[tuple[str, str | None]]:
    """How often each partition was made until nothing is stale, and two ticks later nothing more was asked for."""
    wait(lambda: len(dagster.runs()) > before and not under_way(dagster) and study.planned() == [], seconds)
    quiet(dagster)
    return made_since(dagster, before)


def quiet(dagster: Dagster) -> None:
    """Until the sensor has looked once more, some ticks later, and has asked for nothing meanwhile."""
    now = time.time()
    wait(
        lambda: any(tick["timestamp"] > now + 15 and tick["status"] != "STARTED" for tick in dagster.ticks(SENSOR)), 120
    )
    assert {tick["status"] for tick in dagster.ticks(SENSOR) if tick["timestamp"] > now} <= {"SKIPPED", "STARTED"}


def test_a_lost_table_is_made_again_and_nothing_else(dagster: Dagster, study: Checkout) -> None:
    before = len(dagster.runs())
    (study.home / "warehouse/judgments/model=tiny/constitution=brief/all.parquet").unlink()
    assert settled(dagster, study, before) == brief("judgments")


def test_two_edits_at_once_make_their_union_once(dagster: Dagster, study: Checkout) -> None:
    before = len(dagster.runs())
    study.edit("labels/pairs.jsonl", "No no.", "No, no, no.")
    study.edit("recipes/benchmarks.yaml", "limit: 2", "limit: 3")
    benchmarks = [f"{arm}_benchmarks" for arm in ("sft", "dpo", "ppo")]
    responses = [f"{arm}_responses" for arm in ("sft", "dpo", "ppo")]
    assert settled(dagster, study, before) == {
        **brief("preference_pairs", "report", *benchmarks, *responses),
        ("judge_agreement", "brief"): 1, ("base_benchmarks", "tiny"): 1, ("base_responses", "tiny"): 1, ("results", None): 1,
    }  # fmt: skip


def test_an_edit_while_what_it_edits_is_being_made_is_made_after_that(dagster: Dagster, study: Checkout) -> None:
    before, trainings = len(dagster.runs()), study.home / "work/dpo_model"
    known = {*trainings.iterdir()}
    study.edit("recipes/dpo.yaml", "max_length: 400", "epochs: 300\nmax_length: 400")
    wait(lambda: {*trainings.iterdir()} - known, 120)
    study.edit("recipes/dpo.yaml", "epochs: 300", "epochs: 4")
    ran = settled(dagster, study, before)
    assert ran.pop(("dpo_model", "brief|tiny")) == 2
    must = {
        ("dpo_benchmarks", "brief|tiny"),
        ("dpo_responses", "brief|tiny"),
        ("report", "brief|tiny"),
        ("results", None),
    }
    may = {(name, "brief|tiny") for name in ("adherence", "head_to_head", "qualitative")}  # as the few answers came out
    assert must <= ran.keys() <= must | may
    assert set(ran.values()) == {1}


def test_a_step_that_fails_keeps_what_follows_waiting_and_its_edit_undone_runs_nothing(
    dagster: Dagster, study: Checkout
) -> None:
    before = len(dagster.runs())
    (study.data / "judges/server.yaml").write_text(
        "kind: api\nmodel: openai/m\napi_base: http://127.0.0.1:9\napi_key_env: A_KEY_THAT_NOBODY_SET\n",
        encoding="utf-8",
    )
    study.edit("recipes/judging.yaml", "judge: likelihood", "judge: server")
    wait(lambda: "to be tried again later" in str(dagster.ticks(SENSOR)[0]["skipReason"]), 180)
    runs = dagster.runs()
    new = runs[: len(runs) - before]
    assert sorted(asset for run in new for asset in made_in(run)) == ["judge_agreement", "judgments"]
    assert {run["status"] for run in new} == {"FAILURE"}
    assert "preference_pairs" in {step["asset"] for step in study.planned()}
    study.edit("recipes/judging.yaml", "judge: server", "judge: likelihood")
    (study.data / "judges/server.yaml").unlink()
    wait(lambda: dagster.ticks(SENSOR)[0]["skipReason"] == "everything is fresh", 90)
    quiet(dagster)
    assert len(dagster.runs()) == before + len(new)


def test_a_new_constitution_stops_nothing_is_told_and_made_once_it_is_known(dagster: Dagster, study: Checkout) -> None:
    before = len(dagster.runs())
    (study.data / "constitutions/third.yaml").write_text(CONSTITUTION, encoding="utf-8")
    study.edit("study.yaml", "[brief]", "[brief, third]")
    wait(lambda: str(dagster.ticks(SENSOR)[0]["skipReason"]).endswith("press Reload definitions for: third tiny"), 90)
    assert len(dagster.runs()) == before
    dagster.reload()
    cell = {(name, "third|tiny"): 1 for name in ("revisions", *IN_A_CELL)}
    assert settled(dagster, study, before) == {**cell, ("judge_agreement", "third"): 1, ("results", None): 1}


def test_a_removed_constitution_leaves_the_results_alone(dagster: Dagster, study: Checkout) -> None:
    before = len(dagster.runs())
    study.edit("study.yaml", "[brief, third]", "[brief]")
    (study.data / "constitutions/third.yaml").unlink()
    assert settled(dagster, study, before) == {("results", None): 1}
    with duckdb.connect(study.home / "warehouse" / "results.duckdb", read_only=True) as results:
        assert results.sql("select distinct constitution from judgments").fetchall() == [("brief",)]


def test_another_code_version_makes_that_asset_again(dagster: Dagster, study: Checkout, copy: Path) -> None:
    before, versions = len(dagster.runs()), study.versions()
    file = copy / "assets/results.py"
    text = file.read_text(encoding="utf-8")
    now = 'group="results", dims=GRID, code_version="3"'
    assert now in text
    file.write_text(text.replace(now, now.replace("3", "4")), encoding="utf-8")
    dagster.reload()
    wait(lambda: len(dagster.runs()) > before and not under_way(dagster), 300)
    quiet(dagster)
    assert made_since(dagster, before) == brief("report")
    assert study.versions() == versions
