"""kill -9 at random moments of everything that can be killed: the same tables in the end, and nothing made twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.daemon import Dagster
from rlaif_dagster.home import Home
from rlaif_dagster.locks import holders
from tests.checkout import Checkout
from tests.equality import same_tables
from tests.study.conftest import make_study
from tests.study.test_interruptions import records, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
WORKERS_KILLED = (2, 1, 1)  # before the daemon's turn, each of three times


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study, made in one go."""
    study = make_study(tmp_path_factory.mktemp("undisturbed"))
    study.up()
    return study


def killed(*processes: psutil.Process) -> int:
    """Kill -9; how many of them there were."""
    there = [process for process in processes if process.is_running()]
    for process in there:
        process.kill()
    psutil.wait_procs(there, timeout=30)
    return len(there)


def wait(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


def worker(study: Checkout) -> psutil.Process | None:
    """A process in which a run of Dagster makes something right now."""
    found = [one.pid for one in holders(Home(study.home)) if one.what.startswith("run ")]
    return psutil.Process(found[0]) if found and psutil.pid_exists(found[0]) else None


def daemon_of(dagster: Dagster) -> psutil.Process:
    children = psutil.Process(dagster.process.pid).children(recursive=True)
    [daemon] = [one for one in children if "dagster._daemon" in one.cmdline()]
    return daemon


def test_workers_daemons_and_command_lines_killed_ten_times_end_with_the_same_tables(
    undisturbed: Checkout, tmp_path: Path
) -> None:
    study = Checkout(undisturbed.data, tmp_path / "home")
    moments = random.Random(1)
    workers = daemons = command_lines = 0
    for number in WORKERS_KILLED:
        with Dagster(study.environment | {"OMP_NUM_THREADS": "1"}) as dagster:
            dagster.switch_on("follow_edits")
            for _ in range(number):
                wait(lambda: worker(study), 240)
                time.sleep(moments.uniform(0, 2))
                workers += killed(wait(lambda: worker(study), 240))
            time.sleep(moments.uniform(0, 4))
            everything = psutil.Process(dagster.process.pid).children(recursive=True)
            daemons += killed(daemon_of(dagster))
            killed(psutil.Process(dagster.process.pid), *everything)  # what the daemon's end leaves behind
            dagster.process.wait()
        process = up(study)
        time.sleep(moments.uniform(2, 8))
        command_lines += killed(psutil.Process(process.pid))
        process.communicate()
    assert (workers, daemons, command_lines) == (4, 3, 3)
    assert study.planned()  # there was something left to be killed
    study.up()
    assert set(records(study).values()) == {1}  # nothing that was finished was made again
    same_tables(study, undisturbed)
