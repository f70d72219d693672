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
MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
SAMPLES, BLOCK = 32, 1 << 16  # of a large file: how many blocks a fingerprint reads, and their bytes


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


def folder_fingerprint(folder: Path) -> str:
    """What a folder in Hugging Face layout holds, quickly enough for every plan: name and size of each file, with the whole
    content of small ones and SAMPLES blocks spread evenly over large ones. A training changes every block of its weights;
    an edit of a few bytes of a large file between two blocks is not seen. A folder that is not there has a fingerprint too.
    """
    files = sorted(file for pattern in MODEL_FILES for file in folder.glob(pattern) if file.is_file())
    return content_hash(*[[file.name, file.stat().st_size, _sampled_sha256(file)] for file in files])


def _sampled_sha256(path: Path) -> str:
    size, digest = path.stat().st_size, hashlib.sha256()
    if size <= SAMPLES * BLOCK:
        return file_sha256(path)
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek(number * (size - BLOCK) // (SAMPLES - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()
