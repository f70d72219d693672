"""What was made from what: one record a materialization, in the `lineage` table.

A record is written after the tables it speaks of and only when every blocking check passed, so an asset whose record is
current is complete and good. One Parquet part an asset and partition holds all its records, newest last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from rlaif_dagster import atomic
from rlaif_dagster.home import Home
from rlaif_dagster.warehouse.store import Cell, Warehouse


def partition_key(cell: Cell) -> str | None:
    """Dagster's spelling of a cell: dimension names in alphabetical order, joined by `|`."""
    parts = [part for part in (cell.constitution, cell.model) if part is not None]
    return "|".join(parts) or None


@dataclass(frozen=True)
class Version:
    """A content version of one partition of an asset."""

    asset: str
    partition: str | None
    version: str


@dataclass(frozen=True)
class Record:
    """One materialization: what came out, from which code and which versions of its parents."""

    asset: str
    partition: str | None
    data_version: str
    code_version: str
    upstream: tuple[Version, ...]
    run_id: str
    started_at: datetime
    seconds: float
    cost_usd: float


def _part(asset: str, partition: str | None) -> str:
    return f"{asset}@{(partition or 'all').replace('|', '@')}"


def _lock(warehouse: Warehouse, part: str) -> Path:
    folder = Home(warehouse.root.parent).work / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"lineage-{part}.lock"


def append_record(warehouse: Warehouse, record: Record) -> None:
    """Add a record to its asset's and partition's history."""
    row = {
        "asset": record.asset, "partition": record.partition, "data_version": record.data_version,
        "code_version": record.code_version, "run_id": record.run_id,
        "upstream": [{"asset": v.asset, "partition": v.partition, "version": v.version} for v in record.upstream],
        "started_at": record.started_at.astimezone(UTC).replace(tzinfo=None), "seconds": record.seconds,
        "cost_usd": record.cost_usd,
    }  # fmt: skip
    part = _part(record.asset, record.partition)
    with FileLock(_lock(warehouse, part)):  # of two processes, the second adds to what the first wrote
        history = warehouse.read("lineage", part=part).to_dict("records") if warehouse.has("lineage", part=part) else []
        warehouse.write("lineage", pd.DataFrame([*history, row]), part=part)


def read_history(warehouse: Warehouse) -> dict[tuple[str, str | None], list[Record]]:
    """All records, oldest first, by asset and partition key."""
    import pyarrow.parquet as pq

    history: dict[tuple[str, str | None], list[Record]] = {}
    for path in sorted((warehouse.root / "lineage").glob("[!.]*.parquet")):
        for row in pq.read_table(path, partitioning=None).to_pylist():
            upstream = tuple(Version(**version) for version in row.pop("upstream") or ())
            record = Record(**row | {"upstream": upstream, "started_at": row["started_at"].replace(tzinfo=UTC)})
            history.setdefault((record.asset, record.partition), []).append(record)
    return history


def adapters_in(models: Path) -> list[str]:
    """Folders, in the model store, of the adapters that a part of the table `models` speaks of."""
    import pyarrow.parquet as pq

    return [str(path) for path in pq.read_table(models, columns=["path"], partitioning=None)["path"].to_pylist()]


def remember_meaning(home: Home, version: str, meaning: Any) -> None:
    """Keep an input's meaning under its version, so that a later plan can name the field that changed."""
    path = home.cache / "inputs" / f"{version}.json"
    if not path.exists():
        atomic.write_text(path, json.dumps(meaning, ensure_ascii=False, sort_keys=True))


def remembered_meaning(home: Home, version: str) -> Any | None:
    path = home.cache / "inputs" / f"{version}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
