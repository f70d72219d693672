"""Checkpoints that a kill cannot spoil.

The Trainer writes a checkpoint's files one after the other into its final folder. A marker, written last and by one
rename, says that the folder is whole; a folder without it is what a kill left behind, and is never resumed from. Two
checkpoints are kept, so that a kill during the newest one's writing leaves a whole one before it.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from rlaif_dagster import atomic

MARKER = "complete.json"
KEPT = 2
NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its folder, the optimizer steps behind it, and the seconds they took over all calls."""

    path: Path
    step: int
    seconds: float


def mark_complete(folder: Path, seconds: float) -> None:
    """Say that every file of a checkpoint is written."""
    atomic.flush_folder(folder)
    atomic.write_text(folder / MARKER, json.dumps({"seconds": seconds}))


def latest(work: Path) -> Checkpoint | None:
    """The whole checkpoint with the most steps; None where there is none."""
    found = [
        Checkpoint(folder, int(name[1]), json.loads((folder / MARKER).read_text())["seconds"])
        for folder in work.glob("checkpoint-*")
        if (name := NAME.fullmatch(folder.name)) and (folder / MARKER).exists()
    ]
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def discard_incomplete(work: Path) -> None:
    """Remove what a kill left half written, so that no later checkpoint is mixed with it."""
    for folder in work.glob("checkpoint-*"):
        if not (folder / MARKER).exists():
            shutil.rmtree(folder)
