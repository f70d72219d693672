"""One maker at a time for each asset's partition, whoever it is: a command line, a run of the daemon, a person in the UI.

The lock is the operating system's, on a file under `RLAIF_HOME/work/locks`: it ends with its process, however that ends.
Beside it lies a line about who holds it, for people. Where results lie in a store that machines share (`RLAIF_STORE`), whoever
has the lock takes a lease there as well, and then reads the store: it may have been made meanwhile.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rlaif_dagster import atomic
from rlaif_dagster.bucket.local_copy import name_of, refresh, store_of
from rlaif_dagster.home import Home

SECONDS_BETWEEN_TRIES = 0.2


@dataclass(frozen=True)
class Holder:
    """Who makes something: in words, and since when (seconds since the epoch)."""

    host: str
    pid: int
    what: str
    since: float

    def __str__(self) -> str:
        place = "" if self.host == socket.gethostname() else f" on {self.host}"
        minutes = (time.time() - self.since) / 60
        return f"{self.what} (process {self.pid}{place}, {minutes:.0f} min)"


@contextmanager
def making(
    home: Home, asset: str, partition: str | None, what: str, on_wait: Callable[[str], None] = lambda holder: None
) -> Iterator[bool]:
    """Hold the right to make a partition, waiting for whoever has it; `on_wait` is told once who that is. Yields whether
    it may have been made meanwhile: there was a wait, or the store is not as it was. A process that holds it already passes
    at once."""
    path = _path(home, asset, partition)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=True, thread_local=False)
    waited = False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waited = True
        on_wait(str(holder(home, asset, partition) or "another process"))
        lock.acquire(poll_interval=SECONDS_BETWEEN_TRIES)
    try:
        if lock.lock_counter == 1:
            note = Holder(socket.gethostname(), os.getpid(), what, time.time())
            atomic.write_text(path.with_suffix(".json"), json.dumps(asdict(note)))
            with _leased(home, path.stem, note, on_wait) as changed:
                yield waited or changed
        else:
            yield waited
    finally:
        if lock.lock_counter == 1:
            path.with_suffix(".json").unlink(missing_ok=True)
        lock.release()


@contextmanager
def _leased(home: Home, name: str, note: Holder, on_wait: Callable[[str], None]) -> Iterator[bool]:
    """The lease beside the lock, where there is a store; whether what is there may be another than before."""
    bucket = store_of(home)
    if bucket is None:
        yield False
        return
    from rlaif_dagster.bucket.answers import share_answers
    from rlaif_dagster.bucket.leases import leased

    with leased(bucket, name, asdict(note), lambda who: on_wait(str(Holder(**who))), name_of(home)) as waited:
        changed = refresh(home)
        try:
            yield waited or changed
        finally:
            share_answers(home, bucket)


def held_elsewhere(home: Home) -> set[str]:
    """Names (`lock_name`) of what other processes of other homes are making right now, by the store."""
    bucket = store_of(home)
    if bucket is None:
        return set()
    from rlaif_dagster.bucket.leases import held

    return held(bucket)


def holder(home: Home, asset: str, partition: str | None) -> Holder | None:
    """Who holds the right to make a partition; None where nobody left word."""
    return _read(_path(home, asset, partition).with_suffix(".json"))


def holders(home: Home) -> list[Holder]:
    """Everyone who makes something under this home right now."""
    found = []
    for path in sorted(_folder(home).glob("making-*.lock")):
        lock = FileLock(path, is_singleton=True, thread_local=False)
        try:
            with lock.acquire(timeout=0):
                continue
        except Timeout:
            found.append(_read(path.with_suffix(".json")) or Holder(socket.gethostname(), 0, path.stem, time.time()))
    return found


def _folder(home: Home) -> Path:
    return home.work / "locks"


def lock_name(asset: str, partition: str | None) -> str:
    """What the right to make a partition is called, here and in the store."""
    return f"making-{asset}@{(partition or 'all').replace('|', '@')}"


def _path(home: Home, asset: str, partition: str | None) -> Path:
    return _folder(home) / f"{lock_name(asset, partition)}.lock"


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
