"""Writes that a reader never sees half of, not even after a power cut: to a temporary name beside the target, flushed to the
disk, then one rename."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _temporary(target: Path) -> Path:
    return target.parent / f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"


def write_file(target: Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary)` and rename the result to `target`; on an error `target` is untouched."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        write(temporary)
        flush(temporary)
        temporary.replace(target)
        flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """`write_file` for a text in UTF-8."""

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    write_file(target, write)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target` when the block ends well. An existing `target` wins: it is complete, and
    folders made this way are named by content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        if not target.exists():
            flush_folder(temporary)
            temporary.replace(target)
            flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flush(path: Path) -> None:
    """Have the system put a file's content, or a folder's names, on the disk before it goes on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """`flush` for a folder and all that is in it; what links point to is not."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            flush(path)
