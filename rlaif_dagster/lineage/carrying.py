"""`rlaif up` as a function: carry out what is stale, where the environment says that steps are made."""

from __future__ import annotations

from collections.abc import Sequence

from rlaif_dagster.lineage.at_once import AtOnce
from rlaif_dagster.lineage.carried import SharedBudget
from rlaif_dagster.lineage.one_by_one import OneByOne
from rlaif_dagster.lineage.remote import steps_on_ray
from rlaif_dagster.lineage.study import Study
from rlaif_dagster.planning import OnEvent, Outcome


def carry_out(
    study: Study,
    models: Sequence[str],
    constitutions: Sequence[str],
    select: Sequence[str] = (),
    budget_usd: float | None = None,
    on_event: OnEvent = lambda event: None,
) -> Outcome:
    """Run everything stale. A failure stops what depends on it and nothing else. `budget_usd` is a
    hard stop over all judging together."""
    budget = SharedBudget(study.home, budget_usd)
    how = AtOnce if steps_on_ray() else OneByOne
    return how(study, models, constitutions, select, on_event).run(budget)
