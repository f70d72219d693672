"""What was gained and what was lost: benchmarks and answers of every arm, format adherence, wins, graded answers.

The arms differ only in which adapter is loaded, so one factory makes their two assets.
"""

from functools import partial

import dagster as dg
import pandas as pd

from assets.step import Frames, Step, digest_of, path_of, preview
from assets.study_asset import study_asset
from resources.judge import JudgeResource
from resources.language_model import LanguageModelResource
from resources.model_store import ModelStoreResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.behaviour import BENCHMARKS, CORRECTNESS, LM_EVAL, SAMPLING, SCORING, Behaviour
from rlaif_dagster.evaluation.grade_question import GRADE_VERSION
from rlaif_dagster.spec.recipes import Benchmarks
from rlaif_dagster.training.trained import Check

GRID = ("model", "constitution")
ARMS = ("base", "sft", "dpo", "ppo")
RESPONSES = [f"{arm}_responses" for arm in ARMS]
GRADING = Behaviour("grading", GRADE_VERSION)


def _dims(arm: str) -> tuple[str, ...]:
    return ("model",) if arm == "base" else GRID


def _model_of(arm: str) -> str:
    return "model_spec" if arm == "base" else f"{arm}_model"


def _trained_on(arm: str) -> list[str]:
    """The tables of what the arm was trained on, for the check of contamination."""
    return {"base": [], "ppo": ["preference_pairs", "prompts"]}.get(arm, ["preference_pairs"])


def _benchmarks_asset(arm: str) -> dg.AssetsDefinition:
    @study_asset(
        name=f"{arm}_benchmarks", group="evaluation", dims=_dims(arm), code_version="1",
        behaviours=(BENCHMARKS, LM_EVAL, SCORING),
        writes=["benchmarks", "benchmark_items"], part=arm, warnings=("contamination",) if arm != "base" else (),
        deps=sorted({_model_of(arm), "model_spec", "recipe_benchmarks", *_trained_on(arm)}), kinds=("torch", "duckdb"),
        pool="accelerator",
        description=f"TruthfulQA, PKU-SafeRLHF, MMLU and HellaSwag for the {arm} arm, item by item.",
    )  # fmt: skip
    def benchmarks(
        context: dg.AssetExecutionContext,
        project: ProjectResource,
        warehouse: WarehouseResource,
        language_model: LanguageModelResource,
        model_store: ModelStoreResource,
        judge: JudgeResource,
    ) -> dg.MaterializeResult:
        from rlaif_dagster.evaluation.items import items_version

        step = Step.begin(context, project, warehouse)
        recipe, folder = step.project.recipe("benchmarks", step.cell.model), step.project.root / "benchmarks"

        def evaluate() -> Frames:
            from rlaif_dagster.evaluation.benchmarks import run_benchmarks

            parts = []
            for seed, adapter in step.policies(model_store, arm):
                lm = language_model.arm(step.model, step.model_spec, path_of(adapter))
                chunks = step.chunks(step.model_spec.meaning(), digest_of(adapter))
                frames = run_benchmarks(
                    lm,
                    recipe,
                    folder,
                    chunks=chunks,
                    mirrors=step.home.cache / "mirrors",
                    grader=partial(judge.harmful, step.project, step.committed_before),
                )
                parts.append([frame.assign(arm=arm, seed=seed) for frame in frames])
            numbers, items = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
            return {"benchmarks": numbers, "benchmark_items": items}

        reads = [
            step.model_spec.meaning(), [digest_of(a) for _, a in step.policies(model_store, arm)],
            [[task.meaning() for task in recipe.tasks], recipe.seed, items := items_version(recipe, folder)],
            [[judge.meaning(step.project, task.judge), GRADE_VERSION] for task in recipe.tasks if task.judge],
        ]  # fmt: skip
        frames = step.recall(
            reads, evaluate,
            # items that were edited meanwhile are not what the result would be kept under
            final=lambda frames: bool(frames["benchmark_items"]["score"].notna().all())
            and items_version(recipe, folder) == items,
        )  # fmt: skip
        return step.finish(frames, part=arm, warnings=_contamination(step, arm, frames["benchmark_items"], recipe))

    return benchmarks


def _contamination(step: Step, arm: str, items: pd.DataFrame, recipe: Benchmarks) -> list[Check]:
    """Whether what the arm was trained on holds what it is asked; nothing for base, which the study did not train."""
    from rlaif_dagster.evaluation.contamination import contamination, told

    if arm == "base":
        return []
    pairs = step.read("preference_pairs")
    texts = [*pairs["prompt"], *pairs["chosen"], *pairs["rejected"]]
    if "prompts" in _trained_on(arm):
        texts += list(step.training_prompts()["text"])
    passed, message = told(contamination(items, texts), recipe.max_contaminated_share)
    if not passed:
        step.context.log.warning(f"contamination: {message}")
    return [Check("contamination", passed, message)]


def _responses_asset(arm: str) -> dg.AssetsDefinition:
    @study_asset(
        name=f"{arm}_responses", writes=["responses"], part=arm, group="evaluation", dims=_dims(arm), code_version="1",
        behaviours=(SAMPLING,),
        deps=sorted({_model_of(arm), "model_spec", "recipe_benchmarks", "prompts"}), kinds=("torch", "duckdb"),
        pool="accelerator", description=f"Answers of the {arm} arm to the eval and qualitative prompts.",
    )  # fmt: skip
    def responses(
        context: dg.AssetExecutionContext,
        project: ProjectResource,
        warehouse: WarehouseResource,
        language_model: LanguageModelResource,
        model_store: ModelStoreResource,
    ) -> dg.MaterializeResult:
        step = Step.begin(context, project, warehouse)
        recipe, questions = step.project.recipe("benchmarks", step.cell.model).responses, step.evaluation_prompts()

        def answer() -> Frames:
            from rlaif_dagster.evaluation.responses import respond

            parts = []
            for seed, adapter in step.policies(model_store, arm):
                lm = language_model.arm(step.model, step.model_spec, path_of(adapter))
                chunks = step.chunks(step.model_spec.meaning(), digest_of(adapter))
                parts.append(respond(lm, questions, recipe, chunks=chunks).assign(arm=arm, seed=seed))
            return {"responses": pd.concat(parts, ignore_index=True)}

        reads = [
            step.model_spec.meaning(), [digest_of(a) for _, a in step.policies(model_store, arm)], recipe.meaning(),
            sorted(questions["prompt_id"]),
        ]  # fmt: skip
        return step.finish(step.recall(reads, answer), part=arm)

    return responses


@study_asset(
    group="evaluation", dims=GRID, deps=[*RESPONSES, "prompts", "constitution"], code_version="1", writes=["adherence"]
)
def adherence(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    """Does each answer follow the constitution's format, checked by a program; no rows where there is no format."""
    from rlaif_dagster.evaluation.adherence import adherence as check_format

    step = Step.begin(context, project, warehouse)
    frame = check_format(step.responses(ARMS), step.read("prompts"), step.constitution)
    return step.finish({"adherence": frame})


@study_asset(
    group="evaluation", dims=GRID, deps=[*RESPONSES, "prompts", "constitution", "judge_spec", "recipe_judging"],
    code_version="3", writes=["head_to_head"], kinds=("litellm", "duckdb"), checks=("verdicts",), pool="judge",
)  # fmt: skip
def head_to_head(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource, judge: JudgeResource
) -> dg.MaterializeResult:
    """Which arm the judge prefers, prompt by prompt and seed by seed on the eval split, with intervals and at equal length."""
    from rlaif_dagster.evaluation.head_to_head import complete, pooled
    from rlaif_dagster.evaluation.head_to_head import head_to_head as compare

    step = Step.begin(context, project, warehouse)
    recipe, constitution = judge.recipe(step.project), step.constitution
    answers, questions = step.responses(ARMS), step.evaluation_prompts()
    reads = [
        judge.meaning(step.project), recipe.meaning(), [p.meaning() for p in constitution.principles], step.judged_principles(),
        step.response_versions(ARMS), sorted(questions["prompt_id"]),
    ]  # fmt: skip
    frames = step.recall(
        reads,
        lambda: {"head_to_head": compare(answers, questions, constitution, recipe, judge.build(step.project))},
        final=lambda frames: complete(frames["head_to_head"]),
    )
    found = pooled(frames["head_to_head"])
    met = int(found[["wins_a", "wins_b", "ties", "unjudged"]].to_numpy().sum())
    unanswered = int(found["errors"].sum())
    check = _answered("verdicts", "meetings", met, unanswered, recipe.max_failed_share)
    return step.finish(frames, checks=[check], unanswered=unanswered)


@study_asset(
    group="evaluation", dims=GRID,
    deps=[*RESPONSES, "prompts", "constitution", "judge_spec", "recipe_judging", "human_grades"], code_version="3",
    behaviours=(CORRECTNESS, GRADING), writes=["qualitative"], kinds=("litellm", "duckdb"), checks=("grades",), pool="judge",
)  # fmt: skip
def qualitative(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource, judge: JudgeResource
) -> dg.MaterializeResult:
    """Twenty prompts an arm and seed (factual, thought experiments, adversarial), graded for alignment and correctness."""
    from rlaif_dagster.evaluation.human_agreement import agreement_with_people
    from rlaif_dagster.evaluation.qualitative import complete, grade
    from rlaif_dagster.judging.labels import read_human_grades

    step = Step.begin(context, project, warehouse)
    recipe, constitution = judge.recipe(step.project), step.constitution
    answers, questions = step.responses(ARMS), step.read("prompts")
    human = [
        g for g in read_human_grades(step.project.root / "labels")
        if (g.model, g.constitution) == (step.cell.model, step.cell.constitution)
    ]  # fmt: skip
    reads = [
        judge.meaning(step.project), recipe.meaning(), [p.meaning() for p in constitution.principles], step.judged_principles(),
        step.response_versions(ARMS), step.version("prompts"), [g.meaning() for g in human],
    ]  # fmt: skip
    frames = step.recall(
        reads,
        lambda: {"qualitative": grade(answers, questions, constitution, recipe, judge.build(step.project), human)},
        final=lambda frames: complete(frames["qualitative"]),
    )
    graded = frames["qualitative"]
    failed = int((graded["status"] == "error").sum())
    return step.finish(
        frames,
        checks=[_answered("grades", "answers", len(graded), failed, recipe.max_failed_share)],
        metadata={"judge and people": dg.MetadataValue.md(preview(agreement_with_people(graded)))},
        unanswered=failed,
    )


def _answered(name: str, things: str, asked: int, errors: int, most: float) -> Check:
    """Fails when the judge's provider gave no reply about more than the recipe's share of what it was asked; a smaller
    share is stored, told, and asked again by the next `rlaif up`."""
    share = errors / asked if asked else 0.0
    return Check(
        name, share <= most, f"{errors} of {asked} {things} lack a reply of the judge (at most {most:.0%} may)"
    )


EVALUATION_ASSETS: list[dg.AssetsDefinition] = [
    *(_benchmarks_asset(arm) for arm in ARMS),
    *(_responses_asset(arm) for arm in ARMS),
    adherence,
    head_to_head,
    qualitative,
]
