"""Edits of a folder's files, each told once it is whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.5

Listing = dict[str, tuple[int, int]]


def listing(folder: Path) -> Listing:
    """Every file with its time and size; temporary ones of editors aside."""
    found = {}
    for path in folder.rglob("[!.]*"):
        try:
            if path.is_file() and not path.name.endswith("~"):
                stat = path.stat()
                found[str(path)] = stat.st_mtime_ns, stat.st_size
        except FileNotFoundError:  # an editor replaced it between the two looks at it
            continue
    return found


def edits(folder: Path, acted_on: Listing, pause: float = SECONDS_BETWEEN_LOOKS) -> Iterator[None]:
    """Once for each edit since `acted_on`, without end: when two looks, `pause` seconds apart, find the same. Files that are
    saved while the caller acts on one edit are the next."""
    last = acted_on
    while True:
        now = listing(folder)
        if now == last and now != acted_on:
            acted_on = now
            yield
        last = now
        time.sleep(pause)
