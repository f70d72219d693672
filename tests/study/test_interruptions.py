"""Ctrl-C, kill -9 at random moments, two command lines on one cell: the same tables, and nothing made twice."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import duckdb
import pytest

from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.lineage.runs import open_instance
from rlaif_dagster.warehouse.schemas import TABLES
from tests.checkout import Checkout
from tests.equality import same_tables
from tests.study.conftest import make_study

pytestmark = pytest.mark.timeout(1800)
KILLS = 10


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study, made in one go."""
    study = make_study(tmp_path_factory.mktemp("undisturbed"))
    study.up()
    return study


@pytest.fixture
def fresh(undisturbed: Checkout, tmp_path: Path) -> Checkout:
    """The same files with an empty home."""
    return Checkout(undisturbed.data, tmp_path / "home")


def up(study: Checkout, *arguments: str) -> subprocess.Popen[str]:
    """`rlaif up`, under way."""
    return subprocess.Popen(
        study.command("up", *arguments), cwd=CHECKOUT, env=study.environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def records(study: Checkout) -> dict[str, int]:
    """Records of each asset and partition."""
    rows = study.rows("select asset || coalesce(' ' || partition, '') as name, count(*) as n from lineage group by 1")
    return {row["name"]: row["n"] for row in rows}


def test_ctrl_c_ends_with_a_line_and_the_same_command_goes_on(fresh: Checkout, undisturbed: Checkout) -> None:
    process = up(fresh)
    assert process.stderr
    for line in process.stderr:
        if "revisions" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Interrupted. What is finished is kept" in told
    before = records(fresh)
    fresh.up()
    after = records(fresh)
    assert before
    assert set(after.values()) == {1}  # nothing that was finished was made again
    same_tables(fresh, undisturbed)


def test_ctrl_c_ends_the_wait_for_a_slot_and_who_has_it_is_told(
    fresh: Checkout, undisturbed: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accelerator's only slot is another program's, which lives as long as this test."""
    monkeypatch.setenv("DAGSTER_HOME", "")  # opening an instance sets it
    fresh.up("--select", "prompts")
    with open_instance(Home(fresh.home)) as instance:
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("accelerator")
        assert storage.claim_concurrency_slot("accelerator", "0123456789", "training").is_claimed
        process = up(fresh)
        assert process.stderr
        told = ""
        while "pool accelerator: run 01234567 has the slot; waiting" not in " ".join(told.split()):
            line = process.stderr.readline()
            assert line, told
            told += line
        before = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 130, told
        assert time.monotonic() - before < 15
        storage.free_concurrency_slots_for_run("0123456789")
    fresh.up()
    assert set(records(fresh).values()) == {1}
    same_tables(fresh, undisturbed)


def test_two_command_lines_share_the_work(fresh: Checkout, undisturbed: Checkout) -> None:
    both = [up(fresh), up(fresh)]
    told = [process.communicate(timeout=600)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert set(records(fresh).values()) == {1}
    assert any("waiting" in one for one in told)
    same_tables(fresh, undisturbed)


def test_readers_and_a_full_run_do_not_disturb_each_other(fresh: Checkout, undisturbed: Checkout) -> None:
    """One DuckDB session holds results.duckdb open, another reads the Parquet files, while all tables are made again."""
    fresh.up("--select", "+base_responses", "--select", "results")
    database = fresh.home / "warehouse" / "results.duckdb"
    process = up(fresh)
    reads, seen = 0, set()
    with duckdb.connect(str(database), read_only=True) as session, duckdb.connect() as parquet:
        held = session.execute("select count(*) from responses").fetchone()
        while process.poll() is None:
            assert session.execute("select count(*) from responses").fetchone() == held  # as it was when it was opened
            for table in TABLES:
                if any((fresh.home / "warehouse" / table).rglob("[!.]*.parquet")):
                    files = fresh.home / "warehouse" / table / "**" / "*.parquet"
                    rows = parquet.execute(f"from read_parquet('{files}', hive_partitioning=false)").fetchall()
                    seen |= {table} if rows else set()
            reads += 1
            time.sleep(0.2)
    assert process.wait() == 0, process.stderr.read() if process.stderr else ""
    assert reads > 5
    assert {"prompts", "judgments", "models", "responses", "lineage"} <= seen
    same_tables(fresh, undisturbed)
    with duckdb.connect(str(database), read_only=True) as session:
        assert session.execute("select count(distinct arm) from responses").fetchone() == (4,)


@pytest.mark.slow
def test_a_command_line_killed_ten_times_ends_with_the_same_tables(fresh: Checkout, undisturbed: Checkout) -> None:
    moments = random.Random(0)
    for _ in range(KILLS):
        process = up(fresh)
        try:
            process.wait(timeout=moments.uniform(3, 14))
            break  # it came to its end before its turn
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    fresh.up()
    assert set(records(fresh).values()) == {1}
    same_tables(fresh, undisturbed)
