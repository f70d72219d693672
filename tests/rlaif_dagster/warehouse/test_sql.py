"""SQL over the live files: always current, never half a table, and a results file that any client opens."""

from __future__ import annotations

import io
import json
import threading
from functools import partial
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.sql import build_results, connect, query, steady
from rlaif_dagster.warehouse.store import Cell, Warehouse
from tests.warehouse_samples import CELL, write_measurements


def prompts(*ids: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt_id": list(ids),
            "split": "train",
            "category": "factual",
            "text": "<b>What</b> — “is” it?",
            "reference": [["x", "y"]] * len(ids),
            "source": None,
        }
    )


def columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in connection.execute(f'DESCRIBE "{table}"').fetchall()]


def declared(table: str) -> list[tuple[str, str]]:
    described = duckdb.sql(
        "DESCRIBE SELECT " + ", ".join(f'NULL::{c.type} AS "{c.name}"' for c in TABLES[table].all_columns)
    )
    return [(row[0], row[1]) for row in described.fetchall()]


def test_before_anything_was_made_every_table_is_there_and_empty(home: Home) -> None:
    with connect(home) as connection:
        for name in TABLES:
            assert connection.execute(f'SELECT count(*) FROM "{name}"').fetchone() == (0,)
            assert columns(connection, name) == declared(name)
    assert not home.root.exists()


def test_an_open_connection_sees_what_is_written_replaced_and_removed_later(home: Home) -> None:
    warehouse = Warehouse(home.warehouse)
    with connect(home) as connection:
        count = lambda: connection.execute("SELECT count(*) FROM prompts").fetchone()[0]  # noqa: E731
        assert count() == 0
        warehouse.write("prompts", prompts("1", "2"))
        assert count() == 2
        warehouse.write("prompts", prompts("3"))
        assert count() == 1
        warehouse.write("prompts", prompts("4", "5"), part="more")
        assert count() == 3
        warehouse.path("prompts").unlink()
        assert count() == 2


def test_rows_without_a_constitution_stand_beside_those_with_one(home: Home) -> None:
    write_measurements(home.warehouse)
    with connect(home) as connection:
        rows = connection.execute("SELECT arm, model, constitution, value FROM benchmarks ORDER BY arm").fetchall()
    assert rows == [
        ("base", "tiny", None, 0.5),
        ("dpo", "tiny", "structured", 0.75),
        ("ppo", "tiny", "structured", 0.25),
        ("sft", "tiny", "structured", 0.5),
    ]


def test_the_issues_own_query_gives_the_shares_by_arm(home: Home) -> None:
    write_measurements(home.warehouse)
    text = query(home, "select arm, decoding, avg(adherent::int) a from adherence group by all order by all", "json")
    rows = [(row["arm"], row["decoding"], row["a"]) for row in json.loads(text)]
    assert rows == [
        (arm, decoding, share)
        for arm, share in (("base", 0.0), ("dpo", 1.0), ("ppo", 1.0), ("sft", 0.5))
        for decoding in ("greedy", "sampled")
    ]


def test_names_narrow_the_tables_and_leave_rows_that_belong_to_no_constitution(home: Home) -> None:
    warehouse = write_measurements(home.warehouse)
    warehouse.write(
        "adherence", warehouse.read("adherence", CELL).drop(columns=["model", "constitution"]), Cell("m2", "x")
    )
    with connect(home, ["tiny"], ["other"]) as connection:
        assert connection.execute("SELECT arm FROM benchmarks").fetchall() == [("base",)]
        assert connection.execute("SELECT count(*) FROM adherence").fetchone() == (0,)
    with connect(home, models=["m2"]) as connection:
        assert connection.execute("SELECT DISTINCT model, constitution FROM adherence").fetchall() == [("m2", "x")]


def test_temporary_files_and_folders_belong_to_no_table(home: Home) -> None:
    warehouse = Warehouse(home.warehouse)
    warehouse.write("prompts", prompts("1"))
    folder = home.warehouse / "prompts"
    for name in (".all.parquet", ".all.parquet.12.abcdef.tmp", ".half.12.tmp.parquet"):
        (folder / name).write_bytes(b"half a file")
    hidden = home.warehouse / "adherence" / "model=m" / ".constitution=c.12.tmp"
    hidden.mkdir(parents=True)
    (hidden / "all.parquet").write_bytes(b"half a file")
    with connect(home) as connection:
        assert connection.execute("SELECT count(*) FROM prompts").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM adherence").fetchone() == (0,)


def test_a_file_of_an_older_version_lacks_a_column_and_reads_as_null(home: Home) -> None:
    warehouse = Warehouse(home.warehouse)
    warehouse.write("prompts", prompts("1"))
    old = pq.read_table(warehouse.path("prompts"), partitioning=None).drop_columns(["source", "reference"])
    pq.write_table(old, home.warehouse / "prompts" / "old.parquet")
    warehouse.path("prompts").unlink()
    with connect(home) as connection:
        assert connection.execute("SELECT prompt_id, source, reference FROM prompts").fetchall() == [("1", None, None)]
        assert columns(connection, "prompts") == declared("prompts")


@pytest.mark.parametrize("name", ["with space", "it's", "[a]*", "ünïcode — x"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name)
    Warehouse(home.warehouse).write("prompts", prompts("1"))
    with connect(home) as connection:
        assert connection.execute("SELECT count(*) FROM prompts").fetchone() == (1,)
    build_results(home, home.warehouse / "results.duckdb")
    with duckdb.connect(str(home.warehouse / "results.duckdb"), read_only=True) as results:
        assert results.execute("SELECT count(*) FROM prompts").fetchone() == (1,)


def test_readers_never_meet_half_a_table_while_it_is_replaced(home: Home) -> None:
    warehouse = Warehouse(home.warehouse)
    sizes = (3, 500)
    warehouse.write("prompts", prompts(*map(str, range(sizes[0]))))
    stop = threading.Event()

    def rewrite() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            warehouse.write("prompts", prompts(*map(str, range(sizes[number % 2]))))

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        with connect(home) as connection:
            read = partial(connection.execute, "SELECT count(*), max(text) FROM prompts")
            seen = {steady(lambda: read().fetchone())[0] for _ in range(25)}  # type: ignore[index]
    finally:
        stop.set()
        writer.join()
    assert seen <= set(sizes)


def test_only_a_file_that_changed_is_asked_for_again(home: Home) -> None:
    tried: list[int] = []

    def broken(error: type[duckdb.Error], times: int) -> str:
        tried.append(1)
        if len(tried) <= times:
            raise error("said DuckDB")
        return "read"

    assert steady(lambda: broken(duckdb.IOException, 2)) == "read"
    assert len(tried) == 3
    tried.clear()
    with pytest.raises(duckdb.BinderException):
        steady(lambda: broken(duckdb.BinderException, 2))
    assert len(tried) == 1
    tried.clear()
    with pytest.raises(duckdb.IOException):
        steady(lambda: broken(duckdb.IOException, 99), attempts=3)
    assert len(tried) == 3


# --- formats ---------------------------------------------------------------------------------------------------------


def test_csv_has_plain_values_empty_nulls_and_json_lists(home: Home) -> None:
    Warehouse(home.warehouse).write("prompts", prompts("1"))
    text = query(home, "select prompt_id, text, reference, source from prompts", "csv")
    assert text == 'prompt_id,text,reference,source\n1,<b>What</b> — “is” it?,"[""x"", ""y""]",\n'


def test_json_is_a_list_of_objects_with_null_for_what_json_cannot_say(home: Home) -> None:
    text = query(
        home, "select 1 i, 'nan'::double n, timestamp '2026-01-02' t, {'a': [1.5]} s, 'é' u, null z, true b", "json"
    )
    assert json.loads(text) == [
        {"i": 1, "n": None, "t": "2026-01-02 00:00:00", "s": {"a": [1.5]}, "u": "é", "z": None, "b": True}
    ]
    assert "é" in str(text)


def test_parquet_keeps_the_types(home: Home) -> None:
    Warehouse(home.warehouse).write("prompts", prompts("1", "2"))
    data = query(home, "from prompts", "parquet")
    assert isinstance(data, bytes)
    assert pq.read_table(io.BytesIO(data)).to_pylist()[1]["reference"] == ["x", "y"]


def test_a_text_table_aligns_numbers_and_says_how_many_rows(home: Home) -> None:
    text = query(home, "select * from (values ('a', 0.123456, 10), ('[b]', null, 2)) t(name, share, n)")
    assert str(text).splitlines() == [
        "name    share    n",
        "──────────────────",
        "a      0.1235   10",
        "[b]              2",
        "(2 rows)",
    ]


def test_a_text_table_folds_to_the_terminal_and_only_there(home: Home) -> None:
    sql = "select repeat('word ', 40) as long"
    assert max(map(len, str(query(home, sql, width=40)).splitlines())) <= 40
    assert max(map(len, str(query(home, sql)).splitlines())) >= 195


def test_nothing_selected_prints_nothing(home: Home) -> None:
    assert query(home, "-- a comment") == ""
    assert query(home, "-- a comment", "parquet") == b""
    assert query(home, "select 1 where false", "csv") == "1\n"


def test_wrong_sql_is_the_users_to_fix_in_one_line(home: Home) -> None:
    for sql in ("select nonsense from prompts", "selec 1", "select * from no_such_table"):
        with pytest.raises(UserError) as caught:
            query(home, sql)
        assert str(caught.value).startswith("SQL: ")
        assert "\n" not in str(caught.value)


# --- results.duckdb --------------------------------------------------------------------------------------------------


def test_the_results_file_holds_every_table_with_its_comments(home: Home) -> None:
    write_measurements(home.warehouse)
    target = home.warehouse / "results.duckdb"
    build_results(home, target)
    assert [path.name for path in target.parent.glob("*results*")] == ["results.duckdb"]
    with duckdb.connect(str(target), read_only=True) as results:
        assert {row[0] for row in results.execute("SHOW TABLES").fetchall()} == set(TABLES)
        for name, table in TABLES.items():
            assert columns(results, name) == declared(name)
            comments = results.execute(
                "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = ?", [name]
            ).fetchall()
            assert dict(comments) == {column.name: column.comment for column in table.all_columns}
        described = results.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall()
        assert dict(described) == {name: table.comment for name, table in TABLES.items()}
        assert results.execute("SELECT avg(adherent::int) FROM adherence WHERE arm = 'sft'").fetchone() == (0.5,)


def test_a_client_that_has_the_file_open_neither_blocks_the_next_one_nor_changes_its_answers(home: Home) -> None:
    warehouse, target = Warehouse(home.warehouse), home.warehouse / "results.duckdb"
    warehouse.write("prompts", prompts("1"))
    build_results(home, target)
    with duckdb.connect(str(target)) as reader:  # a session that even locks the file
        warehouse.write("prompts", prompts("1", "2"))
        build_results(home, target)
        assert reader.execute("SELECT count(*) FROM prompts").fetchone() == (1,)
    with duckdb.connect(str(target), read_only=True) as later:
        assert later.execute("SELECT count(*) FROM prompts").fetchone() == (2,)


def test_a_build_that_fails_leaves_the_old_file(home: Home) -> None:
    warehouse, target = Warehouse(home.warehouse), home.warehouse / "results.duckdb"
    warehouse.write("prompts", prompts("1"))
    build_results(home, target)
    (home.warehouse / "prompts" / "broken.parquet").write_bytes(b"not Parquet")
    with pytest.raises(duckdb.Error):
        build_results(home, target)
    with duckdb.connect(str(target), read_only=True) as results:
        assert results.execute("SELECT count(*) FROM prompts").fetchone() == (1,)
    assert sorted(path.name for path in home.warehouse.iterdir()) == ["prompts", "results.duckdb"]
