"""Where results live: `RLAIF_HOME`, by default `.rlaif/` in the study's folder.

The study is the one that a command is given in: the nearest folder, from the current one upwards, that holds
data/study.yaml. Where there is none it is the checkout.

warehouse/  tables (Parquet), reports and results.duckdb
models/     trained adapters, one folder a content key
cache/      the embedded base model, judge answers, finished results by the hash of their inputs
history/    files of earlier versions, one folder a version
work/       checkpoints of what is unfinished; safe to delete, at the price of starting over
dagster/    Dagster's own storage

With `RLAIF_STORE` the first two and history/ are a copy of what lies in a bucket (`rlaif_dagster.bucket`), and store.json
says of which.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
STUDY_FILE = Path("data", "study.yaml")  # what makes a folder a study


@dataclass(frozen=True)
class Home:
    """The folders under one `RLAIF_HOME`. Nothing is created until it is written to."""

    root: Path

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def history(self) -> Path:
        return self.root / "history"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"


def study_folder() -> Path:
    """The nearest folder, from the current one upwards, that holds data/study.yaml; else the checkout. An installed package
    is no checkout: there it is the current folder, and what is missing is told by its name."""
    here = Path.cwd()
    nearest = next((folder for folder in (here, *here.parents) if (folder / STUDY_FILE).is_file()), None)
    return nearest or (CHECKOUT if (CHECKOUT / STUDY_FILE).is_file() else here)


def current_home() -> Home:
    """The home that the environment names (`RLAIF_HOME`), else `.rlaif/` in the study's folder."""
    return Home(Path(os.environ.get("RLAIF_HOME") or study_folder() / ".rlaif").expanduser().resolve())


def data_folder() -> Path:
    """The folder of the user's files: `RLAIF_DATA`, else `data/` in the study's folder."""
    return Path(os.environ.get("RLAIF_DATA") or study_folder() / "data").expanduser().resolve()


def report_folder(home: Home) -> Path:
    """Where all reports lie."""
    return home.warehouse / "report"


def report_path(home: Home, model: str, constitution: str) -> Path:
    """The HTML report of one cell of the grid."""
    return report_folder(home) / f"model={model}" / f"constitution={constitution}" / "report.html"
