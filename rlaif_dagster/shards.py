"""One asset's work over several processes: sampling, judging and evaluation as shards on a Ray cluster.

`RLAIF_SHARDS=4` starts four shards, each an actor of Ray's with a process and, with RLAIF_NUM_GPUS, a GPU of its own. A stage
cuts its work into the same fixed pieces as without shards, each of which is computed by itself and kept on the disk that all
share; the shards take one piece after the other, and the stage puts them back in their order. So results are equal
whatever the number of shards. A shard whose process dies is started again by Ray, and its piece with it.

Where RAY_ADDRESS names a cluster, or `ray start` has started one on this machine, the shards go there; else Ray is started for
as long as this process lives. Without RLAIF_SHARDS nothing here imports ray.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rlaif_dagster.errors import UserError
from rlaif_dagster.key_hosts import KEY_HOSTS

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

STEPS = "RLAIF_STEPS"  # where steps run; `RAY` and `KUBERNETES` are its values
RAY = "ray"
KUBERNETES = "kubernetes"
RAY_CONFIG = "dagster-ray/config"  # the tag of a step that says what it asks Ray for
SHARDS = "RLAIF_SHARDS"
GPUS = "RLAIF_NUM_GPUS"
# What of the environment is in a shard as it is here, never a key. Ray gives its processes one thread; sums in another number of
# threads round differently, and a sampled answer can tip on that.
AS_HERE = (
    "RLAIF_HOME", "RLAIF_DATA", "RLAIF_ONEDNN", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "HF_HUB_OFFLINE",
    KEY_HOSTS,
)  # fmt: skip
RESTARTS = 3  # of a shard whose process died, and of the piece that it had
SECONDS_TO_START = 60.0  # before a line says what the cluster lacks
READY = -1  # the place of what is no piece: a shard that has started

_pools: dict[float, list[Any]] = {}  # the shards of this process by the GPUs that each has


def shards() -> int:
    """How many shards the environment asks for; 0 is none: the work is done in this process. Raises UserError."""
    return int(_number(SHARDS, whole=True))


def gpus() -> float:
    """How many GPUs a step, or a shard of one, asks Ray for. Raises UserError."""
    return _number(GPUS)


def threads_as_here() -> None:
    """In a step that is a job of Ray's: forget the one thread that Ray gave it, unless who sent it handed on a number."""
    config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    if config and "OMP_NUM_THREADS" not in (config.get("runtime_env") or {}).get("env_vars", {}):
        os.environ.pop("OMP_NUM_THREADS", None)


def spread(function: Callable[[T], R], pieces: Sequence[T], *, computes: bool = True) -> Iterator[tuple[int, R]]:
    """`function` of every piece, computed by the shards: the place of a piece and its result, as they arrive.

    `function`, pieces and results travel between processes (a `partial` of a function of a module does). A piece may be computed
    twice where a shard died, so it must keep what it did, or do the same again. `computes` says that shards want the GPUs. What
    a piece raises is raised here, a UserError as it is.
    """
    if not pieces:
        return
    connect()
    import ray

    pool = _pool(min(shards(), len(pieces)), gpus() if computes else 0.0)
    shared, left = ray.put(function), deque(enumerate(pieces))
    running = {shard.ready.remote(): (shard, READY) for shard in pool[: len(pieces)]}
    missing, told = len(pieces), False
    while missing:
        done, _ = ray.wait(list(running), num_returns=1, timeout=SECONDS_TO_START)
        if not done and not told and all(place == READY for _, place in running.values()):
            told = True
            log.warning("no shard has started yet: a shard asks for %s", lacking({"CPU": 1.0, "GPU": gpus()}))
        for reference in done:
            shard, place = running.pop(reference)
            result = result_of(reference)
            if left:
                next_place, piece = left.popleft()
                running[shard.run.remote(shared, piece)] = (shard, next_place)
            if place != READY:
                missing -= 1
                yield place, result


def release() -> None:
    """End this process's shards: their memory and their GPUs are free for others."""
    if not _pools:
        return
    import ray

    for shard in (shard for pool in _pools.values() for shard in pool):
        ray.kill(shard)
    _pools.clear()


def connect() -> None:
    """Join the cluster, or start Ray on this machine. Raises UserError where ray is not installed or no cluster answers."""
    if importlib.util.find_spec("ray") is None:
        raise UserError(f"{SHARDS} needs Ray: pip install -c requirements.lock -e '.[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    try:
        ray.init(address="auto", **quiet)
    except (ConnectionError, ValueError) as error:
        if address := os.environ.get("RAY_ADDRESS"):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"RAY_ADDRESS={address}: no Ray cluster answers there ({reason}): start it, or unset it"
            ) from None
        ray.init(address="local", include_dashboard=False, **quiet)


class Shard:
    """What a shard's process does. Models stay in its memory from piece to piece."""

    def __init__(self, environment: dict[str, str | None]) -> None:
        for name, value in environment.items():  # before anything that reads it is imported
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def ready(self) -> None:
        """Answered when the process is there."""

    def run(self, function: Callable[[Any], Any], piece: Any) -> Any:
        """The function of one piece."""
        return function(piece)


def _pool(wanted: int, gpus_each: float) -> list[Any]:
    """At least so many shards, which live until `release`."""
    import ray

    pool = _pools.setdefault(gpus_each, [])
    actor = ray.remote(num_cpus=1, num_gpus=gpus_each, max_restarts=RESTARTS, max_task_retries=RESTARTS)(Shard)
    environment = {name: os.environ.get(name) for name in AS_HERE}
    pool += [actor.remote(environment) for _ in range(wanted - len(pool))]
    return pool


def result_of(reference: Any) -> Any:
    """What a task of Ray's came to, waited for; its UserError as it is."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


def has_room(asked: Mapping[str, float]) -> bool:
    """Whether there is what is asked of one node, as far as what is free on all of them and the largest node tell."""
    import ray

    free, nodes = ray.available_resources(), [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return all(
        free.get(name, 0.0) >= wanted and any(node.get(name, 0.0) >= wanted for node in nodes)
        for name, wanted in asked.items()
        if wanted
    )


def lacking(asked: Mapping[str, float]) -> str:
    """What is asked of one node of the cluster, beside what there is of it."""
    import ray

    free, total = ray.available_resources(), ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in asked}
    return " and ".join(
        f"{wanted:g} {name} ({free.get(name, 0.0):g} free of {total.get(name, 0.0):g}, {most[name]:g} on a node at most)"
        for name, wanted in asked.items() if wanted
    )  # fmt: skip


def _number(name: str, *, whole: bool = False) -> float:
    text = os.environ.get(name) or "0"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise UserError(f"{name}: found {text!r}, allowed: a number, at least 0")
    return value
