"""Work that survives a kill: finished chunks on disk, keyed by the hash of what they were computed from.

A stage cuts its work into fixed chunks whose key covers everything that can change the chunk's result. A killed run
finds its finished chunks again; a run with more prompts computes only the chunks that are new.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif_dagster import atomic


@dataclass(frozen=True)
class Chunks:
    """Finished chunks under one folder, as JSON files."""

    folder: Path

    def get(self, key: str) -> Any | None:
        """The stored chunk; None where there is none."""
        path = self.folder / f"{key}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def get_or_compute(self, key: str, compute: Callable[[], Any]) -> Any:
        """The stored chunk, or `compute()` stored first. Values must survive a round trip through JSON."""
        path = self.folder / f"{key}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        value = compute()
        self.put(key, value)
        return value

    def put(self, key: str, value: Any) -> None:
        """Store a chunk, which must survive a round trip through JSON."""
        atomic.write_text(self.folder / f"{key}.json", json.dumps(value, ensure_ascii=False))
