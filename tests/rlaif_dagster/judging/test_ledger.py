"""Whose bill a request is on: a process's own, or that of the step or command line that it works for."""

from __future__ import annotations

import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.judging import ledger
from rlaif_dagster.judging.cache import cache_path, open_cache
from rlaif_dagster.judging.ledger import Entry, act_for, committed_usd, outcomes, spent_usd, total_usd


def pay(home: Home, usd: float, unsure: float = 0.0) -> None:
    with open_cache(cache_path(home)) as cache:
        cache.put({}, Entry("here", "answered", 1, usd, unsure_usd=unsure))


def test_a_step_apart_is_on_its_own_bill_and_on_the_command_lines(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_acting_for", None)
    pay(home, 1.0)
    before = committed_usd(home)
    for part, usd in (("0", 0.25), ("1", 0.5)):
        act_for(f"{ledger.PROCESS}/{part}")
        assert spent_usd(home) == 0.0
        pay(home, usd, unsure=0.125)
        assert (spent_usd(home), committed_usd(home), outcomes(home)) == (usd, usd + 0.125, {"answered": 1})
    act_for(f"{ledger.PROCESS}0")  # another one, whose name begins as this one's
    pay(home, 8.0)
    monkeypatch.setattr(ledger, "_acting_for", None)
    assert committed_usd(home) - before == 1.0
    assert outcomes(home) == {"answered": 3}
    assert total_usd(home) == 9.75
