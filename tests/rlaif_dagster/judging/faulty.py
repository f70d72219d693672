"""The misbehaving server (`bench.chat_server`) in a process of its own, and what it counted."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rlaif_dagster.home import CHECKOUT


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    stats_url: str

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.stats_url) as response:
            counted: dict[str, Any] = json.load(response)
        return counted


@contextmanager
def served(*options: str) -> Iterator[Served]:
    """The server with these options, until the block ends."""
    command = [sys.executable, "-m", "bench.chat_server", *options]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        address = json.loads(process.stdout.readline())
        yield Served(address["url"], address["stats"])
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()
