"""How the command line writes amounts: durations, ages, prices, counts and sizes, short enough for a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlaif_dagster.memory_places import Place


def duration(seconds: float | None) -> str:
    """`42 s`, `12 min`, `3.5 h`, or `?` where nothing is known."""
    if seconds is None:
        return "?"
    if seconds < 1:
        return "<1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def age(made_at: datetime | None, now: datetime | None = None) -> str:
    """`5 min ago`; a time without a zone is UTC."""
    if made_at is None:
        return ""
    made_at = made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC)
    seconds = max(((now or datetime.now(UTC)) - made_at).total_seconds(), 0)
    return f"{seconds / 86400:.0f} d ago" if seconds >= 2 * 86400 else f"{duration(seconds)} ago"


def dollars(usd: float) -> str:
    """`-` for nothing, cents from a dollar on, four digits below."""
    if usd == 0:
        return "-"
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"


def count(number: int) -> str:
    """`-`, `312`, `12.3k`, `4.5M`"""
    if number == 0:
        return "-"
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= size:
            return f"{number / (1000 if suffix == 'k' else size):.1f}{suffix}"
    return str(number)


def gibibytes(size: float) -> str:
    """`3.2 GiB`"""
    return f"{size / 2**30:.1f} GiB"


def room(place: Place) -> str:
    """`15.6 GiB memory`, `79.6 GiB GPU memory for 4 processes`; how much there is on a cluster is not known here."""
    kind = "GPU memory" if place.device == "cuda" else "memory"
    size = f"{kind} on the cluster" if place.bytes is None else f"{gibibytes(place.bytes)} {kind}"
    return f"{size} for {place.copies} processes" if place.copies > 1 else size


def plural(number: int, noun: str) -> str:
    """`1 step`, `2 steps`"""
    return f"{number} {noun}{'' if number == 1 else 's'}"
