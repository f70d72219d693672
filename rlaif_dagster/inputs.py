"""The inputs of the graph: which file(s) each stands for, and what of them can change a result.

An input's data version is the hash of its *meaning*. What is *shown* of it, the meaning with hashed rows spelled out, is what
`rlaif plan` compares to name the field that changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.parsing import PARSING_VERSION
from rlaif_dagster.judging.template import LIKELIHOOD_VERSION, Template
from rlaif_dagster.spec.judge import ApiJudge, JudgeSpec, LikelihoodJudge
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell

if TYPE_CHECKING:
    from rlaif_dagster.judging.verdicts import Mode


@dataclass(frozen=True)
class Input:
    """One observable asset: its partition dimensions, its files (for people) and its meaning."""

    name: str
    dims: tuple[str, ...]
    files: str
    description: str
    meaning: Callable[[Project, Cell], Any]
    spelled_out: Callable[[Project, Cell], Any] | None = None

    def shown(self, project: Project, cell: Cell) -> Any:
        """What differs between two versions, for people: equal where the meanings are."""
        return (self.spelled_out or self.meaning)(project, cell)

    def version(self, project: Project, cell: Cell) -> str:
        return content_hash(self.meaning(project, cell))


def _prompt_sources(project: Project, cell: Cell) -> Any:
    from rlaif_dagster.prompts import sources_version

    sources = project.prompt_sources()
    return {"sources": sources.meaning(), "rows": sources_version(sources, project.root / "prompts")}


def _prompts(project: Project, cell: Cell) -> Any:
    from rlaif_dagster.prompts import spelled_out

    return spelled_out(project.prompt_sources(), project.root / "prompts")


def judge_meaning(project: Project, name: str) -> dict[str, Any]:
    """A judge, its panel's members, the models that a likelihood judge reads with, and how each kind is asked."""
    judges = project.judges(name)
    models = {judge.model for judge in judges.values() if isinstance(judge, LikelihoodJudge)}
    mode = project.recipe("judging").mode
    return {
        "judges": {key: judge.meaning() for key, judge in judges.items()},
        "models": {model: project.model(model).meaning() for model in sorted(models)},
        "asked": {key: _wording(judge, mode) for key, judge in judges.items()},
    }


def _wording(judge: JudgeSpec, mode: Mode) -> str | None:
    """Version of how the judge is asked and its answers are read; a panel's members are asked each in its way."""
    if isinstance(judge, LikelihoodJudge):
        return LIKELIHOOD_VERSION
    if isinstance(judge, ApiJudge):
        return content_hash(Template(judge.reasoning, joint=mode == "joint").version, PARSING_VERSION)
    return None


def _judge_spec(project: Project, cell: Cell) -> Any:
    return judge_meaning(project, project.recipe("judging").judge)


def _labelled_pairs(project: Project, cell: Cell) -> Any:
    from rlaif_dagster.judging.labels import labels_version

    labelled = project.labelled_pairs()
    return {
        "files": {name: pairs.meaning() for name, pairs in labelled.items()},
        "rows": labels_version(labelled, project.root / "labels"),
    }


def _human_grades(project: Project, cell: Cell) -> Any:
    from rlaif_dagster.judging.labels import read_human_grades

    return sorted(content_hash(grade.meaning()) for grade in read_human_grades(project.root / "labels"))


def _benchmarks(project: Project, cell: Cell) -> Any:
    from rlaif_dagster.evaluation.items import items_version

    recipe = project.recipe("benchmarks", cell.model)
    read = {"recipe": recipe.meaning(), "items": items_version(recipe, project.root / "benchmarks")}
    judges = sorted({entry.judge for entry in recipe.tasks if entry.judge})
    return read | ({"judges": {name: judge_meaning(project, name) for name in judges}} if judges else {})


def _recipe(stage: str) -> Callable[[Project, Cell], Any]:
    return lambda project, cell: project.recipe(stage, cell.model).meaning()


_INPUTS = (
    Input("prompt_sources", (), "data/prompts/", "Where the study's prompts come from.", _prompt_sources, _prompts),
    Input("judge_spec", (), "data/judges/", "The judge that compares answers.", _judge_spec),
    Input("recipe_judging", (), "data/recipes/judging.yaml", "How verdicts are asked for and become pairs.", _recipe("judging")),
    Input("labelled_pairs", (), "data/labels/", "Pairs with a known preference, to measure the judge by.", _labelled_pairs),
    Input("human_grades", (), "data/labels/human_grades.jsonl", "Grades given by people.", _human_grades),
    Input("model_spec", ("model",), "data/models/", "The base model and its pinned revision.",
          lambda project, cell: project.model(str(cell.model)).meaning()),
    Input("recipe_generation", ("model",), "data/recipes/generation.yaml", "How candidate answers are sampled.", _recipe("generation")),
    Input("recipe_benchmarks", ("model",), "data/recipes/benchmarks.yaml", "Tasks, few-shot counts and response sampling.", _benchmarks),
    Input("recipe_sft", ("model",), "data/recipes/sft.yaml", "Supervised fine-tuning.", _recipe("sft")),
    Input("recipe_reward", ("model",), "data/recipes/reward.yaml", "The reward model.", _recipe("reward")),
    Input("recipe_dpo", ("model",), "data/recipes/dpo.yaml", "Direct preference optimization.", _recipe("dpo")),
    Input("recipe_ppo", ("model",), "data/recipes/ppo.yaml", "Proximal policy optimization.", _recipe("ppo")),
    Input("constitution", ("constitution",), "data/constitutions/", "Principles, exemplars and a checkable format.",
          lambda project, cell: project.constitution(str(cell.constitution)).meaning()),
)  # fmt: skip

INPUTS = {item.name: item for item in _INPUTS}


def check_inputs(project: Project) -> None:
    """Read every file of every input as the assets will; the first wrong one raises UserError. Nothing is written."""
    from rlaif_dagster.prompts import read_prompts

    project.check()
    names = {"model": project.names("models"), "constitution": project.names("constitutions")}
    for item in INPUTS.values():
        for values in product(*(names[dim] for dim in item.dims)):
            item.meaning(project, Cell(**dict(zip(item.dims, values, strict=True))))
    sources = project.prompt_sources()
    if not any(source.hub for source in sources.sources):  # a dataset on the hub is read when the prompts are made
        read_prompts(sources, project.root / "prompts")
