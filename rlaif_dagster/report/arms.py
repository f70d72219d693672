"""The arms of the study as a reader meets them: their order, their names and one colour each, everywhere.

The colours stay apart for readers with protanopia, deuteranopia and tritanopia, on a light and on a dark page (a test
simulates all three). Colour is never the only sign: bars and curves carry the arm's name as well.
"""

from __future__ import annotations

ARMS = ("base", "sft", "dpo", "ppo")
"""The compared policies, in the order of every table and plot."""

POLICIES = ("dpo", "ppo")
"""The two that the study asks about."""

LABELS = {"base": "base", "sft": "SFT", "dpo": "DPO", "ppo": "PPO", "reward": "reward model"}

LIGHT = {"base": "#868c95", "sft": "#c58300", "dpo": "#0b62b5", "ppo": "#c62a3d", "reward": "#5b7f2b"}
DARK = {"base": "#858c96", "sft": "#f2b632", "dpo": "#4d9fff", "ppo": "#ff6f61", "reward": "#9cc069"}


def label(arm: str) -> str:
    """Name of an arm for people; an unknown arm keeps its own."""
    return LABELS.get(arm, arm)


def in_order(arms: set[str]) -> list[str]:
    """The known arms in the order of `ARMS`, then any others by name."""
    return [arm for arm in ARMS if arm in arms] + sorted(arms - set(ARMS))
