"""The names of this machine that nobody else can answer to."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_here(address: str) -> bool:
    """Whether a URL leads to this machine itself."""
    return urlsplit(address).hostname in LOOPBACK
