"""Where `rlaif up` makes steps."""

from __future__ import annotations

import dagster as dg
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.lineage.carrying import carry_out
from rlaif_dagster.lineage.study import Study
from rlaif_dagster.spec.project import Project


def test_steps_in_pods_are_for_the_daemon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_STEPS", "kubernetes")
    study = Study(dg.Definitions(), {}, Project.current(), home)
    with pytest.raises(UserError, match=r"RLAIF_STEPS=kubernetes: .* ask it with `rlaif backfill`, or unset"):
        carry_out(study, ["smollm2-135m-instruct"], ["structured"])
