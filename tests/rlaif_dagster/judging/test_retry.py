from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from rlaif_dagster.judging.retry import LONGEST, LONGEST_ASKED, Unavailable, delay, retry_after, with_retries


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


def test_the_last_error_is_raised_after_all_tries() -> None:
    tries = []

    async def ask() -> str:
        tries.append(len(tries))
        raise Unavailable(f"try {len(tries)}")

    with pytest.raises(Unavailable, match="try 4"):
        asyncio.run(with_retries(ask, 3, 0.0))
    assert tries == [0, 1, 2, 3]
