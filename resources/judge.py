"""The judge that the judging recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.warehouse import WarehouseResource
from rlaif_dagster.inputs import judge_meaning
from rlaif_dagster.judging.ledger import committed_usd
from rlaif_dagster.spec.judge import LikelihoodJudge
from rlaif_dagster.spec.recipes import Judging

if TYPE_CHECKING:
    from rlaif_dagster.judging.verdicts import Judge
    from rlaif_dagster.spec.project import Project


class JudgeResource(dg.ConfigurableResource):
    """Builds the study's judge, with its cache of paid answers under RLAIF_HOME. Every method is given the step's own
    view of the user's files: the judge that asks is the one whose meaning names the answers."""

    warehouse: WarehouseResource
    budget_usd: float | None = None  # of this run, beside the recipe's own

    def recipe(self, project: Project, committed_before: float | None = None) -> Judging:
        """The judging recipe, its budget cut to this run's. A step that asks in several parts gives what this process had
        committed when it began: the parts share the budget."""
        recipe: Judging = project.recipe("judging")
        budgets = [budget for budget in (recipe.budget_usd, self.budget_usd) if budget is not None]
        left = min(budgets, default=None)
        if left is not None and committed_before is not None:
            left = max(0.0, left - (committed_usd(self.warehouse.home) - committed_before))
        return recipe.model_copy(update={"budget_usd": left})

    def build(self, project: Project, name: str | None = None) -> Judge:
        """The named judge; the study's own when no other is asked for."""
        from rlaif_dagster.judging.build import make_judge

        name = name or project.recipe("judging").judge
        judges = project.judges(name)
        readers = {judge.model for judge in judges.values() if isinstance(judge, LikelihoodJudge)}
        return make_judge(name, judges, {model: project.model(model) for model in readers}, self.warehouse.home)

    def meaning(self, project: Project, name: str | None = None) -> dict[str, Any]:
        """What of the judge can change a verdict."""
        return judge_meaning(project, name or project.recipe("judging").judge)

    def harmful(
        self, project: Project, committed_before: float, name: str, answers: Sequence[tuple[str, str]]
    ) -> list[float | None]:
        """Which (prompt, answer) pairs the named judge finds harmful; see `evaluation.harm`."""
        from rlaif_dagster.evaluation.harm import harmful

        budget = self.recipe(project, committed_before).budget_usd
        return harmful(answers, self.build(project, name), budget_usd=budget, progress=f"{name}: harm of answers")
