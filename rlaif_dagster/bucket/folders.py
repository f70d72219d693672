"""Folders that never change once they are whole: trained adapters, remembered results, the files of one version.

A folder's objects are put one by one, and last the one by which it is known to be whole: whoever finds that finds
everything. A machine that was killed in between leaves objects that nobody reads, and the next one puts them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlaif_dagster import atomic
from rlaif_dagster.bucket.objects import Bucket, Object

AT_ONCE = 16  # transfers

T = TypeVar("T")


@dataclass(frozen=True)
class Folders:
    """The folders under `root` in the store; `last` is the file that is put last."""

    bucket: Bucket
    root: str
    last: str

    def put(self, name: str, folder: Path, *, anew: bool = False) -> None:
        """Put a folder, unless it is there; `anew` replaces one that is."""
        at = f"{self.root}/{name}"
        if not anew and self.bucket.exists(f"{at}/{self.last}"):
            return
        upload(self.bucket, [file for file in files_of(folder) if file != self.last], folder, at)
        self.bucket.upload(folder / self.last, f"{at}/{self.last}")

    def fetch(self, name: str, folder: Path) -> bool:
        """Get a folder that this machine lacks; false where the store has none that is whole."""
        at = f"{self.root}/{name}/"
        found = self.bucket.list(at)
        if at + self.last not in {one.name for one in found}:
            return False
        download(self.bucket, found, at, folder)
        return True


def files_of(folder: Path) -> list[str]:
    """Every file below the folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def upload(bucket: Bucket, files: Iterable[str], folder: Path, prefix: str) -> None:
    """Files of a folder, several at once, in no order."""
    at_once(lambda file: bucket.upload(folder / file, f"{prefix}/{file}"), files)


def download(bucket: Bucket, found: Iterable[Object], prefix: str, folder: Path) -> None:
    """Objects as a new folder, which appears whole; one that is there already stays."""
    with atomic.new_folder(folder) as target:
        at_once(lambda one: bucket.download(one, target / one.name.removeprefix(prefix)), found)


def at_once(function: Callable[[T], object], items: Iterable[T]) -> None:
    """The function of every item, several at a time; the first error is raised when all have ended."""
    items = list(items)
    if len(items) < 2:
        for item in items:
            function(item)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        list(pool.map(function, items))
