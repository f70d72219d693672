"""`rlaif up` as a function: carry out what is stale, where the environment says that steps are made."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.budget import SharedBudget
from rlaif_dagster.lineage.at_once import AtOnce
from rlaif_dagster.lineage.one_by_one import OneByOne
from rlaif_dagster.lineage.remote import steps_on_ray
from rlaif_dagster.lineage.study import Study
from rlaif_dagster.planning import OnEvent, Outcome
from rlaif_dagster.shards import KUBERNETES, STEPS


def carry_out(
    study: Study,
    models: Sequence[str],
    constitutions: Sequence[str],
    select: Sequence[str] = (),
    budget_usd: float | None = None,
    on_event: OnEvent = lambda event: None,
) -> Outcome:
    """Run everything stale. A failure stops what depends on it and nothing else. `budget_usd` is a
    hard stop over all judging together. Raises UserError where steps are made by Dagster's daemon alone."""
    if os.environ.get(STEPS) == KUBERNETES:
        raise UserError(
            f"{STEPS}={KUBERNETES}: steps in pods are for the runs of Dagster's daemon: ask it with `rlaif backfill`, or unset "
            "the variable to make them in this process"
        )
    budget = SharedBudget(study.home, budget_usd)
    how = AtOnce if steps_on_ray() else OneByOne
    return how(study, models, constitutions, select, on_event).run(budget)
