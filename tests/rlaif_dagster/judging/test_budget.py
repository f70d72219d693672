from __future__ import annotations

import asyncio

from rlaif_dagster.judging.budget import Budget


def test_a_request_starts_only_when_its_largest_price_fits() -> None:
    async def run() -> list[bool]:
        budget, started = Budget(1.0), []
        for _ in range(5):
            started.append(await budget.reserve(0.4))
            if started[-1]:
                await budget.settle(0.4, 0.3)
        return [*started, budget.spent == 0.3 + 0.3]

    # 0.0, 0.3 and 0.6 spent: after the second, 0.6 + 0.4 still fits exactly; after the third, 0.9 + 0.4 does not
    assert asyncio.run(run())[:5] == [True, True, True, False, False]


def test_what_is_in_flight_counts_with_the_most_it_can_cost_until_it_ends() -> None:
    async def run() -> tuple[bool, bool, float]:
        budget = Budget(1.0)
        assert await budget.reserve(0.8)
        waiting = asyncio.create_task(budget.reserve(0.8))
        await asyncio.sleep(0)
        held_back = not waiting.done()
        await budget.settle(0.8, 0.1)
        return held_back, await waiting, budget.spent

    assert asyncio.run(run()) == (True, True, 0.1)


def test_once_spent_it_stays_spent() -> None:
    async def run() -> tuple[bool, bool]:
        budget = Budget(0.5)
        return await budget.reserve(0.6), await budget.reserve(0.1)

    assert asyncio.run(run()) == (False, False)


def test_no_limit_lets_everything_start() -> None:
    assert asyncio.run(Budget(None).reserve(1e9))
