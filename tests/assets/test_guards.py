from __future__ import annotations

import pytest

from assets.training import GUARDS, over_seeds
from rlaif_dagster.training.trained import Check


def test_a_guard_is_a_check_of_its_own_and_fails_with_the_seeds_that_failed() -> None:
    first = [Check("finite_loss", True, "fine"), Check("kl", True, "2 nats"), Check("collapse", True, "alive")]
    second = [Check("finite_loss", True, "fine too"), Check("kl", False, "40 nats")]
    finite, kl, collapse = over_seeds("ppo", [*first, *second])
    assert finite == Check("finite_loss", True, "fine; fine too")
    assert kl == Check("kl", False, "40 nats")
    assert collapse == Check("collapse", True, "alive")


def test_a_guard_that_training_never_came_to_has_not_failed() -> None:
    [finite, *others] = over_seeds("reward", [Check("finite_loss", False, "loss nan in step 3")])
    assert not finite.passed
    assert {check.name for check in others} == set(GUARDS["reward"][1:])
    assert all(check == Check(check.name, True, "not reached") for check in others)


def test_a_guard_that_is_not_declared_is_not_lost() -> None:
    with pytest.raises(KeyError, match="novelty"):
        over_seeds("sft", [Check("novelty", False, "unknown")])
