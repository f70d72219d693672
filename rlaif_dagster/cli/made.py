"""What `rlaif up` says while it works: a line a step on stderr when it starts and when it ends.

A step that runs in this process draws its own bars below its line. Steps side by side cannot: their bars come as events, and
stand together below all lines, one a step, where stderr is a terminal.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rlaif_dagster.cli.cells import cell_name
from rlaif_dagster.cli.wording import dollars, duration, plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from rlaif_dagster.planning import Event, Step


class Progress:
    """Writes events down. Lines, unlike a display that is redrawn, stay readable in a log; only bars are redrawn."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.done = 0
        self.remaining: int | None = None
        self.bars: dict[str, str] = {}  # of the steps under way, by name
        self._under_way: set[str] = set()
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

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
            case "waiting" | "elsewhere" | "told":
                self.console.print(f"         {name} [dim]{escape(event.message)}[/dim]")
            case "progress":
                self.bars[name] = escape(event.message)
                self._draw()
            case "planned":
                pass

    def _started(self, name: str, step: Step) -> None:
        self._under_way.add(name)
        number = f"{self.done + len(self._under_way)}/{self.done + max(self.remaining or 0, 1)}"
        expected = f", about {duration(step.seconds)}" if step.seconds is not None else ""
        price = f", {dollars(step.usd)}" if step.usd else ""
        self.console.print(f"[dim]{number:>7}[/dim]  {name}{expected}{price} …")

    def _line(self, style: str, sign: str, name: str, event: Event) -> None:
        from rich.markup import escape

        self.done += 1
        self.remaining = max((self.remaining or 0) - 1, 0)
        self._under_way.discard(name)
        if self.bars.pop(name, None):
            self._draw()
        took = f" {duration(event.seconds)}" if event.seconds is not None else ""
        message = f" [dim]{escape(event.message)}[/dim]" if event.message else ""
        self.console.print(f"      [{style}]{sign}[/{style}]  {name}{took}{message}")

    def _draw(self) -> None:
        """The bars as they stand."""
        if not self.console.is_terminal:
            return
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=self.console, transient=True, auto_refresh=False, redirect_stderr=False)
            self._live.start()
        lines = [Text.from_markup(f"         {name}  {bar}") for name, bar in self.bars.items()]
        for line in lines:
            line.truncate(self.console.width, overflow="ellipsis")
        self._live.update(Text("\n").join(lines), refresh=True)
