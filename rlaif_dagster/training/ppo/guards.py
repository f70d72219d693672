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
    """What a policy that has learnt to please the reward alone looks like: one near-certain answer to everything, answers
    that never end, that shrink to nothing or grow without end, that repeat themselves, or that are far from the start."""
    shortest, longest = (share * start.response_length for share in (recipe.min_length_share, recipe.max_length_share))
    signs = {
        "the same near-certain answer to most prompts": published.entropy < recipe.min_entropy
        and published.distinct < recipe.min_distinct,
        "answers that do not end": published.eos_rate < recipe.min_eos_share * start.eos_rate,
        "very short answers": published.response_length < shortest,
        "very long answers": published.response_length > longest,
        "answers that repeat themselves": published.repetition > max(recipe.max_repetition, start.repetition),
        "a KL past its bound": published.kl > recipe.max_kl,
    }
    found = [sign for sign, seen in signs.items() if seen]
    prefix = f"collapsed ({', '.join(found)}): " if found else ""
    return Check(
        "collapse",
        not found,
        prefix + f"held-out greedy answers after update {update}: entropy {published.entropy:.3g} nats a token "
        f"(start {start.entropy:.3g}), {published.distinct:.0%} of them different (at least {recipe.min_distinct:.0%} asked "
        f"where entropy is below {recipe.min_entropy:g}), {published.eos_rate:.0%} ended (start {start.eos_rate:.0%}, at least "
        f"{recipe.min_eos_share:.0%} of that asked), {published.response_length:.3g} tokens ({shortest:.3g} to {longest:.3g} "
        f"allowed), {published.repetition:.0%} repeated (at most {recipe.max_repetition:.0%} allowed), reward "
        f"{published.reward:.3g} (start {start.reward:.3g}), KL {published.kl:.3g} nats a response (at most {recipe.max_kl:g})",
    )
