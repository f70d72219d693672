"""Dagster itself reads the configuration as it is meant: storage in the home, telemetry off, pools of one."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from rlaif_dagster.home import Home
from rlaif_dagster.instance_config import prepare_dagster_home


def test_dagster_reads_storage_telemetry_and_pools(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare_dagster_home(home)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    with dg.DagsterInstance.get() as instance:
        assert instance.telemetry_enabled is False
        assert instance.get_settings("run_monitoring")["free_slots_after_run_end_seconds"] > 0
        pools = instance.get_concurrency_config().pool_config
        assert pools.default_pool_limit == 1
        assert pools.pool_granularity is not None
        assert pools.pool_granularity.value == "op"
        instance.report_runless_asset_event(dg.AssetObservation("prompt_sources"))
    with dg.DagsterInstance.get() as instance:  # storage survives a restart
        assert instance.get_asset_keys() == [dg.AssetKey("prompt_sources")]
    inside = {path.parent for path in home.root.rglob("*.db")}
    assert inside
    assert all(path.is_relative_to(folder) for path in inside)


def test_a_configuration_that_is_there_is_the_users(home: Home) -> None:
    path: Path = prepare_dagster_home(home) / "dagster.yaml"
    path.write_text("telemetry:\n  enabled: false\n")
    prepare_dagster_home(home)
    assert path.read_text() == "telemetry:\n  enabled: false\n"
