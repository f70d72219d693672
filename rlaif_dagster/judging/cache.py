"""Every answer of a judge, on disk as soon as it arrives: a killed run resumes and pays for nothing twice.

One SQLite file under RLAIF_HOME/cache. Its key covers all that the judge was given, so an edited principle asks anew for
itself alone. What is stored is what the judge *said*, never what was read out of it: parsing happens after reading from
here, and a better parser costs nothing. In write-ahead mode several processes read and write at once; a commit survives
the kill of its process, and a second later a power cut.

Beside the answers stands the ledger (`judging.ledger`): an answer and its price are committed together.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from rlaif_dagster.home import Home
from rlaif_dagster.judging.ledger import LEDGER_SCHEMA, Entry, book

BUSY_SECONDS = 60  # how long a write waits for another process's write
SECONDS_BETWEEN_FLUSHES = 1.0
_LOOKUP = 500  # keys a query; SQLite bounds the variables of a statement

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    latency_ms REAL NOT NULL,
    logprobs TEXT
) WITHOUT ROWID
"""


_BATCHES = """
CREATE TABLE IF NOT EXISTS batches (
    batch TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL,
    keys TEXT NOT NULL
) WITHOUT ROWID
"""


_CLAIMS = """
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY,
    owner TEXT NOT NULL
) WITHOUT ROWID
"""


# What machines that share a store have of each other (`bucket.answers`): answers that are there, and parts that were read.
_SHARED = """
CREATE TABLE IF NOT EXISTS shared (
    key TEXT PRIMARY KEY
) WITHOUT ROWID
"""
_PARTS = """
CREATE TABLE IF NOT EXISTS parts (
    name TEXT PRIMARY KEY
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Answer:
    """What a judge said, and what it took: `finish` is the provider's reason for stopping, `logprobs` JSON of its tokens'
    log-probabilities where they were asked for and given (`judging.soft` reads them)."""

    text: str
    finish: str
    tokens_in: int
    tokens_out: int
    cost_usd: float
    latency_ms: float
    logprobs: str | None = None


_COLUMNS = ", ".join(field.name for field in fields(Answer))


class AnswerCache:
    """Answers by key. Use it as opened by `open_cache`, from one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._flushed_at = -math.inf

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Those of the keys that are known."""
        wanted = list(dict.fromkeys(keys))
        found = {}
        for start in range(0, len(wanted), _LOOKUP):
            part = wanted[start : start + _LOOKUP]
            places = ",".join("?" * len(part))
            rows = self._connection.execute(f"SELECT key, {_COLUMNS} FROM answers WHERE key IN ({places})", part)
            found.update({key: Answer(*values) for key, *values in rows})
        return found

    def put(self, answers: Mapping[str, Answer], entry: Entry | None = None) -> None:
        """Keep the answers, and book what they took, in one transaction. Of two answers to one key the first stays, so
        that every process that asks afterwards reads the same; both were paid for and are booked."""
        self._flush_now_and_then()
        with self._connection:
            self._insert(answers)
            if entry is not None:
                book(self._connection, entry)

    def _flush_now_and_then(self) -> None:
        """What is put outlives its process at once. The disk is waited for once a second at most, with all that was put until
        then: a power cut takes no more than the last answers."""
        now = time.monotonic()
        due = now - self._flushed_at >= SECONDS_BETWEEN_FLUSHES
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if due else 'NORMAL'}")
        self._flushed_at = now if due else self._flushed_at

    def claim(self, keys: Iterable[str], owner: str) -> set[str]:
        """Claim the keys; those that nobody has claimed and nobody has answered meanwhile are the owner's."""
        wanted = list(dict.fromkeys(keys))
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            answered = self.get(wanted)
            left = [key for key in wanted if key not in answered]
            self._connection.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?)", [(key, owner) for key in left])
            rows = self._connection.execute("SELECT key FROM claims WHERE owner = ?", [owner]).fetchall()
        return {key for (key,) in rows}

    def claimants(self) -> list[str]:
        """Who has claimed anything."""
        return [owner for (owner,) in self._connection.execute("SELECT DISTINCT owner FROM claims")]

    def forget_claims(self, owners: Iterable[str]) -> None:
        """Give back all that these have claimed."""
        with self._connection:
            self._connection.executemany("DELETE FROM claims WHERE owner = ?", [(owner,) for owner in owners])

    def batches(self, endpoint: str) -> dict[str, list[str]]:
        """Batches that were sent to an endpoint and not fetched yet, with their keys."""
        rows = self._connection.execute("SELECT batch, keys FROM batches WHERE endpoint = ? ORDER BY batch", [endpoint])
        return {batch: json.loads(keys) for batch, keys in rows}

    def note_batch(self, endpoint: str, batch: str, keys: Sequence[str]) -> None:
        """A batch was sent, or is about to be."""
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._connection:
            self._connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (batch, endpoint, json.dumps(keys)))

    def rename_batch(self, before: str, now: str) -> None:
        """A batch has its name."""
        with self._connection:
            self._connection.execute("UPDATE batches SET batch = ? WHERE batch = ?", (now, before))

    def end_batch(self, batch: str, answers: Mapping[str, Answer], entries: Iterable[Entry]) -> None:
        """Keep a batch's answers, book what they took (once, whoever fetched them first), and forget the batch."""
        with self._connection:
            self._insert(answers)
            if self._connection.execute("DELETE FROM batches WHERE batch = ?", [batch]).rowcount:
                for entry in entries:
                    book(self._connection, entry)

    def unshared(self) -> dict[str, Answer]:
        """Answers that no part in the store has."""
        rows = self._connection.execute(
            f"SELECT key, {_COLUMNS} FROM answers WHERE key NOT IN (SELECT key FROM shared) ORDER BY key"
        )
        return {key: Answer(*values) for key, *values in rows}

    def parts(self) -> set[str]:
        """Parts in the store whose answers are here."""
        return {name for (name,) in self._connection.execute("SELECT name FROM parts")}

    def take_part(self, name: str, answers: Mapping[str, Answer]) -> None:
        """The answers of a part in the store are here; who paid for them has booked it there."""
        with self._connection:
            self._insert(answers)
            self._connection.executemany("INSERT OR IGNORE INTO shared VALUES (?)", [(key,) for key in answers])
            self._connection.execute("INSERT OR IGNORE INTO parts VALUES (?)", [name])

    def _insert(self, answers: Mapping[str, Answer]) -> None:
        rows = [(key, *astuple(answer)) for key, answer in answers.items()]
        places = ", ".join("?" * (1 + len(fields(Answer))))
        self._connection.executemany(f"INSERT OR IGNORE INTO answers (key, {_COLUMNS}) VALUES ({places})", rows)


def cache_path(home: Home) -> Path:
    return home.cache / "judgments.sqlite"


@contextmanager
def open_cache(path: Path) -> Iterator[AnswerCache]:
    """The cache in this file, made when it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = 1")  # on macOS; elsewhere it does nothing
        _prepare(connection)
        yield AnswerCache(connection)
    finally:
        with suppress(sqlite3.Error):  # where it failed before, that is the error to tell
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # which flushes
        connection.close()


def known_keys(path: Path, keys: Iterable[str]) -> set[str]:
    """Which keys the cache in this file has answers to; nothing is written, and no file is made."""
    if not path.exists():
        return set()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_SECONDS)
    try:
        wanted = list(dict.fromkeys(keys))
        found: set[str] = set()
        for start in range(0, len(wanted), _LOOKUP):
            part = wanted[start : start + _LOOKUP]
            rows = connection.execute(f"SELECT key FROM answers WHERE key IN ({','.join('?' * len(part))})", part)
            found.update(key for (key,) in rows)
        return found
    finally:
        connection.close()


def _prepare(connection: sqlite3.Connection) -> None:
    """Tables and columns that are not there yet; a file of an older release keeps its answers, and their price."""
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(answers)")}
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SCHEMA)
        connection.execute(_BATCHES)
        connection.execute(_CLAIMS)
        connection.execute(_SHARED)
        connection.execute(_PARTS)
        if columns and "logprobs" not in columns:
            connection.execute("ALTER TABLE answers ADD COLUMN logprobs TEXT")
        new = not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'ledger'").fetchone()
        connection.execute(LEDGER_SCHEMA)
        if not new and "unsure_usd" not in {name for _, name, *_ in connection.execute("PRAGMA table_info(ledger)")}:
            connection.execute("ALTER TABLE ledger ADD COLUMN unsure_usd REAL NOT NULL DEFAULT 0")
        if new:
            (paid,) = connection.execute("SELECT sum(cost_usd) FROM answers").fetchone()
            if paid:
                book(connection, Entry("", "answered", requests=0, cost_usd=paid), process="before the ledger")
