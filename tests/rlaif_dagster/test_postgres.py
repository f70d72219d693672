"""Dagster's storage in PostgreSQL, by the one setting RLAIF_POSTGRES, on a real server of Debian's packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import dagster as dg
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.instance_config import prepare_dagster_home
from rlaif_dagster.lineage.runs import open_instance
from tests.study.conftest import make_study


@dg.op(pool="accelerator")
def one() -> int:
    return 1


@dg.job
def counting() -> None:
    one()


def test_runs_events_and_pools_live_in_the_database(postgres: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_POSTGRES", postgres)
    monkeypatch.setenv("DAGSTER_HOME", str(prepare_dagster_home(home)))
    with dg.DagsterInstance.get() as instance:
        assert type(instance.run_storage).__name__ == "PostgresRunStorage"
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
        instance.report_runless_asset_event(dg.AssetObservation("prompt_sources"))
        assert counting.execute_in_process(instance=instance).success
    with dg.DagsterInstance.get() as instance:  # another connection sees it
        assert instance.get_asset_keys() == [dg.AssetKey("prompt_sources")]
        assert [run.job_name for run in instance.get_runs()] == ["counting"]
        assert instance.event_log_storage.get_pool_limits()[0].name == "accelerator"
    assert [*home.root.rglob("*.db")] == []
    assert postgres not in (home.dagster / "dagster.yaml").read_text()  # the address, with its password, stays outside


def test_a_study_runs_on_the_database(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two homes with one database: steps that want a pool's slot run, and are both machines' to see."""
    monkeypatch.setenv("RLAIF_POSTGRES", postgres)
    monkeypatch.setenv("DAGSTER_HOME", "")
    study = make_study(tmp_path)
    study.up("--select", "+completions")
    assert study.planned("--select", "+completions") == []
    assert [*study.home.rglob("*.db")] == []
    with open_instance(Home(tmp_path / "another")) as instance:
        made = {key.to_user_string() for run in instance.get_runs() for key in run.asset_selection or ()}
        assert {"prompts", "completions"} <= made
        [pool] = [pool for pool in instance.event_log_storage.get_concurrency_keys() if pool == "accelerator"]
        assert instance.event_log_storage.get_concurrency_info(pool).active_slot_count == 0


def test_a_database_that_the_configuration_does_not_name_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_dagster_home(home)
    monkeypatch.setenv("RLAIF_POSTGRES", "postgresql://nowhere/x")
    with pytest.raises(UserError, match=r"dagster\.yaml: field 'storage' is not the database of RLAIF_POSTGRES"):
        prepare_dagster_home(home)


def test_without_the_driver_one_line_says_what_to_install(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_POSTGRES", "postgresql://nowhere/x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as told:
        prepare_dagster_home(home)
    assert str(told.value) == "RLAIF_POSTGRES needs dagster-postgres: pip install -c requirements.lock -e '.[postgres]'"


def test_a_configuration_whose_database_is_not_named_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_postgres")
    monkeypatch.setenv("RLAIF_POSTGRES", "postgresql://nowhere/x")
    prepare_dagster_home(home)
    monkeypatch.delenv("RLAIF_POSTGRES")
    with pytest.raises(UserError, match=r"needs the environment variable RLAIF_POSTGRES"):
        prepare_dagster_home(home)
