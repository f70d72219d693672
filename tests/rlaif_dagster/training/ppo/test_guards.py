"""The checks say what went wrong, with the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlaif_dagster.training.ppo.guards import FINITE, KL, checks
from rlaif_dagster.training.ppo.held_out import Evaluation, repetition
from rlaif_dagster.training.trained import Check
from tests.rlaif_dagster.training.ppo.conftest import Recipe

START = Evaluation(reward=0.1, kl=0.0, entropy=2.0, distinct=1.0, repetition=0.1, eos_rate=0.8, response_length=40.0)


def verdicts(recipe: Recipe, published: Evaluation, stopped: tuple[str, str] | None = None) -> dict[str, Check]:
    made = recipe(
        max_kl=30.0, min_entropy=0.05, min_distinct=0.5, min_eos_share=0.5, min_length_share=0.25, max_repetition=0.5
    )
    found = checks(made, stopped=stopped, largest_kl=12.5, start=START, published=published, published_update=8)
    return {check.name: check for check in found}


def test_all_is_well(recipe: Recipe) -> None:
    found = verdicts(recipe, START)
    assert [check.passed for check in found.values()] == [True] * 3
    assert "12.5 nats a response (at most 30 allowed)" in found[KL].message


@pytest.mark.parametrize("guard", [FINITE, KL])
def test_what_stopped_the_training_fails_its_check(recipe: Recipe, guard: str) -> None:
    found = verdicts(recipe, START, (guard, "training stopped because"))
    assert [name for name, check in found.items() if not check.passed] == [guard]
    assert found[guard].message == "training stopped because"


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({"entropy": 0.01, "distinct": 0.1}, False),  # one answer to everything
        ({"entropy": 0.01, "distinct": 0.9}, True),  # certain, but of different answers
        ({"entropy": 1.0, "distinct": 0.1}, True),
        ({"eos_rate": 0.39}, False),  # below half of the start's 0.8
        ({"eos_rate": 0.41}, True),
        ({"response_length": 9.0}, False),  # below a quarter of the start's 40
        ({"response_length": 11.0}, True),
        ({"response_length": 161.0}, False),  # above four times
        ({"repetition": 0.6}, False),
        ({"repetition": 0.4}, True),
        ({"kl": 31.0}, False),
    ],
)
def test_collapse(recipe: Recipe, change: dict[str, float], passed: bool) -> None:
    check = verdicts(recipe, replace(START, **change))["collapse"]
    assert check.passed is passed
    assert "after update 8" in check.message
    assert check.message.startswith("collapsed (") is not passed
    for value in change.values():
        assert f"{value:.3g}" in check.message or f"{value:.0%}" in check.message


def test_repetition_by_hand() -> None:
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([7, 7, 7, 7, 7]) == pytest.approx(2 / 3)  # three runs, all the same
    assert repetition([1, 2, 3, 1, 2, 3]) == pytest.approx(1 / 4)  # 123 231 312 123
    assert repetition([1, 2]) == 0


def test_a_start_that_repeats_itself_is_no_collapse(recipe: Recipe) -> None:
    """Greedy answers of small models do; what training is blamed for is that it got worse."""
    start = replace(START, repetition=0.7)
    found = checks(recipe(max_kl=30.0), stopped=None, largest_kl=1.0, start=start, published=start, published_update=1)
    assert all(check.passed for check in found)
