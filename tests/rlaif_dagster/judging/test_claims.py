"""Several processes that want the same verdicts at once: each question is asked once, and nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.judging.cache import cache_path, open_cache
from rlaif_dagster.judging.claims import claiming
from tests.rlaif_dagster.judging.faulty import Served, served
from tests.rlaif_dagster.judging.test_kill import RUN

CONCURRENCY = 8
VERDICTS = 400


def start(server: Served, home: Home, out: Path) -> subprocess.Popen[bytes]:
    arguments = [server.url, str(home.root), str(CONCURRENCY), str(VERDICTS), str(out)]
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], cwd=CHECKOUT)


def test_processes_that_judge_the_same_share_the_answers(home: Home, tmp_path: Path) -> None:
    with served("--latency", "0.1") as server:
        both = [start(server, home, tmp_path / f"judged{n}") for n in range(2)]
        assert [process.wait() for process in both] == [0, 0]
        assert server.stats()["requests"] == server.stats()["questions"] == VERDICTS
    first, second = (pd.read_pickle(tmp_path / f"judged{n}") for n in range(2))
    kept = ["pair_id", "order", "verdict", "raw"]
    pd.testing.assert_frame_equal(first[kept], second[kept])
    assert first["cached"].sum() + second["cached"].sum() == VERDICTS  # each was paid for by one of them
    assert not list((home.work / "asking").iterdir())


def test_what_a_killed_process_had_claimed_is_taken_over(home: Home, tmp_path: Path) -> None:
    with served("--latency", "0.1") as server:
        killed = start(server, home, tmp_path / "killed")
        while server.stats()["answered"] < 50:
            assert killed.poll() is None
            time.sleep(0.02)
        waiting = start(server, home, tmp_path / "judged")
        while server.stats()["answered"] < 150:
            assert killed.poll() is None
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert waiting.wait() == 0
        assert server.stats()["questions"] == VERDICTS
        assert server.stats()["requests"] <= VERDICTS + CONCURRENCY  # what was in flight at the kill
    assert pd.read_pickle(tmp_path / "judged")["verdict"].isin(["a", "b"]).all()


def test_claims_end_with_their_block(home: Home) -> None:
    folder = home.work / "asking"
    with open_cache(cache_path(home)) as first, open_cache(cache_path(home)) as second:
        with claiming(first, folder, ["a", "b"]) as own:
            assert own == {"a", "b"}
            with claiming(second, folder, ["b", "c"]) as others:
                assert others == {"c"}
        with claiming(second, folder, ["a", "b", "c"]) as own:
            assert own == {"a", "b", "c"}
