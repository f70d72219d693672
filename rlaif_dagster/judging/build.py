"""A judge from its file: likelihood, API or a panel of both."""

from __future__ import annotations

from collections.abc import Mapping

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.judging.verdicts import Judge
from rlaif_dagster.spec.judge import ApiJudge as ApiSpec
from rlaif_dagster.spec.judge import JudgeSpec
from rlaif_dagster.spec.judge import LikelihoodJudge as LikelihoodSpec
from rlaif_dagster.spec.model import ModelSpec


def make_judge(name: str, judges: Mapping[str, JudgeSpec], models: Mapping[str, ModelSpec], home: Home) -> Judge:
    """The judge called `name`. `judges` holds it and, where it is a panel, its members; `models` the base models that
    likelihood judges among them read with.

    Loads no weights and asks for no key: both happen when something must be judged that the cache does not know. Raises
    UserError for a panel within a panel.
    """
    spec = judges[name]
    if isinstance(spec, LikelihoodSpec):
        from rlaif_dagster.judging.likelihood import LikelihoodJudge

        return LikelihoodJudge(name, spec, models[spec.model], home)
    if isinstance(spec, ApiSpec):
        from rlaif_dagster.judging.api import ApiJudge

        return ApiJudge(name, spec, home)
    from rlaif_dagster.judging.panel import PanelJudge

    for member in spec.judges:
        if not isinstance(judges[member], LikelihoodSpec | ApiSpec):
            raise UserError(
                f"data/judges/{name}.yaml: field 'judges' names {member!r}, a panel; allowed: single judges"
            )
    members = tuple((make_judge(member, judges, models, home), weight) for member, weight in spec.judges.items())
    return PanelJudge(name, members)
