"""From candidates to preferences: revisions under the constitution, verdicts, pairs, and how far the judge can be trusted."""

import dagster as dg

from assets.step import Step
from assets.study_asset import study_asset
from resources.judge import JudgeResource
from resources.language_model import LanguageModelResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.behaviour import REVISING, SAMPLING

GRID = ("model", "constitution")


@study_asset(
    group="preferences", dims=GRID, deps=["prompts", "completions", "constitution", "model_spec", "recipe_generation"],
    code_version="1", behaviours=(SAMPLING, REVISING), writes=["revisions"], kinds=("torch", "duckdb"), pool="accelerator",
)  # fmt: skip
def revisions(
    context: dg.AssetExecutionContext,
    project: ProjectResource,
    warehouse: WarehouseResource,
    language_model: LanguageModelResource,
) -> dg.MaterializeResult:
    """The constitutional-AI step: the model answers again with the constitution in context, so that answers of its own
    exist which follow it."""
    from rlaif_dagster.language.candidates import revise

    step = Step.begin(context, project, warehouse)
    recipe = step.project.recipe("generation", step.cell.model)
    constitution, questions, first = step.constitution, step.training_prompts(), step.read("completions")
    reads = [
        step.model_spec.meaning(), recipe.revisions.meaning(), [p.text for p in constitution.principles],
        [e.meaning() for e in constitution.exemplars[: recipe.exemplars]],
        sorted(questions["prompt_id"]), step.version("completions"), *recipe.served_by(),
    ]  # fmt: skip
    frames = step.recall(
        reads,
        lambda: {
            "revisions": revise(
                language_model.answering(step.model, step.model_spec, recipe),
                questions,
                first,
                constitution,
                recipe,
                step.chunks(step.model_spec.meaning(), *recipe.served_by()),
            )
        },
    )
    return step.finish(frames)


@study_asset(
    group="preferences", dims=GRID,
    deps=["prompts", "completions", "revisions", "constitution", "judge_spec", "recipe_judging"],
    code_version="1", writes=["judgments"], kinds=("litellm", "duckdb"), checks=("verdicts",), pool="judge",
)  # fmt: skip
def judgments(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource, judge: JudgeResource
) -> dg.MaterializeResult:
    """One verdict a pair of answers, principle and order. Refusals, ties and unreadable answers are verdicts too."""
    from rlaif_dagster.judging.checks import verdict_checks
    from rlaif_dagster.judging.judgments import judge_candidates

    step = Step.begin(context, project, warehouse)
    recipe, constitution, questions = judge.recipe(step.project), step.constitution, step.training_prompts()
    candidates = step.candidates()
    reads = [
        judge.meaning(step.project), recipe.orders, recipe.mode, recipe.tie_margin, step.judged_principles(recipe.mode),
        sorted(questions["prompt_id"]), sorted(candidates["completion_id"]),
    ]  # fmt: skip
    frames = step.recall(
        reads,
        lambda: {"judgments": judge_candidates(questions, candidates, constitution, recipe, judge.build(step.project))},
        final=lambda frames: not (frames["judgments"]["verdict"] == "error").any(),
    )
    verdicts = frames["judgments"]
    return step.finish(
        frames,
        checks=verdict_checks(verdicts, recipe),
        metadata=verdicts["verdict"].value_counts().to_dict(),
        unanswered=int((verdicts["verdict"] == "error").sum()),
    )


@study_asset(
    group="preferences", dims=GRID,
    deps=["prompts", "completions", "revisions", "judgments", "judge_agreement", "constitution", "recipe_judging"],
    code_version="1",
    writes=["preference_pairs"], checks=("pairs",),
)  # fmt: skip
def preference_pairs(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    """What trains: the preferred and the other answer, with the probability of the preference. The weights of the
    principles come in here, so changing one asks the judge for nothing. It waits for `judge_agreement`: on the verdicts of a
    judge that failed its check, nothing is trained."""
    from rlaif_dagster.judging.checks import pair_checks
    from rlaif_dagster.judging.pairs import build_pairs

    step = Step.begin(context, project, warehouse)
    recipe = step.project.recipe("judging")
    pairs = build_pairs(
        step.read("judgments"), step.candidates(), step.training_prompts(), step.constitution, recipe.pairs
    )
    return step.finish(
        {"preference_pairs": pairs}, checks=pair_checks(pairs), metadata=pairs["split"].value_counts().to_dict()
    )


@study_asset(
    group="preferences", dims=("constitution",),
    deps=["labelled_pairs", "constitution", "judge_spec", "recipe_judging"], code_version="2",
    writes=["judge_agreement"], kinds=("litellm", "duckdb"), checks=("trust",), pool="judge",
)  # fmt: skip
def judge_agreement(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource, judge: JudgeResource
) -> dg.MaterializeResult:
    """The judge against labelled pairs, beside the baseline that every judge must beat: the longer answer."""
    from rlaif_dagster.judging.agreement import WHOLE, agreement
    from rlaif_dagster.judging.checks import trust_check
    from rlaif_dagster.judging.labels import labels_version

    step = Step.begin(context, project, warehouse)
    recipe, labelled, folder = (
        judge.recipe(step.project),
        step.project.labelled_pairs(),
        step.project.root / "labels",
    )
    reads = [
        judge.meaning(step.project), recipe.orders, recipe.mode, recipe.tie_margin, step.constitution.meaning(),
        labels := labels_version(labelled, folder),
    ]  # fmt: skip
    frames = step.recall(
        reads,
        lambda: {
            "judge_agreement": agreement(
                str(step.cell.constitution), step.constitution, labelled, folder, recipe, judge.build(step.project)
            )
        },
        # labels that were edited meanwhile are not what the result would be kept under
        final=lambda frames: (
            not frames["judge_agreement"]["errors"].any() and labels_version(labelled, folder) == labels
        ),
    )
    agreed = frames["judge_agreement"]
    unanswered = int(agreed.loc[agreed["slice"] == WHOLE, "errors"].sum())
    return step.finish(frames, checks=[trust_check(agreed, recipe)], unanswered=unanswered)


PREFERENCE_ASSETS: list[dg.AssetsDefinition] = [revisions, judgments, preference_pairs, judge_agreement]
