"""Finished requests of one model, kept one by one: a killed evaluation resumes, and a larger `limit` only adds.

A request is known by what the model was given and asked, whichever task asked it: MC1 and MC2 of TruthfulQA share most of
their answers, and a task evaluated over 1,000 items has those of its first 100 already. One SQLite file in write-ahead
mode: several processes read and write at once, and a commit survives the kill of its process.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif_dagster.hashing import ID_LENGTH

BUSY_SECONDS = 60  # how long a write waits for another process's write
_LOOKUP = 500  # keys a query; SQLite bounds the variables of a statement


def request_key(kind: str, *tokens: Sequence[int]) -> str:
    """The name of a request: what is asked (with its settings), and the token ids that it is asked of."""
    digest = hashlib.sha256(kind.encode())
    for ids in tokens:
        digest.update(len(ids).to_bytes(8, "little") + array("q", ids).tobytes())
    return digest.hexdigest()[: 2 * ID_LENGTH]


@dataclass(frozen=True)
class RequestStore:
    """Results under `folder`, which must belong to one set of weights."""

    folder: Path

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """Those of the keys that are known."""
        wanted, found = list(dict.fromkeys(keys)), {}
        with self._open() as connection:
            for start in range(0, len(wanted), _LOOKUP):
                part = wanted[start : start + _LOOKUP]
                places = ",".join("?" * len(part))
                rows = connection.execute(f"SELECT key, value FROM requests WHERE key IN ({places})", part)
                found.update({key: json.loads(value) for key, value in rows})
        return found

    def put(self, results: Mapping[str, Any]) -> None:
        """Keep results, in one transaction. Of two to one key the first stays, so that all who ask later read the same."""
        rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in results.items()]
        with self._open() as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.folder / "requests.sqlite", timeout=BUSY_SECONDS)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            yield connection
        finally:
            connection.close()
