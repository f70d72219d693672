"""One user's folders and the command line on them, in processes of its own: the code location reads data/ when it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif_dagster.home import CHECKOUT


@dataclass(frozen=True)
class Checkout:
    """A `data/` folder and an `RLAIF_HOME`."""

    data: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        environment = os.environ | {"RLAIF_DATA": str(self.data), "RLAIF_HOME": str(self.home)}
        environment.pop("OMP_NUM_THREADS", None)  # the fast tests hold it at one; a study takes the machine
        return environment

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "rlaif_dagster.cli.main", *arguments]

    def rlaif(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=CHECKOUT, env=self.environment, capture_output=True, text=True, check=False
        )

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.data / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def planned(self, *arguments: str) -> list[dict[str, Any]]:
        """The steps of `rlaif plan --json`."""
        run = self.rlaif("plan", "--json", *arguments)
        assert run.returncode == 0, run.stderr
        steps: list[dict[str, Any]] = json.loads(run.stdout)
        return steps

    def up(self, *arguments: str) -> str:
        """What `rlaif up` told on stderr; it must end well."""
        run = self.rlaif("up", *arguments)
        assert run.returncode == 0, run.stderr[-4000:]
        return run.stderr

    def rows(self, sql: str) -> list[dict[str, Any]]:
        run = self.rlaif("sql", sql, "--format", "json")
        assert run.returncode == 0, run.stderr
        rows: list[dict[str, Any]] = json.loads(run.stdout)
        return rows

    def versions(self) -> dict[str, str]:
        """The latest data version of every asset and partition."""
        name = "asset || coalesce(' ' || partition, '')"
        sql = f"select {name} as name, arg_max(data_version, started_at) as v from lineage group by 1"
        return {row["name"]: row["v"] for row in self.rows(sql)}
