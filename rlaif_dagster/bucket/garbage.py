"""What of the store nothing refers to, by the records in it; the rules are those of `rlaif_dagster.garbage`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rlaif_dagster.bucket.folders import at_once
from rlaif_dagster.bucket.local_copy import INPUTS, fetch_version
from rlaif_dagster.bucket.objects import Bucket, Object
from rlaif_dagster.bucket.sharing import BECAME, RESULTS
from rlaif_dagster.garbage import Garbage
from rlaif_dagster.history import version_folder
from rlaif_dagster.home import Home
from rlaif_dagster.records import Record, adapters_in

SECONDS_ON_ITS_WAY = 3600.0  # what is younger may be part of a result that is being put right now


def garbage_in(bucket: Bucket, home: Home, records: Sequence[Record]) -> list[Garbage]:
    """What to remove when these records, and what they name, are to stay."""
    versions = {_at(home, record) for record in records}
    results = _folders(bucket.list(f"{RESULTS}/"), 4)
    marks = {one.name.removeprefix(f"{BECAME}/").rpartition("/")[::2] for one in bucket.list(f"{BECAME}/")}
    kept = {(record.asset, record.data_version) for record in records}
    needed = {f"{RESULTS}/{name}" for name, version in marks if (name.partition("/")[0], version) in kept}
    meanings = {f"{INPUTS}{version.version}.json" for record in records for version in record.upstream}
    return [
        *_unused(home, _folders(bucket.list("history/"), 4), versions, "an old version, in the store"),
        *_unused(
            home, _folders(bucket.list("models/"), 2), _adapters(bucket, home, records), "an adapter, in the store"
        ),
        *_unused(home, results, needed, "a remembered result, in the store"),
        *_unused(
            home, _folders(bucket.list(f"{BECAME}/"), 4), {n.replace(RESULTS, BECAME, 1) for n in needed}, "its marks"
        ),
        *_unused(home, _folders(bucket.list(INPUTS), 3), meanings, "an input's old meaning, in the store"),
    ]


def _at(home: Home, record: Record) -> str:
    folder = version_folder(home, record.asset, record.partition, record.data_version)
    return folder.relative_to(home.root).as_posix()


def _adapters(bucket: Bucket, home: Home, records: Iterable[Record]) -> set[str]:
    """Adapters that the kept versions name; their tables are fetched where they are not here."""
    trained = [record for record in records if record.asset.endswith("_model")]

    def fetch(record: Record) -> None:
        if not (home.root / _at(home, record)).exists():
            fetch_version(home, bucket, record.asset, record.partition, record.data_version)

    at_once(fetch, trained)
    tables = [table for one in trained for table in (home.root / _at(home, one)).glob("models/*/*/*.parquet")]
    return {f"models/{name}" for table in tables for name in adapters_in(table)}


def _folders(objects: Iterable[Object], depth: int) -> dict[str, list[Object]]:
    """Objects by the first so many parts of their names."""
    found: dict[str, list[Object]] = {}
    for one in objects:
        found.setdefault("/".join(one.name.split("/")[:depth]), []).append(one)
    return found


def _unused(home: Home, folders: dict[str, list[Object]], used: Collection[str], what: str) -> list[Garbage]:
    return [
        Garbage(home.root / name, what, sum(one.size for one in objects), tuple(one.name for one in objects))
        for name, objects in folders.items()
        if name not in used and min(one.age for one in objects) > SECONDS_ON_ITS_WAY
    ]
