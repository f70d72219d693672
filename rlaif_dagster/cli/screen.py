"""Where results are printed: as wide as the terminal, and as wide as it takes where there is none.

A table that is cut to 80 columns in a log or a pipe says nothing.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 200


def results() -> Console:
    """The console for what a command was asked for (stdout)."""
    from rich.console import Console

    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console(highlight=False)
    return Console(width=WIDE, height=WIDE, highlight=False)  # both, or a dumb terminal's 80 columns win


def progress() -> Console:
    """The console for what happens meanwhile (stderr)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)
