"""What was asked of providers and what came of it: requests by outcome, tokens, seconds and US dollars.

One row a payer, endpoint and outcome, in the same file and the same transaction as the answers. A payer is a process, or a
part of its work (`part_of_payer`), whose spending counts as the process's too. A budget is held against what the own payer
spent: another one that judges at the same time spends its own. Answers of the past give the plan its measures: tokens a
character, tokens and seconds a reply.

A request that ended without an answer may have been billed all the same (a timeout says nothing about the price). What it can
have cost at most is booked beside what is known to be paid, never within it.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from rlaif_dagster.home import Home

PROCESS = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
PAYER = "RLAIF_PAYER"  # set by a command that starts another one, for which it pays
ANSWERED = "answered"
OWN = "(process = ?1 OR substr(process, 1, length(?1) + 1) = ?1 || '/')"  # rows of a payer and of its parts

LEDGER_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    process TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    characters INTEGER NOT NULL,
    seconds REAL NOT NULL,
    unsure_usd REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (process, endpoint, outcome)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Entry:
    """Requests to one endpoint (a model and who serves it) with one outcome: `answered`, or why no answer came.
    `characters` are those that were sent; `unsure_usd` is what requests without an answer may have cost."""

    endpoint: str
    outcome: str
    requests: int = 1
    cost_usd: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    characters: int = 0
    seconds: float = 0.0
    unsure_usd: float = 0.0


@dataclass(frozen=True)
class Measured:
    """What the answers of an endpoint took in the mean."""

    answers: int
    tokens_per_character: float
    tokens_out: float
    seconds: float


_acting_for: str | None = None


def act_for(payer: str) -> None:
    """Book what this process spends from now on as another's, and count what that one has spent as its own: a shard, or a
    process of a training, spends the money of the step that it works for."""
    global _acting_for
    _acting_for = payer


def payer() -> str:
    """Whose money this process spends: its own, or that of the command that started it."""
    return _acting_for or os.environ.get(PAYER) or PROCESS


def part_of_payer(part: str) -> str:
    """A payer of its own for a part of this one's work, done beside others."""
    return f"{payer()}/{part}"


def book(connection: sqlite3.Connection, entry: Entry, process: str | None = None) -> None:
    """Add an entry to its row, within the caller's transaction."""
    connection.execute(
        "INSERT INTO ledger (process, endpoint, outcome, requests, cost_usd, tokens_in, tokens_out, characters, seconds, "
        "unsure_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "requests = requests + excluded.requests, cost_usd = cost_usd + excluded.cost_usd, "
        "tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out, "
        "characters = characters + excluded.characters, seconds = seconds + excluded.seconds, "
        "unsure_usd = unsure_usd + excluded.unsure_usd",
        (
            process or payer(), entry.endpoint, entry.outcome, entry.requests, entry.cost_usd, entry.tokens_in,
            entry.tokens_out, entry.characters, entry.seconds, entry.unsure_usd,
        ),
    )  # fmt: skip


def spent_usd(home: Home) -> float:
    """US dollars that this process paid for answers."""
    sql = f"SELECT coalesce(sum(cost_usd), 0) FROM ledger WHERE {OWN}"
    ((total,),) = _query(home, sql, payer()) or [(0.0,)]
    return float(total)


def unsure_usd(home: Home) -> float:
    """US dollars that requests of this process may have cost beyond what was paid for answers, at most."""
    sql = f"SELECT coalesce(sum(unsure_usd), 0) FROM ledger WHERE {OWN}"
    ((total,),) = _query(home, sql, payer()) or [(0.0,)]
    return float(total)


def committed_usd(home: Home) -> float:
    """What a budget is held against: all that this process paid or may have been billed for."""
    return spent_usd(home) + unsure_usd(home)


def total_usd(home: Home) -> float:
    """US dollars paid for all answers under this home, by whatever process."""
    ((total,),) = _query(home, "SELECT coalesce(sum(cost_usd), 0) FROM ledger") or [(0.0,)]
    return float(total)


def outcomes(home: Home) -> dict[str, int]:
    """This process's requests by outcome."""
    sql = f"SELECT outcome, sum(requests) FROM ledger WHERE {OWN} GROUP BY outcome ORDER BY outcome"
    return {str(outcome): int(requests) for outcome, requests in _query(home, sql, payer())}


def outcomes_since(home: Home, before: Mapping[str, int]) -> dict[str, int]:
    """This process's requests by outcome beyond those of an earlier look."""
    return {kind: n - before.get(kind, 0) for kind, n in outcomes(home).items() if n > before.get(kind, 0)}


def measured(home: Home, endpoint: str) -> Measured | None:
    """What answers of this endpoint took; None before the first one."""
    sql = (
        "SELECT sum(requests), sum(tokens_in), sum(tokens_out), sum(characters), sum(seconds) FROM ledger "
        "WHERE endpoint = ? AND outcome = ?"
    )
    for answers, tokens_in, tokens_out, characters, seconds in _query(home, sql, endpoint, ANSWERED):
        if answers and tokens_in and characters:
            return Measured(int(answers), tokens_in / characters, tokens_out / answers, seconds / answers)
    return None


def account(home: Home, before: Mapping[str, int], unsure_before: float = 0.0) -> dict[str, float | int]:
    """For a step's metadata: this process's requests by outcome since an earlier look, what those without an answer may
    have cost, and what judging has cost in all. Nothing for a step that asked nobody."""
    asked: dict[str, float | int] = {f"requests {kind}": n for kind, n in outcomes_since(home, before).items()}
    if not asked:
        return {}
    if unsure := unsure_usd(home) - unsure_before:
        asked["cost_usd of requests without an answer, at most"] = unsure
    return asked | {"cost_usd of all judging": total_usd(home)}


def _query(home: Home, sql: str, *values: str) -> list[tuple[float, ...]]:
    """The rows of a query on the ledger; none where there is no ledger."""
    path: Path = home.cache / "judgments.sqlite"
    if not path.exists():
        return []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "no such column" in str(error):  # of an older release, not opened since
            return []
        raise
    finally:
        connection.close()
