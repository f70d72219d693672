from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from rlaif_dagster.judging.retry import LONGEST, LONGEST_ASKED, Unavailable, delay, retry_after, tries


def test_the_wait_doubles_with_jitter_between_half_and_whole() -> None:
    assert [delay(attempt, None, 1.0, 1.0) for attempt in range(4)] == [1.0, 2.0, 4.0, 8.0]
    assert [delay(attempt, None, 1.0, 0.0) for attempt in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert delay(20, None, 1.0, 1.0) == LONGEST


def test_a_provider_that_names_a_time_gets_at_least_that() -> None:
    assert delay(0, 30.0, 1.0, 0.0) == 30.0
    assert delay(0, 30.0, 1.0, 1.0) == 31.0
    assert delay(0, 1e9, 1.0, 0.0) == LONGEST_ASKED


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    seconds = retry_after({"Retry-After": date})
    assert seconds is not None
    assert 85 < seconds <= 90


def test_a_rate_limit_is_waited_out_longer_than_trouble() -> None:
    assert tries(Unavailable("", kind="server_error"), 3) == 4
    assert tries(Unavailable("", kind="rate_limited"), 3) == 13
    assert tries(Unavailable("", kind="overloaded"), 0) == 1


def test_only_limits_push_back() -> None:
    assert [Unavailable("", kind=kind).pushes_back for kind in ("rate_limited", "overloaded", "timeout")] == [
        True,
        True,
        False,
    ]
