"""The table of edits through `dagster dev` and workspace.yaml: what the daemon would ask for, and what it then makes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from assets.graph import graph_nodes
from bench.daemon import Dagster
from rlaif_dagster.home import Home
from rlaif_dagster.instance_config import prepare_dagster_home
from rlaif_dagster.lineage.runs import INPUTS_TAG
from tests.checkout import Checkout
from tests.study.conftest import make_study
from tests.study.test_daemon import made_since, wait
from tests.study.test_edits import CONSTITUTION, EDITS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SENSOR = "follow_edits"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Made once. Its pools let two steps in at a time: a step is a process of one thread, and they are hundreds."""
    study = make_study(tmp_path_factory.mktemp("daemon_edits"))
    config = prepare_dagster_home(Home(study.home)) / "dagster.yaml"
    config.write_text(
        config.read_text(encoding="utf-8").replace("default_limit: 1", "default_limit: 2"), encoding="utf-8"
    )
    study.up()
    return study


@pytest.fixture(scope="module")
def dagster(study: Checkout) -> Iterator[Dagster]:
    with Dagster(study.environment | {"OMP_NUM_THREADS": "1"}) as dagster:
        yield dagster


def partition(asset: str) -> str | None:
    """The one that the study has."""
    names = {"model": "tiny", "constitution": "brief"}
    return "|".join(names[dim] for dim in sorted(graph_nodes()[asset].dims)) or None


def first_of(follow: set[str]) -> set[str]:
    """What of an edit's assets reads the edited file and nothing that is to be made again itself."""
    return {asset for asset in follow if not follow & set(graph_nodes()[asset].parents)}


def rests(dagster: Dagster, before: int) -> bool:
    """Were there more runs than before, and is none under way? Cheaper to ask than for a plan, beside runs that compute."""
    runs = dagster.runs()
    return len(runs) > before and {run["status"] for run in runs} <= {"SUCCESS", "FAILURE"}


@pytest.mark.parametrize("name", EDITS)
def test_the_daemon_would_ask_for_exactly_what_an_edit_makes_ready(
    name: str, dagster: Dagster, study: Checkout
) -> None:
    file, old, new, follow = EDITS[name]
    study.edit(file, old, new)
    try:
        asked = sorted(tags[INPUTS_TAG].rpartition(":")[0] for tags in dagster.would_ask(SENSOR))
    finally:
        study.edit(file, new, old)
    assert asked == sorted(f"{asset}@{partition(asset) or ''}" for asset in first_of(follow))


def test_the_first_of_the_table_is_what_it_must_be() -> None:
    """By hand: the sets that the test above derives from table and graph."""
    assert first_of(CONSTITUTION) == {"revisions", "judge_agreement"}
    assert first_of(EDITS["the judge"][3]) == {"judgments", "judge_agreement"}
    assert first_of(EDITS["the SFT recipe"][3]) == {"sft_model"}
    assert first_of(EDITS["the benchmarks recipe"][3]) == {
        f"{arm}_{what}" for arm in ("base", "sft", "dpo", "ppo") for what in ("benchmarks", "responses")
    }


@pytest.mark.parametrize("name", EDITS)
def test_the_daemon_makes_what_an_edit_changes_once_and_nothing_else(
    name: str, dagster: Dagster, study: Checkout
) -> None:
    """One edit upon the other, for each to be carried out from where the last one ended."""
    file, old, new, follow = EDITS[name]
    dagster.switch_on(SENSOR)
    before = len(dagster.runs())
    if old not in (study.data / file).read_text():  # an edit before has touched the same line
        old, new = (text.replace("max_length: 400", "max_length: 401") for text in (old, new))
    saved = time.time()
    study.edit(file, old, new)
    first = {(asset, partition(asset)) for asset in first_of(follow)}
    if follow:
        wait(lambda: rests(dagster, before) and study.planned() == [], 900)
    wait(lambda: [t for t in dagster.ticks(SENSOR) if t["timestamp"] > saved + 15 and t["status"] == "SKIPPED"], 120)
    ran = made_since(dagster, before)
    assert first <= ran.keys() <= {(asset, partition(asset)) for asset in follow}
    assert ran == Counter(ran.keys())
    assert study.planned() == []
