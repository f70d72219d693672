"""`python -m tests.security.secret_scan`: no key in any file of the repository. Part of `make check`; needs no network.

detect-secrets with all its detectors but those of entropy (this project's files are full of content hashes, and a scan whose
every second finding is one is read by nobody). A finding that is no secret is listed below by its SHA-1, so
that the same line with a real key in it is found again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rlaif_dagster.home import CHECKOUT

NOISY = ("Base64HighEntropyString", "HexHighEntropyString")
PICTURES = (".png", ".svg", ".pdf", ".ico")


@dataclass(frozen=True)
class Finding:
    """A place that looks like a secret."""

    file: str
    line: int
    kind: str
    sha1: str


def scan(root: Path, files: Iterable[str]) -> Iterator[Finding]:
    """Findings in the files (paths under `root`), the known ones included."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import transient_settings

    plugins = [
        {"name": plugin.__name__}
        for plugin in get_mapping_from_secret_type_to_class().values()
        if plugin.__name__ not in NOISY
    ]
    with transient_settings({"plugins_used": plugins}):
        for file in files:
            for secret in scan_file(str(root / file)):
                yield Finding(file, secret.line_number, secret.type, secret.secret_hash)


def tracked(root: Path) -> list[str]:
    """What is in the repository or would be added to it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in names if name and not name.endswith(PICTURES) and (root / name).is_file())


def main() -> int:
    """Prints what is found; status 1 when anything is."""
    files = tracked(CHECKOUT)
    found = [one for one in scan(CHECKOUT, files) if one.sha1 not in KNOWN]
    for one in found:
        print(f"{one.file}:{one.line}: {one.kind} (sha1 {one.sha1}): take it out and revoke it, or list it as known")
    print(f"secret scan: {len(found)} findings in {len(files)} files")
    return int(bool(found))


# What is no secret, by the SHA-1 of the word that looks like one.
KNOWN = {
    "5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8": "the word `password` in an example of an address",
    "02ecb94373bfb3dfe827ca18409f50b016e8302a": "OPENAI_API_KEY, a variable's name",
    "f8ca0d7266886f4b5be9adddc9b66017b3bf1a4b": "ANTHROPIC_API_KEY, a variable's name",
    "e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4": "the word `secret`, the name of what stands in for a refused value",
    "71f8e7976e4cbc4561c9d62fb283e7f788202acb": "what a client of the bench's own server sends",
    "a622a83e16c56c242e78d8f0b6cfc639005c7e85": "what a client of the tests' own S3 server sends",
    "9d4e1e23bd5b727046a9e3b4b7db57bd8d6ee684": "made up by a test to see that it is not printed",
    "b2a1614c6c02ed49d0b9442aab7da66eb9d59611": "made up by a test to see that it is not printed",
    "b7047d091d6e42f12081c28c1474fe5b688b98fa": "MY_SERVER_KEY, a variable's name",
    "6bd946b1d3333941c454b8405cba98fdc3215962": "made up by tests to see that it reaches no log",
}


if __name__ == "__main__":
    sys.exit(main())
