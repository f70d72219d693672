"""Amounts as the tables show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rlaif_dagster.cli.wording import age, count, dollars, duration, gibibytes, plural


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.2, "<1 s"), (42, "42 s"), (89.4, "89 s"), (720, "12 min"), (5399, "90 min"), (12600, "3.5 h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_ages_are_counted_in_utc() -> None:
    now = datetime(2026, 1, 10, 12, tzinfo=UTC)
    assert age(now - timedelta(minutes=5), now) == "5 min ago"
    assert age(datetime(2026, 1, 10, 11, 59), now) == "60 s ago"
    assert age(now - timedelta(days=3), now) == "3 d ago"
    assert age(now + timedelta(seconds=3), now) == "<1 s ago"
    assert age(None, now) == ""


def test_prices_counts_and_sizes() -> None:
    assert [dollars(usd) for usd in (0, 0.00123, 12.345, 1234.5)] == ["-", "$0.0012", "$12.35", "$1,234.50"]
    assert [count(n) for n in (0, 312, 9999, 12345, 4_500_000, 2 * 10**9)] == [
        "-",
        "312",
        "9999",
        "12.3k",
        "4.5M",
        "2.0G",
    ]
    assert gibibytes(3.25 * 2**30) == "3.2 GiB"
    assert [plural(n, "step") for n in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
