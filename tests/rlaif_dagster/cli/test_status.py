"""The grid as `rlaif status` shows it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

from rich.console import Console

from rlaif_dagster.cli.status import as_json, status_table, summary
from rlaif_dagster.home import Home
from rlaif_dagster.planning import CellStatus
from rlaif_dagster.warehouse.store import Cell
from tests.rlaif_dagster.cli.conftest import Process

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
GRID = Cell("tiny", "structured")
ROWS = [
    CellStatus("prompts", Cell(), "fresh", "abc", NOW - timedelta(hours=3)),
    CellStatus("judgments", GRID, "stale", "def", NOW - timedelta(days=4), "constitution [structured] changed"),
    CellStatus("dpo_model", GRID, "failed", None, None, "run 12345678 failed"),
    CellStatus("report", GRID, "missing"),
]


def test_a_row_an_asset_and_cell_with_state_age_version_and_reason() -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(status_table(ROWS, NOW))
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in captured.get().splitlines()]
    title, _, _, *rows = [line for line in lines if line]
    assert title == ["tiny/structured"]
    assert rows == [
        ["prompts", "fresh", "3.0 h ago", "abc"],
        ["judgments", "stale", "4 d ago", "def", "constitution [structured] changed"],
        ["dpo_model", "failed", "run 12345678 failed"],
        ["report", "missing"],
    ]


def test_of_several_cells_each_row_names_its_own() -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(status_table([*ROWS, CellStatus("report", Cell("tiny", "honesty"), "missing")], NOW))
    assert [line.split()[1] for line in captured.get().splitlines() if "missing" in line] == [
        "tiny/structured",
        "tiny/honesty",
    ]


def test_the_summary_counts_and_says_what_to_do() -> None:
    assert summary(ROWS[:1]) == "1 fresh"
    assert summary(ROWS).startswith("1 fresh, 1 stale, 1 missing, 1 failed; `rlaif plan`")
    assert summary([]) == "nothing in these cells"


def test_json_keeps_everything() -> None:
    (row,) = json.loads(as_json(ROWS[:1]))
    assert row == {
        "asset": "prompts",
        "cell": {"model": None, "constitution": None},
        "state": "fresh",
        "version": "abc",
        "made_at": "2026-01-10 09:00:00+00:00",
        "reason": None,
    }


def test_of_a_fresh_study_everything_is_missing(rlaif_process: Process, home: Home) -> None:
    done = rlaif_process("status", "--json")
    rows = json.loads(done.stdout)
    assert done.stderr == ""
    assert not home.root.exists()
    assert {row["state"] for row in rows} == {"missing"}
    assert {"prompts", "ppo_model", "report"} <= {row["asset"] for row in rows}


def test_what_failed_says_why_and_what_it_kept_from_being_made_stays_missing(rlaif_process: Process) -> None:
    done = rlaif_process("up", "--select", "+completions")
    assert done.returncode == 2, done.stderr
    rows = {row["asset"]: row for row in json.loads(rlaif_process("status", "--json").stdout)}
    assert rows["prompts"]["state"] == "fresh"
    assert (rows["completions"]["state"], rows["revisions"]["state"]) == ("failed", "missing")
    reason = rows["completions"]["reason"]
    assert re.fullmatch(r"run [0-9a-f]{8} failed: .*/nowhere/tiny.*", reason)
    assert reason.partition(" failed: ")[2] in " ".join(done.stderr.split())  # as `rlaif up` told it
