"""What a finished training is checked for before anything is spent on its policy."""

from __future__ import annotations

from rlaif_dagster.spec.recipes import Ppo
from rlaif_dagster.training.ppo.held_out import Evaluation
from rlaif_dagster.training.trained import Check

FINITE, KL = "finite_loss", "kl"


def checks(
    recipe: Ppo,
    *,
    stopped: tuple[str, str] | None,
    largest_kl: float,
    start: Evaluation,
    published: Evaluation,
    published_update: int,
) -> tuple[Check, ...]:
    """Named verdicts: all numbers were finite, the KL stayed under its bound, the published policy has not collapsed."""
    guard, message = stopped or ("", "")
    finite = "every loss and gradient was finite"
    kl = f"largest mean KL of a rollout {largest_kl:.3g} nats a response (at most {recipe.max_kl:g} allowed)"
    return (
        Check(FINITE, guard != FINITE, message if guard == FINITE else finite),
        Check(KL, guard != KL, message if guard == KL else kl),
        _collapse(recipe, start, published, published_update),
    )


def _collapse(recipe: Ppo, start: Evaluation, published: Evaluation, update: int) -> Check:
    """Collapsed: near-certain of every token and giving one answer to different prompts, or no longer ending answers."""
    same = published.entropy < recipe.min_entropy and published.distinct < recipe.min_distinct
    endless = published.eos_rate < recipe.min_eos_share * start.eos_rate
    return Check(
        "collapse",
        not (same or endless),
        f"held-out greedy answers after update {update}: entropy {published.entropy:.3g} nats a token "
        f"(start {start.entropy:.3g}), {published.distinct:.0%} of them different (at least {recipe.min_distinct:.0%} asked "
        f"where entropy is below {recipe.min_entropy:g}), {published.eos_rate:.0%} ended (start {start.eos_rate:.0%}, at least "
        f"{recipe.min_eos_share:.0%} of that asked), reward {published.reward:.3g} (start {start.reward:.3g}), KL "
        f"{published.kl:.3g} nats a response",
    )
