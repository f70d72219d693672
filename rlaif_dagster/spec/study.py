"""data/study.yaml: what a command does when nobody says which model and which constitution."""

from __future__ import annotations

from pydantic import Field

from rlaif_dagster.spec.base import Spec


class Study(Spec):
    """Defaults of every command."""

    models: tuple[str, ...] = Field(min_length=1, description="names in data/models")
    constitutions: tuple[str, ...] = Field(min_length=1, description="names in data/constitutions")
