"""What was made from what: one record a materialization, in the `lineage` table.

A record is written after the tables it speaks of and only when every blocking check passed, so an asset whose record is
current is complete and good. One Parquet part an asset holds the records of all its partitions, in the order in which they
were written: a plan over hundreds of cells opens some twenty files, not thousands.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock

from rlaif_dagster import atomic
from rlaif_dagster.home import Home
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, Warehouse, to_arrow

if TYPE_CHECKING:
    import pyarrow as pa


def partition_key(cell: Cell) -> str | None:
    """Dagster's spelling of a cell: dimension names in alphabetical order, joined by `|`."""
    parts = [part for part in (cell.constitution, cell.model) if part is not None]
    return "|".join(parts) or None


def cell_of_key(dims: Collection[str], key: str | None) -> Cell:
    """The cell that `partition_key` spelled, for an asset with these dimensions."""
    if key is None:
        return Cell()
    return Cell(**dict(zip(sorted(dims), key.split("|"), strict=True)))


@dataclass(frozen=True)
class Version:
    """A content version of one partition of an asset."""

    asset: str
    partition: str | None
    version: str


@dataclass(frozen=True)
class Record:
    """One materialization: what came out, from which code and which versions of its parents. `unanswered` counts the
    questions to which a judge's provider gave no answer, few enough for the result to stand: they can be asked again."""

    asset: str
    partition: str | None
    data_version: str
    code_version: str
    upstream: tuple[Version, ...]
    run_id: str
    started_at: datetime
    seconds: float
    cost_usd: float
    unanswered: int = 0

    @property
    def ended_at(self) -> datetime:
        """When the result stood."""
        return self.started_at + timedelta(seconds=self.seconds)


History = Mapping[tuple[str, str | None], Sequence[Record]]


def _lock(warehouse: Warehouse, part: str) -> Path:
    folder = Home(warehouse.root.parent).work / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"lineage-{part}.lock"


def append_record(warehouse: Warehouse, record: Record) -> None:
    """Add a record to its asset's history."""
    append_records(warehouse, [record])


def append_records(warehouse: Warehouse, records: Iterable[Record]) -> None:
    """Add records to their assets' histories, one write an asset."""
    import pyarrow.parquet as pq

    by_asset: dict[str, list[Record]] = {}
    for record in records:
        by_asset.setdefault(record.asset, []).append(record)
    for asset, new in by_asset.items():
        path = warehouse.path("lineage", part=asset)
        with FileLock(_lock(warehouse, asset)):  # of two processes, the second adds to what the first wrote
            known = pq.read_table(path, partitioning=None) if path.exists() else None
            latest = _latest(known) if known is not None else {}
            later = [begun_after(latest.get(record.partition), record) for record in new]
            atomic.write_file(path, partial(pq.write_table, with_records(known, later), compression="zstd"))


def begun_after(latest: datetime | None, record: Record) -> Record:
    """The record, begun after `latest`, when the partition's last one was: clocks of machines differ, and are put back, but
    what is added last is the latest."""
    if latest is None or record.started_at > latest:
        return record
    return replace(record, started_at=latest + timedelta(microseconds=1))


def _latest(known: pa.Table) -> dict[str | None, datetime]:
    """When the last record of each partition was begun."""
    latest: dict[str | None, datetime] = {}
    for row in known.select(["partition", "started_at"]).to_pylist():
        begun = row["started_at"].replace(tzinfo=UTC)
        latest[row["partition"]] = max(begun, latest.get(row["partition"], begun))
    return latest


def with_records(known: pa.Table | None, new: Sequence[Record]) -> pa.Table:
    """An asset's records with new ones added. A file of an older release may lack a column."""
    import pyarrow as pa

    added = to_arrow(TABLES["lineage"], pd.DataFrame([_row(record) for record in new]), Cell())
    return added if known is None else pa.concat_tables([known, added], promote_options="default")


def _row(record: Record) -> dict[str, Any]:
    return {
        "asset": record.asset, "partition": record.partition, "data_version": record.data_version,
        "code_version": record.code_version, "run_id": record.run_id,
        "upstream": [{"asset": v.asset, "partition": v.partition, "version": v.version} for v in record.upstream],
        "started_at": record.started_at.astimezone(UTC).replace(tzinfo=None), "seconds": record.seconds,
        "cost_usd": record.cost_usd, "unanswered": record.unanswered,
    }  # fmt: skip


def read_history(warehouse: Warehouse) -> History:
    """All records, oldest first, by asset and partition key. A file that did not change since this process read it is not
    read again."""
    history: dict[tuple[str, str | None], list[Record]] = {}
    for path in sorted((warehouse.root / "lineage").glob("[!.]*.parquet")):
        for record in _records_in(path):
            history.setdefault((record.asset, record.partition), []).append(record)
    for records in history.values():
        records.sort(key=lambda record: record.started_at)  # one that is being made is locked: they never overlap
    return history


_READ: dict[Path, tuple[tuple[int, int, int], tuple[Record, ...]]] = {}


def _records_in(path: Path) -> tuple[Record, ...]:
    import pyarrow.parquet as pq

    stamp = _stamp(path)
    known = _READ.get(path)
    if known is None or known[0] != stamp:
        known = _READ[path] = (stamp, records_of(pq.read_table(path, partitioning=None)))
    return known[1]


def records_of(table: pa.Table) -> tuple[Record, ...]:
    """The records in a part of the table `lineage`, in the order in which they were added."""
    return tuple(_record(row) for row in table.to_pylist())


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _record(row: dict[str, Any]) -> Record:
    upstream = tuple(Version(**version) for version in row["upstream"] or ())
    unanswered = row.get("unanswered") or 0  # releases before this column recorded none
    started_at = row["started_at"].replace(tzinfo=UTC)
    return Record(**row | {"upstream": upstream, "started_at": started_at, "unanswered": unanswered})


_ADAPTERS: dict[Path, tuple[tuple[int, int, int], list[str]]] = {}


def adapters_in(models: Path) -> list[str]:
    """Folders, in the model store, of the adapters that a part of the table `models` speaks of."""
    import pyarrow.parquet as pq

    stamp = _stamp(models)
    known = _ADAPTERS.get(models)
    if known is None or known[0] != stamp:
        paths = pq.read_table(models, columns=["path"], partitioning=None)["path"].to_pylist()
        known = _ADAPTERS[models] = (stamp, [str(path) for path in paths])
    return known[1]


def remember_meaning(home: Home, version: str, meaning: Any) -> None:
    """Keep an input's meaning under its version, so that a later plan can name the field that changed."""
    path = home.cache / "inputs" / f"{version}.json"
    if not path.exists():
        atomic.write_text(path, json.dumps(meaning, ensure_ascii=False, sort_keys=True))


def remembered_meaning(home: Home, version: str) -> Any | None:
    path = home.cache / "inputs" / f"{version}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
