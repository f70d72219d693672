"""Old versions of tables stay, are found again by time, and go when nothing refers to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.garbage import garbage, kept_records, remove
from rlaif_dagster.history import keep, records_at, snapshot
from rlaif_dagster.home import Home
from rlaif_dagster.locks import making
from rlaif_dagster.records import Record, Version, append_record, partition_key, read_history
from rlaif_dagster.removed import Removed, removed_cells
from rlaif_dagster.resolver import Node
from rlaif_dagster.warehouse.memo import Memo
from rlaif_dagster.warehouse.store import Cell, Warehouse

START = datetime(2026, 1, 1, tzinfo=UTC)
CELL = Cell("tiny", "brief")
ADHERENCE = "adherence/model={model}/constitution={constitution}/all.parquet"
MODELS = "models/model={model}/constitution={constitution}/dpo.parquet"
NODES = {
    "constitution": Node("constitution", ("constitution",), (), None),
    "dpo_model": Node("dpo_model", ("model", "constitution"), ("constitution",), "1", (MODELS,)),
    "adherence": Node("adherence", ("model", "constitution"), ("dpo_model",), "1", (ADHERENCE,)),
}


def adherence(adherent: bool) -> pd.DataFrame:
    row = {
        "arm": "dpo",
        "seed": 0,
        "prompt_id": "p",
        "split": "eval",
        "decoding": "greedy",
        "adherent": adherent,
        "missing": None,
    }
    return pd.DataFrame([row])


def models(path: str) -> pd.DataFrame:
    row = {"arm": "dpo", "seed": 0, "path": path, "digest": path, "start": "base", "recipe_hash": "r", "tokens": 1}
    return pd.DataFrame([row | {"seconds": 1.0, "peak_memory_bytes": 1}])


def make(
    home: Home, asset: str, table: str, part: str, frame: pd.DataFrame, version: str, hour: int, *read: Version
) -> None:
    warehouse = Warehouse(home.warehouse)
    warehouse.write(table, frame, CELL, part)
    files = [name.format(model="tiny", constitution="brief") for name in NODES[asset].writes]
    keep(warehouse, asset, CELL, version, files)
    at = START + timedelta(hours=hour)
    append_record(warehouse, Record(asset, partition_key(CELL), version, "1", read, "run", at, 60.0, 0.0))


@pytest.fixture
def made(home: Home) -> Home:
    """Three versions of a model and of what was measured of it."""
    for hour, version in enumerate(("one", "two", "three")):
        (home.models / version).mkdir(parents=True)
        (home.models / version / "adapter_model.safetensors").write_bytes(bytes(1000))
        law = Version("constitution", "brief", f"law-{version}")
        make(home, "dpo_model", "models", "dpo", models(version), f"m-{version}", 2 * hour, law)
        read = Version("dpo_model", partition_key(CELL), f"m-{version}")
        make(home, "adherence", "adherence", "all", adherence(version != "one"), f"a-{version}", 2 * hour + 1, read)
    return home


def test_a_time_has_the_tables_of_its_versions(made: Home, tmp_path: Path) -> None:
    history = read_history(Warehouse(made.warehouse))
    records = records_at(history, START + timedelta(hours=2, minutes=30))  # the second model, the first measurement
    assert {key[0]: record.data_version for key, record in records.items()} == {
        "dpo_model": "m-two",
        "adherence": "a-one",
    }
    past = Warehouse(snapshot(made, NODES, records, tmp_path / "past").warehouse)
    assert past.read("models", CELL, "dpo")["path"].tolist() == ["two"]
    assert past.read("adherence", CELL)["adherent"].tolist() == [False]
    assert len(read_history(past)) == 2
    assert Warehouse(made.warehouse).read("adherence", CELL)["adherent"].tolist() == [True]


def test_only_what_nothing_kept_refers_to_is_garbage(made: Home) -> None:
    names = sorted(str(item.path.relative_to(made.root)) for item in garbage(made, keep=2))
    assert names == [
        "history/adherence/brief@tiny/a-one",
        "history/dpo_model/brief@tiny/m-one",
        "models/one",
    ]
    remove(garbage(made, keep=2))
    assert garbage(made, keep=2) == []
    assert not (made.models / "one").exists()
    assert (made.models / "two").exists()
    assert Warehouse(made.warehouse).read("models", CELL, "dpo")["path"].tolist() == ["three"]


def test_what_a_kept_version_was_made_from_is_kept(made: Home) -> None:
    """The current measurement is of an old model: that model is no garbage even where one version is kept."""
    read = Version("dpo_model", partition_key(CELL), "m-one")
    make(made, "adherence", "adherence", "all", adherence(False), "a-four", 9, read)
    kept = {(r.asset, r.data_version) for r in kept_records(read_history(Warehouse(made.warehouse)), keep=1)}
    assert kept == {("dpo_model", "m-three"), ("adherence", "a-four"), ("dpo_model", "m-one")}


def test_a_removed_cell_goes_with_its_files_once_nothing_kept_read_it(made: Home) -> None:
    history = read_history(Warehouse(made.warehouse))
    assert removed_cells(made, history, NODES, ["tiny"], ["brief"]) == Removed()
    gone = removed_cells(made, history, NODES, ["tiny"], ["other"])
    assert gone.partitions == {("dpo_model", "brief|tiny"), ("adherence", "brief|tiny")}
    assert garbage(made, keep=9) == []
    remove(garbage(made, keep=9, removed=gone))
    assert list(made.models.iterdir()) == []
    assert [path for path in made.warehouse.rglob("*.parquet") if path.parent.name != "lineage"] == []
    assert read_history(Warehouse(made.warehouse)) == history  # what was made from what is still known


def test_a_removed_cell_goes_although_old_versions_had_gathered_it(made: Home) -> None:
    read = Version("dpo_model", partition_key(CELL), "m-two")
    append_record(
        Warehouse(made.warehouse),
        Record("results", None, "all", "1", (read,), "run", START + timedelta(days=1), 1.0, 0.0),
    )
    gone = removed_cells(made, read_history(Warehouse(made.warehouse)), NODES, [], [])
    names = {item.path.relative_to(made.root).as_posix() for item in garbage(made, keep=3, removed=gone)}
    assert {"models/one", "models/two", "models/three", "history/dpo_model/brief@tiny/m-two"} <= names


def test_a_removed_version_is_told_and_its_time_cannot_be_shown(made: Home, tmp_path: Path) -> None:
    remove(garbage(made, keep=1))
    records = records_at(read_history(Warehouse(made.warehouse)), START + timedelta(hours=1, minutes=30))
    with pytest.raises(
        UserError, match=r"version a-one of adherence brief\|tiny: its files are gone .*choose a later date"
    ):
        snapshot(made, NODES, records, tmp_path / "past")


def test_remembered_results_go_with_the_last_version_that_they_became(made: Home) -> None:
    memo = Memo(made.cache / "results")
    for key, version in (("k1", "a-one"), ("k3", "a-three"), ("k4", None)):
        memo.get_or_compute("adherence", key, CELL, lambda: {"adherence": adherence(True)})
        if version:
            memo.became("adherence", key, version)
    found = {item.path.name for item in garbage(made, keep=1) if item.what == "a remembered result"}
    assert found == {"k1", "k4"}


def test_nothing_is_removed_while_something_is_made(made: Home) -> None:
    import subprocess
    import sys

    from rlaif_dagster.home import CHECKOUT
    from tests.rlaif_dagster.test_locks import HOLD

    command = [sys.executable, "-c", HOLD, str(made.root), "60"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(UserError, match=r"rlaif up \(process \d+, 0 min\) is making something"):
            garbage(made, keep=1)
        process.kill()
    with making(made, "dpo_model", "brief|tiny", "test"):
        pass
    assert garbage(made, keep=1)
