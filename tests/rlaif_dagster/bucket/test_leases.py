"""One maker at a time between machines: who waits is told for whom, and a dead holder keeps nobody."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif_dagster.bucket import leases
from rlaif_dagster.bucket.leases import check_held, held, leased
from rlaif_dagster.bucket.local_copy import refresh
from rlaif_dagster.bucket.objects import Bucket
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.locks import held_elsewhere, lock_name, making
from tests.rlaif_dagster.bucket.machine import commit_model

NAME = lock_name("dpo_model", "brief|tiny")


def start(do: str, home: Path, argument: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.rlaif_dagster.bucket.machine", do, str(home), str(argument)]
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def holding(home: Path, seconds: float) -> subprocess.Popen[str]:
    process = start("lease", home, seconds)
    assert process.stdout
    assert process.stdout.readline() == "held\n", process.communicate()[1]
    return process


def test_another_machine_waits_and_is_told_who_holds_it(machine: Callable[[str], Home]) -> None:
    home, told = machine("b"), list[str]()
    with holding(machine("a").root, 2) as process:
        assert held_elsewhere(home) == {NAME}
        with making(home, "dpo_model", "brief|tiny", "rlaif up", told.append) as changed:
            assert changed
            assert process.wait(5) == 0
    assert told == [f"rlaif up (process {process.pid}, 0 min)"]
    assert held_elsewhere(home) == set()


def test_what_a_sibling_of_the_same_home_fetched_is_news_to_this_process(machine: Callable[[str], Home]) -> None:
    """Runs of the daemon share a home: a plan that is older than what one of them fetched has to be looked at again."""
    home = machine("a")
    refresh(home)
    commit_model(machine("b"), 1)
    with holding(home.root, 0) as sibling:
        assert sibling.wait(5) == 0
    assert (home.warehouse / "lineage" / "dpo_model.parquet").exists()
    with making(home, "dpo_model", "brief|tiny", "rlaif up") as changed:
        assert changed
    with making(home, "dpo_model", "brief|tiny", "rlaif up") as changed:
        assert not changed


@pytest.mark.slow
def test_another_partition_is_free(machine: Callable[[str], Home]) -> None:
    with holding(machine("a").root, 60) as process:
        started = time.monotonic()
        with making(machine("b"), "dpo_model", "other|tiny", "rlaif up") as changed:
            assert not changed
        assert time.monotonic() - started < 5
        process.kill()


def test_a_killed_holder_is_taken_over_when_its_lease_is_old(machine: Callable[[str], Home], bucket: Bucket) -> None:
    process = holding(machine("a").root, 60)
    process.kill()
    process.wait()
    told: list[dict[str, object]] = []
    started = time.monotonic()
    with leased(bucket, NAME, {"what": "b"}, told.append, to_live=3) as waited:
        assert waited
        assert [one["pid"] for one in told] == [process.pid]
        assert 1 < time.monotonic() - started < 10
    assert held(bucket) == set()


def test_a_living_holder_keeps_its_lease_however_long_it_takes(bucket: Bucket) -> None:
    with leased(bucket, NAME, {"what": "a"}, print, to_live=2):
        time.sleep(4)
        (one,) = bucket.list("locks/")
        assert one.age < 2
        check_held(NAME)


@pytest.mark.parametrize(
    ("body", "name"),
    [(b'{"token": "1", "what": "rlaif up", "host": "there"}', "rlaif up on there"), (b"", "another process")],
    ids=["still there", "ended"],
)
@pytest.mark.parametrize("beats", [0.2, 60.0])
def test_who_lost_the_lease_may_not_go_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, beats: float, body: bytes, name: str
) -> None:
    """As after the laptop slept: somebody took over, and what this process made must not be written over it, whether or not a
    beat came since."""
    monkeypatch.setattr(leases, "SECONDS_BETWEEN_BEATS", beats)
    with leased(bucket, NAME, {"what": "a", "host": "here"}, print) as waited:
        assert not waited
        found = bucket.read(f"locks/{NAME}.json")
        assert found
        bucket.put(f"locks/{NAME}.json", body, replaces=found.etag)
        time.sleep(min(beats * 5, 1))
        with pytest.raises(UserError, match=f"{NAME}: .* {name} took over"):
            check_held(NAME)
    found = bucket.read(f"locks/{NAME}.json")
    assert found
    assert found.body == body  # and the other's is not given back
