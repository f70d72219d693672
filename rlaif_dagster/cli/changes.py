"""What was edited, as a diff: each input that is a reason, its file, and its fields then and now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from rlaif_dagster.causes import Change, Reason
    from rlaif_dagster.planning import Plan

WIDTH = 110  # of a value; a longer one is cut around the first place where the two differ
FIELDS = 8  # of one input; more are counted


def diff(planned: Plan) -> Iterator[Text]:
    """The lines; none where no input was edited."""
    from rlaif_dagster.causes import distinct

    reasons = distinct(reason for step in planned.steps for reason in step.causes if reason.changes)
    for reason in reasons:
        yield from _edited(reason)


def _edited(reason: Reason) -> Iterator[Text]:
    from rich.text import Text

    name = f"{reason.cause} {reason.where}" if reason.where else reason.cause
    yield Text.assemble((name, "bold"), f"  {file_of(reason)}")
    for change in reason.changes[:FIELDS]:
        yield from _field(change)
    if len(reason.changes) > FIELDS:
        yield Text(f"    … and {len(reason.changes) - FIELDS} more fields", style="dim")
    yield Text()


def _field(change: Change) -> Iterator[Text]:
    from rich.text import Text

    before, after = _written(change.before), _written(change.after)
    if before and after:
        before, after = _cut(before, after)
    yield Text(f"    {change.field}", style="cyan")
    if before:
        yield Text(f"  - {before[:WIDTH]}", style="red")
    if after:
        yield Text(f"  + {after[:WIDTH]}", style="green")


def file_of(reason: Reason) -> str:
    """The file or folder behind an input, as the user knows it."""
    from rlaif_dagster.inputs import INPUTS

    item = INPUTS.get(reason.cause)
    if item is None:
        return ""
    folder = item.files.endswith("/")
    return f"{item.files}{reason.where}.yaml" if folder and reason.where else item.files


def _written(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())


def _cut(before: str, after: str) -> tuple[str, str]:
    """Both, from a little before the first difference on, where they do not fit."""
    if max(len(before), len(after)) <= WIDTH:
        return before, after
    same = next((place for place, (b, a) in enumerate(zip(before, after, strict=False)) if b != a), WIDTH)
    start = max(same - WIDTH // 3, 0)
    return _part(before, start), _part(after, start)


def _part(text: str, start: int) -> str:
    shown = text[start : start + WIDTH - 2]
    return ("…" if start else "") + shown + ("…" if start + len(shown) < len(text) else "")
