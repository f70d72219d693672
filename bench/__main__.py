"""`python -m bench [PART]`: measure one part, or without PART all that are made.

A part is a module of this package with a function `measure`. What it prints last on stdout is its one JSON object;
progress goes to stderr. Several parts run in a process each, so that no part meets another's memory, threads or caches.

Exit status: 0 when all went well, 1 when what was measured is wrong (both sides must agree before their speed means
anything), 2 when there is something for you to fix, told in one line.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Sequence

from bench.measurement import WrongResult
from rlaif_dagster.errors import UserError

PARTS = ("ppo", "judge", "lineage", "evaluation", "scale", "sampling")


def made() -> list[str]:
    """The parts that have a module."""
    return [part for part in PARTS if importlib.util.find_spec(f"bench.{part}")]


def choose(part: str | None, existing: Sequence[str]) -> list[str]:
    """The parts that were asked for; UserError for one that is unknown or not made yet."""
    if part is None:
        return list(existing)
    if part not in existing:
        reason = "is not made yet" if part in PARTS else "is unknown"
        raise UserError(f"part {part!r} {reason}; parts are: {', '.join(existing)}")
    return [part]


def run(part: str) -> int:
    """Measure one part here; its JSON object is the last line on stdout."""
    try:
        measurement = importlib.import_module(f"bench.{part}").measure()
    except WrongResult as error:
        print(f"bench {part}: {error}", file=sys.stderr)
        return 1
    print(measurement.line(), flush=True)
    return 0


def run_apart(parts: Sequence[str]) -> int:
    """Measure parts one after the other, each in its own process; one that fails does not stop the rest."""
    return max([subprocess.run([sys.executable, "-m", "bench", part], check=False).returncode for part in parts])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure ours and a peer side by side.")
    parser.add_argument("part", nargs="?", metavar="PART", help=f"{', '.join(made())}; without it, all of them")
    try:
        parts = choose(parser.parse_args(arguments).part, made())
        return run(parts[0]) if len(parts) == 1 else run_apart(parts)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
