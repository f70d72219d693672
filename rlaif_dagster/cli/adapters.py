"""A trained arm of a cell, found through the `models` table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from rlaif_dagster.home import Home


class Arm(StrEnum):
    """The compared policies."""

    base = "base"
    sft = "sft"
    dpo = "dpo"
    ppo = "ppo"


ArmOption = Annotated[Arm, typer.Option("--arm", "-a", help="Which policy.")]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Of the arm's training, where its recipe has several. Default: the first.")
]


@dataclass(frozen=True)
class Adapter:
    """A trained adapter: its folder, and the digest of its weights."""

    path: Path
    digest: str
    seed: int


def find_adapter(home: Home, model: str, constitution: str, arm: Arm, seed: int | None) -> Adapter | None:
    """The arm's adapter, None for `base`. UserError when it was never trained, or not with that seed."""
    from rlaif_dagster.bucket.sharing import fetch_adapter
    from rlaif_dagster.warehouse.sql import connect

    if arm is Arm.base:
        return None
    with connect(home, [model], [constitution]) as database:
        rows = database.execute(
            "SELECT seed, path, digest FROM models WHERE arm = ? ORDER BY seed", [arm.value]
        ).fetchall()
    found = {row[0]: Adapter(home.models / row[1], row[2], row[0]) for row in rows}
    if not found:
        raise UserError(f"arm {arm} of {model}/{constitution} is not trained yet; run `rlaif up` to train it")
    chosen = next(iter(found)) if seed is None else seed
    if chosen not in found:
        raise UserError(
            f"arm {arm} of {model}/{constitution} has no seed {seed}; trained seeds: {', '.join(map(str, found))}"
        )
    adapter = found[chosen]
    if not adapter.path.exists():
        fetch_adapter(home, adapter.path, adapter.digest)
    if not adapter.path.exists():
        raise UserError(f"{adapter.path}: the adapter of arm {arm} is gone; run `rlaif up` to train it again")
    return adapter
