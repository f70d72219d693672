"""Content hashes: the identity of everything.

Ids and data versions are hashes of *content*, never of time, order or path, so that the same work has the same name on
every machine and an edit that changes nothing changes no version.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

ID_LENGTH = 16


def content_hash(*parts: Any) -> str:
    """16 hex digits over the canonical JSON of `parts` (mappings sorted by key, no white space).

    Values must be JSON: str, int, float, bool, None, lists, tuples and string-keyed mappings; anything else raises TypeError.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def file_sha256(path: Path) -> str:
    """Full SHA-256 of a file, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_digest(folder: Path, pattern: str = "*.safetensors") -> str:
    """Digest of a model: the content hash of every matching file's name and SHA-256, in name order."""
    files = sorted(folder.rglob(pattern))
    return content_hash(*[[str(f.relative_to(folder)), file_sha256(f)] for f in files])
