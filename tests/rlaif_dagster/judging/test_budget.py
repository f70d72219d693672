from __future__ import annotations

import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.judging.budget import Budget, SharedBudget
from rlaif_dagster.judging.cache import cache_path, open_cache
from rlaif_dagster.judging.ledger import Entry


def test_a_request_starts_only_when_its_largest_price_fits() -> None:
    budget = Budget(1.0)
    for spent in (0.0, 0.3, 0.6):  # after the second, 0.6 + 0.4 still fits exactly
        assert budget.spent == pytest.approx(spent)
        assert budget.fits(0.4)
        budget.reserve(0.4)
        budget.settle(0.4, 0.3)
    assert not budget.fits(0.4)
    assert budget.fits(0.1)


def test_what_is_in_flight_counts_with_the_most_it_can_cost_until_it_ends() -> None:
    budget = Budget(1.0)
    budget.reserve(0.8)
    assert not budget.fits(0.8)
    budget.settle(0.8, 0.1)
    assert budget.fits(0.8)


def test_what_may_have_been_billed_without_an_answer_counts_in_full() -> None:
    budget = Budget(1.0)
    budget.reserve(0.7)
    budget.settle(0.7, 0.0, unsure=True)
    assert (budget.spent, budget.unsure) == (0.0, 0.7)
    assert not budget.fits(0.4)
    assert budget.fits(0.3)


def test_no_limit_lets_everything_start() -> None:
    budget = Budget(None)
    budget.reserve(1e9)
    assert budget.fits(1e9)


def test_a_budget_that_steps_share_counts_what_was_spent_here_and_what_is_told_from_elsewhere_once(home: Home) -> None:
    shared = SharedBudget(home, 5.0)
    with open_cache(cache_path(home)) as cache:
        cache.put({}, Entry("here", "answered", 1, 1.0, unsure_usd=0.5))
    assert shared.left() == 3.5
    shared.tell(1.25)  # of a step in this home: it stands in the ledger
    assert shared.left() == 3.5
    shared.tell(3.0)  # in another home
    assert shared.left() == 0.75
    shared.tell(3.0)
    assert shared.left() == 0.0
    assert SharedBudget(home, None).left() is None
