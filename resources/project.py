"""The user's folder `data/`."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from rlaif_dagster.spec.project import Project


class ProjectResource(dg.ConfigurableResource):
    """Constitutions, models, judges, recipes and prompts, read anew at every step."""

    folder: str | None = None  # RLAIF_DATA, else data/ in the study

    def open(self) -> Project:
        """The files as a step finds them: what it reads twice is the same twice."""
        return (Project(Path(self.folder)) if self.folder else Project.current()).snapshot()
