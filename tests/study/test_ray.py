"""A study on a real Ray cluster of two nodes: the same tables whatever the number of shards, whoever is killed."""

from __future__ import annotations

import shutil
import signal
import time
from itertools import combinations
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from rlaif_dagster.home import Home
from rlaif_dagster.instance_config import prepare_dagster_home
from rlaif_dagster.lineage.pools import SECONDS_BETWEEN_LOOKS
from rlaif_dagster.lineage.runs import PARTITION_TAG, open_instance
from rlaif_dagster.locks import Holder, holders
from tests.checkout import Checkout
from tests.equality import same_files, same_tables
from tests.local_ray import cluster
from tests.study.conftest import make_study
from tests.study.executed import executed
from tests.study.test_interruptions import records, up
from tests.study.test_kills import wait

__all__ = ["cluster"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
KILLS = 3


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study, made in one process."""
    study = make_study(tmp_path_factory.mktemp("undisturbed"))
    study.up()
    return study


@pytest.fixture
def on_ray(undisturbed: Checkout, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """The same files with an empty home, to be made with shards on the cluster."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    return Checkout(undisturbed.data, tmp_path / "home")


def working(cluster: Cluster, what: str = "ray::Shard.run") -> list[psutil.Process]:
    """The processes that have a piece in hand right now, on any node: Ray names a process by what it runs."""
    raylets = [info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]]
    children = [child for pid in raylets for child in psutil.Process(pid).children(recursive=True)]
    return [child for child in children if titled(child).startswith(what)]


def titled(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.parametrize("shards", [1, 4])
def test_tables_are_equal_whatever_the_number_of_shards(
    shards: int, on_ray: Checkout, undisturbed: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAIF_SHARDS", str(shards))
    on_ray.up()
    same_tables(on_ray, undisturbed)
    same_files(on_ray, undisturbed)


def test_shards_killed_in_mid_step_end_with_the_same_tables(
    on_ray: Checkout, undisturbed: Checkout, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAIF_SHARDS", "2")
    process, killed = up(on_ray), []
    for _ in range(KILLS):
        shard = wait(lambda: next(iter(working(cluster)), None) or process.poll() is not None, 120)
        assert process.poll() is None
        shard.kill()
        killed.append(shard.pid)
        time.sleep(10)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told[-3000:]
    assert len(set(killed)) == KILLS
    same_tables(on_ray, undisturbed)
    same_files(on_ray, undisturbed)


def test_rlaif_up_hands_its_steps_to_the_cluster_and_one_that_is_killed_is_made_again(
    on_ray: Checkout, undisturbed: Checkout, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAIF_STEPS", "ray")
    process = up(on_ray)
    wait(lambda: holders_on(on_ray, "dpo_model") or process.poll() is not None, 400)
    (worker,) = working(cluster, "ray::_on_the_cluster")
    worker.kill()
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told[-3000:]
    assert set(records(on_ray).values()) == {1}
    same_tables(on_ray, undisturbed)
    same_files(on_ray, undisturbed)


def test_what_is_ready_is_made_at_the_same_time(
    on_ray: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cells, as far as their pools' two slots let them, with the versions that they have one after the other, as a budget
    has them made."""
    some = ("--constitution", "all", "--select", "+preference_pairs")
    alone = Checkout(on_ray.data, tmp_path / "alone")
    alone.up(*some)
    assert not any(overlap(one, other) for one, other in combinations(spans(alone).values(), 2))
    monkeypatch.setenv("RLAIF_STEPS", "ray")
    careful = Checkout(on_ray.data, tmp_path / "careful")
    for study in (on_ray, careful):
        settings = prepare_dagster_home(Home(study.home)) / "dagster.yaml"
        settings.write_text(settings.read_text().replace("default_limit: 1", "default_limit: 2"))
    on_ray.up(*some)
    spent = spans(on_ray)
    for asset in ("revisions", "judgments"):  # one of each pool, in both cells
        assert overlap(spent[f"{asset} brief|tiny"], spent[f"{asset} other|tiny"])
    careful.up(*some, "--budget", "1")
    assert not any(overlap(one, other) for one, other in combinations(spans(careful).values(), 2))
    for study in (on_ray, careful):
        assert study.versions() == alone.versions()
        assert set(records(study).values()) == {1}


def test_a_step_for_which_the_cluster_has_no_room_says_what_it_lacks(
    on_ray: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAIF_STEPS", "ray")
    monkeypatch.setenv("RLAIF_NUM_GPUS", "2")
    process = up(on_ray, "--select", "+completions")
    assert process.stderr
    told = next(line for line in process.stderr if "waits for room" in line)
    process.send_signal(signal.SIGINT)
    told += process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    lacks = "asks for 1 CPU (4 free of 4, 2 on a node at most) and 2 GPU (0 free of 0, 0 on a node at most)"
    assert lacks in " ".join(told.split())


def spans(study: Checkout) -> dict[str, tuple[float, float]]:
    """When each run began and ended."""
    with open_instance(Home(study.home)) as instance:
        return {
            f"{key.to_user_string()} {one.dagster_run.tags.get(PARTITION_TAG, '')}".strip(): (
                one.start_time or 0.0,
                one.end_time or 0.0,
            )
            for one in instance.get_run_records()
            for key in one.dagster_run.asset_selection or ()
        }


def overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def test_a_half_saved_file_ends_no_step_on_the_cluster_and_ctrl_c_does(
    undisturbed: Checkout, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that would take minutes, and a step that waits for its slot."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("RLAIF_STEPS", "ray")
    study = Checkout(tmp_path / "data", tmp_path / "home")
    for mine, other in ((study.data, undisturbed.data), (study.home, undisturbed.home)):
        shutil.copytree(other, mine)
    study.edit("recipes/dpo.yaml", "max_length: 400", "epochs: 2000\nmax_length: 400")
    study.edit("recipes/benchmarks.yaml", "limit: 2", "limit: 3")
    process = up(study, "--select", "dpo_model", "--select", "sft_benchmarks")
    wait(lambda: holders_on(study, "dpo_model") or process.poll() is not None, 120)
    study.edit("recipes/dpo.yaml", "epochs: 2000", "epochs: -1")
    time.sleep(3 * SECONDS_BETWEEN_LOOKS)
    assert process.poll() is None
    assert holders_on(study, "dpo_model")
    study.edit("recipes/dpo.yaml", "epochs: -1", "epochs: 2000")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told[-3000:]
    assert told.count("goes on; nothing else is started") == 1
    assert holders(Home(study.home)) == []
    with open_instance(Home(study.home)) as instance:
        assert all(run.is_finished for run in instance.get_runs())
    assert {step["asset"] for step in study.planned()} >= {"dpo_model", "sft_benchmarks"}


def holders_on(study: Checkout, asset: str) -> list[Holder]:
    """Who makes an asset right now."""
    path = study.home / "work" / "locks" / f"making-{asset}@brief@tiny.json"
    return [one for one in holders(Home(study.home)) if path.exists()]


@pytest.mark.parametrize(("steps", "shards"), [("", ""), ("ray", "2")])
def test_runs_of_dagster_make_the_same_tables_with_a_process_or_a_job_of_ray_a_step(
    steps: str, shards: str, on_ray: Checkout, undisturbed: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster's multiprocess executor, and dagster-ray's with the work of a step spread over shards as well."""
    monkeypatch.setenv("RLAIF_STEPS", steps)
    monkeypatch.setenv("RLAIF_SHARDS", shards)
    starts = [line for line in executed(on_ray, "brief", "tiny").splitlines() if "STEP_WORKER_STARTING" in line]
    assert len(starts) == 23 or not steps
    assert all(("in Ray job" in line) == bool(steps) for line in starts)
    same_tables(on_ray, undisturbed)
    same_files(on_ray, undisturbed)
