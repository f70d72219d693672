"""Putting a step's result into the store: its files first, its record last, as the point at which it is there.

1. the files of the version go to `history/ASSET/PARTITION/VERSION/`, and adapters to `models/`: nobody reads them yet;
2. they are copied, inside the store, to their places in `warehouse/`, for whoever reads the bucket with a tool of their own, and
   what a report has beside its page follows (plots, `report.md`);
3. the record is added to the asset's records by a conditional PUT, tried again when another machine added one meanwhile.

A machine that dies before 3 has recorded nothing: every command goes on with the version that the records name, and the
next `rlaif up` makes the step again from what it remembers, which is quick, and puts the files anew.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from dataclasses import replace

from rlaif_dagster.bucket.folders import at_once, files_of, upload
from rlaif_dagster.bucket.leases import check_held
from rlaif_dagster.bucket.local_copy import INPUTS, LINEAGE, beside, refresh
from rlaif_dagster.bucket.objects import Bucket, ChangedError
from rlaif_dagster.bucket.sharing import adapters_of
from rlaif_dagster.errors import UserError
from rlaif_dagster.history import version_folder
from rlaif_dagster.home import Home
from rlaif_dagster.locks import lock_name
from rlaif_dagster.records import Record, adapters_in, begun_after, read_history, records_of, with_records
from rlaif_dagster.warehouse.store import Warehouse

TRIES = 100  # at adding a record, each lost to another machine's


def publish(home: Home, bucket: Bucket, record: Record) -> None:
    """Put the version that a record names, whose files are in this machine's history, and then the record; at the end the
    copy here is as the store is. Raises UserError where the right to make it was lost meanwhile."""
    kept = version_folder(home, record.asset, record.partition, record.data_version)
    at = kept.relative_to(home.root).as_posix()
    files, adapters = files_of(kept), adapters_of(bucket)
    for models in kept.glob("models/*/*/*.parquet"):
        at_once(lambda key: adapters.put(key, home.models / key), sorted(set(adapters_in(models))))
    if not _is_there(home, bucket, record, at, files):  # else it stays as it is
        upload(bucket, files, kept, at)
    _upload_meanings(home, bucket, record)
    check_held(lock_name(record.asset, record.partition))
    at_once(lambda file: bucket.copy(f"{at}/{file}", f"warehouse/{file}"), files)
    _upload_beside(home, bucket, record)
    check_held(lock_name(record.asset, record.partition))  # and once more: nothing is taken back after the record
    add_record(bucket, record)
    refresh(home)


def _is_there(home: Home, bucket: Bucket, record: Record, at: str, files: Sequence[str]) -> bool:
    """Whether the store has the version whole: it was recorded once, and `rlaif gc` has not removed it since."""
    known = read_history(Warehouse(home.warehouse)).get((record.asset, record.partition), ())
    if all(one.data_version != record.data_version for one in known):
        return False
    return {f"{at}/{file}" for file in files} <= {one.name for one in bucket.list(f"{at}/")}


def _upload_meanings(home: Home, bucket: Bucket, record: Record) -> None:
    """What the inputs that were read meant, for plans of other machines."""
    names = {f"{INPUTS}{one.version}.json" for one in record.upstream}
    lacking = {name for name in names if (home.root / name).exists()} - {one.name for one in bucket.list(INPUTS)}
    at_once(lambda name: bucket.upload(home.root / name, name), sorted(lacking))


def _upload_beside(home: Home, bucket: Bucket, record: Record) -> None:
    prefix = beside(record.asset, record.partition)
    if prefix is None:
        return
    place = home.root / prefix
    here = [prefix] if place.is_file() else [f"{prefix}{file}" for file in files_of(place)]
    here = [name for name in here if not name.endswith(".html")]  # the page is kept with its version
    at_once(lambda name: bucket.upload(home.root / name, name), here)
    bucket.delete(one.name for one in bucket.list(prefix) if one.name not in here and not one.name.endswith(".html"))


def add_record(bucket: Bucket, record: Record) -> None:
    """Add a record to its asset's. Of two machines that add at the same moment the second reads again and adds to what the
    first wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = f"{LINEAGE}{record.asset}.parquet"
    for _ in range(TRIES):
        seen = bucket.read(name)
        known = pq.read_table(pa.BufferReader(seen.body)) if seen else None
        before = records_of(known) if known is not None else ()
        if any(_is_same(one, record) for one in before):
            return  # a PUT whose answer was lost on the way
        latest = max((one.started_at for one in before if one.partition == record.partition), default=None)
        buffer = io.BytesIO()
        pq.write_table(with_records(known, [begun_after(latest, record)]), buffer, compression="zstd")
        try:
            bucket.put(name, buffer.getvalue(), replaces=seen.etag if seen else None, new=seen is None)
            return
        except ChangedError:
            time.sleep(random.uniform(0.0, 0.1))
    raise UserError(f"{bucket.address}/{name}: {TRIES} times another machine was quicker; run `rlaif up` again")


def _is_same(one: Record, record: Record) -> bool:
    return replace(one, started_at=record.started_at) == record
