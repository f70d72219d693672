"""The sensor's ticks: one edit, one run a partition; none lost when a run fails, none repeated for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from rlaif_dagster.home import CHECKOUT
from tests.checkout import Checkout
from tests.study.conftest import CONSTITUTION, make_study
from tests.study.test_edits import CONCLUSIONS, POLICIES, after

pytestmark = pytest.mark.timeout(1800)
EVERYTHING = {
    "prompts", "completions", "base_benchmarks", "base_responses", "revisions", "judgments", "preference_pairs",
    "judge_agreement", "reward_model", *after(*POLICIES), *CONCLUSIONS,
}  # fmt: skip


class Daemon:
    """The process of `tests.study.ticks`."""

    def __init__(self, study: Checkout) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.study.ticks"], cwd=CHECKOUT, env=study.environment | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def __call__(self, do: str, **arguments: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("REPLY "):
                return json.loads(line[6:])
        pytest.fail("the daemon's process has ended")

    def settle(self) -> dict[str, int]:
        """How often each asset was asked for until all was quiet; every run must end well, none be asked for twice."""
        told = self("settle")
        assert "error" not in told, told
        assert all(told["well"])
        assert told["dropped"] == 0
        assert told["reason"] == "everything is fresh"
        counts = Counter((asset, partition) for asset, partition in told["asked"])
        assert set(counts.values()) <= {1}
        return dict(Counter(asset for asset, _ in counts))


def _partition(cell: dict[str, str | None]) -> str | None:
    return "|".join(part for part in (cell["constitution"], cell["model"]) if part) or None


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make_study(tmp_path_factory.mktemp("automation"))


@pytest.fixture(scope="module")
def daemon(study: Checkout) -> Iterator[Daemon]:
    daemon = Daemon(study)
    assert daemon.settle() == dict.fromkeys(EVERYTHING, 1)  # from nothing: each once, parents first
    yield daemon
    assert daemon.process.stdin
    daemon.process.stdin.close()
    daemon.process.wait(60)


def test_a_quiet_study_is_asked_for_nothing(daemon: Daemon) -> None:
    told = daemon("tick")
    assert (told["asked"], told["observed"]) == ([], [])


def test_an_edit_is_observed_once_and_each_partition_runs_once(daemon: Daemon, study: Checkout) -> None:
    study.edit("labels/pairs.jsonl", "No no.", "No, no, no.")
    told = daemon("settle")
    assert told["observed"] == [["labelled_pairs", None]]
    assert sorted(told["asked"], key=str) == [
        ["judge_agreement", "brief"], ["preference_pairs", "brief|tiny"], ["report", "brief|tiny"], ["results", None],
    ]  # the pairs come out the same: nothing is trained  # fmt: skip
    assert daemon("tick")["asked"] == []


def test_a_comment_runs_nothing(daemon: Daemon, study: Checkout) -> None:
    study.edit("constitutions/brief.yaml", "# a comment", "# another")
    told = daemon("tick")
    assert (told["asked"], told["observed"]) == ([], [])


def test_two_edits_at_once_run_their_union_once(daemon: Daemon, study: Checkout) -> None:
    study.edit("recipes/dpo.yaml", "max_length: 400", "epochs: 2\nmax_length: 400")
    study.edit("recipes/ppo.yaml", "updates: 1", "updates: 2")
    assert daemon.settle() == dict.fromkeys({*after("dpo", "ppo"), *CONCLUSIONS}, 1)


def test_equal_content_ends_the_edit(daemon: Daemon, study: Checkout) -> None:
    """A weight that decides nothing leaves the pairs as they were: policies are not asked for."""
    study.edit("constitutions/brief.yaml", "jargon., weight: 1", "jargon., weight: 1.0001")
    asked = daemon.settle()
    assert {"revisions", "judgments", "judge_agreement"} <= asked.keys()
    assert not asked.keys() & {"completions", "base_responses", "base_benchmarks"}
    study.edit("constitutions/brief.yaml", "weight: 1.0001", "weight: 1")
    daemon.settle()


def test_nothing_is_asked_for_while_it_or_what_it_reads_is_being_made(daemon: Daemon, study: Checkout) -> None:
    study.edit("recipes/dpo.yaml", "epochs: 2", "epochs: 3")
    run = daemon("start_elsewhere", asset="preference_pairs", partition="brief|tiny")
    assert daemon("tick")["asked"] == []
    daemon("end_elsewhere", run_id=run)
    run = daemon("start_elsewhere", asset="dpo_model", partition="brief|tiny")
    told = daemon("tick")
    assert told["asked"] == []
    assert "dpo_model brief|tiny" in told["reason"]
    daemon("end_elsewhere", run_id=run)
    run = daemon("start_elsewhere", asset="dpo_model", partition="other|tiny")  # another cell is no reason to wait
    assert daemon("tick")["asked"] == [["dpo_model", "brief|tiny"]]
    daemon("end_elsewhere", run_id=run)
    daemon.settle()


def test_a_failed_run_is_tried_three_times_and_its_edit_is_not_lost(daemon: Daemon, study: Checkout) -> None:
    (study.data / "judges" / "server.yaml").write_text(
        "kind: api\nmodel: openai/m\napi_base: http://127.0.0.1:9\napi_key_env: A_KEY_THAT_NOBODY_SET\n",
        encoding="utf-8",
    )
    study.edit("recipes/judging.yaml", "judge: likelihood", "judge: server")
    both = [["judge_agreement", "brief"], ["judgments", "brief|tiny"]]  # what is ready; the rest waits for these
    told = daemon("tick")
    assert (sorted(told["asked"]), told["well"]) == (both, [False, False])
    told = daemon("tick")
    assert told["asked"] == []
    assert told["reason"].startswith("to be tried again later: ")
    daemon("later", seconds=61)
    assert sorted(daemon("tick")["asked"]) == both
    daemon("later", seconds=61)
    assert daemon("tick")["asked"] == []  # the second wait is five times as long
    daemon("later", seconds=301)
    assert sorted(daemon("tick")["asked"]) == both
    daemon("later", seconds=1_000_000)
    told = daemon("tick")
    assert told["asked"] == []
    assert told["reason"].startswith("left alone after 3 failures or 10 interruptions: ")
    study.edit(
        "recipes/judging.yaml", "held_out_share: 0.4", "held_out_share: 0.5"
    )  # what they read is another thing now
    assert sorted(daemon("tick")["asked"]) == both
    study.edit("recipes/judging.yaml", "judge: server", "judge: likelihood")
    asked = daemon.settle()
    assert {"judgments", "preference_pairs"} <= asked.keys()
    assert "completions" not in asked
    study.edit("recipes/judging.yaml", "held_out_share: 0.5", "held_out_share: 0.4")
    daemon.settle()


def test_a_lost_table_is_asked_for_although_these_inputs_ran_before(daemon: Daemon, study: Checkout) -> None:
    path = study.home / "warehouse" / "responses" / "model=tiny" / "constitution=brief" / "dpo.parquet"
    path.unlink()
    assert daemon.settle() == {"dpo_responses": 1}
    assert path.exists()


def test_every_night_a_backfill_of_exactly_what_is_stale(daemon: Daemon, study: Checkout) -> None:
    assert daemon("schedule", name="every_night")["told"] == "Nothing to do."
    study.edit("recipes/ppo.yaml", "updates: 2", "updates: 3")
    planned = [[step["asset"], _partition(step["cell"])] for step in study.planned()]
    told = daemon("schedule", name="every_night")
    [night] = told["backfills"]
    assert night["target"] == sorted(planned, key=str)
    assert night["tags"] == {"rlaif/backfill": "nightly", "rlaif/if_stale": "yes"}
    assert "still goes on" in daemon("schedule", name="every_night")["told"]
    assert daemon("tick")["asked"] == []  # the sensor leaves a backfill's partitions to it
    daemon("end_backfills")
    assert daemon.settle() == dict.fromkeys({*after("ppo"), *CONCLUSIONS}, 1)
    kept = daemon("run_tagged", asset="ppo_model", partition="brief|tiny", tags=night["tags"])
    assert kept["left as it is"].startswith("unchanged since ")


def test_every_week_the_benchmarks_are_measured_anew(daemon: Daemon, study: Checkout) -> None:
    before = study.versions()
    week = daemon("schedule", name="every_week")["backfills"][0]
    assert week["target"] == [
        ["base_benchmarks", "tiny"], ["dpo_benchmarks", "brief|tiny"], ["ppo_benchmarks", "brief|tiny"],
        ["sft_benchmarks", "brief|tiny"],
    ]  # fmt: skip
    daemon("end_backfills")
    remembered = sorted((study.home / "cache" / "results" / "base_benchmarks").rglob("benchmarks.parquet"))
    written = {path: path.stat().st_mtime_ns for path in remembered}
    daemon("run_tagged", asset="base_benchmarks", partition="tiny", tags=week["tags"])
    assert [path for path in remembered if path.stat().st_mtime_ns > written[path]]  # measured, not remembered
    assert study.versions() == before  # and the same
    assert daemon.settle() == {}


def test_a_wrong_file_fails_the_tick_in_one_line_and_runs_nothing(daemon: Daemon, study: Checkout) -> None:
    study.edit("recipes/dpo.yaml", "epochs: 3", "epochs: -1")
    told = daemon("tick")
    assert told["error"].startswith("UserError: ")
    assert "field 'epochs'" in told["error"]
    study.edit("recipes/dpo.yaml", "epochs: -1", "epochs: 3")
    assert daemon.settle() == {}


def test_a_new_constitution_waits_until_somebody_wants_it_and_a_removed_one_is_let_go(
    daemon: Daemon, study: Checkout
) -> None:
    (study.data / "constitutions" / "third.yaml").write_text(CONSTITUTION, encoding="utf-8")
    assert daemon.settle() == {}
    study.edit("study.yaml", "[brief]", "[brief, third]")
    study.edit("recipes/dpo.yaml", "epochs: 3", "epochs: 2")
    edited = daemon("tick")
    assert ("error" not in edited, [asset for asset, _ in edited["asked"]]) == (True, ["dpo_model"])  # the known cell's
    study.edit("recipes/dpo.yaml", "epochs: 2", "epochs: 3")
    daemon("settle")
    assert daemon("tick")["reason"].endswith("press Reload definitions for: third tiny")
    assert daemon("schedule", name="every_night")["told"].endswith("for: third tiny")
    study.edit("study.yaml", "[brief, third]", "[brief]")
    (study.data / "constitutions" / "third.yaml").unlink()
    (study.data / "constitutions" / "other.yaml").rename(study.data / "away.yaml")
    study.edit("labels/pairs.yaml", "[brief, other]", "[brief]")
    assert daemon.settle().keys() <= {"judge_agreement", "report", "results"}  # the list in pairs.yaml is an edit, too
    assert daemon.settle() == {}
