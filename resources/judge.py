"""The judge that the judging recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.inputs import judge_meaning
from rlaif_dagster.judging.ledger import outcomes, outcomes_since, total_usd
from rlaif_dagster.spec.judge import LikelihoodJudge
from rlaif_dagster.spec.recipes import Judging

if TYPE_CHECKING:
    from rlaif_dagster.judging.verdicts import Judge


class JudgeResource(dg.ConfigurableResource):
    """Builds the study's judge, with its cache of paid answers under RLAIF_HOME."""

    project: ProjectResource
    warehouse: WarehouseResource
    budget_usd: float | None = None  # of this run, beside the recipe's own

    def recipe(self) -> Judging:
        """The judging recipe, its budget cut to this run's."""
        recipe: Judging = self.project.open().recipe("judging")
        budgets = [budget for budget in (recipe.budget_usd, self.budget_usd) if budget is not None]
        return recipe.model_copy(update={"budget_usd": min(budgets, default=None)})

    def build(self, name: str | None = None) -> Judge:
        """The named judge; the study's own when no other is asked for."""
        from rlaif_dagster.judging.build import make_judge

        project = self.project.open()
        name = name or project.recipe("judging").judge
        judges = project.judges(name)
        readers = {judge.model for judge in judges.values() if isinstance(judge, LikelihoodJudge)}
        return make_judge(name, judges, {model: project.model(model) for model in readers}, self.warehouse.home)

    def outcomes(self) -> dict[str, int]:
        """Requests of this process so far, by outcome."""
        return outcomes(self.warehouse.home)

    def account(self, before: dict[str, int]) -> dict[str, Any]:
        """For metadata: requests by outcome since an earlier look, and what judging has cost in all."""
        home = self.warehouse.home
        asked = {f"requests {kind}": n for kind, n in outcomes_since(home, before).items()}
        return asked | {"cost_usd of all judging": total_usd(home)}

    def meaning(self, name: str | None = None) -> dict[str, Any]:
        """What of the judge can change a verdict."""
        project = self.project.open()
        name = name or project.recipe("judging").judge
        return judge_meaning(project, name)

    def harmful(self, name: str, answers: Sequence[tuple[str, str]]) -> list[float | None]:
        """Which (prompt, answer) pairs the named judge finds harmful; see `evaluation.harm`."""
        from rlaif_dagster.evaluation.harm import harmful

        return harmful(
            answers, self.build(name), budget_usd=self.recipe().budget_usd, progress=f"{name}: harm of answers"
        )
