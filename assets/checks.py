"""What each check of an asset asks, as its page in Dagster says it. A blocking one stops whatever reads the asset."""

from __future__ import annotations

CHECKS = {
    "verdicts": "Of what the judge was asked, the share without a verdict stays within max_failed_share of "
    "data/recipes/judging.yaml.",
    "pairs": "There are pairs to train on.",
    "trust": "On pairs that people have labelled, the judge reaches the thresholds under `trust` in data/recipes/judging.yaml.",
    "finite_loss": "Every loss and gradient was a finite number; the first that is not stops the training.",
    "reward_accuracy": "On held-out pairs the reward model ranks the preferred answer first often enough (min_accuracy).",
    "reward_length": "It ranks better than length alone would, by min_gain_over_length.",
    "reward_calibration": "It is about as often right as it is sure: expected calibration error within max_calibration_error.",
    "kl": "The policy's mean KL from its start, in nats an answer, stayed under max_kl in every rollout.",
    "collapse": "The published policy still answers: other prompts get other answers, which end, neither vanish nor grow without "
    "end, do not repeat themselves, and are not far from the start.",
    "contamination": "The share of benchmark items that have n-grams in common with what the policy was trained on stays within "
    "max_contaminated_share.",
    "grades": "Of the answers to be graded, the share without a reply of the judge stays within max_failed_share of "
    "data/recipes/judging.yaml.",
}
