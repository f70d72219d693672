"""The judge that the judging recipe names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.inputs import judge_meaning
from rlaif_dagster.spec.judge import LikelihoodJudge

if TYPE_CHECKING:
    from rlaif_dagster.judging.verdicts import Judge


class JudgeResource(dg.ConfigurableResource):
    """Builds the study's judge, with its cache of paid answers under RLAIF_HOME."""

    project: ProjectResource
    warehouse: WarehouseResource

    def build(self) -> Judge:
        from rlaif_dagster.judging.build import make_judge

        project = self.project.open()
        name = project.recipe("judging").judge
        judges = project.judges(name)
        readers = {judge.model for judge in judges.values() if isinstance(judge, LikelihoodJudge)}
        return make_judge(name, judges, {model: project.model(model) for model in readers}, self.warehouse.home)

    def meaning(self) -> dict[str, Any]:
        """What of the judge can change a verdict."""
        project = self.project.open()
        return judge_meaning(project, project.recipe("judging").judge)
