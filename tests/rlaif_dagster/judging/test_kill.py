"""kill -9 in the middle of judging: what was answered is kept, and at most what was in flight is asked again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.chat_server import PASSING
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.judging.verdicts import DECIDED
from tests.rlaif_dagster.judging.faulty import Served, served

KILLS = 5
CONCURRENCY = 16
VERDICTS = 2000
RUN = """
import sys
from pathlib import Path
from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.spec.judge import ApiJudge as Spec
from tests.rlaif_dagster.judging.conftest import constitution, pair

spec = Spec(kind="api", model="openai/m", api_base=sys.argv[1], concurrency=int(sys.argv[3]), timeout=5.0, retries=4)
pairs = [pair(number) for number in range(int(sys.argv[4]) // 2)]
judge = ApiJudge("asked", spec, Home(Path(sys.argv[2])), backoff=0.05)
judged = judge.judge(pairs, constitution("Prefer the good answer."), ("ab", "ba"))
judged.to_pickle(sys.argv[5])
"""


def start(server: Served, home: Home, out: Path) -> subprocess.Popen[bytes]:
    arguments = [server.url, str(home.root), str(CONCURRENCY), str(VERDICTS), str(out)]
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], cwd=CHECKOUT)


@pytest.mark.parametrize(
    "faults",
    [pytest.param(False, id="server well"), pytest.param(True, id="server misbehaving", marks=pytest.mark.slow)],
)
def test_five_kills_cost_at_most_what_was_in_flight(home: Home, tmp_path: Path, *, faults: bool) -> None:
    import pandas as pd

    seed = random.randrange(10**9)
    moments = sorted(random.Random(seed).sample(range(1, VERDICTS - 100), KILLS))
    with served("--latency", "0.02", *(["--faults"] if faults else [])) as server:
        for moment in moments:
            process = start(server, home, tmp_path / "judged")
            while server.stats()["answered"] < moment:
                assert process.poll() is None, f"ended before answer {moment} (seed {seed})"
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert start(server, home, tmp_path / "judged").wait() == 0
        counted = server.stats()
    judged = pd.read_pickle(tmp_path / "judged")
    assert len(judged) == VERDICTS
    assert not judged.duplicated(["pair_id", "order"]).any()
    assert judged["verdict"].isin([*DECIDED, "unparseable", "refused"]).all()
    assert judged["verdict"].isin(DECIDED).all() or faults
    troubles = sum(counted["kinds"].get(kind, 0) for kind in PASSING)
    assert (troubles > 0) == faults
    # an attempt that failed was no verdict; beyond those, every request is a verdict or was in flight at a kill
    assert VERDICTS <= counted["requests"] - troubles <= VERDICTS + KILLS * CONCURRENCY, f"seed {seed}"
    assert counted["answered"] <= VERDICTS + KILLS * CONCURRENCY, f"seed {seed}"
