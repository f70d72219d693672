"""What another machine does, as a process that can be killed: `python -m tests.rlaif_dagster.bucket.machine DO HOME …`.

commit HOME N        makes the Nth version of a DPO model, its adapter included, and commits it
records HOME N       adds N records of adherence, each of a constitution of its own
lease HOME SECONDS   holds the right to make the DPO model for so long
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from rlaif_dagster.committing import commit
from rlaif_dagster.hashing import folder_digest
from rlaif_dagster.home import Home
from rlaif_dagster.locks import making
from rlaif_dagster.records import Record, Version, partition_key
from rlaif_dagster.training.trained import Trained
from rlaif_dagster.warehouse.store import Cell, Warehouse

CELL = Cell("tiny", "brief")
WEIGHTS = "adapter_model.safetensors"
START = datetime(2026, 1, 1, tzinfo=UTC)
FILES = [f"{table}/model=tiny/constitution=brief/dpo.parquet" for table in ("models", "training_metrics")]


def record(asset: str, cell: Cell, version: str, n: int, run: str | None = None) -> Record:
    read = (Version("constitution", cell.constitution, f"law-{version}"),)
    return Record(
        asset, partition_key(cell), version, "1", read, run or f"run {n}", START + timedelta(hours=n), 60.0, 0.0
    )


def commit_model(home: Home, n: int, run: str | None = None) -> None:
    """A version whose two tables must appear together."""
    from rlaif_dagster.bucket.sharing import shared_adapters
    from rlaif_dagster.training import metrics
    from rlaif_dagster.training.store import ModelStore

    def fill(folder: Path) -> Trained:
        (folder / WEIGHTS).write_bytes(bytes([n]) * 1000)
        return Trained(metrics=metrics.frame([]), tokens=1, seconds=1.0, peak_memory_bytes=1, checks=())

    with making(home, "dpo_model", partition_key(CELL), "a test"):
        stored = ModelStore(home.models, shared_adapters(home)).publish(f"key-{n}", fill)
        assert stored.digest == folder_digest(stored.path)
        row = {
            "arm": "dpo",
            "seed": 0,
            "path": f"key-{n}",
            "digest": stored.digest,
            "start": "base",
            "recipe_hash": "r",
        }
        models = pd.DataFrame([row | {"tokens": n, "seconds": 1.0, "peak_memory_bytes": 1}])
        learning = pd.DataFrame([{"arm": "dpo", "seed": 0, "step": 1, "name": "loss", "value": float(n)}])
        frames = {"models": models, "training_metrics": learning}
        warehouse = Warehouse(home.warehouse)
        commit(warehouse, CELL, "dpo", frames, FILES, record("dpo_model", CELL, f"m-{n}", n, run))


def add_records(home: Home, name: str, count: int) -> None:
    for n in range(count):
        cell = Cell("tiny", f"{name}{n}")
        row = {"arm": "dpo", "seed": 0, "prompt_id": "p", "split": "eval", "decoding": "greedy", "adherent": True}
        file = f"adherence/model=tiny/constitution={name}{n}/all.parquet"
        frames = {"adherence": pd.DataFrame([row | {"missing": None}])}
        commit(Warehouse(home.warehouse), cell, "all", frames, [file], record("adherence", cell, "a", n))


def main() -> None:
    do, home, argument = sys.argv[1], Home(Path(sys.argv[2])), float(sys.argv[3])
    if do == "commit":
        commit_model(home, int(argument))
    elif do == "records":
        add_records(home, home.root.name, int(argument))
    else:
        with making(home, "dpo_model", partition_key(CELL), "rlaif up"):
            print("held", flush=True)
            time.sleep(argument)


if __name__ == "__main__":
    main()
