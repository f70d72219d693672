"""Whose bill a request is on: a process's own, or that of the process that it works for."""

from __future__ import annotations

import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.judging import ledger
from rlaif_dagster.judging.cache import cache_path, open_cache
from rlaif_dagster.judging.ledger import Entry, act_for, committed_usd, outcomes, part_of_payer, spent_usd, total_usd


def pay(home: Home, usd: float, unsure: float = 0.0) -> None:
    with open_cache(cache_path(home)) as cache:
        cache.put({}, Entry("here", "answered", 1, usd, unsure_usd=unsure))


def test_a_shard_spends_the_money_of_the_process_that_it_works_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_acting_for", None)
    pay(home, 1.0)
    act_for("elsewhere:1:aaaa")
    assert (spent_usd(home), outcomes(home)) == (0.0, {})
    pay(home, 0.25)
    monkeypatch.setattr(ledger, "_acting_for", None)
    act_for("elsewhere:1:aaaa")  # another shard of the same process
    pay(home, 0.5, unsure=0.125)
    assert (spent_usd(home), committed_usd(home), outcomes(home)) == (0.75, 0.875, {"answered": 2})
    monkeypatch.setattr(ledger, "_acting_for", None)
    assert (spent_usd(home), committed_usd(home), outcomes(home)) == (1.0, 1.0, {"answered": 1})
    assert total_usd(home) == 1.75


def test_what_a_part_of_the_work_spends_is_its_own_cost_and_the_whole_s_too(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_acting_for", None)
    pay(home, 1.0)
    parts = [part_of_payer(name) for name in ("making-judgments@brief@tiny", "making-judgments@brief@tiny2")]
    for part, usd in zip(parts, (0.25, 0.5), strict=True):
        act_for(part)
        pay(home, usd, unsure=usd)
        assert (spent_usd(home), committed_usd(home), outcomes(home)) == (usd, 2 * usd, {"answered": 1})
    monkeypatch.setattr(ledger, "_acting_for", None)
    assert (spent_usd(home), committed_usd(home), outcomes(home)) == (1.75, 2.5, {"answered": 3})
    monkeypatch.setenv(ledger.PAYER, part_of_payer("watch"))  # in a command that this one starts
    assert (spent_usd(home), outcomes(home)) == (0.0, {})
    pay(home, 1.0)
    monkeypatch.delenv(ledger.PAYER)
    assert spent_usd(home) == 2.75
