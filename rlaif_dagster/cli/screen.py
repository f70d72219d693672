"""Where results are printed: as wide as the terminal, and as wide as it takes where there is none.

A table that is cut to 80 columns in a log or a pipe says nothing. What prompts, models and judges wrote is shown with its
control characters written out: an escape sequence in an answer could otherwise clear the screen, retitle the window or
hide a line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rlaif_dagster.errors import visible

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 200


def results() -> Console:
    """The console for what a command was asked for (stdout)."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return _console()
    return _console(width=WIDE, height=WIDE)  # both, or a dumb terminal's 80 columns win


def progress() -> Console:
    """The console for what happens meanwhile (stderr)."""
    return _console(stderr=True)


def _console(**how: Any) -> Console:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Visible(Console):
        """Writes out the control characters of texts; rich's own (styles, cursor) are added later, or are marked."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or segment.text.isprintable():
                    yield segment
                else:
                    yield Segment(visible(segment.text, keep="\n"), segment.style)

    return Visible(highlight=False, **how)
