"""Prompts, and the base model's own answers to them."""

import dagster as dg

from assets.step import Step
from assets.study_asset import study_asset
from resources.language_model import LanguageModelResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.behaviour import SAMPLING


@study_asset(group="data", dims=(), deps=["prompt_sources"], code_version="1", writes=["prompts"])
def prompts(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    """Every prompt of the study: training, evaluation and qualitative splits over four categories."""
    from rlaif_dagster.prompts import read_prompts

    step = Step.begin(context, project, warehouse)
    frame = read_prompts(step.project.prompt_sources(), step.project.root / "prompts")
    return step.finish({"prompts": frame}, metadata=frame["split"].value_counts().to_dict())


@study_asset(
    group="data", dims=("model",), deps=["prompts", "model_spec", "recipe_generation"], code_version="1",
    behaviours=(SAMPLING,), writes=["completions"], kinds=("torch", "duckdb"), pool="accelerator",
)  # fmt: skip
def completions(
    context: dg.AssetExecutionContext,
    project: ProjectResource,
    warehouse: WarehouseResource,
    language_model: LanguageModelResource,
) -> dg.MaterializeResult:
    """The base model's own answers to the training prompts: the candidates that owe nothing to a constitution."""
    from rlaif_dagster.language.candidates import complete

    step = Step.begin(context, project, warehouse)
    recipe = step.project.recipe("generation", step.cell.model)
    questions = step.training_prompts()
    identity = [step.model_spec.meaning(), recipe.completions.meaning(), *recipe.served_by()]
    frames = step.recall(
        [identity, sorted(questions["prompt_id"])],
        lambda: {
            "completions": complete(
                language_model.answering(step.model, step.model_spec, recipe),
                questions,
                recipe,
                step.chunks(step.model_spec.meaning(), *recipe.served_by()),
            )
        },
    )
    return step.finish(frames)


DATA_ASSETS = [prompts, completions]
