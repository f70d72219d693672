"""The default study at its full size, on the embedded model: the same bytes in whatever processes it is made.

    .venv/bin/pytest -m slow tests/e2e/test_settings.py --durations 0

An hour or more on two idle cores. What one process made is the checkout's own `.rlaif/`, as `make demo` leaves it; it
must hold nothing else.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from rlaif_dagster.home import CHECKOUT, current_home
from tests.checkout import Checkout
from tests.equality import same_files, same_tables
from tests.local_ray import cluster
from tests.study.executed import executed

__all__ = ["cluster"]
pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(2 * 3600)]
MODEL, CONSTITUTION = "smollm2-135m-instruct", "structured"


@pytest.fixture(scope="module")
def alone() -> Checkout:
    """Made in one process."""
    study = Checkout(CHECKOUT / "data", current_home().root)
    study.up()
    cells = study.rows("select distinct partition from lineage where partition is not null order by 1")
    assert [row["partition"] for row in cells] == [MODEL, CONSTITUTION, f"{CONSTITUTION}|{MODEL}"]
    return study


@pytest.fixture
def another(alone: Checkout, tmp_path: Path) -> Checkout:
    """The same files, the same base model, an empty home."""
    home = tmp_path / "home"
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "models").symlink_to(alone.home / "cache" / "models")
    return Checkout(alone.data, home)


def test_a_process_a_step(another: Checkout, alone: Checkout) -> None:
    """Dagster's multiprocess executor, as runs of the daemon have it."""
    executed(another, CONSTITUTION, MODEL)
    same_tables(another, alone)
    same_files(another, alone)


@pytest.mark.parametrize("shards", ["1", "4"])
def test_shards_on_a_cluster(
    shards: str, another: Checkout, alone: Checkout, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("RLAIF_SHARDS", shards)
    another.up()
    same_tables(another, alone)
    same_files(another, alone)
