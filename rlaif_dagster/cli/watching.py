"""Edits of a folder's files, each told once it is whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.5

Listing = dict[str, tuple[int, int]]


def listing(folder: Path) -> Listing:
    """Every file with its time and size; hidden ones and temporary ones of editors aside, and what vanishes meanwhile."""
    found = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            with suppress(FileNotFoundError):
                if not name.startswith(".") and not name.endswith("~"):
                    stat = Path(root, name).stat()
                    found[f"{root}/{name}"] = stat.st_mtime_ns, stat.st_size
    return found


def pause() -> None:
    time.sleep(SECONDS_BETWEEN_LOOKS)


def edits(folder: Path, acted_on: Listing, pause: Callable[[], None] = pause) -> Iterator[None]:
    """Once for each edit since `acted_on`, without end: when two looks with a pause between find the same. Files that are saved
    while the caller acts on one edit are the next."""
    last = acted_on
    while True:
        now = listing(folder)
        if now == last and now != acted_on:
            acted_on = now
            yield
        last = now
        pause()
