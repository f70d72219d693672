"""A step's result, from tables in memory to what everyone sees: files first, the record last.

With results on this machine the tables are written in place. With a store (`RLAIF_STORE`) they are written aside, kept as a
version, put into the store and recorded there; the warehouse here then follows the store as it does on every machine, so a
step that is killed on the way leaves nothing here that is not recorded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from rlaif_dagster.bucket.local_copy import store_of
from rlaif_dagster.history import NOT_KEPT, keep, link
from rlaif_dagster.home import Home
from rlaif_dagster.records import Record, append_record
from rlaif_dagster.warehouse.store import Cell, Warehouse


def commit(
    warehouse: Warehouse,
    cell: Cell,
    part: str,
    frames: Mapping[str, pd.DataFrame],
    files: Sequence[str],
    record: Record,
) -> None:
    """Write a step's tables, keep its files (named relative to the warehouse) as a version, and record it."""
    home = Home(warehouse.root.parent)
    bucket = store_of(home)
    if bucket is None:
        for name, frame in frames.items():
            warehouse.write(name, frame, cell, part)
        keep(warehouse, record.asset, cell, record.data_version, files)
        append_record(warehouse, record)
        return
    from rlaif_dagster.bucket.publishing import publish

    home.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="publishing-", dir=home.work) as folder:
        aside = Warehouse(Path(folder))
        written = {aside.path(name, cell, part).relative_to(aside.root).as_posix() for name in frames}
        for name, frame in frames.items():
            aside.write(name, frame, cell, part)
        for file in set(files) - written - NOT_KEPT:  # a page that the step wrote itself
            (aside.root / file).parent.mkdir(parents=True, exist_ok=True)
            link(warehouse.root / file, aside.root / file)
        keep(aside, record.asset, cell, record.data_version, files, home)
    publish(home, bucket, record)
