"""RLAIF_HOME as a copy of the store: what the records there name is here, before anything is decided or shown.

One listing says which assets' records changed. For each partition whose newest record names another version than is here,
that version's files are fetched from `history/`, where they were whole before the record was written, and put into the
warehouse; the records follow. So nobody meets a version that nobody recorded, whatever was killed while it was uploaded.

`store.json` in RLAIF_HOME says of which store it is the copy, and what is here.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock

from rlaif_dagster import atomic
from rlaif_dagster.bucket.address import STORE, store_address
from rlaif_dagster.bucket.folders import at_once, download
from rlaif_dagster.bucket.objects import Bucket, ChangedError, Object, open_bucket
from rlaif_dagster.errors import UserError
from rlaif_dagster.history import link, version_folder
from rlaif_dagster.home import Home, current_home
from rlaif_dagster.records import Record

NOTE = "store.json"
RACERS = 6  # in the trial of a store
LINEAGE = "warehouse/lineage/"
INPUTS = "cache/inputs/"
ADAPTERS = "models/"
# What an asset writes beside the files that its versions keep: it is in the warehouse alone, always the latest.
BESIDE = {
    "report": "warehouse/report/model={model}/constitution={constitution}/",
    "results": "warehouse/results.duckdb",
}


@dataclass
class Note:
    """What is here: the ETag of each asset's records, and the version of each partition (`asset partition`). And the adapters
    that are in the store: they are fetched when they are needed."""

    store: str
    home: str = field(default_factory=lambda: uuid.uuid4().hex)  # tells this copy from others
    records: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    adapters: list[str] = field(default_factory=list)

    def write(self, home: Home) -> None:
        atomic.write_text(home.root / NOTE, json.dumps(asdict(self), indent=1, sort_keys=True))


def store_of(home: Home) -> Bucket | None:
    """The store that the environment names, of which `home` is a copy; None where results are local.

    Raises UserError when the home is the copy of another store, or holds results of its own, or when the store does not
    keep the conditions on which concurrent writers rely: that is tried once for each home."""
    address = store_address()
    note = home.root / NOTE
    if address is None:
        if note.exists():
            known = _read(note).store
            raise UserError(
                f"{home.root} is a copy of {known}: set {STORE}={known}, or name another RLAIF_HOME; to go on with the copy "
                f"alone, remove {note}"
            )
        return None
    bucket = open_bucket(address)
    _bind(home, bucket)
    return bucket


def _bind(home: Home, bucket: Bucket) -> None:
    note = home.root / NOTE
    if note.exists():
        if (known := _read(note).store) != str(bucket.address):
            raise UserError(
                f"{home.root} is a copy of {known}, and {STORE} is {bucket.address}: name another RLAIF_HOME"
            )
        return
    if any((home.warehouse / "lineage").glob("[!.]*.parquet")):
        raise UserError(
            f"{home.root} holds results of its own, which {STORE}={bucket.address} would replace: name another RLAIF_HOME "
            "(deploy/storage.md says how results get into a store)"
        )
    check_conditions(bucket)
    with copying(home):
        if not note.exists():  # of two processes that are the first, one gives the copy its name
            Note(str(bucket.address)).write(home)


def check_conditions(bucket: Bucket) -> None:
    """Raises UserError unless the store refuses conditional writes whose condition does not hold, and those alone, also where
    several come at once."""
    name = f"probe-{uuid.uuid4().hex}"
    etag = bucket.put(name, b"1", new=True)
    try:
        kept = (
            _refuses(bucket, name, new=True)
            and _refuses(bucket, name, replaces='"00000000000000000000000000000000"')
            and not _refuses(bucket, name, replaces=etag)
            and _one_wins(bucket, f"{name}-race")
        )
    finally:
        bucket.delete([name, f"{name}-race"])
    if not kept:
        raise UserError(
            f"{STORE}={bucket.address}: the store does not keep the conditions of a write (If-None-Match, If-Match), so two "
            "machines could overwrite each other's results; use one that keeps them (AWS S3, MinIO, Ceph in a bucket without "
            "versioning)"
        )


def _one_wins(bucket: Bucket, name: str) -> bool:
    """Whether of several that make an object at the same moment no two do. (The one that does may not hear of it: its answer is
    lost, and the second attempt meets the first one's object.)"""
    with ThreadPoolExecutor(RACERS) as pool:
        return [*pool.map(lambda _: _refuses(bucket, name, new=True), range(RACERS))].count(False) <= 1


def _refuses(bucket: Bucket, name: str, *, replaces: str | None = None, new: bool = False) -> bool:
    try:
        bucket.put(name, b"3", replaces=replaces, new=new)
    except ChangedError:
        return True
    return False


def _read(path: Path) -> Note:
    return Note(**json.loads(path.read_text(encoding="utf-8")))


def name_of(home: Home) -> str:
    """What tells this copy of its store from others: its own name, which a copy of the folder has too, and where it is."""
    return f"{_read(home.root / NOTE).home} {home.root}"


def stored_adapters(home: Home) -> frozenset[str]:
    """Adapters that the store had when the copy was last brought up to date."""
    note = home.root / NOTE
    return frozenset(_read(note).adapters) if note.exists() else frozenset()


_seen: dict[Path, dict[str, str]] = {}  # the ETags of the records, as this process saw them last


def refresh(home: Home) -> bool:
    """Bring the copy up to date; whether anything has changed since this process looked last, which another process of the
    same home may have fetched meanwhile. Does nothing where results are local."""
    bucket = store_of(home)
    if bucket is None:
        return False
    with copying(home):
        note = _read(home.root / NOTE)
        before = _seen.get(home.root, dict(note.records))
        changed = _Refresh(home, bucket, note).run()
        _seen[home.root] = dict(note.records)
    return changed or before != note.records


def fresh_home() -> Home:
    """The home that the environment names, brought up to date with the store where there is one."""
    home = current_home()
    refresh(home)
    return home


def fetch_record(home: Home, record: Record) -> None:
    """Get the files of the version that a record names, where this machine lacks them and the store has them."""
    bucket = store_of(home)
    if bucket is not None:
        fetch_version(home, bucket, record.asset, record.partition, record.data_version)


def copying(home: Home) -> FileLock:
    """The lock under which the copy changes: one process of a machine at a time."""
    folder = home.work / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "store.lock")


@dataclass
class _Refresh:
    home: Home
    bucket: Bucket
    note: Note

    def run(self) -> bool:
        from rlaif_dagster.bucket.answers import fetch_answers

        changed: list[bool] = []
        looks: list[Callable[[], object]] = [
            lambda: changed.append(self._records_changed()),
            lambda: changed.append(self._adapters_changed()),
            self._fetch_meanings,
            partial(fetch_answers, self.home, self.bucket),
        ]
        at_once(lambda look: look(), looks)
        if any(changed):
            self._adapters_changed()  # once more: one that a new record names may have come after the first look
            self.note.write(self.home)
        return any(changed)

    def _records_changed(self) -> bool:
        listed = {Path(one.name).stem: one for one in self.bucket.list(LINEAGE)}
        changed = [
            asset for asset, one in listed.items()
            if self.note.records.get(asset) != one.etag or not self._records(asset).exists()
        ]  # fmt: skip
        gone = self.note.records.keys() - listed.keys()
        for asset in gone:
            self._records(asset).unlink(missing_ok=True)
            del self.note.records[asset]
        at_once(self._take_over, changed)
        return bool(changed or gone)

    def _adapters_changed(self) -> bool:
        before, self.note.adapters = self.note.adapters, self.bucket.folders(ADAPTERS)
        return before != self.note.adapters

    def _records(self, asset: str) -> Path:
        return self.home.warehouse / "lineage" / f"{asset}.parquet"

    def _take_over(self, asset: str) -> None:
        """The newest versions of an asset's partitions, then its records."""
        found = self.bucket.read(f"{LINEAGE}{asset}.parquet")
        if found is None:
            return  # removed since it was listed
        path = self._records(asset)
        anew = not path.exists()
        for partition, version in _newest(found.body).items():
            key = f"{asset} {partition or ''}"
            if anew or self.note.versions.get(key) != version:
                install(self.home, self.bucket, asset, partition, version)
                self.note.versions[key] = version
        atomic.write_file(path, partial(_write, found.body))
        self.note.records[asset] = found.etag

    def _fetch_meanings(self) -> None:
        """What inputs meant in versions that were read elsewhere: a plan names the field that changed since."""
        here = self.home.cache / "inputs"
        lacking = [one for one in self.bucket.list(INPUTS) if not (here / Path(one.name).name).exists()]
        at_once(lambda one: _download(self.bucket, one, here / Path(one.name).name), lacking)


def install(home: Home, bucket: Bucket, asset: str, partition: str | None, version: str) -> None:
    """Put a version's files into the warehouse, fetched where they are not here, each replaced whole."""
    kept = version_folder(home, asset, partition, version)
    if not kept.exists() and not fetch_version(home, bucket, asset, partition, version):
        raise UserError(
            f"{bucket.address}/{kept.relative_to(home.root).as_posix()}: not there, although the records name this version of "
            f"{asset}; restore it, or remove the asset's records from the store ({LINEAGE}{asset}.parquet) to make it again"
        )
    for file in kept.rglob("*"):
        if file.is_file():
            atomic.put_link(home.warehouse / file.relative_to(kept), partial(link, file))
    _fetch_beside(home, bucket, asset, partition)


def fetch_version(home: Home, bucket: Bucket, asset: str, partition: str | None, version: str) -> bool:
    """Get the files of a version from the store's history; false where it has none, as of one that `rlaif gc` removed."""
    folder = version_folder(home, asset, partition, version)
    if home.history not in (home.root / os.path.normpath(folder)).parents:  # names come from whoever can write there
        raise UserError(
            f"{bucket.address}: a record names {asset} {partition} {version}, which is no name of a version"
        )
    at = f"{folder.relative_to(home.root).as_posix()}/"
    found = bucket.list(at)
    if found:
        download(bucket, found, at, folder)
    return bool(found)


def _fetch_beside(home: Home, bucket: Bucket, asset: str, partition: str | None) -> None:
    if (prefix := beside(asset, partition)) is None:
        return
    for one in bucket.list(prefix):
        path = home.root / one.name
        if not path.name.endswith(".html") and not _is_same(path, one):
            _download(bucket, one, path)


def beside(asset: str, partition: str | None) -> str | None:
    """Where the store has what an asset's partition writes beside what its versions keep."""
    if asset not in BESIDE:
        return None
    constitution, _, model = (partition or "").partition("|")
    return BESIDE[asset].format(model=model, constitution=constitution)


def _is_same(path: Path, one: Object) -> bool:
    import hashlib

    if not path.exists() or path.stat().st_size != one.size:
        return False
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == one.etag.strip('"')


def _download(bucket: Bucket, one: Object, path: Path) -> None:
    atomic.write_file(path, lambda temporary: bucket.download(one, temporary))


def _write(body: bytes, path: Path) -> None:
    path.write_bytes(body)


def _newest(body: bytes) -> dict[str | None, str]:
    """The version of each partition that its latest record names: records are in the order in which they were added."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(body), columns=["partition", "data_version"])
    return dict(zip(table["partition"].to_pylist(), table["data_version"].to_pylist(), strict=True))
