"""What stands behind `@`: a time, the results before the latest, or a version of any asset of the cell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rlaif_dagster.cli.standing import stood_at
from rlaif_dagster.errors import UserError
from rlaif_dagster.records import Record
from rlaif_dagster.warehouse.store import Cell

START = datetime(2026, 1, 1, tzinfo=UTC)
CELL = Cell("tiny", "brief")


def made(asset: str, partition: str | None, *versions: tuple[int, str]) -> tuple[tuple[str, str | None], list[Record]]:
    """An asset's records: the hour at which each ended, and its version."""
    records = [
        Record(asset, partition, version, "1", (), "run", START + timedelta(hours=hour, seconds=-60), 60.0, 0.0)
        for hour, version in versions
    ]
    return (asset, partition), records


HISTORY = dict(
    [
        made("completions", "tiny", (1, "c0ffee01")),
        made("dpo_model", "brief|tiny", (2, "aaaaaa01"), (5, "bbbbbb01"), (6, "bbbbbb01"), (9, "aaaaaa02")),
        made("adherence", "brief|tiny", (3, "ad0001"), (7, "ad0002"), (10, "ad0003")),
        made("report", "brief|tiny", (4, "dead01"), (8, "dead02"), (11, "dead03")),
        made("dpo_model", "other|tiny", (2, "eeeeee01")),
        made("sft_model", "brief|tiny", (2, "5f0001")),
    ]
)


def hour(at: str) -> float:
    return round((stood_at(HISTORY, CELL, at) - START).total_seconds() / 3600, 4)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("bbbbbb01", 8),  # the report that was written while it stood
        ("bbbbbb", 8),
        ("aaaaaa01", 4),
        ("aaaaaa02", 11),
        ("ad0002", 8),
        ("dead01", 4),
        ("c0ffee", 11),  # of the model, and current: as it is now
        ("previous", 8),
        ("2026-01-01T04:30+00:00", 4.5),
    ],
)
def test_a_name_is_the_moment_at_which_the_results_rested_on_it(at: str, expected: float) -> None:
    assert hour(at) == expected


def test_a_version_that_no_report_saw_is_the_moment_before_the_next() -> None:
    history = dict([made("dpo_model", "brief|tiny", (2, "aaaaaa01"), (5, "bbbbbb01"))])
    assert stood_at(history, CELL, "aaaaaa") == START + timedelta(hours=5, microseconds=-1)
    assert stood_at(history, CELL, "bbbbbb") > START + timedelta(hours=5)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("aaaaa", "expected 2026-11-23"),  # too short to be a version
        ("eeeeee01", "tiny/brief@eeeeee01: no version of an asset of this cell begins so"),  # of another cell
        ("yesterday", "time 'yesterday': expected 2026-11-23"),
    ],
)
def test_what_is_neither_is_told(at: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        stood_at(HISTORY, CELL, at)


def test_a_beginning_that_several_assets_share_is_not_guessed() -> None:
    history = HISTORY | dict([made("ppo_model", "brief|tiny", (2, "aaaaaa99"))])
    with pytest.raises(UserError, match="versions of dpo_model, ppo_model begin so; write more of it"):
        stood_at(history, CELL, "aaaaaa")
    assert stood_at(history, CELL, "aaaaaa01") == START + timedelta(hours=4)
