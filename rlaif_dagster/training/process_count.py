"""How many processes a training takes, by the environment. Apart from `training.processes`, so that a plan loads no torch."""

from __future__ import annotations

import os

from rlaif_dagster.errors import UserError

PROCESSES = "RLAIF_PROCESSES"


def processes() -> int:
    """How many processes a training takes. Raises UserError."""
    text = os.environ.get(PROCESSES) or "1"
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{PROCESSES}: found {text!r}, allowed: a whole number, at least 1")
    return int(text)
