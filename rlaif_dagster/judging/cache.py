"""Every answer of a judge, on disk as soon as it arrives: a killed run resumes and pays for nothing twice.

One SQLite file under RLAIF_HOME/cache. Its key covers all that the judge was given, so an edited principle asks anew for
itself alone. What is stored is what the judge *said*, never what was read out of it: parsing happens after reading from
here, and a better parser costs nothing. In write-ahead mode several processes read and write at once; a commit survives
the kill of its process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from rlaif_dagster.home import Home

BUSY_SECONDS = 60  # how long a write waits for another process's write
_LOOKUP = 500  # keys a query; SQLite bounds the variables of a statement

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    latency_ms REAL NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Answer:
    """What a judge said, and what it took: `finish` is the provider's reason for stopping."""

    text: str
    finish: str
    tokens_in: int
    tokens_out: int
    cost_usd: float
    latency_ms: float


class AnswerCache:
    """Answers by key. Use it as opened by `open_cache`, from one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Those of the keys that are known."""
        wanted = list(dict.fromkeys(keys))
        found = {}
        for start in range(0, len(wanted), _LOOKUP):
            part = wanted[start : start + _LOOKUP]
            places = ",".join("?" * len(part))
            rows = self._connection.execute(f"SELECT * FROM answers WHERE key IN ({places})", part)
            found.update({key: Answer(*values) for key, *values in rows})
        return found

    def put(self, answers: Mapping[str, Answer]) -> None:
        """Keep the answers, in one transaction. Of two answers to one key the first stays, so that every process that
        asks afterwards reads the same."""
        rows = [(key, *astuple(answer)) for key, answer in answers.items()]
        with self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def cache_path(home: Home) -> Path:
    return home.cache / "judgments.sqlite"


@contextmanager
def open_cache(path: Path) -> Iterator[AnswerCache]:
    """The cache in this file, made when it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_SCHEMA)
        yield AnswerCache(connection)
    finally:
        connection.close()
