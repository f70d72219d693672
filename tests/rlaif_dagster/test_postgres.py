"""Dagster's storage in PostgreSQL, by the one setting RLAIF_POSTGRES, on a real server of Debian's packages."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.instance_config import prepare_dagster_home


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database on a server of its own. Root may not run one: then the package's user does."""
    pytest.importorskip("dagster_postgres")
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    data = tmp_path_factory.mktemp("postgres") / "data"
    user, prefix = pwd.getpwuid(os.getuid()).pw_name, []
    if os.getuid() == 0:
        user, prefix = "postgres", ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        data = Path(f"/tmp/rlaif-postgres-{os.getpid()}")
        data.mkdir(mode=0o700)
        shutil.chown(data, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [*prefix, str(folder / "initdb"), "-D", str(data), "-A", "trust", "-U", user],
        check=True,
        capture_output=True,
        cwd="/",
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    control = [*prefix, str(folder / "pg_ctl"), "-D", str(data), "-w", "-o", options]
    subprocess.run([*control, "-l", str(data / "log"), "start"], check=True, capture_output=True, cwd="/")
    try:
        yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd="/")
        shutil.rmtree(data, ignore_errors=True)


@dg.op(pool="accelerator")
def one() -> int:
    return 1


@dg.job
def counting() -> None:
    one()


def test_runs_events_and_pools_live_in_the_database(server: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_POSTGRES", server)
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
    assert server not in (home.dagster / "dagster.yaml").read_text()  # the address, with its password, stays outside


def test_a_database_that_the_configuration_does_not_name_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_dagster_home(home)
    monkeypatch.setenv("RLAIF_POSTGRES", "postgresql://nowhere/x")
    with pytest.raises(UserError, match=r"dagster\.yaml: field 'storage' is not the database of RLAIF_POSTGRES"):
        prepare_dagster_home(home)


def test_a_configuration_whose_database_is_not_named_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_postgres")
    monkeypatch.setenv("RLAIF_POSTGRES", "postgresql://nowhere/x")
    prepare_dagster_home(home)
    monkeypatch.delenv("RLAIF_POSTGRES")
    with pytest.raises(UserError, match=r"needs the environment variable RLAIF_POSTGRES"):
        prepare_dagster_home(home)
