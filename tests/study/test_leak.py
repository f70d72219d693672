"""A key that is planted in the environment, and a judge's server that repeats it in all it says: nothing that a whole study
writes may hold it, whether the study fails or succeeds."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from rlaif_dagster.home import CHECKOUT
from tests.checkout import Checkout
from tests.rlaif_dagster.judging.chat_server import Reply, fails, says, serving

pytestmark = pytest.mark.timeout(1800)
KEY = "planted-1ea4c0de-55fe2b"  # in no provider's form, so that only its value can give it away
FORMS = (KEY.encode(), base64.b64encode(KEY.encode())[:-4], KEY.encode("utf-16-le"), KEY.encode().hex().encode())
JUDGE = """\
kind: api
model: openai/test
api_base: {url}
server: the test's
api_key_env: PLANTED_JUDGE_KEY
retries: 1
timeout: 5
usd_per_million_input: 1
usd_per_million_output: 1
"""


def echoes(request: dict[str, Any], number: int) -> Reply:
    """Repeats the key it is sent in everything: errors of all kinds, and the verdicts themselves."""
    if number % 7 == 3:
        return fails(500, f"Bearer {KEY} crashed")
    if number % 7 == 5:
        return fails(429, f"limit of {KEY} reached", retry_after="0.01")
    if number % 41 == 11:
        return fails(400, f"{KEY} sent something that is too long")
    if '"alignment"' in request["messages"][0]["content"]:
        return says(json.dumps({"reason": f"graded for {KEY}", "alignment": 5, "correctness": 5}))
    return says(json.dumps({"reason": f"I was sent {KEY}", "verdict": "AB"[len(str(request)) % 2]}))


def planted(study: Checkout, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command with the key in its environment."""
    (study.data / "judges/asked.yaml").write_text(JUDGE.format(url=url))
    environment = study.environment | {"PLANTED_JUDGE_KEY": KEY, "OPENAI_API_KEY": KEY}
    return subprocess.run(
        study.command(*arguments), cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def study(tiny_study: Checkout, tmp_path: Path) -> Checkout:
    """The tiny study, judged by asking."""
    own = Checkout(tmp_path / "data", tmp_path / "home")
    shutil.copytree(tiny_study.data, own.data)
    (own.data / "recipes/judging.yaml").write_text(
        "judge: asked\nmax_failed_share: 0.5\npairs: {min_margin: 0.0, held_out_share: 0.4, ties: keep}\n"
    )
    (own.data / "study.yaml").write_text("models: [tiny]\nconstitutions: [brief]\n")
    return own


def texts(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder, and what compressed ones hold when they are read."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path, path.read_bytes()
        if path.suffix == ".parquet":
            yield path, json.dumps(pq.read_table(path, partitioning=None).to_pylist(), default=str).encode()
        if path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                    rows = connection.execute(f'FROM "{name}"').fetchall()
                    yield path, json.dumps(rows, default=str).encode()
        if path.suffix in {".db", ".sqlite"}:
            yield from ((path, content) for content in values_in(path))


def values_in(database: Path) -> Iterator[bytes]:
    """Every value of an SQLite file (its pages cut long ones into pieces), unpacked where Dagster packs it."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{name}"').fetchall():
                for value in row:
                    content = value if isinstance(value, bytes) else str(value).encode()
                    yield content
                    if content[:1] == b"\x78":
                        yield zlib.decompress(content)


def test_no_key_in_anything_that_a_study_writes(study: Checkout) -> None:
    with serving(lambda request, number: fails(401, f"Incorrect API key provided: {KEY}")) as server:
        refused = [
            planted(study, server.url, "up", "--select", "judge_agreement"),
            planted(study, server.url, "judge", "Why?", "Because.", "No idea."),
        ]
    for run in refused:
        assert run.returncode == 2
        assert "does not accept the key (401); check the key in PLANTED_JUDGE_KEY" in run.stderr
    with serving(lambda request, number: fails(500, f"Bearer {KEY} crashed")) as server:
        broken = planted(study, server.url, "up", "--select", "judge_agreement")  # errors in place of verdicts
    assert broken.returncode == 0
    assert "1 of 1" not in broken.stderr
    with serving(echoes) as server:
        done = [
            planted(study, server.url, "plan"),
            planted(study, server.url, "up"),
            planted(study, server.url, "judge", "Why?", "Because.", "No idea."),
            planted(study, server.url, "judge", "When?", "Now.", "Later.", "--json"),
            planted(study, server.url, "status"),
            planted(study, server.url, "lineage", "judgments"),
            planted(study, server.url, "doctor"),
        ]
        assert any(KEY in headers["authorization"] for headers in server.headers)  # it was really sent
    for run in done:
        assert run.returncode == 0, run.stderr[-3000:]

    found = dict(study_files := list(texts(study.home)))
    names = {path.relative_to(study.home).parts[0] for path in found}
    assert {"warehouse", "cache", "dagster", "models"} <= names
    assert any(path.name == "report.html" for path in found)
    assert any(path.name == "results.duckdb" for path in found)
    assert any("dagster" in path.parts and path.suffix == ".db" for path in found)
    told = [(Path("output"), text.encode()) for run in (*refused, broken, *done) for text in (run.stdout, run.stderr)]
    everything = [*study_files, *told]
    # what the server said is there, without the key: in the answers, in what people are shown, in Dagster's log of events
    said = {path.name for path, content in everything if b"I was sent ***" in content}
    assert {"judgments.sqlite", "output"} <= said
    events = {path for path, content in study_files if path.suffix == ".db" and b"STEP_FAILURE" in content}
    assert any(b"does not accept the key (401)" in content for path, content in study_files if path in events)
    assert any("compute_logs" in path.parts for path in found)
    leaks = {f"{path}: {form!r}" for path, content in everything for form in FORMS if form in content}
    assert not leaks


def test_the_search_finds_a_key_that_is_there(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"text": [f"the key is {KEY}"] * 1000}).to_parquet(tmp_path / "t.parquet", compression="zstd")
    with duckdb.connect(str(tmp_path / "r.duckdb")) as connection:
        connection.execute(f"CREATE TABLE t AS SELECT '{KEY}' AS text FROM range(1000)")
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("CREATE TABLE t (packed BLOB)")
        connection.execute("INSERT INTO t VALUES (?)", [zlib.compress(f"{KEY} ".encode() * 1000)])
    names = {path.name for path, content in texts(tmp_path) if KEY.encode() in content}
    assert names == {"t.parquet", "r.duckdb", "s.db"}
    assert os.environ.get("PLANTED_JUDGE_KEY") is None
