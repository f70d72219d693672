"""One maker at a time between machines: the lock of `rlaif_dagster.locks` has a sibling in the store, a lease.

A lease is an object that names its holder. It is taken by a conditional PUT, so of two that try only one succeeds, and put
again every few seconds by a thread of the holder's. When the holder dies the object grows old, and whoever waits takes it
over, again by a conditional PUT. Its age is told by the store's clock alone. A lease that is free is an empty object:
a listing shows which are held.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from rlaif_dagster.bucket.objects import Bucket, ChangedError, Content
from rlaif_dagster.errors import UserError

log = logging.getLogger(__name__)

FOLDER = "locks"
SECONDS_TO_LIVE = 30.0  # without a beat; a holder that cannot reach the store for so long may lose it
SECONDS_BETWEEN_BEATS = 5.0
SECONDS_BETWEEN_LOOKS = 0.5


@dataclass
class Lease:
    """The right to make one thing, while it is held: what is put, and the ETag by which it is known to be ours still."""

    bucket: Bucket
    name: str
    body: bytes
    token: str
    home: str
    to_live: float
    etag: str = ""
    lost: str | None = None  # who took it over
    ended: threading.Event = field(default_factory=threading.Event)
    renewing: threading.Lock = field(default_factory=threading.Lock)  # the beat's thread and `check_held` both renew it

    def take(self, on_wait: Callable[[dict[str, Any]], None]) -> bool:
        """Take it, waiting for its holder; whether there was a wait."""
        waited = False
        while True:
            seen = self.bucket.read(self.name)
            if seen is None or self._is_free(seen):
                try:
                    self.etag = self._put(seen.etag if seen else None)
                    return waited
                except ChangedError:
                    continue  # somebody else was quicker
            if not waited:
                waited = True
                on_wait(_told(seen))
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _is_free(self, seen: Content) -> bool:
        return not seen.body or seen.age > self.to_live or self._is_ours(seen) or self._is_of_the_dead_here(seen)

    def _is_ours(self, seen: Content) -> bool:
        """A PUT whose answer was lost on the way did take effect."""
        return bool(seen.body) and json.loads(seen.body)["token"] == self.token

    def _is_of_the_dead_here(self, seen: Content) -> bool:
        """Whoever takes a lease holds this home's lock: another process of the same home that had it is gone."""
        told, mine = json.loads(seen.body), json.loads(self.body)
        return bool(self.home) and all(told.get(name) == mine.get(name) for name in ("home", "host"))

    def _put(self, etag: str | None) -> str:
        return self.bucket.put(self.name, self.body, replaces=etag, new=etag is None)

    def beat(self) -> None:
        """Put it again and again until it is given back or lost. While the store cannot be reached it goes on trying."""
        while not self.ended.wait(min(SECONDS_BETWEEN_BEATS, self.to_live / 4)):
            try:
                self.renew()
            except UserError as error:
                log.warning("%s: %s", self.name, error)
            if self.lost is not None:
                return

    def renew(self) -> None:
        """Put it once more, or find that it is lost."""
        with self.renewing:
            if self.lost is not None:
                return
            try:
                self.etag = self._put(self.etag)
            except ChangedError:
                seen = self.bucket.read(self.name)
                if seen is None or not self._is_ours(seen):
                    self.lost = _name(seen)
                else:
                    self.etag = seen.etag

    def give_back(self) -> None:
        try:
            self.bucket.put(self.name, b"", replaces=self.etag)
        except ChangedError:
            pass  # it is somebody else's by now
        except UserError as error:  # it will be taken over when it is old
            log.warning("%s: %s", self.name, error)


_held: dict[str, Lease] = {}


@contextmanager
def leased(
    bucket: Bucket,
    name: str,
    holder: dict[str, Any],
    on_wait: Callable[[dict[str, Any]], None],
    home: str = "",
    to_live: float = SECONDS_TO_LIVE,
) -> Iterator[bool]:
    """Hold the lease called `name`; yields whether somebody else's end was waited for. `on_wait` is given that holder. `home`
    is the name of the home whose lock on the same the caller holds, if any."""
    token = uuid4().hex
    body = json.dumps(holder | {"token": token, "home": home}).encode()
    lease = Lease(bucket, f"{FOLDER}/{name}.json", body, token, home, to_live)
    waited = lease.take(on_wait)
    beats = threading.Thread(target=lease.beat, name=f"lease of {name}", daemon=True)
    _held[name] = lease
    beats.start()
    try:
        yield waited
    finally:
        del _held[name]
        lease.ended.set()
        beats.join()
        if lease.lost is None:
            lease.give_back()


def check_held(name: str) -> None:
    """Raises UserError when this process held a lease and lost it: what it made must not be written over another's. It asks
    the store, for a machine that slept has not heard yet."""
    lease = _held.get(name)
    if lease is not None:
        lease.renew()
    if lease is not None and lease.lost is not None:
        raise UserError(
            f"{name}: this process did not reach the store for {lease.to_live:.0f} s, and {lease.lost} took over; what it "
            "computed is kept here, and `rlaif up` goes on from the store as it is now"
        )


def held(bucket: Bucket, to_live: float = SECONDS_TO_LIVE) -> set[str]:
    """Names of the leases that somebody else holds."""
    found = bucket.list(f"{FOLDER}/")
    names = {
        one.name.removeprefix(f"{FOLDER}/").removesuffix(".json") for one in found if one.size and one.age <= to_live
    }
    return names - _held.keys()


def holder_of(bucket: Bucket, name: str) -> dict[str, Any] | None:
    """Who holds a lease, as it was told when it was taken."""
    seen = bucket.read(f"{FOLDER}/{name}.json")
    return _told(seen) if seen and seen.body else None


def _told(seen: Content) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(seen.body)
    return {name: value for name, value in told.items() if name not in ("token", "home")}


def _name(seen: Content | None) -> str:
    if seen is None or not seen.body:  # who took over has ended
        return "another process"
    told = _told(seen)
    return f"{told.get('what', 'another process')} on {told.get('host', 'another machine')}"
