"""Dagster's own storage under `RLAIF_HOME/dagster`, described once for the UI and for runs from the command line.

SQLite in that folder, or the PostgreSQL database that RLAIF_POSTGRES names; telemetry off; the pools `accelerator` and
`judge` let one step in at a time (change a pool's limit in the UI or with `dagster instance concurrency`); a killed run
gives its slots back by itself, and is retried.
"""

from __future__ import annotations

import os
from pathlib import Path

from rlaif_dagster import atomic
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home

POSTGRES = "RLAIF_POSTGRES"  # such as postgresql://user:password@host:5432/dagster

SQLITE_STORAGE = """\
storage:
  sqlite:
    base_dir:
      env: DAGSTER_HOME
"""

POSTGRES_STORAGE = f"""\
storage:
  postgres:
    postgres_url:
      env: {POSTGRES}
"""

DAGSTER_YAML = """\
# Written by rlaif when it was absent; edit it freely, it is not written again.
{storage}
telemetry:
  enabled: false

# No invitation to newsletters over the first page.
nux:
  enabled: false

# The pools are `accelerator` (what computes) and `judge` (what asks). Runs beyond the limit wait in the queue, where they
# take no memory.
concurrency:
  runs:
    max_concurrent_runs: 4
  pools:
    default_limit: 1
    granularity: op

# A run whose process was killed is found and started again; finished steps are not repeated, and a step goes on from its
# checkpoint. A step that failed by itself is not: the sensor and the nightly schedule decide about those.
run_monitoring:
  enabled: true
  poll_interval_seconds: 20
  free_slots_after_run_end_seconds: 30

run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
"""


def prepare_dagster_home(home: Home) -> Path:
    """The folder to use as `DAGSTER_HOME`, with a dagster.yaml in it; one that is there already is the user's and stays.

    Raises UserError when RLAIF_POSTGRES is set but not what dagster.yaml says, or its driver is missing.
    """
    path, url = home.dagster / "dagster.yaml", os.environ.get(POSTGRES)
    if not path.exists():
        atomic.write_text(path, DAGSTER_YAML.format(storage=POSTGRES_STORAGE if url else SQLITE_STORAGE))
    says_postgres = POSTGRES in path.read_text(encoding="utf-8")
    if url and not says_postgres:
        raise UserError(f"{path}: field 'storage' is not the database of {POSTGRES}; put there: {POSTGRES_STORAGE!r}")
    if says_postgres and not url:
        raise UserError(f"{path}: field 'storage' needs the environment variable {POSTGRES}; set it to postgresql://…")
    if url and says_postgres:
        _check_driver()
        os.environ[POSTGRES] = with_driver(url)
    return home.dagster


def with_driver(url: str) -> str:
    """The address with the driver that Dagster speaks: SQLAlchemy's own default is another one by now."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}" if scheme in ("postgres", "postgresql") else url


def _check_driver() -> None:
    import importlib.util

    if importlib.util.find_spec("dagster_postgres") is None:
        raise UserError(f"{POSTGRES} needs dagster-postgres: pip install -c requirements.lock -e '.[postgres]'")
