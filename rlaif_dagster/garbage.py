"""What nothing refers to: old versions of tables, adapters that no kept version names, results nobody can ask for.

The last N versions of every asset's partition stay, and every version that one of those was made from. What is current is
always among them, unless it is of a cell that was removed and those are to go. Base models, judge answers and the records
themselves are never garbage.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlaif_dagster.bucket.local_copy import store_of
from rlaif_dagster.bucket.objects import Bucket
from rlaif_dagster.errors import UserError
from rlaif_dagster.history import version_folder
from rlaif_dagster.home import Home
from rlaif_dagster.locks import held_elsewhere, holders
from rlaif_dagster.records import History, Record, adapters_in, read_history
from rlaif_dagster.removed import Removed
from rlaif_dagster.warehouse.memo import versions_from
from rlaif_dagster.warehouse.store import Warehouse

NONE = Removed()


@dataclass(frozen=True)
class Garbage:
    """Something to remove: its folder or file, what it is, and the bytes that removing it frees. What lies in a store has its
    `objects` there, and the path that it would have here."""

    path: Path
    what: str
    size: int
    objects: tuple[str, ...] = ()


def kept_records(history: History, keep: int, removed: Removed = NONE) -> list[Record]:
    """The newest record of each of the last `keep` versions of every partition, and of all that they were made from; none of
    what is removed, though an old version may have gathered it."""
    kept: dict[tuple[str, str | None, str], Record] = {}
    todo: list[Record] = []
    for key, records in history.items():
        if key in removed.partitions:
            continue
        versions = list(dict.fromkeys(record.data_version for record in reversed(records)))[:keep]
        newest = {record.data_version: record for record in records}
        todo += [newest[version] for version in versions]
    while todo:
        record = todo.pop()
        version = (record.asset, record.partition, record.data_version)
        if version in kept:
            continue
        kept[version] = record
        for read in record.upstream:
            if (read.asset, read.partition) in removed.partitions:
                continue
            made = [r for r in history.get((read.asset, read.partition), ()) if r.data_version == read.version]
            todo += made[-1:]
    return list(kept.values())


def garbage(home: Home, keep: int, removed: Removed = NONE) -> list[Garbage]:
    """What `rlaif gc --keep N` would remove, here and in the store where there is one, with all that is of `removed`
    cells. Raises UserError while something is being made: it may be in use."""
    if busy := holders(home):
        raise UserError(f"{busy[0]} is making something under {home.root}; run `rlaif gc` when it has ended")
    if elsewhere := held_elsewhere(home):
        raise UserError(f"{min(elsewhere)} is held in the store; run `rlaif gc` when nothing is being made")
    if removed.partitions and store_of(home):
        raise UserError(
            "--removed: other machines of the store may have the files of those cells; remove nothing of theirs"
        )
    records = kept_records(read_history(Warehouse(home.warehouse)), keep, removed)
    return [*_in_store(home, records), *_here(home, records, removed)]


def _in_store(home: Home, records: list[Record]) -> list[Garbage]:
    bucket = store_of(home)
    if bucket is None:
        return []
    from rlaif_dagster.bucket.garbage import garbage_in

    return garbage_in(bucket, home, records)


def _here(home: Home, records: list[Record], removed: Removed) -> list[Garbage]:
    folders = {version_folder(home, r.asset, r.partition, r.data_version) for r in records}
    found = [Garbage(path, "an old version", _size(path)) for path in _children(home.history, 3) if path not in folders]
    found += [Garbage(file, "of a removed cell", _size(file)) for file in sorted(removed.files)]
    tables = [table for table in home.warehouse.glob("models/*/*/*.parquet") if table not in removed.files]
    tables += [table for folder in folders for table in folder.glob("models/*/*/*.parquet")]
    named = {name for table in tables for name in adapters_in(table)}
    found += [Garbage(p, "an adapter", _size(p)) for p in _children(home.models, 1) if p.name not in named]
    versions = {(r.asset, r.data_version) for r in records}
    found += [
        Garbage(path, "a remembered result", _size(path))
        for path in _children(home.cache / "results", 2)
        if not any((path.parent.name, version) in versions for version in versions_from(path))
    ]
    meanings = {v.version for r in records for v in r.upstream}
    found += [
        Garbage(p, "an input's old meaning", _size(p))
        for p in (home.cache / "inputs").glob("*.json") if p.stem not in meanings
    ]  # fmt: skip
    return found


def remove(found: list[Garbage], bucket: Bucket | None = None) -> None:
    """Remove it all, what lies in the store from `bucket`; what is gone already is passed over."""
    if bucket is not None:
        bucket.delete(name for item in found for name in item.objects)
    for item in found:
        if item.objects:
            continue
        if item.path.is_dir():
            shutil.rmtree(item.path, ignore_errors=True)
        else:
            item.path.unlink(missing_ok=True)


def _children(folder: Path, depth: int) -> Iterator[Path]:
    """Folders `depth` levels down, temporary ones aside."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        if depth == 1:
            yield path
        else:
            yield from _children(path, depth - 1)


def _size(path: Path) -> int:
    """Bytes that would be freed: a file with another link to it frees none."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    stats = [file.stat() for file in files]
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)
