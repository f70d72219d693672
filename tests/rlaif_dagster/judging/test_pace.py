from __future__ import annotations

import pytest

from rlaif_dagster.judging.pace import MINUTE, Pace


def starts(pace: Pace, seconds: float, tokens: float = 0.0) -> list[float]:
    """When requests start that take no time, over so many seconds."""
    now, times = 0.0, []
    while now < seconds:
        pause = pace.wait(now)
        assert pause is not None
        if pause > 0:
            now += pause
            continue
        pace.start(now, tokens)
        pace.answered(tokens, tokens)
        times.append(now)
    return times


def test_without_limits_only_concurrency_counts() -> None:
    pace = Pace(2)
    for _ in range(2):
        assert pace.wait(0.0) == 0.0
        pace.start(0.0, 1e9)
    assert pace.wait(0.0) is None
    pace.answered(1, 1)
    assert pace.wait(0.0) == 0.0


@pytest.mark.parametrize(("limits", "tokens"), [((120.0, None), 0.0), ((None, 12_000.0), 100.0)])
def test_no_minute_holds_more_than_the_limit(limits: tuple[float | None, float | None], tokens: float) -> None:
    times = starts(Pace(8, *limits), 10 * MINUTE, tokens)
    assert len(times) == pytest.approx(1200, abs=2)
    fullest = max(sum(begin <= time < begin + MINUTE for time in times) for begin in times)
    assert 118 <= fullest <= 122


def test_the_tighter_limit_rules() -> None:
    assert len(starts(Pace(8, 600.0, 12_000.0), 10 * MINUTE, 100.0)) == pytest.approx(1200, abs=2)


def test_tokens_that_were_not_used_are_given_back() -> None:
    pace = Pace(8, None, 6_000.0)
    pace.start(0.0, 1000)
    assert pace.wait(0.0) == pytest.approx(10.0)
    pace.answered(1000, 100)
    assert pace.wait(0.0) == pytest.approx(1.0)


def test_a_push_back_counts_once_a_round_and_answers_bring_concurrency_back() -> None:
    pace = Pace(8)
    for _ in range(8):
        pace.start(0.0, 0)
    for _ in range(3):  # were in flight together: one push
        pace.pushed_back(1.0, 0.0, None)
    assert pace.allowed == 4
    pace.pushed_back(3.0, 2.0, None)  # began after it: another one
    assert pace.allowed == 2
    pace.in_flight = 0
    for _ in range(200):
        pace.start(4.0, 0)
        pace.answered(0, 0)
    assert pace.allowed == 8


@pytest.mark.parametrize(("every", "least", "most"), [(10, 24, 64), (2, 4, 20), (1, 1, 1)])
def test_concurrency_follows_the_share_that_is_turned_away(every: int, least: int, most: int) -> None:
    """Rounds of requests of which every tenth, every second or each one meets a 429."""
    pace, asked = Pace(64), 0
    for now in range(1, 100):
        started = now - 0.5
        flight = int(pace.allowed)
        for _ in range(flight):
            pace.start(started, 0)
        for _ in range(flight):
            asked += 1
            if asked % every == 0:
                pace.pushed_back(float(now), started, None)
            else:
                pace.answered(0, 0)
    assert least <= int(pace.allowed) <= most


def test_it_never_falls_below_one() -> None:
    pace = Pace(2)
    for now in range(1, 10):
        pace.start(now - 0.5, 0)
        pace.pushed_back(now, now - 0.5, None)
    assert pace.wait(100.0) == 0.0


def test_a_pause_that_the_provider_asks_for_holds_for_everyone() -> None:
    pace = Pace(8)
    pace.start(0.0, 0)
    pace.pushed_back(1.0, 0.0, 5.0)
    assert pace.wait(2.0) == pytest.approx(4.0)
    assert pace.wait(6.0) == 0.0


def test_starts_are_spread_over_the_time_that_an_answer_takes() -> None:
    """Ten at once, answers of two seconds: the next start is 2 / (2 x 10) seconds after the last, however many could start."""
    pace = Pace(10)
    for _ in range(10):
        assert pace.wait(0.0) == 0.0  # nothing is known yet
        pace.start(0.0, 0)
    for _ in range(10):
        pace.answered(0, 0, 2.0)
    assert pace.wait(2.0) == 0.0
    pace.start(2.0, 0)
    assert pace.wait(2.0) == pytest.approx(0.1)
    assert pace.wait(2.1) == 0.0


def test_a_slow_first_answer_does_not_slow_down_the_rest() -> None:
    """A local server that loads its model when it is first asked: a minute, then a second an answer."""
    pace = Pace(8)
    for _ in range(8):
        pace.start(0.0, 0)
    for _ in range(8):
        pace.answered(0, 0, 60.0)
    pace.start(60.0, 0)
    pace.answered(0, 0, 1.0)
    for _ in range(2):  # a spacing may be caught up on
        pace.start(64.0, 0)
    assert pace.wait(64.0) == pytest.approx(1.0 / (2 * 8))


def test_waves_come_apart_and_stay_apart() -> None:
    """A provider of one second and a client that takes 5 ms for each answer, and for all answers of a wave together: spread
    out, 30 rounds of 64 take little more than 30 seconds; in waves they would take 30 x (1 + 64 x 0.005) = 39.6."""
    pace, now, left, ends = Pace(64), 0.0, 30 * 64, []
    while left or ends:
        started = 0
        while left and pace.wait(now) == 0.0:
            pace.start(now, 0)
            left, started = left - 1, started + 1
        ends += [(now + 1.0 + 0.005 * started, now)] * started
        pause = pace.wait(now) if left else None
        after = min([end for end, _ in ends] + ([now + pause] if pause else []))
        now = max(now, after)
        for end in [end for end in ends if end[0] <= now]:
            ends.remove(end)
            pace.answered(0, 0, end[0] - end[1])
    assert 30.0 < now < 32.0


def test_quick_answers_need_no_spreading() -> None:
    pace = Pace(64)
    pace.start(0.0, 0)
    pace.answered(0, 0, 0.05)
    pace.start(0.05, 0)
    assert pace.wait(0.05) == 0.0
