"""Dagster's own storage under `RLAIF_HOME/dagster`, described once for the UI and for runs from the command line.

SQLite in that folder; telemetry off; the pools `accelerator` and `judge` let one step in at a time (change a pool's limit in
the UI or with `dagster instance concurrency`); a killed run gives its slots back by itself.
"""

from __future__ import annotations

from pathlib import Path

from rlaif_dagster import atomic
from rlaif_dagster.home import Home

DAGSTER_YAML = """\
# Written by rlaif when it was absent; edit it freely, it is not written again.
storage:
  sqlite:
    base_dir:
      env: DAGSTER_HOME

telemetry:
  enabled: false

# The pools are `accelerator` (what computes) and `judge` (what asks).
concurrency:
  pools:
    default_limit: 1
    granularity: op

run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 30
"""


def prepare_dagster_home(home: Home) -> Path:
    """The folder to use as `DAGSTER_HOME`, with a dagster.yaml in it; one that is there already is the user's and stays."""
    path = home.dagster / "dagster.yaml"
    if not path.exists():
        atomic.write_text(path, DAGSTER_YAML)
    return home.dagster
