from __future__ import annotations

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.build import make_judge
from rlaif_dagster.judging.likelihood import LikelihoodJudge
from rlaif_dagster.judging.panel import PanelJudge
from rlaif_dagster.spec.judge import ApiJudge as ApiSpec
from rlaif_dagster.spec.judge import PanelJudge as PanelSpec
from rlaif_dagster.spec.project import Project


@pytest.mark.parametrize(
    ("name", "kind"),
    [("likelihood", LikelihoodJudge), ("claude-haiku", ApiJudge), ("local-server", ApiJudge), ("panel", PanelJudge)],
)
def test_every_shipped_judge_is_built_without_weights_key_or_network(name: str, kind: type, home: Home) -> None:
    project = Project(CHECKOUT / "data")
    models = {"smollm2-135m-instruct": project.model("smollm2-135m-instruct")}
    judge = make_judge(name, project.judges(name), models, home)
    assert isinstance(judge, kind)
    assert judge.name == name
    assert not home.root.exists()


def test_a_panel_in_a_panel_is_one_line(home: Home) -> None:
    asked = ApiSpec(kind="api", model="openai/x")
    inner, outer = (
        PanelSpec(kind="panel", judges={"x": 1, "y": 1}),
        PanelSpec(kind="panel", judges={"x": 1, "inner": 1}),
    )
    with pytest.raises(UserError, match=r"data/judges/outer.yaml: field 'judges' names 'inner', a panel"):
        make_judge("outer", {"outer": outer, "inner": inner, "x": asked, "y": asked}, {}, home)
