"""Times on the command line: `2026-11-23`, `2026-11-23 14:30`, `14:30`, or `2 hours ago`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated

import typer

from rlaif_dagster.errors import UserError

UNITS = {"minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}

AtOption = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="As it was then: `2026-11-23`, `2026-11-23 14:30`, `14:30`, `2 hours ago`."
    ),
]


def moment(text: str, now: datetime | None = None) -> datetime:
    """The time that a text means, in the machine's time zone unless it names one. A date is its end: `--at 2026-11-23`
    has all that was made on that day. Raises UserError."""
    now = now or datetime.now().astimezone()
    if ago := re.fullmatch(r"(\d+) *(minute|hour|day|week)s?(?: ago)?", text.strip()):
        return now - timedelta(seconds=int(ago[1]) * UNITS[ago[2]])
    if clock := re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip()):
        text = f"{now:%Y-%m-%d} {clock[1]:0>2}:{clock[2]}"
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UserError(f"time {text!r}: expected 2026-11-23, 2026-11-23 14:30, 14:30 or '2 hours ago'") from None
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text.strip()):
        found += timedelta(days=1) - timedelta(microseconds=1)
    return found if found.tzinfo else found.astimezone()
