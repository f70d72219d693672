"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rlaif_dagster.cli.moments import moment
from rlaif_dagster.errors import UserError

NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)


def test_ago_is_counted_from_now() -> None:
    assert moment("2 hours ago", NOW) == datetime(2026, 11, 23, 16, 30, tzinfo=UTC)
    assert moment("1 day", NOW) == datetime(2026, 11, 22, 18, 30, tzinfo=UTC)


def test_a_date_is_its_end_and_a_clock_is_today() -> None:
    local = datetime.now().astimezone().tzinfo
    assert moment("2026-11-20").replace(tzinfo=None) == datetime(2026, 11, 20, 23, 59, 59, 999999)
    assert moment("2026-11-20 14:30").astimezone(local).hour == 14
    assert moment("9:05", NOW).strftime("%Y-%m-%d %H:%M") == "2026-11-23 09:05"
    assert moment("2026-11-20T14:30:00+00:00") == datetime(2026, 11, 20, 14, 30, tzinfo=UTC)


def test_anything_else_is_told() -> None:
    with pytest.raises(UserError, match=r"time 'yesterdayish': expected 2026-11-23"):
        moment("yesterdayish")
