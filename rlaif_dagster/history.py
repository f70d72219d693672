"""Old versions stay: the files of every version of every asset, and the tables as they stood at a time.

When a step ends, each file it wrote is hard-linked to `RLAIF_HOME/history/ASSET/PARTITION/VERSION/`. Files in the warehouse
are replaced by renaming, never changed, so a link costs no space until its version is the past. Adapters need none: they
lie in the model store under their content, and the table `models` of each version says which were meant.
`rlaif gc` removes what is too old.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from rlaif_dagster import atomic
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.records import History, Record, append_records, cell_of_key, partition_key, read_history
from rlaif_dagster.resolver import Node
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, Warehouse

NOT_KEPT = {"results.duckdb"}  # a copy of all tables, which are kept themselves


def version_folder(home: Home, asset: str, partition: str | None, version: str) -> Path:
    """Where the files of one version of an asset's partition lie."""
    return home.history / asset / (partition or "all").replace("|", "@") / version


def keep(
    warehouse: Warehouse, asset: str, cell: Cell, version: str, files: Iterable[str], home: Home | None = None
) -> None:
    """Link a version's files, named relative to the warehouse, into the history (of `home`, by default the warehouse's own).
    One that is there already stays."""
    home = home or Home(warehouse.root.parent)
    kept = [file for file in files if file not in NOT_KEPT]
    folder = version_folder(home, asset, partition_key(cell), version)
    if not kept or folder.exists():
        return
    with atomic.new_folder(folder) as target:
        for file in kept:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            link(warehouse.root / file, target / file)


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where there are no hard links."""
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def records_at(history: History, at: datetime) -> dict[tuple[str, str | None], Record]:
    """The record of each asset's partition that was the latest `at` a time."""
    before = {key: [record for record in records if record.ended_at <= at] for key, records in history.items()}
    return {key: records[-1] for key, records in before.items() if records}


def snapshot(
    home: Home,
    nodes: Mapping[str, Node],
    records: Mapping[tuple[str, str | None], Record],
    folder: Path,
    fetch: Callable[[Record], object] = lambda record: None,
) -> Home:
    """A home in `folder` whose tables are those of `records`, as links; its table `lineage` ends with them. `fetch` may bring
    the files of a version that are not here.

    Raises UserError when a version's files are neither in the history nor current.
    """
    now = {key: made[-1] for key, made in read_history(Warehouse(home.warehouse)).items()}
    past = Home(folder)
    for (asset, partition), record in records.items():
        node = nodes.get(asset)
        if node is None:  # an asset that the graph no longer has
            continue
        cell = cell_of_key(node.dims, partition)
        kept = version_folder(home, asset, partition, record.data_version)
        if not kept.exists():
            fetch(record)
        for name in node.writes:
            file = name.format(model=cell.model, constitution=cell.constitution)
            source = kept / file
            if not source.exists():
                if file.split("/")[0] not in TABLES:
                    continue  # a report or a copy of all tables: no table asks for it
                current = now.get((asset, partition))
                source = home.warehouse / file
                if current is None or current.data_version != record.data_version or not source.exists():
                    raise UserError(
                        f"version {record.data_version} of {asset} {partition or ''}: its files are gone "
                        f"({kept} was removed, perhaps by `rlaif gc`); choose a later date"
                    )
            (past.warehouse / file).parent.mkdir(parents=True, exist_ok=True)
            (past.warehouse / file).symlink_to(source)
    append_records(Warehouse(past.warehouse), records.values())
    return past
