"""`@` in `rlaif compare`: the moment at which a cell stood as a time, `previous` or a version names it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rlaif_dagster.cli.moments import moment
from rlaif_dagster.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlaif_dagster.records import History, Record
    from rlaif_dagster.warehouse.store import Cell

PREVIOUS = "previous"
VERSION = re.compile(r"[0-9a-f]{6,16}")  # a data version, or as much of its beginning as tells it from others


def stood_at(history: History, cell: Cell, at: str) -> datetime:
    """The moment that is meant by what was written behind `@`. Raises UserError."""
    if at == PREVIOUS:
        return before_latest(history, cell)
    if VERSION.fullmatch(at) and (found := of_version(history, cell, at)):
        return found
    try:
        return moment(at)
    except UserError as error:
        if VERSION.fullmatch(at):
            name = f"{cell.model}/{cell.constitution}"
            raise UserError(
                f"{name}@{at}: no version of an asset of this cell begins so; see `rlaif status`"
            ) from error
        raise


def before_latest(history: History, cell: Cell) -> datetime:
    """When the cell's last report but one was written; UserError where there was only one."""
    from rlaif_dagster.records import partition_key

    reports = history.get(("report", partition_key(cell)), ())
    earlier = [record for record in reports if record.data_version != reports[-1].data_version]
    if not earlier:
        raise UserError(f"{cell.model}/{cell.constitution}@{PREVIOUS}: its results were made only once; name a time")
    return earlier[-1].ended_at


def of_version(history: History, cell: Cell, version: str) -> datetime | None:
    """When the cell's results rested on a version of one of its assets (or of its model's or constitution's): at the last
    report before that asset had another; where there was no report, just before it had. None where no version begins so;
    UserError where versions of several assets do."""
    from rlaif_dagster.records import partition_key

    own = {partition_key(cell), cell.model, cell.constitution, None}
    matching = {
        key: records
        for key, records in history.items()
        if key[1] in own and any(record.data_version.startswith(version) for record in records)
    }
    if not matching:
        return None
    if len({asset for asset, _ in matching}) > 1:
        names = ", ".join(sorted(asset for asset, _ in matching))
        raise UserError(f"{cell.model}/{cell.constitution}@{version}: versions of {names} begin so; write more of it")
    [records] = matching.values()
    began, ended = _reign(records, version)
    reports = history.get(("report", partition_key(cell)), ())
    within = [one.ended_at for one in reports if began <= one.ended_at and (ended is None or one.ended_at < ended)]
    if within:
        return within[-1]
    return (ended or records[-1].ended_at + timedelta(microseconds=2)) - timedelta(microseconds=1)


def _reign(records: Sequence[Record], version: str) -> tuple[datetime, datetime | None]:
    """From when until when a version was an asset's latest, the last time that it was; without an end where it is."""
    last = max(place for place, record in enumerate(records) if record.data_version.startswith(version))
    after = records[last + 1 :]
    return records[last].ended_at, after[0].ended_at if after else None
