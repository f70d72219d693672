"""Where the store is: `RLAIF_STORE`. Endpoint and keys come from the environment that every tool of S3's reads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from rlaif_dagster.errors import UserError

STORE = "RLAIF_STORE"
STORED_AT = [STORE, "AWS_ENDPOINT_URL", "AWS_REGION"]  # what a process elsewhere is told; keys it has itself


@dataclass(frozen=True)
class Address:
    """A bucket, and the prefix under which everything of this study lies; none is the whole bucket."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """The key of what is called `name` below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name


def store_address() -> Address | None:
    """What the environment names; None where results are local. Raises UserError on anything but s3://bucket/prefix."""
    text = os.environ.get(STORE)
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme != "s3":
        raise UserError(
            f"{STORE}: scheme {parts.scheme or 'none'!r}, allowed: s3://bucket/prefix (the endpoint of any S3-compatible "
            "server goes into AWS_ENDPOINT_URL)"
        )
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            f"{STORE}: allowed is s3://bucket/prefix and no more; keys go into AWS_ACCESS_KEY_ID and its like"
        )
    return Address(parts.netloc, parts.path.strip("/"))
