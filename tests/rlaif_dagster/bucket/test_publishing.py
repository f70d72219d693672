"""A version in the store: whole on every machine or not there, whoever is killed while it is put."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import duckdb
import pytest
from pyarrow import fs
from pyarrow.dataset import dataset

from rlaif_dagster.bucket import garbage as store_garbage
from rlaif_dagster.bucket.answers import fetch_answers, share_answers
from rlaif_dagster.bucket.folders import files_of
from rlaif_dagster.bucket.local_copy import fetch_record, refresh
from rlaif_dagster.bucket.objects import Bucket
from rlaif_dagster.bucket.publishing import add_record
from rlaif_dagster.bucket.sharing import fetch_adapter, shared_results
from rlaif_dagster.cli.adapters import Arm, find_adapter
from rlaif_dagster.errors import UserError
from rlaif_dagster.garbage import garbage, remove
from rlaif_dagster.home import Home
from rlaif_dagster.judging.cache import Answer, cache_path, open_cache
from rlaif_dagster.records import read_history
from rlaif_dagster.warehouse.memo import Memo
from rlaif_dagster.warehouse.store import Warehouse
from tests.rlaif_dagster.bucket.machine import CELL, FILES, START, WEIGHTS, commit_model, record
from tests.rlaif_dagster.bucket.test_leases import start
from tests.s3_server import BUCKET, Server


def shown(home: Home) -> tuple[list[str], int | None, float | None]:
    """What a reader of a machine sees: recorded versions, and the model's number by each of its two tables."""
    refresh(home)
    warehouse = Warehouse(home.warehouse)
    versions = [one.data_version for one in read_history(warehouse).get(("dpo_model", "brief|tiny"), ())]
    if not warehouse.has("models", CELL, "dpo"):
        assert not warehouse.has("training_metrics", CELL, "dpo")
        return versions, None, None
    learning = warehouse.read("training_metrics", CELL, "dpo")
    return versions, warehouse.read("models", CELL, "dpo")["tokens"][0], learning["value"][0]


def test_what_one_machine_makes_another_reads(machine: Callable[[str], Home], s3: Server, bucket: Bucket) -> None:
    a, b = machine("a"), machine("b")
    commit_model(a, 1)
    commit_model(a, 2)
    assert shown(b) == shown(a) == (["m-1", "m-2"], 2, 2.0)
    for file in FILES:
        ours, theirs = (home.warehouse / file for home in (a, b))
        stored = s3.client().get_object(Bucket=BUCKET, Key=f"{bucket.address.prefix}/warehouse/{file}")["Body"].read()
        assert ours.read_bytes() == theirs.read_bytes() == stored
    assert refresh(b) is False  # and nothing is fetched twice
    adapter = find_adapter(b, "tiny", "brief", Arm.dpo, None)
    assert adapter
    assert (adapter.path / WEIGHTS).read_bytes() == bytes([2]) * 1000
    assert not (b.models / "key-1").exists()  # only what is asked for


def test_other_tools_read_the_bucket_in_the_layout_of_a_home(
    machine: Callable[[str], Home], s3: Server, bucket: Bucket
) -> None:
    """Arrow's own S3 client, and DuckDB over what it finds."""
    commit_model(machine("a"), 1)
    keys = {"access_key": "tester", "secret_key": "no-secret"}
    files = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{s3.port}", scheme="http", region="us-east-1", **keys)
    models = dataset(f"{BUCKET}/{bucket.address.prefix}/warehouse/models", filesystem=files)  # noqa: F841 - by the query
    with duckdb.connect() as database:
        assert database.execute("select tokens, model, constitution from models").fetchall() == [(1, "tiny", "brief")]


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("models/key-2/adapter_model", marks=pytest.mark.slow),
        "models/key-2/record.json",
        pytest.param("history/dpo_model/.*/models/", marks=pytest.mark.slow),
        "history/dpo_model/.*/training_metrics/",
        pytest.param("warehouse/(models|training_metrics)/", marks=pytest.mark.slow),
        "warehouse/lineage/dpo_model",
    ],
)
def test_a_machine_killed_while_it_puts_leaves_the_old_version_whole(
    moment: str, machine: Callable[[str], Home], s3: Server
) -> None:
    a, b = machine("a"), machine("b")
    commit_model(a, 1)
    assert shown(b) == (["m-1"], 1, 1.0)
    with s3.stalling(moment) as is_stalled:
        process = start("commit", a.root, 2)
        while not is_stalled():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        process.kill()
        process.wait()
    for home in (b, machine("c"), a):
        assert shown(home) == (["m-1"], 1, 1.0)
    started = time.monotonic()
    commit_model(a, 2)  # the same machine need not wait until the lease of the dead is old
    assert time.monotonic() - started < 10
    assert shown(b) == shown(a) == shown(machine("d")) == (["m-1", "m-2"], 2, 2.0)
    assert find_adapter(b, "tiny", "brief", Arm.dpo, None)


def test_records_of_two_machines_at_the_same_moment_all_stay(machine: Callable[[str], Home]) -> None:
    homes = [machine(name) for name in ("a", "b")]
    processes = [start("records", home.root, 8) for home in homes]
    for process in processes:
        assert process.wait(120) == 0, process.communicate()[1]
    for home in (*homes, machine("c")):
        refresh(home)
        made = {partition for _, partition in read_history(Warehouse(home.warehouse))}
        assert made == {f"{name}{n}|tiny" for name in ("a", "b") for n in range(8)}
        assert len(list((home.warehouse / "adherence").rglob("*.parquet"))) == 16


def test_a_record_whose_answer_was_lost_is_added_once(machine: Callable[[str], Home], bucket: Bucket) -> None:
    one = record("dpo_model", CELL, "m-1", 1)
    add_record(bucket, one)
    add_record(bucket, one)
    found = bucket.read("warehouse/lineage/dpo_model.parquet")
    add_record(bucket, replace(one, run_id="another"))
    assert found != bucket.read("warehouse/lineage/dpo_model.parquet")


def test_the_record_that_was_added_last_is_the_latest_whatever_the_clocks_say(
    machine: Callable[[str], Home], bucket: Bucket
) -> None:
    home = machine("a")
    commit_model(home, 1)
    late = record("dpo_model", CELL, "m-1", 2)
    add_record(bucket, replace(late, started_at=START, data_version="m-1"))  # by a clock that is an hour behind
    refresh(home)
    records = read_history(Warehouse(home.warehouse))["dpo_model", "brief|tiny"]
    assert [one.run_id for one in records] == ["run 1", "run 2"]


def test_a_file_that_was_changed_in_the_store_is_not_taken_for_the_adapter(
    machine: Callable[[str], Home], bucket: Bucket
) -> None:
    commit_model(machine("a"), 1)
    bucket.put(f"models/key-1/{WEIGHTS}", b"something else")
    refresh(machine("b"))
    with pytest.raises(
        UserError, match=r"key-1: the adapter in the store is \w+, its record says \w+; nothing was kept"
    ):
        find_adapter(machine("b"), "tiny", "brief", Arm.dpo, None)
    assert not (machine("b").models / "key-1").exists()


def test_a_result_that_one_machine_computed_is_remembered_on_all(machine: Callable[[str], Home]) -> None:
    a, b = machine("a"), machine("b")
    commit_model(a, 1)
    frame = Warehouse(a.warehouse).read("models", CELL, "dpo").drop(columns=["model", "constitution"])
    memos = [Memo(home.cache / "results", shared_results(home)) for home in (a, b)]
    made, known = memos[0].get_or_compute("dpo_model", "key", CELL, lambda: {"models": frame})
    assert not known
    again, known = memos[1].get_or_compute("dpo_model", "key", CELL, lambda: pytest.fail("computed twice"))
    assert known
    assert again["models"]["tokens"].tolist() == made["models"]["tokens"].tolist() == [1]


def test_answers_that_one_machine_paid_for_are_on_all(machine: Callable[[str], Home], bucket: Bucket) -> None:
    a, b = machine("a"), machine("b")
    first, second = (Answer(text, "stop", 10, 1, 0.5, 20.0) for text in ("A", "B"))
    with open_cache(cache_path(a)) as cache:
        cache.put({"one": first})
    share_answers(a, bucket)
    share_answers(a, bucket)  # nothing new: no second part
    assert len(bucket.list("cache/answers/")) == 1
    with open_cache(cache_path(b)) as cache:
        cache.put({"one": second, "two": second})  # it asked before it knew
    refresh(b)
    share_answers(b, bucket)
    fetch_answers(a, bucket)
    for home, answer in ((a, first), (b, second)):  # the first that a home knew stays
        with open_cache(cache_path(home)) as cache:
            assert cache.get(["one", "two"]) == {"one": answer, "two": second}
            assert cache.unshared() == {}
    assert len(bucket.list("cache/answers/")) == 2


def test_garbage_of_the_store_is_what_nothing_kept_refers_to(
    machine: Callable[[str], Home], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machine("a"), machine("b")
    for n in (1, 2, 3):
        commit_model(a, n)
        results = shared_results(a)
        assert results
        memo = Memo(a.cache / "results", results)
        memo.get_or_compute("dpo_model", f"result-{n}", CELL, dict)
        memo.became("dpo_model", f"result-{n}", f"m-{n}")
    refresh(b)
    assert [item for item in garbage(b, keep=1) if item.objects] == []  # it may be on its way still
    monkeypatch.setattr(store_garbage, "SECONDS_ON_ITS_WAY", -1)
    found = garbage(b, keep=2)
    names = sorted(str(item.path.relative_to(b.root)) for item in found)
    assert names == [
        "cache/became/dpo_model/result-1", "cache/results/dpo_model/result-1", "history/dpo_model/brief@tiny/m-1",
        "models/key-1",
    ]  # fmt: skip
    with start("lease", a.root, 60) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="making-dpo_model@brief@tiny is held in the store"):
            garbage(b, keep=2)
        process.kill()
    (lease,) = bucket.list("locks/")
    bucket.delete([lease.name])
    remove(found, bucket)
    assert garbage(b, keep=2) == []
    assert not [one.name for one in bucket.list("") if "key-1" in one.name or "m-1" in one.name]
    assert shown(machine("c")) == (["m-1", "m-2", "m-3"], 3, 3.0)
    fetch_record(machine("c"), record("dpo_model", CELL, "m-2", 2))
    assert (machine("c").history / "dpo_model" / "brief@tiny" / "m-2").exists()
    fetch_adapter(machine("c"), machine("c").models / "key-1", "gone")
    assert not (machine("c").models / "key-1").exists()


def test_a_version_that_gc_removed_and_that_comes_back_is_put_again(
    machine: Callable[[str], Home], bucket: Bucket
) -> None:
    a = machine("a")
    for n in (1, 2):
        commit_model(a, n)
    bucket.delete(one.name for one in bucket.list("history/dpo_model/brief@tiny/m-1/"))
    commit_model(a, 1, "run 3")  # the edit was undone
    assert shown(machine("b")) == (["m-1", "m-2", "m-1"], 1, 1.0)


def test_results_of_a_home_can_be_put_into_a_store_by_any_tool(
    machine: Callable[[str], Home], s3: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `aws s3 sync` does it: the layout is the same."""
    home, store = machine("a"), str(bucket.address)
    monkeypatch.delenv("RLAIF_STORE")
    commit_model(home, 1)
    for folder in ("warehouse", "models", "history"):
        for file in files_of(home.root / folder):
            key = bucket.address.key(f"{folder}/{file}")
            s3.client().upload_file(str(home.root / folder / file), BUCKET, key)
    monkeypatch.setenv("RLAIF_STORE", store)
    assert shown(machine("b")) == (["m-1"], 1, 1.0)
    assert find_adapter(machine("b"), "tiny", "brief", Arm.dpo, None)


def test_a_version_that_is_recorded_and_gone_is_told(machine: Callable[[str], Home], bucket: Bucket) -> None:
    commit_model(machine("a"), 1)
    bucket.delete(one.name for one in bucket.list("history/"))
    with pytest.raises(UserError, match=r"history/dpo_model/brief@tiny/m-1: not there, although the records name this"):
        refresh(machine("b"))


def test_the_note_says_what_is_here(machine: Callable[[str], Home], bucket: Bucket) -> None:
    commit_model(machine("a"), 1)
    note = json.loads((machine("a").root / "store.json").read_text())
    assert note["store"] == str(bucket.address)
    assert note["versions"] == {"dpo_model brief|tiny": "m-1"}
