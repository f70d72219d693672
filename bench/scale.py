"""Judging by two shards on a Ray cluster beside judging by one: a server that takes a second, 32 requests in flight a shard.

The cluster has two nodes of one core each, on this machine. `speed_up` is one shard's seconds over two shards'; the ideal is 2,
because either waits for the server nearly all the time. Beside it, in seconds a step, what Ray costs: `shard_overhead_s`, judging
by one shard less the same without (a shard's process starts, and imports what it judges with); `step_overhead_s`, a step of
`rlaif up` that computes next to nothing, as a task on the cluster less the same without Ray; `ray_start_s`, once where no
cluster runs and a step starts Ray itself.

All sides must get the same answer to every question.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.judge import server
from bench.measurement import Measurement, WrongResult, machine
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT

CONCURRENCY = 32  # of each shard
LATENCY = 1.0  # seconds that the server takes for an answer
ROUNDS = 40  # of answers, with all of one shard's requests in flight
SIDES = {"here": None, "one": 1, "two": 2}  # shards
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}


def measure() -> Measurement:
    """All sides on ROUNDS times CONCURRENCY questions. Raises WrongResult when one lost an answer."""
    return compare(concurrency=CONCURRENCY, latency=LATENCY, rounds=ROUNDS)


def compare(*, concurrency: int, latency: float, rounds: int) -> Measurement:
    """Each side in a process of its own, against a fresh server and with an empty cache."""
    verdicts = concurrency * rounds
    with cluster() as (address, start_s), tempfile.TemporaryDirectory(prefix="rlaif-bench-") as folder:
        taken = {}
        for side, shards in SIDES.items():
            environment = {"RAY_ADDRESS": address, "RLAIF_SHARDS": str(shards or "")}
            with server(latency) as url:
                arguments = [url, f"{folder}/{side}", *map(str, (concurrency, 2, verdicts))]
                taken[side] = _run(["-m", "bench.judge_run", *arguments], environment, side)
        steps = {}
        for side in ("", "ray"):
            environment = {"RAY_ADDRESS": address, "RLAIF_STEPS": side, "RLAIF_HOME": f"{folder}/step{side}"}
            steps[side] = _seconds(["-m", "rlaif_dagster.cli.main", "up", "--select", "prompts"], environment)
    return summary(
        taken, verdicts=verdicts, concurrency=concurrency, latency=latency, start_s=start_s,
        step_overhead_s=steps["ray"] - steps[""],
    )  # fmt: skip


def summary(
    taken: Mapping[str, Mapping[str, Any]],
    *,
    verdicts: int,
    concurrency: int,
    latency: float,
    start_s: float,
    step_overhead_s: float,
) -> Measurement:
    """The sides' seconds as figures. Raises WrongResult when answers are missing or differ."""
    answers = [side["answers"] for side in taken.values()]
    if any(one != answers[0] or len(one) != verdicts for one in answers):
        raise WrongResult(f"of {verdicts} answers the sides have {[len(one) for one in answers]}, or they differ")
    seconds = {side: float(found["wall"]) for side, found in taken.items()}
    of = {
        side: {
            "shards": SIDES[side],
            "verdicts_per_second": verdicts / seconds[side],
            "of_ideal": verdicts / seconds[side] * latency / (concurrency * (SIDES[side] or 1)),
        }
        for side in ("one", "two")
    }
    return Measurement(
        part="scale",
        ratios={"speed_up": seconds["one"] / seconds["two"], "seconds": seconds["two"] / seconds["one"]},
        ours={
            "name": "two shards on Ray",
            "concurrency_a_shard": concurrency,
            "latency_s": latency,
            "verdicts": verdicts,
            **of["two"],
            "without_ray_s": seconds["here"],
            "shard_overhead_s": seconds["one"] - seconds["here"],
            "step_overhead_s": step_overhead_s,
            "ray_start_s": start_s,
        },
        peer={"name": "one shard on Ray", **of["one"]},
        machine=machine(threads=1),
    )


@contextmanager
def cluster() -> Iterator[tuple[str, float]]:
    """Two nodes of one core on this machine; their address, and how long the first took to start."""
    os.environ.update(QUIET)  # before ray is imported
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        raise UserError("part 'scale' needs Ray: pip install -c requirements.lock -e '.[ray]'") from None
    started = time.perf_counter()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    seconds = time.perf_counter() - started
    nodes.add_node(num_cpus=1)
    try:
        yield nodes.address, seconds
    finally:
        nodes.shutdown()


def _run(arguments: list[str], environment: Mapping[str, str], side: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WrongResult(f"{side} ended with status {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}")
    taken: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    print(f"{side}: {taken['wall']:.1f} s", file=sys.stderr)
    return taken


def _seconds(arguments: list[str], environment: Mapping[str, str]) -> float:
    """How long a command takes, start and all. Raises WrongResult when it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WrongResult(f"{' '.join(arguments[1:])} ended with status {done.returncode}: {done.stderr[-500:]}")
    return time.perf_counter() - started
