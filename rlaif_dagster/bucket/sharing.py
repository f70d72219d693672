"""What machines share beside tables: trained adapters and finished results, each put once under its content's key."""

from __future__ import annotations

import shutil
from pathlib import Path

from rlaif_dagster.bucket.folders import Folders
from rlaif_dagster.bucket.local_copy import store_of
from rlaif_dagster.bucket.objects import Bucket
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import folder_digest
from rlaif_dagster.home import Home

RESULTS = "cache/results"
BECAME = "cache/became"  # ASSET/KEY/VERSION: an empty object for each version that a result became


class Results(Folders):
    """Remembered results of steps, by `ASSET/KEY`."""

    def mark(self, name: str, version: str) -> None:
        """Note a version that a result became: what became none that is kept is garbage."""
        self.bucket.put(f"{BECAME}/{name}/{version}", b"")


def adapters_of(bucket: Bucket) -> Folders:
    return Folders(bucket, "models", "record.json")


def results_of(bucket: Bucket) -> Results:
    return Results(bucket, RESULTS, "tables.json")


def shared_adapters(home: Home) -> Folders | None:
    """The store's adapters; None where results are local."""
    bucket = store_of(home)
    return adapters_of(bucket) if bucket else None


def fetch_adapter(home: Home, folder: Path, digest: str) -> None:
    """Get an adapter that this machine lacks, where the store has it. Raises UserError when it is not the one of that digest."""
    adapters = shared_adapters(home)
    if adapters is not None and adapters.fetch(folder.name, folder):
        check_digest(folder, digest)


def check_digest(folder: Path, digest: str) -> None:
    """Raises UserError, and removes the folder, when what was fetched is not the adapter of that digest."""
    found = folder_digest(folder)
    if found != digest:
        shutil.rmtree(folder)
        raise UserError(
            f"{folder.name}: the adapter in the store is {found}, its record says {digest}; nothing was kept: remove "
            f"models/{folder.name}/ from the store, and `rlaif up` trains it again"
        )


def shared_results(home: Home) -> Results | None:
    """The store's remembered results; None where results are local."""
    bucket = store_of(home)
    return results_of(bucket) if bucket else None
