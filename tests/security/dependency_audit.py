"""`python -m tests.security.dependency_audit`: what is installed, and whether it has known vulnerabilities. Part of `make check`.

Two questions. Offline: is every installed distribution at the lock's version, and every pin of pyproject.toml the lock's?
Then what was audited is what runs. Online: pip-audit asks the package index's advisories about every pin.

Where the index gives no advisories (no network, or a mirror without them) pip-audit would skip each package in turn and end
with "no known vulnerabilities". So one package is asked about first, and without an answer the audit says SKIPPED, loudly,
and not that all is well. `--strict` (`make audit`) makes that a failure.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif_dagster.home import CHECKOUT

PROBE = "https://pypi.org/pypi/rich/15.0.0/json"
INSTALLERS = frozenset({"pip", "setuptools", "wheel", "rlaif-dagster"})

# Advisories that were looked at and do not concern this project, with the reason.
ACCEPTED: Mapping[str, str] = {}


def pins(lock: Path) -> dict[str, str]:
    """Versions by normalized name. Raises ValueError for a line that pins nothing."""
    found = {}
    for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), start=1):
        requirement = line.partition("#")[0].strip()
        if requirement:
            pin = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)(\s*;.*)?", requirement)
            if pin is None:
                raise ValueError(f"{lock.name}, line {number}: {requirement!r} pins no version; write NAME==VERSION")
            found[normalized(pin[1])] = pin[2]
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def loose(project: Path, locked: Mapping[str, str]) -> list[str]:
    """Requirements of pyproject.toml that are not pinned, or not as the lock pins them."""
    content = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    groups = [content["dependencies"], *content["optional-dependencies"].values()]
    wrong = []
    for requirement in (one for group in groups for one in group):
        name, _, version = requirement.partition("==")
        name = normalized(name.partition("[")[0])
        if locked.get(name) != version.partition(";")[0].strip():
            wrong.append(f"{requirement}: the lock has {locked.get(name, 'nothing')}")
    return wrong


def differing(installed: Iterable[tuple[str, str]], locked: Mapping[str, str]) -> list[str]:
    """Installed distributions at another version than the lock's; a build's own label (`+cpu`) is no other version."""
    return sorted(
        f"{name} {version} is installed, the lock has {locked[normalized(name)]}"
        for name, version in installed
        if normalized(name) not in INSTALLERS
        and locked.get(normalized(name), version.partition("+")[0]) != version.partition("+")[0]
    )


def unknown(installed: Iterable[tuple[str, str]], locked: Mapping[str, str]) -> list[str]:
    """Installed distributions that the lock does not know: put there by hand, or brought by another build of a pinned one."""
    return sorted(f"{name} {version}" for name, version in installed if normalized(name) not in {*locked, *INSTALLERS})


def reachable(address: str = PROBE) -> str:
    """Empty where the index answers with advisories, else why not."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return "" if "vulnerabilities" in json.load(answer) else "the index gives no advisories"
    except (urllib.error.URLError, OSError, ValueError) as error:
        return str(error)


def vulnerable(report: Mapping[str, Any]) -> list[str]:
    """Lines for what pip-audit's JSON tells: each vulnerability that is not accepted, each package it could not ask about."""
    lines = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            lines.append(f"{package['name']}: not audited: {package['skip_reason']}")
        for one in package.get("vulns", ()):
            if not {one["id"], *one.get("aliases", ())} & set(ACCEPTED):
                fixed = ", ".join(one["fix_versions"]) or "no version yet"
                lines.append(f"{package['name']} {package['version']}: {one['id']}, fixed in {fixed}")
    return lines


def audit(lock: Path, strangers: Sequence[str]) -> list[str]:
    """What pip-audit finds for the pins, and for what is installed besides them. Raises RuntimeError where it fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as besides:
        besides.write("".join(f"{name}=={version.partition('+')[0]}\n" for name, version in map(str.split, strangers)))
        besides.flush()
        command = [sys.executable, "-m", "pip_audit", "-r", str(lock), "-r", besides.name, "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return vulnerable(json.loads(done.stdout))
    except ValueError:
        raise RuntimeError(f"pip-audit failed: {done.stderr.strip()[-500:]}") from None


def main(strict: bool) -> int:
    """Prints what is wrong; status 1 when anything is, or (`strict`) when advisories could not be had."""
    lock = CHECKOUT / "requirements.lock"
    locked = pins(lock)
    installed = [(one.metadata["Name"], one.version) for one in importlib.metadata.distributions()]
    wrong = [*loose(CHECKOUT / "pyproject.toml", locked), *differing(installed, locked)]
    strangers = unknown(installed, locked)
    why_not = reachable()
    if not why_not:
        wrong += audit(lock, strangers)
    for line in wrong:
        print(line)
    if strangers:
        print(f"dependency audit: installed besides the lock (torch for CUDA brings libraries): {', '.join(strangers)}")
    print(f"dependency audit: {len(locked)} pins, {len(wrong)} findings")
    if why_not:
        print(
            f"dependency audit: SKIPPED the question for known vulnerabilities ({why_not}). Nothing is known about them."
        )
    return int(bool(wrong) or (strict and bool(why_not)))


if __name__ == "__main__":
    sys.exit(main("--strict" in sys.argv[1:]))
