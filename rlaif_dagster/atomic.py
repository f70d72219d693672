"""Writes that a reader never sees half of, not even after a power cut: to a temporary name beside the target, flushed to the
disk, then one rename."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FULL_FLUSH = getattr(fcntl, "F_FULLFSYNC", None)  # on macOS, where fsync leaves content in the drive's own cache
NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # of a file system that cannot flush a folder


def _temporary(target: Path) -> Path:
    return target.parent / f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"


def _make(folder: Path) -> None:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        flush(one.parent)


def write_file(target: Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary)` and rename the result to `target`; on an error `target` is untouched."""
    _make(target.parent)
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
    _make(target.parent)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        flush_folder(temporary)
        try:
            temporary.rename(target)  # onto a folder that is not empty it fails
        except OSError:
            if not target.is_dir():
                raise
        flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_link(target: Path, link: Callable[[Path], None]) -> None:
    """`write_file` for what `link(temporary)` only gives another name: its content is on the disk already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        link(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the system put a file's content, or a folder's names, on the disk before it goes on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if FULL_FLUSH is not None:
            fcntl.fcntl(descriptor, FULL_FLUSH)
        else:
            os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """`flush` for a folder and all that is in it; what links point to is not."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            flush(path)
