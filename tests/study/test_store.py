"""A study of two machines that share nothing but a store: each step is made once, and a third machine finds all of it."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.checkout import Checkout
from tests.equality import same_files, same_tables
from tests.s3_server import Server, server
from tests.study.conftest import make_study
from tests.study.executed import executed
from tests.study.test_automation import Daemon
from tests.study.test_interruptions import records, up

pytestmark = pytest.mark.timeout(1800)
KILLS = 8


@dataclass(frozen=True)
class Machine(Checkout):
    """A user's folders on a machine whose environment names the store."""

    store: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.store


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The files that all machines have."""
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def undisturbed(study: Checkout) -> Checkout:
    """The study, made in one go on one machine without a store."""
    study.up()
    return study


@pytest.fixture(scope="module")
def shared(s3: Server, study: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Machine]:
    """Machines with the same files and the same store, by name."""
    folder = tmp_path_factory.mktemp("machines")
    return lambda name: Machine(study.data, folder / name, s3.environment())


@pytest.fixture(scope="module")
def both(shared: Callable[[str], Machine]) -> tuple[Machine, Machine]:
    """Two machines that were told to make everything at the same moment."""
    machines = shared("a"), shared("b")
    make_at_once(machines)
    return machines


def make_at_once(machines: Sequence[Machine], *arguments: str) -> None:
    running = [up(machine, *arguments) for machine in machines]
    told = [process.communicate(timeout=600)[1] for process in running]
    assert [process.returncode for process in running] == [0] * len(machines), told
    assert any("waiting" in one for one in told)


def same_copies(machine: Machine, other: Machine) -> int:
    """Every table and record byte for byte, for they are the same objects; how many there are."""
    files = [path.relative_to(machine.home) for path in (machine.home / "warehouse").rglob("[!.]*.parquet")]
    for file in files:
        assert (other.home / file).read_bytes() == (machine.home / file).read_bytes(), file
    return len(files)


def test_two_machines_share_the_work_and_a_third_has_nothing_to_do(s3: Server, study: Checkout, tmp_path: Path) -> None:
    """From prompts to preferences: what is judged is trained on in the slow tests."""
    first, second, third = (Machine(study.data, tmp_path / name, s3.environment("pairs")) for name in "abc")
    make_at_once([first, second], "--select", "+preference_pairs")
    assert set(records(first).values()) == {1}
    done = third.rlaif("up", "--select", "+preference_pairs")
    assert done.returncode == 0, done.stderr
    assert "Nothing to do" in done.stdout
    assert same_copies(first, second) == same_copies(first, third) > 8


@pytest.mark.slow
def test_both_have_the_tables_of_one_machine_without_a_store(
    both: tuple[Machine, Machine], undisturbed: Checkout
) -> None:
    first, second = both
    assert set(records(first).values()) == {1}
    same_tables(first, undisturbed)
    same_files(first, undisturbed)
    assert second.planned() == []
    same_files(second, undisturbed)


@pytest.mark.slow
def test_a_fresh_machine_has_everything_to_show(
    both: tuple[Machine, Machine], shared: Callable[[str], Machine], undisturbed: Checkout, tmp_path: Path
) -> None:
    fresh = shared("fresh")
    assert "Nothing to do: everything is fresh." in fresh.rlaif("up").stdout
    report = Path(fresh.rlaif("report").stdout.strip())
    assert report.is_relative_to(fresh.home)
    assert {path.name for path in report.parent.iterdir()} == {"report.html", "report.md", "plots"}
    assert (fresh.home / "warehouse" / "results.duckdb").exists()
    assert not list((fresh.home / "models").glob("*"))
    exported = fresh.rlaif("export", "--arm", "dpo", "--adapter", str(tmp_path / "dpo"))
    assert exported.returncode == 0, exported.stderr
    name = "adapter_model.safetensors"
    (trained,) = fresh.home.glob(f"models/*/{name}")
    weights = load_file(tmp_path / "dpo" / name)
    for key, value in load_file(undisturbed.home / trained.relative_to(fresh.home)).items():
        assert (weights[key] == value).all()


@pytest.mark.slow
def test_an_edit_is_made_by_a_machine_that_never_made_what_it_starts_from(
    both: tuple[Machine, Machine], shared: Callable[[str], Machine], study: Checkout, s3: Server
) -> None:
    """PPO starts from the SFT adapter and is paid by the reward model, which other machines trained."""
    late = shared("late")
    study.edit("recipes/ppo.yaml", "updates: 1", "updates: 2")
    try:
        (step,) = late.planned("--select", "ppo_model")
        assert step["reasons"] == ["recipe_ppo tiny changed: updates"]
        late.up("--select", "ppo_model")
        assert len(list((late.home / "models").glob("*"))) == 3  # the two that it fetched, and its own
        assert both[0].planned("--select", "ppo_model") == []
    finally:
        study.edit("recipes/ppo.yaml", "updates: 2", "updates: 1")
    both[1].up("--select", "ppo_model")  # it finds again what one of them trained before the edit
    assert len([key for key in s3.names("study/models/") if key.endswith("record.json")]) == 5  # each trained once
    assert both[0].planned() == []


@pytest.mark.slow
def test_machines_killed_again_and_again_end_with_the_same_tables(
    s3: Server, undisturbed: Checkout, tmp_path: Path
) -> None:
    machines = [Machine(undisturbed.data, tmp_path / name, s3.environment("killed")) for name in ("a", "b")]
    moments = random.Random(0)
    for n in range(KILLS):
        process = up(machines[n % 2])
        try:
            process.wait(timeout=moments.uniform(4, 14))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for machine in machines:
        machine.up()
        assert set(records(machine).values()) == {1}
        same_tables(machine, undisturbed)
        same_files(machine, undisturbed)


@pytest.mark.slow
def test_runs_of_dagster_go_through_the_same_store(s3: Server, tmp_path: Path) -> None:
    """As the daemon starts them, a process a step: the assets that no constitution has a part in."""
    study = make_study(tmp_path / "study")
    machine = Machine(study.data, tmp_path / "daemon", s3.environment("daemon"))
    executed(machine, "brief", "tiny", "2")
    other = Machine(study.data, tmp_path / "reader", s3.environment("daemon"))
    made = {"prompts", "completions", "base_benchmarks", "base_responses"}
    assert not made & {step["asset"] for step in other.planned()}
    assert {name.split()[0] for name in records(other)} == made
    assert set(records(other).values()) == {1}
    assert same_copies(machine, other) == 5 + len(made)  # the tables, and the records of each


@pytest.mark.slow
def test_the_sensor_of_another_machine_sees_what_is_made_and_makes_what_is_stale(
    both: tuple[Machine, Machine], shared: Callable[[str], Machine], study: Checkout
) -> None:
    daemon = Daemon(shared("night"))
    assert both[0].planned() == []
    assert daemon("tick")["asked"] == []  # it has made nothing itself
    study.edit("labels/pairs.jsonl", "No no.", "No, no, no.")
    try:
        assert daemon.settle() == dict.fromkeys(["judge_agreement", "preference_pairs", "report", "results"], 1)
        assert both[0].planned() == []
    finally:
        study.edit("labels/pairs.jsonl", "No, no, no.", "No no.")
        assert daemon.process.stdin
        daemon.process.stdin.close()
        daemon.process.wait(60)
