"""Finished results by the hash of what they were computed from.

An asset asked again with the same inputs gets the stored tables: undoing an edit costs nothing, and a change that an
asset's parents report but that it does not read is not paid for again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
import pyarrow.parquet as pq

from rlaif_dagster import atomic
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, to_arrow, to_pandas

VERSIONS = "versions.json"
TABLES_FILE = "tables.json"


class Elsewhere(Protocol):
    """Where other machines find results, and theirs are found."""

    def fetch(self, name: str, folder: Path) -> bool: ...

    def put(self, name: str, folder: Path, *, anew: bool = False) -> None: ...

    def mark(self, name: str, version: str) -> None: ...


@dataclass(frozen=True)
class Memo:
    """Results under `root`, one folder an asset and key; with `elsewhere`, those of other machines too."""

    root: Path
    elsewhere: Elsewhere | None = None

    def get_or_compute(
        self,
        asset: str,
        key: str,
        cell: Cell,
        compute: Callable[[], dict[str, pd.DataFrame]],
        final: Callable[[dict[str, pd.DataFrame]], bool] = lambda frames: True,
        anew: bool = False,
    ) -> tuple[dict[str, pd.DataFrame], bool]:
        """The asset's tables for `key`, and whether they were already there; `anew` computes them all the
        same. Tables that are not `final`, such as
        verdicts of which some could not be had, are returned and not kept: the next run asks again."""
        folder = self.root / asset / key
        if not anew and (folder.exists() or (self.elsewhere and self.elsewhere.fetch(f"{asset}/{key}", folder))):
            names = json.loads((folder / TABLES_FILE).read_text())
            return {
                name: to_pandas(pq.read_table(folder / f"{name}.parquet", partitioning=None)) for name in names
            }, True
        frames = compute()
        if not final(frames):
            return frames, False
        shutil.rmtree(folder, ignore_errors=True)
        with atomic.new_folder(folder) as target:
            for name, frame in frames.items():
                pq.write_table(to_arrow(TABLES[name], frame, cell), target / f"{name}.parquet", compression="zstd")
            (target / TABLES_FILE).write_text(json.dumps(sorted(frames)))
        if self.elsewhere:
            self.elsewhere.put(f"{asset}/{key}", folder, anew=anew)
        return frames, False

    def became(self, asset: str, key: str, version: str) -> None:
        """Note which version of the asset a result became: what is remembered for no kept version is garbage."""
        folder = self.root / asset / key
        if folder.exists() and version not in (known := versions_from(folder)):
            atomic.write_text(folder / VERSIONS, json.dumps([*known, version]))
        if self.elsewhere:
            self.elsewhere.mark(f"{asset}/{key}", version)


def versions_from(folder: Path) -> list[str]:
    """The versions that a remembered result became; none when its step never ended well."""
    path = folder / VERSIONS
    versions: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return versions
