"""What `rlaif up` says while it works: a line a step on stderr when it starts and when it ends.

The stages draw their own bars below the line of the step that runs; lines, unlike a live display, stay readable beside them
and in a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlaif_dagster.cli.cells import cell_name
from rlaif_dagster.cli.wording import dollars, duration, plural

if TYPE_CHECKING:
    from rich.console import Console

    from rlaif_dagster.planning import Event, Step
    from rlaif_dagster.warehouse.store import Cell


class Progress:
    """Writes events down."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.done = 0
        self.under_way: set[tuple[str, Cell]] = set()
        self.remaining: int | None = None

    def __call__(self, event: Event) -> None:
        first = self.remaining is None
        if event.remaining is not None:
            self.remaining = event.remaining
        from rich.markup import escape

        step = event.step
        if step is None:
            if first and self.remaining:
                self.console.print(f"{plural(self.remaining, 'step')} at most")
            return
        name = f"{step.asset} [dim]{cell_name(step.cell)}[/dim]"
        match event.kind:
            case "started":
                self._started(name, step)
            case "made":
                self._line("green", "✓", name, event)
            case "failed":
                self._line("red", "✗", name, event)
            case "blocked":
                self._line("yellow", "-", name, event)
            case "waiting" | "elsewhere":
                self.console.print(f"         {name} [dim]{escape(event.message)}[/dim]")
            case "planned":
                pass

    def _started(self, name: str, step: Step) -> None:
        self.under_way.add((step.asset, step.cell))
        place = self.done + len(self.under_way)
        number = f"{place}/{max(self.done + (self.remaining or 0), place)}"
        expected = f", about {duration(step.seconds)}" if step.seconds is not None else ""
        price = f", {dollars(step.usd)}" if step.usd else ""
        self.console.print(f"[dim]{number:>7}[/dim]  {name}{expected}{price} …")

    def _line(self, style: str, sign: str, name: str, event: Event) -> None:
        from rich.markup import escape

        self.done += 1
        if event.step:
            self.under_way.discard((event.step.asset, event.step.cell))
        self.remaining = max((self.remaining or 0) - 1, 0)
        took = f" {duration(event.seconds)}" if event.seconds is not None else ""
        message = f" [dim]{escape(event.message)}[/dim]" if event.message else ""
        self.console.print(f"      [{style}]{sign}[/{style}]  {name}{took}{message}")
