"""Trained adapters, one folder a content key.

A key is the hash of all that a training reads, so a training asked for again is found instead of repeated. A folder appears
under its key by one rename, with its record written last inside it: whoever finds it finds it whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from rlaif_dagster import atomic
from rlaif_dagster.bucket.sharing import check_digest
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import folder_digest
from rlaif_dagster.training import metrics
from rlaif_dagster.training.trained import Check, Trained

RECORD = "record.json"


@dataclass(frozen=True)
class StoredModel:
    """A published adapter: its folder, the digest of its safetensors, and what its training reported."""

    path: Path
    digest: str
    trained: Trained


class Elsewhere(Protocol):
    """Where other machines find adapters, and theirs are found."""

    def fetch(self, name: str, folder: Path) -> bool: ...

    def put(self, name: str, folder: Path) -> None: ...


@dataclass(frozen=True)
class ModelStore:
    """All published adapters under one folder; with `elsewhere`, those of other machines too."""

    root: Path
    elsewhere: Elsewhere | None = None

    def path(self, key: str) -> Path:
        return self.root / key

    def here(self, key: str, digest: str) -> Path:
        """The folder of a model, fetched where this machine lacks it. Raises UserError when nobody has it, or when what the
        store has is not the one of that digest."""
        path = self.path(key)
        if self.elsewhere and not path.exists():
            if not self.elsewhere.fetch(key, path):
                raise UserError(
                    f"{path}: the adapter is neither here nor whole in the store; run `rlaif up` to train it again"
                )
            check_digest(path, digest)
        return path

    def get(self, key: str) -> StoredModel | None:
        """The model under a key; None where there is none, or none with a whole record."""
        stored = self._get(key)
        if stored is None and self.elsewhere and self.elsewhere.fetch(key, self.path(key)):
            stored = self._get(key)
            if stored is not None:
                check_digest(stored.path, stored.digest)
        return stored

    def _get(self, key: str) -> StoredModel | None:
        try:
            record = json.loads((self.path(key) / RECORD).read_text(encoding="utf-8"))
            return StoredModel(self.path(key), record["digest"], _trained(record))
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            return None

    def publish(self, key: str, fill: Callable[[Path], Trained], *, work: Path | None = None) -> StoredModel:
        """The model under a key, made by `fill(folder)` unless it is there already.

        When `fill` raises, nothing is published. `work`, the training's checkpoints, is removed once the model stands.
        """
        stored = self.get(key)
        if stored is None:
            shutil.rmtree(self.path(key), ignore_errors=True)  # without a whole record it is nothing anyone could use
            with atomic.new_folder(self.path(key)) as folder:
                trained = fill(folder)
                record = _record(folder_digest(folder), trained)
                (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
            stored = self.get(key)
            if stored is None:
                raise RuntimeError(f"{self.path(key)}: published without a readable {RECORD}")
            if self.elsewhere:
                self.elsewhere.put(key, stored.path)
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        return stored


def _record(digest: str, trained: Trained) -> dict[str, Any]:
    return {
        "digest": digest,
        "tokens": trained.tokens,
        "seconds": trained.seconds,
        "peak_memory_bytes": trained.peak_memory_bytes,
        "checks": [asdict(check) for check in trained.checks],
        "metrics": {name: column.tolist() for name, column in trained.metrics.items()},
    }


def _trained(record: dict[str, Any]) -> Trained:
    columns = record["metrics"]
    rows = zip(columns["step"], columns["name"], columns["value"], strict=True)
    table: pd.DataFrame = metrics.frame(rows)
    return Trained(
        metrics=table,
        tokens=record["tokens"],
        seconds=record["seconds"],
        peak_memory_bytes=record["peak_memory_bytes"],
        checks=tuple(Check(**check) for check in record["checks"]),
    )
