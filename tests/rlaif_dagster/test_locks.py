"""One maker a partition: across processes, known by name, and free again however its process ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.locks import holder, holders, making

HOLD = """
import sys, time
from pathlib import Path
from rlaif_dagster.home import Home
from rlaif_dagster.locks import making
with making(Home(Path(sys.argv[1])), "dpo_model", "brief|tiny", "rlaif up"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(home: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(home), str(seconds)]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_waits_and_is_told_who_holds_it(home: Home) -> None:
    with hold(home.root, 1.5) as process:
        told: list[str] = []
        assert [str(one) for one in holders(home)] == [f"rlaif up (process {process.pid}, 0 min)"]
        with making(home, "dpo_model", "brief|tiny", "rlaif up", told.append) as waited:
            assert waited
            assert process.wait(5) == 0
    assert told == [f"rlaif up (process {process.pid}, 0 min)"]
    assert holders(home) == []
    assert holder(home, "dpo_model", "brief|tiny") is None


def test_another_partition_is_free_and_the_same_process_passes(home: Home) -> None:
    with making(home, "dpo_model", "brief|tiny", "a"), making(home, "dpo_model", "other|tiny", "b"):
        with making(home, "dpo_model", "brief|tiny", "c") as waited:
            assert not waited
        held = holder(home, "dpo_model", "brief|tiny")
        assert held is not None
        assert held.what == "a"


def test_a_killed_process_holds_nothing(home: Home) -> None:
    process = hold(home.root, 60)
    process.kill()
    process.wait()
    assert holder(home, "dpo_model", "brief|tiny") is None
    started = time.monotonic()
    with making(home, "dpo_model", "brief|tiny", "rlaif up") as waited:
        assert not waited
    assert time.monotonic() - started < 1
